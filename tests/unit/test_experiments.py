import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import toy_experiments as toy
from conftest import image_bytes, put, write_sums
from toy_experiments import register

from fer_utils.errors import DataError
from fer_utils.experiments import (
    ExperimentError,
    Ledger,
    Run,
    RunContext,
    Score,
    Setup,
    find_checkpoint,
    find_roles,
    list_ledgers,
    load_role,
    read_ledger,
    registry,
    run_experiment,
    run_experiments,
    running,
    score_predictions,
)
from fer_utils.experiments.execution import Job
from fer_utils.experiments.recipe import Profile
from fer_utils.files import cache_root
from fer_utils.labels import BASIC

# -- the faces ------------------------------------------------------------------------------------------------------------


def write_wild(root, per_class=6):
    """A muxspace clone with enough faces to split, and some contempt."""
    rows = []
    for k, emotion in enumerate((*BASIC[::-1], "contempt")):
        for i in range(per_class):
            name = f"P{k}_{i}_000{i % 2 + 1}.jpg"  # each a person of its own, but for the last two of a class
            if i >= 4:
                name = f"P{k}_4_000{i - 3}.jpg"
            put(root, f"images/{name}", image_bytes(10 * k + i, (64, 64)))
            rows.append(("1", name, emotion))
    path = put(root, "data/legend.csv", "")
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("user.id", "image", "emotion"), *rows])
    return root


def test_wild_faces_of_a_dataset_without_parts(tmp_path):
    faces = load_role("muxspace", "basic", write_wild(tmp_path / "mux"))
    assert faces.classes == BASIC and len(faces) == 42 and faces.images.shape == (42, 100, 100)
    assert faces.class_counts() == dict.fromkeys(BASIC, 6)
    assert {int(name[1]): BASIC[label] for name, label in zip(faces.names, faces.labels, strict=True)} == dict(enumerate(BASIC[::-1]))
    again = load_role("muxspace", "basic", tmp_path / "mux")
    assert (again.split == faces.split).all() and len(faces.test) in range(7, 15) and len(faces.train) + len(faces.test) == 42
    assert (np.bincount(faces.test.labels, minlength=7) >= 1).all()
    assert not set(faces.train.identities) & set(faces.test.identities), "nobody is on both sides"


def test_roles():
    assert find_roles("facsynth") == {"basic": "facsynth-basic", "compound": "facsynth-compound", "lab": "facsynth-lab"}
    assert find_roles("jaffe") == {"lab": "jaffe"} and find_roles("fer2013") == {"basic": "fer2013"}
    with pytest.raises(ValueError, match="muxspace has no lab faces; it has basic"):
        load_role("muxspace", "lab")
    with pytest.raises(ValueError, match=r"unknown dataset 'celeba'"):  # no emotions
        find_roles("celeba")


def test_the_owners_parts_stay(rafdb_tree):
    faces = load_role("rafdb", "basic", rafdb_tree)
    assert len(faces.train) == 3 and len(faces.test) == 2
    assert len(load_role("rafdb", "compound", rafdb_tree)) == 3


# -- running --------------------------------------------------------------------------------------------------------------


