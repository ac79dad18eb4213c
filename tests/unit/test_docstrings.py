"""What is said of the package's public names: every parameter, every error, and a place in the reference."""

import ast
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "fer_utils"
Function = ast.FunctionDef
#: Modules that serve the others of their folder; the reference does not list them.
INTERNAL = {
    *(f"fer_utils.cli{name}" for name in ("", ".base")),
    *(f"fer_utils.crowd.{name}" for name in ("chunks", "likelihood", "votes")),
    *(f"fer_utils.datasets.{name}" for name in ("catalog_entries", "entry", "layouts", "pixels", "sequences")),
    *(f"fer_utils.facsynth.{name}" for name in ("appearance", "conditions", "geometry", "identity", "pack", "produce", "render")),
    *(f"fer_utils.training.{name}" for name in ("fingerprint", "state")),
    "fer_utils.papers.daf_cnn.backend",
}


class Module:
    """A file's public names, and what stands in it about them."""

    def __init__(self, text: str, name: str = "module") -> None:
        self.name, self.lines, self.body = name, text.splitlines(), ast.parse(text).body
        self.classes = {node.name: node for node in self.body if isinstance(node, ast.ClassDef)}
        self.origins = {name.name: node.module for node in self.body if isinstance(node, ast.ImportFrom) for name in node.names}
        self.public = next((ast.literal_eval(node.value) for node in self.body if is_list_of_names(node)), None)

    def list_callables(self):
        """Public functions, and public classes with their public methods: name, class or None, node."""
        for node in self.body:
            if getattr(node, "name", None) in (self.public or ()):
                yield node.name, None, node
                for method in getattr(node, "body", []) if isinstance(node, ast.ClassDef) else []:
                    if isinstance(method, Function) and not method.name.startswith("_") and not is_property(method):
                        yield f"{node.name}.{method.name}", node, method


def is_list_of_names(node):
    return isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "__all__"


def is_property(method):
    return any("property" in ast.unparse(each) or ".setter" in ast.unparse(each) for each in method.decorator_list)


def read_sections(node):
    """The names in each section of a docstring, such as Parameters."""
    lines, found, section = inspect.cleandoc(ast.get_docstring(node) or "").splitlines(), {}, None
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if line and re.fullmatch("-+", below) and len(below) == len(line):
            section = found.setdefault(line, [])
        elif section is not None and line and line[0] not in " -":
            section += [name.lstrip("*") for name in line.partition(" : ")[0].split(", ")]
    return found


def list_parameters(function):
    every = function.args
    given = [*every.posonlyargs, *every.args, every.vararg, *every.kwonlyargs, every.kwarg]
    return [each.arg for each in given if each is not None and each.arg not in ("self", "cls")]


class Package:
    """Modules together, for what a class has of its bases."""

    def __init__(self, modules):
        self.modules = list(modules)

    def find_class(self, module, name):
        """A class of the package by its name in a module, with the module that defines it; None for another package's."""
        if name in module.classes:
            return module, module.classes[name]
        origin = module.origins.get(name)
        places = (each for each in self.modules if name in each.classes and origin and f".{origin}." in f"{each.name}.")
        return next(((each, each.classes[name]) for each in places), None)

    def list_bases(self, module, node):
        """A class and its bases within the package, the nearest first."""
        found = [(module, node)]
        for base in node.bases:
            known = self.find_class(module, ast.unparse(base).rpartition(".")[2])
            if known is not None and known[1] is not node:
                found += self.list_bases(*known)
        return found

    def inherit(self, module, node, method):
        """The methods of a class's bases that a method takes the place of."""
        for _, base in self.list_bases(module, node)[1:]:
            yield from (each for each in base.body if isinstance(each, Function) and each.name == method.name)

    def refers(self, module, method):
        """Whether a docstring says "See :meth:`X.method`", and that method names its parameters."""
        said = re.match(rf"See :meth:`(\w+)\.{method.name}`", ast.get_docstring(method) or "")
        there = self.find_class(module, said[1]) if said else None
        return there is not None and any(
            getattr(each, "name", None) == method.name and "Parameters" in read_sections(each) for each in there[1].body
        )

    def check_parameters(self, module, name, node, function):
        """What is wrong with a function's section of parameters."""
        sections, expected = read_sections(function), list_parameters(function)
        if "Parameters" in sections:
            if sorted(sections["Parameters"]) != sorted(expected):
                yield f"{module.name}.{name} has {expected}, its docstring {sections['Parameters']}"
        elif len(expected) > 1:
            above = [] if node is None else list(self.inherit(module, node, function))
            if not any("Parameters" in read_sections(each) for each in above) and not self.refers(module, function):
                yield f"{module.name}.{name} does not say what {', '.join(expected)} are"

    def check_class(self, module, node):
        """What is wrong with what a class says of what it is built from."""
        bases = self.list_bases(module, node)
        names = {ast.unparse(base).rpartition(".")[2] for _, one in bases for base in one.bases}
        if names & {"StrEnum", "Enum", "Protocol"}:
            return
        said = {name for _, one in bases for part in ("Parameters", "Attributes") for name in read_sections(one).get(part, [])}
        built = next((each for _, one in bases for each in one.body if getattr(each, "name", None) == "__init__"), None)
        if built is not None:
            expected = list_parameters(built)
            strange = set(read_sections(node).get("Parameters", [])) - set(expected)
            if strange:
                yield f"{module.name}.{node.name} has no {', '.join(sorted(strange))}"
        else:
            made = "NamedTuple" in names or any("dataclass" in ast.unparse(each) for each in node.decorator_list)
            expected = [field for where, one in bases for field in list_bare_fields(where, one) if made]
        missing = [name for name in expected if name not in said]
        if missing:
            yield f"{module.name}.{node.name} does not say what {', '.join(missing)} are"

    def check_errors(self, module, name, node, function):
        """The errors that a function itself raises and its docstring does not name."""
        texts = [ast.get_docstring(function) or ""]
        if node is not None:
            texts += [ast.get_docstring(each) or "" for each in self.inherit(module, node, function)]
        raised = {each for each in list_raised(function) if each != "NotImplementedError" and each[0].isupper()}
        missing = sorted(each for each in raised if not any(each in text for text in texts))
        if missing:
            yield f"{module.name}.{name} does not say when it raises {', '.join(missing)}"

    def check(self):
        for module in self.modules:
            for name, node, each in module.list_callables():
                if isinstance(each, Function):
                    yield from self.check_parameters(module, name, node, each)
                    yield from self.check_errors(module, name, node, each)
                elif isinstance(each, ast.ClassDef):
                    yield from self.check_class(module, each)
                    makers = (one for one in each.body if getattr(one, "name", None) in ("__init__", "__post_init__"))
                    for maker in makers:
                        raised = {kind for kind in list_raised(maker) if kind[0].isupper()}
                        missing = sorted(kind for kind in raised if kind not in (ast.get_docstring(each) or ""))
                        yield from (f"{module.name}.{name} does not say when it raises {kind}" for kind in missing)


