"""Which code a run reaches, and what counts as a change of it."""

import sys
import types

import pytest
from conftest import put

import fer_utils.papers
from fer_utils.experiments import code
from fer_utils.experiments.code import describe_code

TABLES = "from fer_utils.splits import kfold\nfrom .networks import train\n\ndef measure(context):\n    return train(2)\n"
FILES = {
    "__init__.py": '"""A paper."""\nfrom .figures import draw\n',
    "tables.py": TABLES,
    "networks.py": "def train(steps):\n    from ...losses import center\n    return steps\n",
    "figures.py": "def draw(context):\n    return 1\n",
    "model.py": "@register_model\nclass Net:\n    name = 'toy_net'\n",
}


@pytest.fixture
def paper(tmp_path, monkeypatch):
    """A paper's folder beside the book's own; it is read and never imported."""
    for name, text in FILES.items():
        put(tmp_path, f"toy_net/{name}", text)
    monkeypatch.setattr(fer_utils.papers, "__path__", [*fer_utils.papers.__path__, str(tmp_path)])
    return tmp_path / "toy_net"


def describe(function="fer_utils.papers.toy_net.tables:measure", arguments=None):
    """As another process would, which reads the files anew."""
    code._read.cache_clear()
    code._parse.cache_clear()
    return describe_code(function, arguments or {})


def own(reached):
    return {name.removeprefix("fer_utils.papers.toy_net.") for name in reached if name.startswith("fer_utils.papers.toy_net.")}


def test_what_is_reached(paper):
    reached = describe()
    assert own(reached) == {"tables", "networks"}, "not what its package gathers, nor a network that it does not build"
    assert {"fer_utils.splits", "fer_utils.losses", "fer_utils.losses.center", "fer_utils.losses.base"} <= set(reached)
    assert {"fer_utils.experiments.faces", "fer_utils.labels"} <= set(reached), "what chooses faces"
    assert not any(name.startswith("fer_utils.datasets") for name in reached), "what loaders give is compared itself"
    left_out = {"fer_utils", "fer_utils.errors", "fer_utils.files", "fer_utils.experiments", "fer_utils.experiments.scores"}
    assert not left_out & set(reached) and not any(name.startswith("fer_utils.plotting") for name in reached)
    assert "fer_utils.experiments.protocol" not in reached and not any(name.startswith("fer_utils.papers.dlp_cnn") for name in reached)


def test_networks_that_are_built_by_name(paper):
    put(paper, "networks.py", "from ...models import build_model\nNAME = 'alexnet'\n")
    assert own(describe()) == {"tables", "networks", "model"}, "the paper's own"
    dlp_cnn = "fer_utils.papers.dlp_cnn.model"
    assert dlp_cnn not in describe()
    assert dlp_cnn in describe(arguments={"row": {"networks": ["base_dcnn"]}})
    put(paper, "networks.py", "from ...models import build_model\nTABLE = 'dlp-cnn/table-6'\n")
    assert dlp_cnn in describe()
    other = "fer_utils.papers.dlp_cnn.tables:measure_network"
    assert dlp_cnn in describe(other) and own(describe(other)) == set()
    assert own(describe(other, {"network": "toy_net"})) == {"model"}


@pytest.mark.parametrize("text", [
    f'"""What it is."""\n# a remark\n{TABLES}', TABLES.replace("return", "# why\n    return  "), TABLES.replace("2", "(\n 2\n)"),
    TABLES.replace("    return", '    """What it does."""\n    return'), TABLES.replace("train(2)", "train(0x2)"),
])
def test_what_changes_nothing(paper, text):
    before = describe()
    put(paper, "tables.py", text)
    assert describe() == before


@pytest.mark.parametrize("text", [
    TABLES.replace("2", "3"), TABLES.replace("2", "2.0"), TABLES.replace("2", "'2'"), TABLES + "x = 1\n",
    TABLES.replace("train(2)", "train(-2)"), TABLES.replace("    return", "    'a'\n    'b'\n    return"),
])
def test_what_changes_a_digest(paper, text):
    before = describe()
    put(paper, "tables.py", text)
    after = describe()
    assert {name for name in before if before[name] != after[name]} == {"fer_utils.papers.toy_net.tables"}


def test_a_function_outside_the_package(tmp_path, monkeypatch):
    path = put(tmp_path, "mine.py", "from fer_utils import metrics\nimport fer_utils.losses.center as c\n")
    module = types.ModuleType("mine")
    module.__file__ = str(path)
    monkeypatch.setitem(sys.modules, "mine", module)
    assert {"mine", "fer_utils.metrics", "fer_utils.losses.center"} <= set(describe("mine:run"))
    assert "nowhere" not in describe("nowhere:run")


def test_a_digest_is_the_same_for_every_version_of_python():
    text = "class A(B):\n    'doc'\n    x: int = 1\n    async def f(self, *a, k=u'b'):\n        return f'{a!r:>{k}} {1e3}' if [] else {}\n"
    assert code._dump(code.ast.parse(text)) == (
        "Module(body=[ClassDef(name='A',bases=[Name(id='B')],body=[AnnAssign(target=Name(id='x'),annotation=Name(id='int'),"
        "value=Constant(value=1),simple=1),AsyncFunctionDef(name='f',args=arguments(args=[arg(arg='self')],vararg=arg(arg='a'),"
        "kwonlyargs=[arg(arg='k')],kw_defaults=[Constant(value='b')]),body=[Return(value=IfExp(test=List(),body=JoinedStr(values=["
        "FormattedValue(value=Name(id='a'),conversion=114,format_spec=JoinedStr(values=[Constant(value='>'),FormattedValue(value="
        "Name(id='k'),conversion=-1)])),Constant(value=' '),FormattedValue(value=Constant(value=1000.0),conversion=-1)]),orelse=Dict()))"
        "])])])"
    )
