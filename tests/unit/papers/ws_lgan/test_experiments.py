"""The experiments: what is planned, that a smoke run measures what claims ask for, nothing trained twice."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import image_bytes, put

from fer_utils.datasets.celeba import ATTRIBUTES
from fer_utils.datasets.celeba import PARTS as NAMES
from fer_utils.experiments import (
    LedgerReader,
    find_checkpoint,
    find_experiment,
    judge_claims,
    list_experiments,
    load_published,
    read_ledger,
    run_experiments,
)
from fer_utils.experiments.ledger import Ledger
from fer_utils.experiments.scores import unpack_labels
from fer_utils.labels import OULU_CASIA
from fer_utils.papers.ws_lgan import tables
from fer_utils.papers.ws_lgan.attributes import find_people
from fer_utils.papers.ws_lgan.kept import GENERATOR, TRAINED, find_home, find_pretraining
from fer_utils.training import load_checkpoint

from ..shipped import load_few

pytestmark = pytest.mark.usefixtures("one_thread")
IDS = [e.id for e in list_experiments() if e.id.startswith("ws-lgan/")]
PUBLISHED = load_published("ws-lgan")
TABLES = {f"ws-lgan/table-{i}" for i in (2, 3, 6, 7, 8, 9, 10)}
TABLES |= {"ws-lgan/section-3-d", "ws-lgan/contrastive-features"}
KNOWN = {"ws-lgan/figure-5", "ws-lgan/figure-6", "ws-lgan/dropped-attributes", "ws-lgan/cost", GENERATOR}
OULU = {"ws-lgan/table-4", "ws-lgan/table-5"}


# -- plans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "planned"),
    [
        ("facsynth", TABLES | KNOWN),
        ("muxspace", TABLES - {"ws-lgan/table-2", "ws-lgan/table-3"}),
        ("rafdb", TABLES | {GENERATOR, "ws-lgan/figure-6"}),
        ("ckplus", TABLES - {"ws-lgan/table-6", "ws-lgan/table-7"}),
        ("oulu_casia", TABLES - {f"ws-lgan/table-{i}" for i in (2, 3, 6, 7)} | OULU),
    ],
)
def test_only_what_the_faces_allow_is_planned(dataset, planned):
    assert {id for id in IDS if find_experiment(id).plan("book", dataset)} == planned


def test_a_network_is_trained_in_one_place():
    """And where its files are read, the experiment that leaves them is needed before."""
    trained = {}
    for id in IDS:
        for run in find_experiment(id).plan("book", "facsynth"):
            if run.function.endswith((":measure_network", ":measure_branch")):
                trained.setdefault((run.arguments.get("row", run.name), run.seed), set()).add(id)
            elif run.function.endswith((":measure_kept", ":measure_separations")):
                assert TRAINED[run.name] in find_experiment(id).needs
    assert all(len(places) == 1 for places in trained.values())
    assert {name: {place for (row, _), (place,) in trained.items() if row == name} for name in TRAINED} == {
        name: {place} for name, place in TRAINED.items()
    }
    assert len(trained) == 5 * (2 + 6 + 2), "branches, methods, and two on untrained maps"


def test_seeds_of_the_book():
    experiment = find_experiment("ws-lgan/table-8")
    for dataset, asked, count in (("facsynth", None, 5), ("muxspace", None, 3), ("muxspace", 4, 4)):
        assert {run.seed for run in experiment.plan("book", dataset, asked)} == set(range(count))


def test_each_row_of_a_claim_is_planned_or_said_not_to_be():
    for claim in PUBLISHED.claims:
        items = {cell.item for comparison in claim.comparisons for _, cell in comparison.terms}
        for id in items:
            rows = {cell.row for comparison in claim.comparisons for _, cell in comparison.terms if cell.item == id}
            assert bool(rows & set(find_experiment(id).omits)) == bool(claim.not_attempted), claim.id


def test_from_where_maps_and_first_weights_come():
    for dataset in ("facsynth", "muxspace"):
        assert (find_home(dataset), find_pretraining(dataset)) == ("facsynth", None)
    for dataset in ("rafdb", "ckplus", "oulu_casia"):
        assert (find_home(dataset), find_pretraining(dataset)) == ("rafdb", "fer2013")
    assert find_pretraining("fer2013") is None, "nothing is trained on before it is trained on"


# -- a smoke run ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """All that claims read, one seed; of the networks of Table VI only those that the paper compares itself with."""
    data = tmp_path_factory.mktemp("smoke")
    ids = [id for id in IDS if id not in ("ws-lgan/dropped-attributes", "ws-lgan/cost")] + ["dlp-cnn/table-6"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_CACHE", str(data / "cache"))
        patch.setattr("fer_utils.experiments.context.load_role", load_few())
        run_experiments(ids, "smoke", data=data, wanted=lambda run: "scratch" not in run.name)
    return data


def test_every_claim_is_judged(smoke):
    for verdict in judge_claims("ws-lgan", "smoke", data=smoke):
        name = verdict.claim.id.removeprefix("ws-lgan/")
        if verdict.claim.not_attempted or name.startswith("oulu"):
            assert not verdict.estimates
        else:
            assert len(verdict.estimates) == len(verdict.claim.comparisons) and not verdict.missing, name
            assert all(not np.isnan(estimate.test_error) for estimate in verdict.estimates), f"{name}: faces are kept"


def test_published_cells_are_measured(smoke):
    """But for what depends on nothing there: weights of all faces, and tables of other people's faces."""
    reader = LedgerReader("smoke", "facsynth", smoke)
    for id in IDS:
        if id in OULU | {"ws-lgan/dropped-attributes", "ws-lgan/cost"}:
            continue
        item = PUBLISHED.item(id)
        cells = {cell for cell, _, _ in item.cells() if cell.row not in find_experiment(id).omits}
        if id == "ws-lgan/figure-5":
            all_faces = {"own weights", "weights of other faces", "mean weights"}
            cells = {cell for cell in cells if cell.row not in all_faces or cell.metric == "accuracy"}
        assert [str(cell) for cell in cells if not reader.measure(cell)] == [], id
        assert {cell.row for cell in cells} == set(read_ledger(id, "smoke", "facsynth", smoke)["row"]), id