def list_bare_fields(module, node):
    """A class's fields without a comment that the reference shows: on the line, or above it."""
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and "ClassVar" not in ast.unparse(field.annotation):
            shown = "  #: " in module.lines[field.end_lineno - 1] or module.lines[field.lineno - 2].strip().startswith("#: ")
            if not shown and not field.target.id.startswith("_"):
                yield field.target.id


def list_raised(node):
    """The kinds of errors that a function raises, not those of functions inside it."""
    for each in ast.iter_child_nodes(node):
        if isinstance(each, Function | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(each, ast.Raise) and each.exc is not None:
            yield ast.unparse(each.exc.func if isinstance(each.exc, ast.Call) else each.exc).partition(".")[0]
        yield from list_raised(each)


def read_package():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield Module(path.read_text(encoding="utf-8"), ".".join(parts[:-1] if parts[-1] == "__init__" else parts))


@pytest.fixture(scope="module")
def modules():
    return {module.name: module for module in read_package()}


def test_public_names_say_what_they_take_and_raise(modules):
    assert list(Package(modules.values()).check()) == []


GOOD = '''
__all__ = ["Base", "Loss", "Table", "cut"]

def cut(images, size, **options):
    """Cut.

    Parameters
    ----------
    images : uint8 ``[N, H, W]``
    size : int
    **options
        For the loader.

    Raises
    ------
    ValueError
        If it does not fit.
    """
    raise ValueError(size)

class Base:
    """A base.

    Parameters
    ----------
    weight, margin : float
    """

    def __init__(self, weight, margin): ...

    def forward(self, outputs, batch):
        """Compute.

        Parameters
        ----------
        outputs, batch : dict
        """

class Loss(Base):
    """A loss."""

    def forward(self, outputs, batch):
        """As its base."""

@dataclass
class Table:
    """A table."""

    rows: int  #: of the paper
    #: Of the paper, too.
    columns: int
'''
BAD = {
    "a parameter more": ("def cut(images, size, **options)", "def cut(images, size, seed, **options)"),
    "a parameter fewer": ("def cut(images, size, **options)", "def cut(images, **options)"),
    "no section": ("    Parameters\n    ----------\n    images : uint8 ``[N, H, W]``\n    size : int\n    **options\n", ""),
    "another error": ("raise ValueError(size)", "raise KeyError(size)"),
    "an argument of a class": ("def __init__(self, weight, margin)", "def __init__(self, weight, margin, seed)"),
    "a strange argument of a class": ("weight, margin : float", "weight, margin, seed : float"),
    "nothing to inherit": ("class Loss(Base)", "class Loss(Module)"),
    "a field without a comment": ("rows: int  #: of the paper", "rows: int  # of the paper"),
}


def test_the_check_sees_what_is_missing():
    assert list(Package([Module(GOOD)]).check()) == []
    for what, (old, new) in BAD.items():
        assert GOOD.count(old) == 1, what  # else the change is none
        assert list(Package([Module(GOOD.replace(old, new))]).check()) != [], what


def read_reference():
    """What the pages of the reference list: module to the names in ``:members:``, all of them if there are none."""
    found = {}
    for page in sorted((ROOT / "book" / "api").glob("*.md")):
        for name, options in re.findall(r"\.\. automodule:: (\S+)\n((?:   :.*\n)*)", page.read_text(encoding="utf-8")):
            members = re.search(r":members:(.*)", options)
            found[name] = None if members is None else set(re.findall(r"\w+", members[1]))
    return found


def is_package(module):
    return (ROOT / module.name.replace(".", "/")).is_dir()


def test_the_reference_lists_every_public_module(modules):
    public = {name for name, module in modules.items() if module.public and not is_package(module)}
    packages = {name for name, module in modules.items() if is_package(module)}
    listed = {name for name, members in read_reference().items() if members is not None}
    assert listed - packages == public - INTERNAL
    assert public | packages >= INTERNAL


def test_the_reference_lists_what_packages_offer(modules):
    shown = {name.rpartition(".")[2] for name in modules}
    for name, members in read_reference().items():
        shown |= set() if members is None else members or set(modules[name].public)
    for name, module in modules.items():
        if module.public and is_package(module) and name not in INTERNAL:
            assert set(module.public) <= shown, name
