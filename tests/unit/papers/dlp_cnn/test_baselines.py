import numpy as np
import pytest

from fer_utils.datasets.base import FaceDataset
from fer_utils.experiments import (
    Ledger,
    RunContext,
    Setup,
    compare_with_paper,
    find_experiment,
    judge_claim,
    run_experiment,
)
from fer_utils.experiments.protocol import split_role
from fer_utils.experiments.published import load_published
from fer_utils.experiments.recipe import Profile
from fer_utils.experiments.scores import unpack_labels
from fer_utils.labels import BASIC
from fer_utils.papers.dlp_cnn import baselines
from fer_utils.papers.dlp_cnn.recipe import Baselines
from fer_utils.splits import subject_kfold

from ..shipped import load_few

ID = "dlp-cnn/table-5"
ROWS = [f"{name} {descriptor}" for name in ("mSVM", "LDA") for descriptor in ("shape", "LBP", "HOG", "Gabor")]


def make_faces(labels, people=None, split="none", points=None):
    """Grey faces whose brightness gradient turns with the class, so that every appearance descriptor can tell them apart."""
    labels = np.asarray(labels)
    rng = np.random.default_rng(7)
    across, down = np.meshgrid(np.arange(100), np.arange(100))
    angle = labels[:, None, None] * np.pi / 7
    wave = 128 + 90 * np.sin(0.5 * (np.cos(angle) * across + np.sin(angle) * down) + rng.uniform(0, 6, (len(labels), 1, 1)))
    marks = None if points is None else rng.normal(50, 3, (len(labels), points, 2)).astype(np.float32) + labels[:, None, None] % 2
    return FaceDataset(
        name="toy", images=wave.astype(np.uint8), labels=labels, classes=BASIC, names=np.array([f"{i}.png" for i in range(len(labels))]),
        split=np.broadcast_to(np.asarray(split, dtype="<U5"), labels.shape).copy(),
        identities=None if people is None else np.asarray(people), landmarks_dense=marks,
    )


@pytest.fixture
def context(tmp_path):
    return RunContext(ID, Profile.SMOKE, "facsynth", 0, tmp_path)


def plan(dataset, profile=Profile.BOOK, seeds=(0, 1)):
    return baselines.plan_table_5(Setup(profile, dataset, seeds))


# -- what is planned ------------------------------------------------------------------------------------------------------


def test_each_column_of_the_paper_is_planned():
    runs = plan("facsynth")
    assert {(run.arguments["role"], run.arguments["descriptor"]) for run in runs if "descriptor" in run.arguments} == {
        (role, descriptor) for role in ("basic", "compound", "lab", "lab-small") for descriptor in ("shape", "LBP", "HOG", "Gabor")
    }
    assert [run.seed for run in runs if run.name == "naive basic"] == [0, 1]
    assert all(run.seed is None for run in runs if "descriptor" in run.arguments)


def test_where_landmarks_are_missing_the_shape_is_not_planned():
    assert {run.name for run in plan("muxspace")} == {"LBP basic", "HOG basic", "Gabor basic", "naive basic"}
    assert {run.name for run in plan("rafdb") if "shape" in run.name} == {"shape basic", "shape compound", "shape lab"}
    assert set(find_experiment(ID).omits) == {"mSVM shape", "LDA shape"}


def test_rows_are_spelled_as_published():
    assert set(ROWS) | {"naive Gabor"} == set(load_published("dlp-cnn").item("table-5").rows)


def test_only_the_number_of_images_differs_between_profiles():
    recipes = [Baselines().at(profile).as_arguments() for profile in Profile]
    assert len({recipe.pop("images") for recipe in recipes}) == 2
    assert recipes[0] == recipes[1] == recipes[2]


# -- faces and splits -----------------------------------------------------------------------------------------------------


def test_the_lab_column_has_309_faces_of_six_emotions(context):
    faces = baselines.load_column(context, "lab", Baselines())
    assert len(faces) == 309 and set(faces.classes) == set(BASIC) - {"neutral"}


def test_the_small_set_is_ten_people_who_show_everything(context):
    faces = baselines.load_column(context, "lab-small", Baselines())
    assert len(np.unique(faces.identities)) == 10 and faces.classes == BASIC
    shown = [len(np.unique(faces.identities[faces.labels == k])) for k in range(7)]
    assert min(shown) >= 3  # one is tested, one validates, one is left to train on


def test_people_are_picked_for_what_is_missing():
    faces = make_faces([0, 0, 0, 0, 1, 2, 2, 3], people=[5, 5, 6, 6, 7, 8, 8, 8])
    assert baselines.pick_people(faces, 2).tolist() == [5, 8]  # 8 shows two classes; then 5 is the first that adds two faces of a new one
    assert baselines.pick_people(faces, 3).tolist() == [5, 7, 8]
    with pytest.raises(ValueError, match="toy shows 4 people, but 5 are asked for"):
        baselines.pick_people(faces, 5)
    with pytest.raises(ValueError, match="toy does not say who is shown"):
        baselines.pick_people(make_faces([0, 1]), 1)


