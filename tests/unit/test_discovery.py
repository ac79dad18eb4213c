"""A paper is one folder: what lies in it is found, runs and is judged; a broken one ends in one error that names the folder."""

import importlib
import shutil
import sys

import pytest
from conftest import put

import fer_utils.papers
from fer_utils.discovery import import_part, list_papers
from fer_utils.errors import DataError
from fer_utils.experiments import find_checkpoint, judge_claims, list_experiments, load_published, registry, run_experiments
from fer_utils.models import build_model, list_models
from fer_utils.models import registry as model_registry

FILES = {
    "__init__.py": "",
    "recipe.py": """
from dataclasses import dataclass
from typing import ClassVar
from fer_utils.experiments import Profile, Recipe, scale

@dataclass(frozen=True)
class ToyNet(Recipe):
    width: int = scale(64)
    SIZES: ClassVar = {Profile.SMOKE: {"width": 3}, Profile.BOOK: {"width": 8}}
""",
    "model.py": """
from torch import nn
from fer_utils.models.base import FaceModel
from fer_utils.models.registry import register_model

@register_model
class ToyNet(FaceModel):
    name = "toy_net"

    def __init__(self, num_classes=7, width=64, in_channels=1, input_size=16, image_size=16):
        super().__init__(num_classes=num_classes, width=width, in_channels=in_channels, input_size=input_size, image_size=image_size)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(in_channels * input_size**2, width), nn.ReLU())
        self.classifier = nn.Linear(width, num_classes)
""",
    "experiments.py": """
from fer_utils.experiments import Run, register_experiment, score_faces
from fer_utils.models import build_model
from fer_utils.training import predict
from .recipe import ToyNet

@register_experiment("toy-net/table-1")
def plan_table_1(setup):
    return [Run("toy", measure_start, {"recipe": ToyNet().at(setup.profile)})]

def measure_start(context, recipe):
    test = context.load_faces("basic").test
    model = build_model("toy_net", seed=0, width=recipe.width).eval()
    context.save_network("toy", model, recipe)
    return [score_faces("toy", "basic", test, predict(model, test.images))]

@register_experiment("toy-net/table-2", needs=("toy-net/table-1",))
def plan_table_2(setup):
    return [Run("toy", measure_again, {"recipe": ToyNet().at(setup.profile)})]

def measure_again(context, recipe):
    test = context.load_faces("basic").test
    model = context.load_network("toy-net/table-1", "toy")
    assert model.embedding_size == recipe.width
    return [score_faces("toy again", "basic", test, predict(model, test.images))]
""",
    "published.yaml": """
paper: toy-net
reference: nobody
items:
  table-1: {title: A table, where: Table 1, unit: "%", columns: [{name: A, role: basic, metric: accuracy}], rows: {toy: [50]}}
  table-2: {title: A table, where: Table 2, unit: "%", columns: [{name: A, role: basic, metric: accuracy}], rows: {toy again: [50]}}
claims:
  - {id: something, text: It says something, where: Table 1, item: table-1, metric: accuracy, role: basic, relation: above, bound: -1,
     rows: [toy]}
  - {id: much, text: It is nearly always right, where: Table 2, item: table-2, metric: accuracy, role: basic, relation: above, bound: 101,
     rows: [toy again]}
""",
}


@pytest.fixture
def paper(tmp_path, monkeypatch):
    """The folder of a whole paper, found beside the book's own."""
    list_experiments(), list_models()
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr(model_registry, "_MODELS", dict(model_registry._MODELS))
    root = tmp_path / "papers"
    for name, text in FILES.items():
        put(root, f"toy_net/{name}", text)
    monkeypatch.setattr(fer_utils.papers, "__path__", [*fer_utils.papers.__path__, str(root)])
    importlib.invalidate_caches()
    yield root / "toy_net"
    for name in [name for name in sys.modules if name.startswith("fer_utils.papers.toy_net")]:
        del sys.modules[name]
    load_published.cache_clear()


def test_a_new_paper_is_one_folder(paper, tmp_path, facsynth_tree):
    assert {"dlp-cnn", "toy-net", "transfer"} <= set(list_papers()) and list(list_papers()) == sorted(list_papers())
    assert "toy_net" in list_models() and build_model("toy_net", width=5).embedding_size == 5
    assert [e.id for e in list_experiments() if e.id.startswith("toy-net/")] == ["toy-net/table-1", "toy-net/table-2"]
    assert load_published("toy-net").item("table-1").rows == {"toy": (50,)}
    assert import_part("toy-net", "objective") is None, "not every paper has every part"

    assert run_experiments(["toy-net/table-2", "toy-net/table-1"], "smoke", "facsynth", data=tmp_path) == 2
    assert find_checkpoint("toy-net/table-1", "toy-0.safetensors", "smoke", data=tmp_path).is_file()
    verdicts = judge_claims("toy-net", "smoke", "facsynth", tmp_path)
    assert [verdict.word for verdict in verdicts] == ["reproduced", "contradicted"]


def test_leftovers_of_another_branch_are_no_paper(paper):
    shutil.rmtree(paper)
    (paper / "__pycache__").mkdir(parents=True)
    assert "toy-net" not in list_papers() and "dlp-cnn" in list_papers()


def change(name, old, new):
    return lambda folder: put(folder, name, FILES[name].replace(old, new))


def remove(name):
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("__init__.py"), r"toy_net: has no __init__\.py; expected a folder with"),
        (remove("recipe.py"), r"toy_net: has no recipe\.py; expected a folder with"),
        (remove("published.yaml"), r"toy_net: has no published\.yaml; expected a folder with"),
        (lambda folder: shutil.copytree(folder, folder.with_name("Toy")), r"Toy: has capitals or hyphens in its name"),
        (lambda folder: folder.rename(folder.with_name("toy-net")), r"toy-net: has capitals or hyphens in its name"),
        (lambda folder: shutil.copytree(folder, folder.with_name("dlp_cnn")), r"dlp_cnn: comes twice, as .*dlp_cnn too"),
        (change("experiments.py", "toy-net/table-2", "dlp-cnn/table-99"),
         r"toy_net: its module experiments cannot be imported \(ValueError: dlp-cnn/table-99 is registered in .*; expected toy-net/<item>"),
        (change("experiments.py", "from .recipe", "from .recipes"),
         r"toy_net: its module experiments cannot be imported \(ModuleNotFoundError: .*recipes"),
        (change("recipe.py", "class ToyNet(Recipe):", "class ToyNet(Recipe)"), r"toy_net: its module .* cannot be imported \(SyntaxError"),
        (change("model.py", '"toy_net"', '"resnet"'), r"toy_net: its module model cannot be imported \(ValueError: two networks are named"),
    ],
)
def test_a_broken_paper_is_named(paper, spoil, message):
    spoil(paper)
    with pytest.raises(DataError, match=message):
        list_experiments()
    with pytest.raises(DataError, match=message):  # nor the second time is it passed over
        list_experiments()


def test_a_network_that_cannot_be_imported_is_named(paper):
    change("model.py", "nn.ReLU()", "nn.ReLU(")(paper)
    with pytest.raises(DataError, match=r"toy_net: its module model cannot be imported \(SyntaxError"):
        build_model("toy_net")


def test_numbers_of_another_paper_are_refused(paper):
    change("published.yaml", "paper: toy-net", "paper: toy")(paper)
    with pytest.raises(DataError, match=r"toy_net.published\.yaml: holds the numbers of 'toy'; expected those of 'toy-net'"):
        load_published("toy-net")
