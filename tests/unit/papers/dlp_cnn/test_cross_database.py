import numpy as np
import pytest

from fer_utils.datasets.base import FaceDataset
from fer_utils.experiments import Ledger, RunContext, Setup, compare_with_paper, find_experiment, judge_claim, run_experiment
from fer_utils.experiments import context as context_module
from fer_utils.experiments.published import load_published
from fer_utils.experiments.recipe import Profile
from fer_utils.labels import BASIC
from fer_utils.papers.dlp_cnn import cross_database
from fer_utils.papers.dlp_cnn.cross_database import LAB_COUNTS, ROW, SIX, draw_balanced, load_six, measure_lab, measure_wild
from fer_utils.papers.dlp_cnn.recipe import CrossDatabase

from ..shipped import load_few

ID = "dlp-cnn/figure-6"


def make_faces(labels, people=None, split="none", classes=SIX, name="toy", shade=0):
    """Grey faces whose stripes turn with the class."""
    labels = np.asarray(labels)
    rng = np.random.default_rng(len(labels))
    across, down = np.meshgrid(np.arange(100), np.arange(100))
    angle = labels[:, None, None] * np.pi / 6 + shade
    wave = 128 + 90 * np.sin(0.5 * (np.cos(angle) * across + np.sin(angle) * down) + rng.uniform(0, 6, (len(labels), 1, 1)))
    return FaceDataset(
        name=name, images=wave.astype(np.uint8), labels=labels, classes=classes, names=np.array([f"{i}.png" for i in range(len(labels))]),
        split=np.broadcast_to(np.asarray(split, dtype="<U5"), labels.shape).copy(),
        identities=None if people is None else np.asarray(people),
    )


@pytest.fixture
def context(tmp_path):
    return RunContext(ID, Profile.SMOKE, "facsynth", 0, tmp_path)


@pytest.fixture
def databases(monkeypatch):
    """A lab of 60 faces of 12 people, and 240 wild faces."""
    lab = make_faces(np.tile(np.arange(6), 10), people=np.repeat(np.arange(12), 5))
    person = np.arange(240) % 24
    wild = make_faces(np.tile(np.arange(6), 40), people=100 + person, split=np.where(person < 16, "train", "test"))
    monkeypatch.setattr(cross_database, "load_six", lambda context, role, recipe, dataset=None: lab if role == "lab" else wild)
    return lab, wild


def plan(dataset, profile=Profile.BOOK, seeds=(0, 1)):
    return cross_database.plan_figure_6(Setup(profile, dataset, seeds))


def test_the_lab_is_drawn_no_seed_for_and_the_wild_one_each():
    assert [(run.name, run.seed) for run in plan("facsynth")] == [
        ("trained in the lab", None), ("trained in the wild", 0), ("trained in the wild", 1),
    ]
    assert [run.name for run in plan("rafdb", seeds=(0,))] == ["trained in the lab", "trained in the wild"]


def test_a_dataset_with_one_side_meets_the_rendered_other():
    runs = plan("muxspace", seeds=(0,))
    assert [run.name for run in runs] == ["trained in the lab", "trained in the wild", "trained on rendered wild"]
    assert [run.name for run in plan("jaffe", seeds=(0,))] == ["trained in the lab", "trained in the wild"]


def test_row_and_sides_are_spelled_as_published():
    assert list(load_published("dlp-cnn").item("figure-6").rows) == [ROW]
    assert not find_experiment(ID).omits


def test_the_balanced_draw_has_the_labs_size_and_classes():
    assert sum(LAB_COUNTS.values()) == 309
    faces = make_faces(np.repeat(np.arange(6), 90))
    rows = draw_balanced(faces, 3)
    assert len(np.unique(rows)) == 309
    assert faces.subset(rows).class_counts() == LAB_COUNTS
    np.testing.assert_array_equal(rows, draw_balanced(faces, 3))
    assert not np.array_equal(rows, draw_balanced(faces, 4))