@pytest.mark.parametrize("role", ["lab", "lab-small"])
def test_nobody_is_trained_on_chosen_on_and_tested(role):
    people = np.repeat(np.arange(12), 7)
    faces = make_faces(np.tile(np.arange(7), 12), people)
    tested = []
    for split, validation in split_role(faces, role, Baselines()):
        assert not set(people[split.train]) & set(people[split.test])
        for inner in validation:
            assert len(inner.names) == len(split.train)
            assert not set(people[split.train][inner.train]) & set(people[split.train][inner.test])
        tested += split.test.tolist()
    assert sorted(tested) == list(range(len(faces)))


def test_the_test_part_takes_no_part_in_the_choice():
    faces = make_faces(np.tile(np.arange(7), 20), split=np.where(np.arange(140) % 10 == 3, "test", "train"))
    ((split, validation),) = split_role(faces, "basic", Baselines())
    assert set(faces.split[split.train]) == {"train"} and len(validation.names) == len(split.train)


def test_shape_is_normalised_by_training_faces_alone():
    faces = make_faces(np.tile(np.arange(7), 4), split=["train"] * 14 + ["test"] * 14, points=37)
    ((split, _),) = split_role(faces, "basic", Baselines(validation=0.5))
    train, _ = baselines._describe(faces, split, "shape")
    moved = faces.landmarks_dense.copy()
    moved[split.test] *= 3
    again, test = baselines._describe(faces.replace(landmarks_dense=moved), split, "shape")
    np.testing.assert_array_equal(train, again)
    assert set(np.unique(test)) >= {0.0, 1.0}  # cut off
    with pytest.raises(ValueError, match="toy has no landmarks"):
        baselines._describe(make_faces([0, 1], split=["train", "test"]), split, "shape")


# -- what is measured -----------------------------------------------------------------------------------------------------


def test_both_classifiers_learn_what_can_be_learned_and_the_naive_one_does_not(context, monkeypatch):
    faces = make_faces(np.tile(np.arange(7), 40), split=np.where(np.arange(280) % 4 == 3, "test", "train"))
    monkeypatch.setattr(baselines, "load_column", lambda *_: faces)
    recipe = Baselines(C=(1e-3, 1e-2))
    svm, lda = baselines.measure_descriptor(context, "basic", "Gabor", recipe)
    assert (svm.row, lda.row) == ("mSVM Gabor", "LDA Gabor") and len(svm.truth) == 70
    assert svm.metrics["mean diagonal"] > 0.9 and lda.metrics["mean diagonal"] > 0.9
    assert svm.series["C"][0] in (1e-3, 1e-2) and not lda.series
    (naive,) = baselines.measure_naive(context, "basic", recipe)
    assert naive.row == "naive Gabor" and naive.metrics["mean diagonal"] < 0.5


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fer_utils.experiments.context.load_role", load_few())
        run_experiment(ID, "smoke", "facsynth", data=folder, seeds=1)
    return folder


def test_the_whole_table_runs(smoke):
    ledger = Ledger(ID, "smoke", "facsynth", smoke)
    found = {(score["row"], score["faces"]) for run in ledger.runs for score in run["outcomes"]}
    assert found == {(row, role) for row in ROWS for role in ("basic", "compound", "lab", "lab-small")} | {
        ("naive Gabor", "basic"), ("naive Gabor", "compound"),
    }
    table = compare_with_paper(ID, "smoke", "facsynth", smoke)
    assert table.loc[table["paper"].notna(), "ours"].notna().all()
    assert judge_claim("dlp-cnn/lab-easier", "smoke", "facsynth", smoke).word != "not attempted"


def test_predictions_belong_to_the_test_faces(smoke):
    """What the chapters rely on when they set recall against pose or light."""
    ledger = Ledger(ID, "smoke", "facsynth", smoke)
    (run,) = [run for run in ledger.runs if run["name"] == "HOG lab"]
    (svm, _) = run["outcomes"]
    kept = ledger.test_sets[svm["test_set"]]
    faces = load_few()("facsynth", "lab", frames="apex1", classes=6)
    few = faces.subset(np.sort(np.concatenate([np.flatnonzero(faces.labels == k)[:12] for k in range(6)])))
    tested = subject_kfold(few, 5)[0].test  # of a smoke test
    np.testing.assert_array_equal(unpack_labels(kept["truth"]), few.labels[tested])
    assert kept["people"] == " ".join(map(str, few.identities[tested]))
    assert len(svm["series"]["C"]) == 1 and svm["series"]["C"][0] in Baselines().C
