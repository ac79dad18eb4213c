"""What a result is tied to of its faces: all that a loader gives."""

import json

import numpy as np
import pandas as pd
import pytest
from toy_experiments import register

from fer_utils.datasets.base import FaceDataset
from fer_utils.experiments import Ledger, Run, contents, find_stale, run_experiment
from fer_utils.experiments.contents import describe_contents, find_contents, hold_the_same


def make(**changed):
    rng = np.random.default_rng(0)
    known = {
        "name": "toy", "images": rng.integers(0, 256, (4, 6, 6, 3), dtype=np.uint8), "labels": np.array([0, 1, 0, 1]),
        "classes": ("a", "b"), "names": np.array(["p", "q", "r", "s"]), "split": np.array(["train", "train", "test", "test"]),
        "identities": np.arange(4), "landmarks": rng.random((4, 5, 2)).astype(np.float32),
        "masks": rng.integers(0, 5, (4, 6, 6), dtype=np.uint8),
        "truth": pd.DataFrame({"yaw": [0.0, 1.5, -3.0, 2.0], "light": ["day", None, "day", "night"]}),
    }
    return FaceDataset(**{**known, **changed})


def change(array, place, value):
    other = array.copy()
    other[place] = value
    return other


@pytest.mark.parametrize("field, place, value", [
    ("images", (0, 0, 0, 0), 7), ("labels", 0, 1), ("names", 3, "t"), ("split", 0, "test"), ("identities", 1, 9), ("masks", (3, 5, 5), 9),
    ("landmarks", (2, 1, 1), 0.5),
])
def test_any_change_is_seen(field, place, value):
    whole = make()
    here = describe_contents(make())
    assert hold_the_same(describe_contents(whole), here)
    assert not hold_the_same(describe_contents(make(**{field: change(getattr(whole, field), place, value)})), here)


def test_changes_of_tables_order_and_what_is_there_are_seen():
    whole, here = make(), describe_contents(make())
    others = [
        make(truth=whole.truth.assign(yaw=[0.0, 1.5, -3.0, 2.5])), make(truth=whole.truth.assign(light=["day", None, "day", "day"])),
        make(truth=whole.truth.rename(columns={"yaw": "roll"})), make(classes=("a", "c")), make(masks=None), make(landmarks=None),
        make(landmarks=whole.landmarks[[1, 0, 2, 3]]), whole.subset(np.array([0, 1, 3, 2])),
    ]
    assert not any(hold_the_same(describe_contents(faces), here) for faces in others)


def test_last_digits_of_landmarks_and_another_decoder_are_not_seen():
    whole, here = make(), describe_contents(make())
    assert hold_the_same(describe_contents(make(landmarks=np.nextafter(whole.landmarks, 9, dtype=np.float32))), here)
    other = {**describe_contents(make(labels=1 - whole.labels)), "decoder": "0"}
    assert hold_the_same(other, here), "which decodes a JPEG otherwise"


def look(context):
    from fer_utils.experiments import Score

    faces = context.load_faces("lab", frames="apex1", classes=6)  # the smallest set
    return [Score("faces", "lab", {"value": float(len(faces))})]


def test_a_loader_that_gives_other_pixels_makes_results_stale(empty_registry, tmp_path, monkeypatch):
    register("toy/table-1", [Run("looker", look)])
    assert run_experiment("toy/table-1", data=tmp_path) == 1
    kept = Ledger("toy/table-1", "book", "facsynth", tmp_path)
    assert find_stale(kept) == {} and json.dumps(kept.runs[0]["faces"]).count("contents") == 1
    real = contents.load_role
    monkeypatch.setattr(contents, "load_role", lambda *args, **options: turn(real(*args, **options)))
    contents._find_rendered.cache_clear()
    assert set(find_stale(kept).values()) == {"was measured on other lab faces"}
    contents._find_rendered.cache_clear()


def turn(faces):
    return faces.replace(labels=(faces.labels + 1) % len(faces.classes))


def test_a_run_that_notes_faces_itself_is_tied_to_them(empty_registry, tmp_path):
    register("toy/table-1", [Run("stand-in", stand_in)])
    run_experiment("toy/table-1", data=tmp_path)
    (found,) = Ledger("toy/table-1", "book", "facsynth", tmp_path).runs[0]["faces"]
    assert found["contents"] == find_contents("facsynth", {"role": "lab", "options": {"frames": "apex1", "classes": 6}})["contents"]


def stand_in(context):
    from fer_utils.experiments import Score
    from fer_utils.experiments.faces import fingerprint_faces, load_role

    options = {"frames": "apex1", "classes": 6}
    faces = load_role("facsynth", "lab", **options)
    known = fingerprint_faces("facsynth", faces, "lab", options)
    context.loaded.append({"role": "facsynth lab", "options": options, **known})
    return [Score("faces", "lab", {"value": float(len(faces))})]