def test_runs_enter_the_ledger_once(empty_registry, tmp_path):
    register("dlp-cnn/table-5", toy.plan_skills)
    said = []
    assert run_experiment("dlp-cnn/table-5", data=tmp_path, say=said.append) == 8
    path = tmp_path / "results/book/facsynth/dlp-cnn/table-5.json"
    kept = path.read_bytes()
    assert run_experiment("dlp-cnn/table-5", data=tmp_path, say=said.append) == 0
    assert path.read_bytes() == kept
    assert [said[0], said[-1]] == ["dlp-cnn/table-5: 8 of 8 runs are missing", "dlp-cnn/table-5: 0 of 8 runs are missing"]
    ledger = Ledger("dlp-cnn/table-5", "book", "facsynth", tmp_path)
    assert len(ledger.runs) == 8 and len(ledger.test_sets) == 2
    run = ledger.runs[0]
    assert run["name"] == "mSVM Gabor basic" and run["seed"] is None and run["arguments"]["skill"] == 0.9
    outcome = run["outcomes"][0]
    assert np.sum(outcome["confusion"]) == 420 and np.trace(outcome["confusion"]) / 420 == outcome["metrics"]["accuracy"]
    assert ledger.test_sets[outcome["test_set"]]["truth"] == "".join(map(str, toy.TRUTH))
    assert {"numpy", "python", "fer-utils"} <= run["versions"].keys() and run["hardware"]["cores"] >= 1 and run["peak_mb"] > 10
    assert run["date"].endswith("+00:00") and run["wall_s"] >= 0 and (run["commit"] is None or len(run["commit"].split("-")[0]) == 40)
    assert sorted(p.name for p in path.parent.iterdir()) == [".table-5.lock", "table-5.json"]
    assert not list((cache_root() / "runs").iterdir()), "folders of finished runs are cleared"
    frame = read_ledger("dlp-cnn", data=tmp_path)
    assert len(frame) == 8 * 9 and set(frame["count"]) == {420}
    assert frame.set_index(["row", "role", "metric"]).loc[("mSVM HOG", "lab", "accuracy"), "value"] == pytest.approx(0.76, abs=0.05)
    assert list_ledgers("dlp-cnn", "book", data=tmp_path) == [("dlp-cnn/table-5", "facsynth")]
    assert list_ledgers("dlp-cnn", "smoke", data=tmp_path) == [] and read_ledger("dam-cnn", data=tmp_path).empty


def test_only_what_is_missing_is_run(empty_registry, tmp_path):
    register("toy/table-1", lambda setup: toy.plan_skills(setup, {"mSVM HOG": 0.7}, 0.2, seeded=True))
    assert run_experiment("toy/table-1", dataset="muxspace", seeds=2, data=tmp_path) == 2
    assert run_experiment("toy/table-1", dataset="muxspace", seeds=3, data=tmp_path) == 1
    assert run_experiment("toy/table-1", dataset="muxspace", seeds=1, data=tmp_path) == 0
    assert [run["seed"] for run in Ledger("toy/table-1", "book", "muxspace", tmp_path).runs] == [0, 1, 2]
    # another argument: run again, in the place of the old one; a name that is not planned any more leaves with it
    registry._REGISTRY.clear()
    register("toy/table-1", lambda setup: toy.plan_skills(setup, {"mSVM HOG": 0.6}, 0.2, seeded=True))
    said = []
    assert run_experiment("toy/table-1", dataset="muxspace", seeds=2, data=tmp_path, say=said.append) == 2
    runs = Ledger("toy/table-1", "book", "muxspace", tmp_path).runs
    assert [(run["seed"], run["arguments"]["skill"]) for run in runs] == [(0, 0.6), (1, 0.6)], "nor the seed that is not run again"
    registry._REGISTRY.clear()
    register("toy/table-1", lambda setup: toy.plan_skills(setup, {"mSVM LBP": 0.6}, 0.2, seeded=True))
    assert run_experiment("toy/table-1", dataset="muxspace", seeds=1, data=tmp_path, say=said.append) == 1
    runs = Ledger("toy/table-1", "book", "muxspace", tmp_path).runs
    assert [run["name"] for run in runs] == ["mSVM LBP basic"] and any("no longer planned" in line for line in said)
    # nothing is missing, one name too many: it leaves all the same
    registry._REGISTRY.clear()
    register("toy/table-1", [])
    assert run_experiment("toy/table-1", dataset="muxspace", data=tmp_path) == 0
    assert Ledger("toy/table-1", "book", "muxspace", tmp_path).runs == []