def test_a_rare_class_is_taken_whole():
    faces = make_faces(np.repeat(np.arange(6), 90)).subset(np.r_[0:97, 180:540])  # 7 of fear
    assert faces.subset(draw_balanced(faces, 0)).class_counts() == {**LAB_COUNTS, "fear": 7}


def test_labels_mean_the_same_emotion_on_both_sides(context, monkeypatch):
    recipe = CrossDatabase()
    lab = load_six(context, "lab", recipe)
    monkeypatch.setattr(context_module, "load_role", load_few())
    wild = load_six(context, "basic", recipe)
    assert lab.classes == wild.classes == SIX == BASIC[:6]
    assert lab.class_counts() == LAB_COUNTS
    for faces in (lab, wild):
        assert [SIX[k] for k in faces.labels] == faces.truth["emotion"].tolist()
    assert not set(lab.truth["identity"]) & set(wild.truth["identity"])


def test_a_missing_emotion_is_named(context, monkeypatch):
    faces = make_faces([0, 1, 2, 3, 4], classes=BASIC)
    monkeypatch.setattr(RunContext, "load_faces", lambda *_, **__: faces)
    with pytest.raises(ValueError, match="toy shows no anger; expected faces of surprise"):
        load_six(context, "basic", CrossDatabase())


def test_what_can_be_learned_crosses(context, databases):
    lab, wild = databases
    recipe = CrossDatabase(C=(1.0, 8.0), gamma=(2**-7,))
    across, within = measure_lab(context, recipe)
    assert (across.row, across.role, len(across.truth)) == (ROW, "basic", len(wild))
    assert (within.row, within.role, len(within.truth)) == (f"{ROW} within", "lab", len(lab))
    assert across.metrics["mean diagonal"] > 0.9 and within.metrics["mean diagonal"] > 0.9
    assert across.series["C"][0] in (1.0, 8.0) and len(within.series["gamma"]) == 5
    across, within = measure_wild(context, recipe)
    assert (across.row, across.role, within.role) == (ROW, "lab", "basic")
    assert across.metrics["mean diagonal"] > 0.9 and within.metrics["mean diagonal"] > 0.9
    np.testing.assert_array_equal(within.truth, wild.test.labels)


def test_wild_test_people_are_neither_trained_nor_chosen_on(context, databases, monkeypatch):
    _, wild = databases
    seen = []
    real = cross_database._train
    monkeypatch.setattr(cross_database, "_train", lambda X, faces, recipe: seen.append(faces) or real(X, faces, recipe))
    measure_wild(context, CrossDatabase(C=(1.0,), gamma=(2**-7,)))
    assert not set(seen[0].identities) & set(wild.test.identities)
    assert {len(set(seen[0].identities[s.train]) & set(seen[0].identities[s.test])) for s in cross_database._folds(seen[0], 5)} == {0}


def test_folds_are_as_many_as_the_rarest_class_allows():
    faces = make_faces(np.r_[np.tile(np.arange(6), 3)], people=np.arange(18))
    assert len(cross_database._folds(faces, 5)) == 3
    assert len(cross_database._folds(make_faces(np.tile(np.arange(6), 9)), 5)) == 5  # people not known


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context_module, "load_role", load_few())
        patch.setattr(cross_database, "load_role", load_few())
        run_experiment(ID, "smoke", "facsynth", data=folder, seeds=1)
    return folder


def test_both_directions_run_and_the_claims_are_judged(smoke):
    ledger = Ledger(ID, "smoke", "facsynth", smoke)
    found = {(score["row"], score["faces"]) for run in ledger.runs for score in run["outcomes"]}
    assert found == {(ROW, "lab"), (ROW, "basic"), (f"{ROW} within", "lab"), (f"{ROW} within", "basic")}
    table = compare_with_paper(ID, "smoke", "facsynth", smoke)
    assert table.loc[table["paper"].notna(), "ours"].notna().all() and table["paper"].dropna().tolist() == [62, 39]
    for claim in ("wild-transfers-better", "easy-emotions", "anger-and-disgust"):
        assert judge_claim(f"dlp-cnn/{claim}", "smoke", "facsynth", smoke).word != "not attempted"
