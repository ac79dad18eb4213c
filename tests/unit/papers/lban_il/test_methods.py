"""Trainings of several networks, and of other faces: what trains, what tests, and what a killed run does again."""

from contextlib import nullcontext

import numpy as np
import pytest

from fer_utils.experiments.faces import limit_per_class
from fer_utils.papers.lban_il import methods, traces
from fer_utils.papers.lban_il.methods import _split_groups, measure_groups, measure_trained
from fer_utils.training import fit

from .toys import TINY, make_context, make_faces

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def trained(monkeypatch):
    """What is trained on, and with checkpoints at every step."""
    seen = []

    def watch(model, train, settings, **options):
        seen.append((model, train))
        return fit(model, train, settings, checkpoint_seconds=0, **options)

    monkeypatch.setattr(traces, "fit", watch)
    monkeypatch.setattr(methods, "load_faces", lambda context, role, recipe, **options: make_faces())
    return seen


def test_groups_leave_out_each_face_once_and_nobody_is_on_both_sides():
    faces = make_faces(140)
    for people in (np.arange(140) // 2, None):
        known = faces.replace(identities=people, split=np.full(140, "none"))
        splits = _split_groups(known, 10)
        np.testing.assert_array_equal(np.sort(np.concatenate([split.test for split in splits])), np.arange(140))
        if people is not None:
            assert not any(set(people[split.train]) & set(people[split.test]) for split in splits)


def test_a_killed_run_goes_on_with_its_group(tmp_path, trained, stop_after):
    recipe, ends = TINY, []
    for stop in (None, 5):
        if stop:
            # the first group is trained, and the second is cut off
            reached, limit = [], traces.fit

            def cut(model, train, settings, limit=limit, reached=reached, **options):
                reached.append(1)
                stop_after(5 if len(reached) == 2 else None)
                return limit(model, train, settings, **options)

            with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptedError):
                patch.setattr(traces, "fit", cut)
                measure_groups(make_context(tmp_path / "cut"), "Center loss", recipe)
            stop_after(None)
        with nullcontext():
            folder = tmp_path / ("cut" if stop else "whole")
            ends.append(measure_groups(make_context(folder), "Center loss", recipe))
    whole, resumed = ends
    assert [score.row for score in whole] == ["Center loss, crop 1", "Center loss, crop 2", "Center loss"]
    for first, second in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(first.guess, second.guess)
    assert len(trained) == 2 + 2 + 2, "each group once, and the two of the killed run once more from their checkpoints"


@pytest.mark.parametrize("role", ["compound", "film"])
def test_other_faces_are_trained_on_by_their_own_parts(role, tmp_path, trained, monkeypatch):
    part = {"compound": "test", "film": "val"}[role]
    faces = make_faces()
    split = np.where(faces.split == "test", part, "train")
    split[:7] = "test"  # of film faces, a part whose labels are not public
    asked = []
    monkeypatch.setattr(
        methods, "load_faces",
        lambda context, role, recipe, **options: asked.append(role) or limit_per_class(faces.replace(split=split), 99),
    )
    (score,) = measure_trained(make_context(tmp_path), "LBAN-IL", role, "LBAN", "Islets loss", TINY)
    ((model, train),) = trained
    assert asked == [role] and set(train.split) == {"train"} and model.name == "lban"
    assert (score.row, score.role, len(score.guess)) == ("LBAN-IL", role, (split == part).sum())


def test_expw_takes_the_faces_that_the_paper_takes(tmp_path, monkeypatch):
    asked = {}

    def load(context, role, recipe, **options):
        asked[context.dataset] = options
        return make_faces()

    monkeypatch.setattr(methods, "load_faces", load)
    for dataset in ("expw", "facsynth", "muxspace"):
        faces = methods._load_whole(make_context(tmp_path / dataset, dataset=dataset), TINY)
        assert set(faces.split) == {"none"} and len(faces) == len(make_faces())
    assert asked == {"expw": {"min_side": 100}, "facsynth": {"more": False}, "muxspace": {}}