def test_runs_that_are_not_wanted_stay_missing(tmp_path, empty_registry):
    register("toy/table-1", lambda setup: [Run(f"run {seed}", toy.draw_slowly, {}, seed) for seed in setup.seeds])
    said, asked = [], []

    def wanted(run):
        asked.append((run.seed, sum(line.endswith(" s") for line in said)))
        return run.seed != 1

    assert run_experiment("toy/table-1", data=tmp_path, wanted=wanted, say=said.append) == 2
    assert asked == [(0, 0), (1, 1), (2, 1)], "each is asked for when the runs before it have ended"
    assert [run["seed"] for run in Ledger("toy/table-1", "book", "facsynth", tmp_path).runs] == [0, 2]
    assert run_experiment("toy/table-1", data=tmp_path) == 1


def test_a_failing_run_does_not_stop_the_others(empty_registry, tmp_path):
    runs = [Run("bad", toy.fail), *toy.plan_skills(Setup(Profile.BOOK, "muxspace", (0,)))]
    register("toy/table-1", runs)
    with pytest.raises(ExperimentError, match=r"^toy/table-1: bad: RuntimeError: no luck$"):
        run_experiment("toy/table-1", dataset="muxspace", data=tmp_path)
    assert len(Ledger("toy/table-1", "book", "muxspace", tmp_path).runs) == 4


def test_a_cause_is_told_once_however_many_runs_it_ends(empty_registry, tmp_path):
    register("toy/table-1", [Run("bad", toy.fail, seed=seed) for seed in range(5)])
    said = []
    with pytest.raises(ExperimentError) as caught:
        run_experiment("toy/table-1", dataset="muxspace", data=tmp_path, say=said.append)
    named = ", ".join(f"toy/table-1: bad, seed {seed}" for seed in range(3))
    assert str(caught.value) == f"{named} and 2 more: RuntimeError: no luck"
    assert sum("no luck" in line for line in said) == 1 and sum("failed" in line for line in said) == 5


def test_a_killed_run_goes_on_from_its_folder(empty_registry, tmp_path):
    register("toy/table-1", [Run("counter", toy.count_up, {"steps": 9, "stop": 4})])
    with pytest.raises(KeyboardInterrupt):
        run_experiment("toy/table-1", data=tmp_path)
    assert list_ledgers(data=tmp_path) == []
    assert run_experiment("toy/table-1", data=tmp_path) == 1
    (run,) = Ledger("toy/table-1", "book", "facsynth", tmp_path).runs
    assert run["outcomes"][0]["metrics"] == {"steps": 9, "resumed": 1}
    path = find_checkpoint("toy/table-1", "count.txt", "book", "facsynth", tmp_path)
    assert path == tmp_path / "checkpoints/book/facsynth/toy/table-1/count.txt" and path.read_text() == "0 1 2 3 4 5 6 7 8"
    assert set(run["files"]) == {"count.txt"}
    with pytest.raises(DataError, match=r"none\.bin: not found; expected a file of 'ferbook reproduce toy/table-1 --profile book"):
        find_checkpoint("toy/table-1", "none.bin", data=tmp_path)


def read_other(context):
    """Reads what another experiment left."""
    return [Score("reader", "", {"length": float(len(context.find_file("toy/first", "count.txt").read_text()))})]


def test_what_another_needs_is_run_before(empty_registry, tmp_path):
    register("toy/second", [Run("reader", read_other)], needs=("toy/first",))
    with pytest.raises(ExperimentError, match="ferbook reproduce toy/first"):
        run_experiments(["toy/second"], data=tmp_path)
    register("toy/first", [Run("counter", toy.count_up, {"steps": 3, "stop": 3})])
    assert run_experiments(["toy/second", "toy/first"], data=tmp_path) == 2
    registry._REGISTRY.clear()
    register("toy/a", [], needs=("toy/b",))
    register("toy/b", [], needs=("toy/a",))
    with pytest.raises(ValueError, match="need each other"):
        run_experiments(["toy/a", "toy/b"], data=tmp_path)