def test_tables_say_the_same_of_one_network(smoke):
    def predictions(id, row="WS-LGAN"):
        runs = Ledger(f"ws-lgan/{id}", "smoke", "facsynth", smoke).runs
        return {s["faces"]: s["guess"] for run in runs for s in run["outcomes"] if s["row"] == row}

    first = predictions("table-8")
    assert set(first) == {"basic", "lab"}
    for id in ("table-9", "table-10", "section-3-d"):
        assert predictions(id) == first
    for id, role in (("table-2", "lab"), ("table-3", "lab"), ("table-6", "basic"), ("table-7", "basic")):
        assert predictions(id) == {role: first[role]}
    assert predictions("section-3-d", "WS-LGAN-Sum") == predictions("table-9", "WS-LGAN-Sum")


def test_the_rivals_are_those_of_the_other_papers_table(smoke):
    said = {}
    for id in ("ws-lgan/table-6", "dlp-cnn/table-6"):
        scores = [score for run in Ledger(id, "smoke", "facsynth", smoke).runs for score in run["outcomes"]]
        said[id] = {score["row"]: score["guess"] for score in scores if score["faces"] == "basic"}
    for row, name in (("DLP-CNN", "DLP-CNN"), ("Center Loss", "center loss"), ("baseDCNN", "baseDCNN")):
        assert said["ws-lgan/table-6"][row] == said["dlp-cnn/table-6"][f"mSVM {name}"]


def test_the_kept_network_holds_the_trained_branches(smoke):
    folder = find_checkpoint("ws-lgan/table-8", "WS-LGAN-0.safetensors", "smoke", "facsynth", smoke)
    model = load_checkpoint(folder)[0]
    for part in ("eyes", "mouth"):
        branch = load_checkpoint(find_checkpoint(GENERATOR, f"{part}-0.safetensors", "smoke", "facsynth", smoke))[0]
        own = getattr(model.generator, part).state_dict()
        assert all(torch.equal(value, own[name]) for name, value in branch.state_dict().items())


