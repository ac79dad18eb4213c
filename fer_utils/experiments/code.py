"""Which code makes a run's numbers: a digest of every module that its function reaches.

The modules are found by reading imports, not by running them; a digest is of the syntax tree, so comments, docstrings and the layout of a
file play no part. It is the same for all versions of Python that the package supports.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from ..discovery import find_owner

__all__ = ["describe_code"]

_ROOT = Path(__file__).resolve().parents[1]
_NAME = __package__.partition(".")[0]
_PAPERS = f"{_NAME}.papers"
#: Modules, with all that lies below them, which move, keep, judge or draw numbers but do not make them: a change there leaves results as
#: they are. So does the package's own ``__init__``, which holds its version. What loaders of datasets give is compared itself, see
#: :mod:`~fer_utils.experiments.contents`.
_LEFT_OUT = (
    f"{_NAME}.cli", f"{_NAME}.datasets", f"{_NAME}.discovery", f"{_NAME}.errors", f"{_NAME}.experiments", f"{_NAME}.files",
    f"{_NAME}.plotting",
)
#: Of the engine, only these make numbers: they choose the faces that train and test.
_FACES = f"{_NAME}.experiments.faces"
#: And of the loaders, what says which attributes belong to a part of the face.
_KEPT = (_FACES, f"{_NAME}.experiments.protocol", f"{_NAME}.datasets.celeba")
#: Networks are built by name here: imports do not say which paper's.
_MODELS = f"{_NAME}.models.registry"


@dataclass(frozen=True)
class _Module:
    """What a file says: a digest of its code, the names that it may import, the texts in it, and the networks that it registers."""

    digest: str
    imports: frozenset[str]
    texts: frozenset[str]
    networks: frozenset[str]


def describe_code(function: str, arguments: Mapping[str, Any]) -> dict[str, str]:
    """Digest the code that a run reaches.

    That is the function's module, what loads faces, and every module of the package that is imported in one of those, wherever in the file.
    Besides, where networks are built by name, the ``model.py`` of the function's paper, and of any other paper that the code or the
    arguments name: ``"dlp-cnn/table-6"``, or one of its networks.

    Parameters
    ----------
    function : str
        ``module:name``; a module that does not belong to the package must have been imported.
    arguments : dict
        As the ledger keeps them.

    Returns
    -------
    dict of str to str
        Module to 12 hexadecimal digits, in the order of the alphabet. Without the function's module, if that has no file.
    """
    _read_package()
    start = function.partition(":")[0]
    reached: dict[str, _Module] = {}
    todo = {start, *_with_parents(_FACES)}
    while todo:
        name = todo.pop()
        path = _find_file(name, start)
        if path is not None:
            reached[name] = module = _parse(path, name)
            # what a paper's folder gathers is not what this run needs of it
            imports = () if name.startswith(_PAPERS) and path.name == "__init__.py" else module.imports
            todo |= {found for imported in imports for found in _with_parents(imported)} - reached.keys()
        if not todo and _MODELS in reached:
            texts = {*_list_texts(arguments), *(text for known in reached.values() for text in known.texts)}
            todo = set(_find_networks(find_owner(start), texts)) - reached.keys()
    return {name: reached[name].digest for name in sorted(reached)}


def _with_parents(name: str) -> Iterator[str]:
    """A module and the packages around it, as far as they make numbers."""
    parts = name.split(".")
    for end in range(2, len(parts) + 1):
        whole = ".".join(parts[:end])
        below = any(whole == left or whole.startswith(f"{left}.") for left in _LEFT_OUT)
        if parts[0] == _NAME and (not below or whole in _KEPT):
            yield whole


def _find_file(name: str, start: str) -> Path | None:
    """The file of a module of the package, or of the function's own module; None for another name."""
    if name == start and not name.startswith(f"{_NAME}."):
        loaded = getattr(sys.modules.get(name), "__file__", None)
        return Path(loaded) if loaded else None
    within = name.split(".")[1:]
    roots = [_ROOT]
    if name.startswith(f"{_PAPERS}."):
        roots, within = [Path(root) for root in import_module(_PAPERS).__path__], within[1:]
    places = [place for root in roots for place in (root.joinpath(*within, "__init__.py"), root.joinpath(*within).with_suffix(".py"))]
    return next((place for place in places if place.is_file()), None)


def _find_networks(owner: str | None, texts: Iterable[str]) -> Iterator[str]:
    """The modules of networks that a run of a paper may build by name."""
    named = {text.partition("/")[0] for text in texts} | {owner}
    for root in map(Path, import_module(_PAPERS).__path__):
        for path in sorted(root.glob("*/model.py")):
            name = f"{_PAPERS}.{path.parent.name}.model"
            if find_owner(name) in named or _parse(path, name).networks & set(texts):
                yield name


def _list_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _list_texts(part)


# -- one file -------------------------------------------------------------------------------------------------------------


@cache
def _read_package() -> None:
    """Keep the text of the whole package: what is edited while a process runs is not the code that it runs."""
    for path in _ROOT.rglob("*.py"):
        _read(path)


@cache
def _read(path: Path) -> bytes:
    return path.read_bytes()


@cache
def _parse(path: Path, name: str) -> _Module:
    tree = ast.parse(_read(path))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    digest = hashlib.sha256(_dump(tree).encode(errors="surrogatepass")).hexdigest()[:12]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return _Module(digest, frozenset(_list_imports(tree, package)), frozenset(texts), frozenset(_list_networks(tree)))


def _dump(node: Any) -> str:
    """A syntax tree as text; :func:`ast.dump` differs between versions of Python."""
    if isinstance(node, list):
        return f"[{','.join(map(_dump, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    values = {name: getattr(node, name, None) for name in node._fields if name not in ("ctx", "kind", "type_comment", "type_ignores")}
    described = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    if described and ast.get_docstring(node, clean=False) is not None:
        values["body"] = node.body[1:]
    known = ",".join(f"{name}={_dump(value)}" for name, value in values.items() if value is not None and value != [])
    return f"{type(node).__name__}({known})"


def _list_imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Every name that a file imports, wherever: of ``from a import b`` both ``a`` and ``a.b``, as either may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            origin = ".".join(filter(None, (above, node.module)))
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def _list_networks(tree: ast.Module) -> Iterator[str]:
    """The names of the networks that a file registers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(isinstance(d, ast.Name) and d.id == "register_model" for d in node.decorator_list):
            for line in node.body:
                targets = line.targets if isinstance(line, ast.Assign) else [line.target] if isinstance(line, ast.AnnAssign) else []
                if any(isinstance(t, ast.Name) and t.id == "name" for t in targets) and isinstance(line.value, ast.Constant):
                    yield line.value.value