def nothing(context, kind):
    return {"none": None, "empty": [], "text": "good", "inside": [1.0], "nan": [Score("a", "", {"loss": float("nan")})]}[kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [("none", "returned NoneType"), ("empty", "returned list"), ("text", "returned str"), ("inside", "returned list"),
     ("nan", "loss is nan")],
)
def test_what_a_run_must_return(empty_registry, tmp_path, kind, message):
    register("toy/table-1", [Run("a", nothing, {"kind": kind})])
    with pytest.raises((ExperimentError, ValueError), match=message):
        run_experiment("toy/table-1", data=tmp_path)
    assert list_ledgers(data=tmp_path) == []


def look(context):
    faces = context.load_faces("basic")
    (context.workdir / "work.txt").touch()
    return [score_predictions("looker", "basic", faces.labels, faces.labels, faces.classes)]


def test_results_on_other_faces_are_noticed(empty_registry, tmp_path, facsynth_tree):
    register("toy/table-1", [Run("looker", look)])
    assert run_experiment("toy/table-1", data=tmp_path) == 1
    assert len(read_ledger("toy/table-1", data=tmp_path)) > 0
    faces = Ledger("toy/table-1", "book", "facsynth", tmp_path).runs[0]["faces"]
    assert [(f["role"], f["name"], f["count"]) for f in faces] == [("basic", "FACSynth basic", 7)]
    put(facsynth_tree, "README.md", "another miniature")
    (facsynth_tree / "ckplus/masks.npz").write_bytes((facsynth_tree / "raf/basic/masks.npz").read_bytes())
    write_sums(facsynth_tree)
    assert run_experiment("toy/table-1", data=tmp_path) == 0, "files that play no part in its role"
    (facsynth_tree / "raf/basic/masks.npz").write_bytes((facsynth_tree / "raf/compound/masks.npz").read_bytes())
    write_sums(facsynth_tree)
    command = "'ferbook reproduce toy/table-1 --profile book --dataset facsynth'"
    with pytest.raises(DataError, match=rf"table-1\.json: measured on other faces .*{command}"):
        read_ledger("toy/table-1", data=tmp_path)
    said = []
    assert run_experiment("toy/table-1", data=tmp_path, say=said.append) == 1
    assert "toy/table-1: 'looker', seed None, was measured on other basic faces; it is run again" in said
    assert len(read_ledger("toy/table-1", data=tmp_path)) > 0


def test_other_faces_of_a_real_dataset_are_run_again(empty_registry, tmp_path):
    root = write_wild(tmp_path / "mux")
    register("toy/table-1", [Run("looker", look)])
    assert run_experiment("toy/table-1", dataset="muxspace", root=root, data=tmp_path) == 1
    assert run_experiment("toy/table-1", dataset="muxspace", root=root, data=tmp_path) == 0
    assert run_experiment("toy/table-1", dataset="muxspace", root=tmp_path / "nowhere", data=tmp_path) == 0, "not here: cannot be compared"
    write_wild(root, 7)
    assert run_experiment("toy/table-1", dataset="muxspace", root=root, data=tmp_path) == 1


def test_other_labels_are_noticed_whatever_decodes_the_pictures(empty_registry, tmp_path, monkeypatch):
    root = write_wild(tmp_path / "mux")
    register("toy/table-1", [Run("looker", look)])
    run_experiment("toy/table-1", dataset="muxspace", root=root, data=tmp_path)
    monkeypatch.setattr("fer_utils.experiments.contents.version", lambda name: "another")
    assert run_experiment("toy/table-1", dataset="muxspace", root=root, data=tmp_path) == 0
    path = root / "data/legend.csv"
    path.write_text(path.read_text().replace("P1_4_0002.jpg,anger", "P1_4_0002.jpg,sadness"))
    assert run_experiment("toy/table-1", dataset="muxspace", root=root, data=tmp_path) == 1