def test_whose_attributes_are_asked_for(smoke):
    (eyes,) = (run for run in Ledger(GENERATOR, "smoke", "facsynth", smoke).runs if run["name"] == "eyes")
    ledger = Ledger(GENERATOR, "smoke", "facsynth", smoke)
    scores = {score["faces"]: score for score in eyes["outcomes"]}
    assert set(scores) == {"held-back", "basic", "lab"}
    held_back, basic = (ledger.test_sets[scores[role]["test_set"]] for role in ("held-back", "basic"))
    assert unpack_labels(held_back["truth"]).mean() == 0.5
    tested = set(find_people(load_few()("facsynth", more=True, masks=True).test).tolist())
    assert not tested & set(map(int, held_back["people"].split())) and tested > set(map(int, basic["people"].split()))


# -- gated faces ------------------------------------------------------------------------------------------------------


def write_celeba(root: Path, count: int = 150) -> None:
    rng = np.random.default_rng(0)
    names = [f"{i:06d}.jpg" for i in range(count)]
    used = {name for part in NAMES.values() for name in part}
    for i, name in enumerate(names):
        put(root, f"img_align_celeba/{name}", image_bytes(i, (178, 218)))
    flags = [" ".join(" 1" if name in used and rng.random() < 0.2 else "-1" for name in ATTRIBUTES) for _ in names]
    lines = [f"{name} {row}" for name, row in zip(names, flags, strict=True)]
    put(root, "list_attr_celeba.txt", "\n".join([str(count), " ".join(ATTRIBUTES), *lines, ""]))
    put(root, "list_eval_partition.txt", "".join(f"{name} 0\n" for name in names))


def test_the_tables_of_oulu_casia_on_a_miniature_tree(tmp_path, monkeypatch):
    """CelebA teaches the generator, FER2013 comes before, and the whole face weighs five."""
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    write_celeba(tmp_path / "celeba")
    rng = np.random.default_rng(0)
    rows = [f"{i % 7},{' '.join(map(str, rng.integers(0, 256, 48 * 48)))},Training" for i in range(42)]
    put(tmp_path, "fer2013/fer2013.csv", "\n".join(["emotion,pixels,Usage", *rows, ""]))
    for person in range(1, 5):
        for k, emotion in enumerate(OULU_CASIA.codes):
            for frame in range(4):
                name = f"oulu_casia/PreProcess_Img/VL_Acropped/Strong/P{person:03d}/{emotion}/{frame:03d}.jpeg"
                put(tmp_path, name, image_bytes(100 * person + 10 * k + frame, (40, 40)))
    calls = []
    real = tables.train_network

    def train(*args, **options):
        calls.append((args, options))
        return real(*args, **options)

    monkeypatch.setattr(tables, "train_network", train)
    run_experiments([GENERATOR], "smoke", "rafdb", seeds=1, data=tmp_path)
    ids = ["ws-lgan/table-8", "ws-lgan/table-4", "ws-lgan/table-5"]
    run_experiments(ids, "smoke", "oulu_casia", data=tmp_path, wanted=lambda run: run.name == "WS-LGAN")
    assert [options["pretraining"] for _, options in calls] == [True, False, False]
    assert {options["global_weight"] for _, options in calls} == {5.0}
    assert [len(args[1].classes) for args, _ in calls] == [7, 6, 6]
    for id in ("ws-lgan/table-4", "ws-lgan/table-5"):
        found = read_ledger(id, "smoke", "oulu_casia", tmp_path)
        assert set(found["row"]) == {"WS-LGAN"} and set(found["role"]) == {"lab"} and set(found["count"]) == {72}
    judged = {v.claim.id for v in judge_claims("ws-lgan", "smoke", "oulu_casia", tmp_path) if v.estimates}
    assert {"ws-lgan/oulu-easy", "ws-lgan/oulu-confused"} <= judged