def test_other_pixels_under_the_same_names_are_run_again(empty_registry, tmp_path):
    root = write_wild(tmp_path / "mux")
    register("toy/table-1", [Run("looker", look)])
    run_experiment("toy/table-1", dataset="muxspace", root=root, data=tmp_path)
    picture = next((root / "images").iterdir())
    picture.write_bytes(image_bytes(99, (64, 64)))
    said = []
    assert run_experiment("toy/table-1", dataset="muxspace", root=root, data=tmp_path, say=said.append) == 1
    assert "toy/table-1: 'looker', seed None, was measured on other basic faces; it is run again" in said


def test_the_commit_in_a_checkout_of_another_owner(tmp_path, monkeypatch):
    from fer_utils.experiments import execution

    put(tmp_path, "fer_utils/__init__.py", "")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(execution, "_PACKAGE", tmp_path / "fer_utils")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert subprocess.run([*git, "status"], capture_output=True, check=False).returncode, "git itself refuses"
    assert len(execution.find_commit.__wrapped__()) == 40


def test_a_repository_around_the_package_is_not_its_own(tmp_path, monkeypatch):
    from fer_utils.experiments import execution

    package = tmp_path / "site" / "fer_utils"
    put(package, "__init__.py", "")
    for words in (["init", "-q"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setattr(execution, "_PACKAGE", package)
    assert execution.find_commit.__wrapped__() is None
    subprocess.run(["git", "-C", str(tmp_path), "add", "."], check=True)
    assert execution.find_commit.__wrapped__().endswith("-dirty"), "one that holds it is"


def test_work_on_other_faces_is_thrown_away(tmp_path):
    context = RunContext("toy/table-1", Profile.BOOK, "muxspace", None, tmp_path / "work", str(write_wild(tmp_path / "mux")))
    context.load_faces("basic")
    (tmp_path / "work" / "checkpoint.bin").touch()
    context.load_faces("basic")
    assert (tmp_path / "work" / "checkpoint.bin").is_file()
    write_wild(tmp_path / "mux", 7)
    context.load_faces("basic")
    assert not (tmp_path / "work" / "checkpoint.bin").exists()


# -- the file -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read"), ("[]", "cannot be read"), ('{"id": "toy/table-1"}', "profile is missing"),
     (
         '{"id": "toy/table-2", "profile": "book", "dataset": "facsynth", "codes": {}, "runs": [], "test_sets": {}}',
         "holds toy/table-2, book, facsynth",
     )],
)
def test_a_damaged_ledger(tmp_path, text, message):
    put(tmp_path, "results/book/facsynth/toy/table-1.json", text)
    with pytest.raises(DataError, match=rf"table-1\.json: .*{message}.*; expected the results of toy/table-1, profile book, on facsynth"):
        read_ledger(data=tmp_path)


def spoil(change):
    """A ledger of one run, changed: the run, its first outcome and the test sets are handed to ``change``."""

    def apply(path):
        kept = json.loads(path.read_text())
        change(kept, kept["runs"][0], kept["runs"][0]["outcomes"][0])
        path.write_text(json.dumps(kept))

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda kept, run, outcome: run.pop("outcomes"), "'mSVM HOG basic', seed 0: outcomes is missing"),
        (lambda kept, run, outcome: run.pop("wall_s"), "'mSVM HOG basic', seed 0: wall_s is missing"),
        (lambda kept, run, outcome: kept["runs"].append("a run"), "run 2 is 'a run', not an object"),
        (lambda kept, run, outcome: kept["runs"].append(run), "'mSVM HOG basic', seed 0 is there twice"),
        (lambda kept, run, outcome: outcome.update(test_set="none"), "its test set 'none' is not there"),
        (lambda kept, run, outcome: outcome["metrics"].update(accuracy="high"), "'mSVM HOG basic', seed 0: .* accuracy is 'high'"),
        (lambda kept, run, outcome: outcome["metrics"].update(accuracy=0.99), "accuracy is 0.99, but 0.* by its predictions"),
        (lambda kept, run, outcome: outcome.update(guess=outcome["guess"][1:]), "mSVM HOG, basic: truth and guess must be of one length"),
        (lambda kept, run, outcome: outcome["confusion"][0].reverse(), "the confusion matrix is not that of the predictions"),
    ],
)
def test_a_damaged_run(empty_registry, tmp_path, change, message):
    register("toy/table-1", lambda setup: toy.plan_skills(setup, {"mSVM HOG": 0.7}, 0.2, seeded=True))
    run_experiment("toy/table-1", dataset="muxspace", seeds=1, data=tmp_path)
    spoil(change)(tmp_path / "results/book/muxspace/toy/table-1.json")
    for use in (read_ledger, run_experiment):
        with pytest.raises(DataError, match=rf"table-1\.json: cannot be read .*{message}.*; expected the results of toy/table-1"):
            use("toy/table-1", dataset="muxspace", data=tmp_path)


def test_a_changed_file_is_not_taken_for_the_runs_own(empty_registry, tmp_path):
    register("toy/table-1", [Run("counter", toy.count_up, {"steps": 3, "stop": 3})])
    run_experiment("toy/table-1", data=tmp_path)
    path = find_checkpoint("toy/table-1", "count.txt", data=tmp_path)
    path.write_text("0 1 9")
    with pytest.raises(DataError, match=r"count\.txt: is not the file whose checksum the ledger has"):
        find_checkpoint("toy/table-1", "count.txt", data=tmp_path)


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_a_run_whose_file_is_lost_is_missing(empty_registry, tmp_path, harm):
    register("toy/table-1", [Run("counter", toy.count_up, {"steps": 3, "stop": 3})])
    run_experiment("toy/table-1", data=tmp_path)
    path = find_checkpoint("toy/table-1", "count.txt", data=tmp_path)
    whole, said = path.read_bytes(), []
    path.unlink() if harm == "gone" else path.write_bytes(whole[::-1])
    assert run_experiment("toy/table-1", data=tmp_path, say=said.append) == 1
    assert "toy/table-1: 'counter', seed None, has lost count.txt, which is gone or damaged; it is run again" in said
    assert find_checkpoint("toy/table-1", "count.txt", data=tmp_path).read_bytes() == whole
    assert run_experiment("toy/table-1", data=tmp_path) == 0


def test_a_lock_lies_beside_its_ledger_and_follows_no_link(empty_registry, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "elsewhere"))
    register("toy/table-1", [Run("counter", toy.count_up, {"steps": 3, "stop": 3})])
    run_experiment("toy/table-1", data=tmp_path)
    (lock,) = tmp_path.rglob("*.lock")
    assert lock.parent == Ledger("toy/table-1", "book", "facsynth", tmp_path).path.parent and lock.stat().st_mode & 0o777 == 0o600
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    lock.unlink()
    lock.symlink_to(precious)
    with pytest.raises(DataError, match=r"\.table-1\.lock: cannot be opened"):
        run_experiment("toy/table-1", data=tmp_path)
    assert precious.read_text() == "mine"


def test_time_is_measured_when_nothing_else_runs(empty_registry, tmp_path, monkeypatch):
    batches = []
    monkeypatch.setattr(running, "_execute_here", lambda jobs: batches.append([job.id for job in jobs]) or iter(()))
    register("toy/table-1", lambda setup: [Run("a", toy.answer), Run("b", toy.answer)])
    registry.register_experiment("toy/time", alone=True)(lambda setup: [Run("c", toy.answer), Run("d", toy.answer)])
    run_experiments(["toy/time", "toy/table-1"], data=tmp_path)
    assert batches == [["toy/table-1"] * 2, ["toy/time"], ["toy/time"]]


def test_a_folder_that_cannot_be_written_is_met_before_anything_runs(empty_registry, tmp_path):
    (tmp_path / "results").touch()
    register("toy/table-1", [Run("counter", toy.count_up, {"steps": 3, "stop": 3})])
    said = []
    with pytest.raises(OSError, match="results"):
        run_experiment("toy/table-1", data=tmp_path, say=said.append)
    assert said == []


def test_a_key_never_enters_twice(empty_registry, tmp_path):
    register("toy/table-1", [Run("counter", toy.count_up, {"steps": 3, "stop": 3})])
    run_experiment("toy/table-1", data=tmp_path)
    ledger = Ledger("toy/table-1", "book", "facsynth", tmp_path)
    with pytest.raises(ValueError, match="the run 'counter', seed None, is in the ledger"):
        ledger.add(ledger.runs[0])


def test_matrices_read_as_matrices(empty_registry, tmp_path):
    register("dlp-cnn/table-5", toy.plan_skills)
    run_experiment("dlp-cnn/table-5", dataset="muxspace", data=tmp_path)
    text = (tmp_path / "results/book/muxspace/dlp-cnn/table-5.json").read_text()
    first = json.loads(text)["runs"][0]["outcomes"][0]["confusion"][0]
    assert f"      {first},\n".replace("'", "") in text


def test_two_writers_are_refused(empty_registry, tmp_path):
    """A second process that runs the same experiment ends in one clear error."""
    script = (
        "import toy_experiments as toy\n"
        "from fer_utils.experiments import Run, register_experiment, run_experiment\n"
        f"register_experiment('toy/table-1')(lambda setup: [Run('s', toy.sleep, {{'log': {str(tmp_path)!r}, 'seconds': 60}}, 0)])\n"
        f"run_experiment('toy/table-1', data={str(tmp_path)!r})\n"
    )
    other = subprocess.Popen([sys.executable, "-c", script], env=toy.environment())
    try:
        toy.wait_for(lambda: list(tmp_path.glob("*.began")))
        register("toy/table-1", [Run("counter", toy.count_up, {"steps": 3, "stop": 3})])
        with pytest.raises(DataError, match=r"table-1\.json: another process is running this experiment"):
            run_experiment("toy/table-1", data=tmp_path)
    finally:
        other.kill()
        other.wait()
    assert run_experiment("toy/table-1", data=tmp_path) == 1, "the lock dies with its process"


def test_a_killed_client_loses_nothing(empty_registry, tmp_path):
    """Six runs, one after the other; the process is killed in the midst of the third or later."""
    plan = f"[Run('s', toy.sleep, {{'log': {str(tmp_path)!r}, 'seconds': 0.6}}, seed) for seed in setup.seeds]"
    script = (
        "from pathlib import Path\nimport toy_experiments as toy\n"
        "from fer_utils.experiments import Run, register_experiment, run_experiment\n"
        f"register_experiment('toy/table-1')(lambda setup: {plan})\n"
        f"run_experiment('toy/table-1', seeds=6, data=Path({str(tmp_path)!r}))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], env=toy.environment())
    toy.wait_for(lambda: len(list(tmp_path.glob("*.began"))) >= 3)
    time.sleep(0.1)
    process.kill()
    process.wait()
    kept = [run["seed"] for run in Ledger("toy/table-1", "book", "facsynth", tmp_path).runs]
    assert 2 <= len(kept) < 6
    register("toy/table-1", lambda setup: [Run("s", toy.sleep, {"log": str(tmp_path), "seconds": 0.6}, seed) for seed in setup.seeds])
    assert run_experiment("toy/table-1", seeds=6, data=tmp_path) == 6 - len(kept)
    assert [run["seed"] for run in Ledger("toy/table-1", "book", "facsynth", tmp_path).runs] == [0, 1, 2, 3, 4, 5]
    began = {path.stem: len(path.read_text().split()) for path in tmp_path.glob("*.began")}
    assert len(began) == 6 and all(began[f"toy-table-1-{seed}"] == 1 for seed in kept), "what was kept is not run again"
    assert not list(Path(tmp_path).rglob("*.part"))


def test_two_folders_of_results_share_no_working_folder(tmp_path):
    run = Run("answer", toy.answer)
    folders = {Job("toy/table-1", "smoke", "facsynth", run, None, data).workdir() for data in (None, str(tmp_path), str(tmp_path / "b"))}
    assert len(folders) == 3
