"""Papers by folder: what lies in ``fer_utils/papers`` is found there, so that a new paper is one folder.

Networks, experiments and published numbers are looked for here when somebody asks for them by name. The papers stand above the modules
that ask; so nothing is imported before.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path
from types import ModuleType

from .errors import DataError

__all__ = ["find_folder", "find_owner", "import_part", "import_parts", "list_papers"]

_PACKAGE = f"{__package__}.papers"
_EXPECTED = "a folder with __init__.py, recipe.py and published.yaml, named as the paper with _ for -"


def list_papers() -> tuple[str, ...]:
    """Short names of the papers, ``dlp-cnn`` for the folder ``dlp_cnn``, in the order of the alphabet.

    Raises
    ------
    DataError
        If a folder is no package, lacks a part that every paper has, or has a name that no short name gives.
    """
    return tuple(sorted(_folders()))


def find_folder(paper: str) -> Path:
    """The folder of a paper. Raises ``ValueError``, which lists the papers, for an unknown one."""
    found = _folders()
    if paper not in found:
        raise ValueError(f"unknown paper {paper!r}; expected one of {', '.join(sorted(found))}")
    return found[paper]


def import_part(paper: str, part: str) -> ModuleType | None:
    """Import a module of a paper's folder; None if it has none of that name, or only on demand.

    What a paper's ``ON_DEMAND`` names needs a package of an extra. It registers nothing, and whoever wants it imports it by its own name.

    Parameters
    ----------
    paper : str
        ``"dlp-cnn"``.
    part : str
        The module's name: ``"recipe"``.

    Raises
    ------
    DataError
        If it cannot be imported, whatever went wrong inside it; the message names the module and the error.
    """
    folder = find_folder(paper)
    return _import(folder, part) if part in _list_modules(folder) else None


def import_parts(paper: str) -> None:
    """Import all modules of a paper's folder but those on demand, in the order of the alphabet; as :func:`import_part`."""
    folder = find_folder(paper)
    for part in _list_modules(folder):
        _import(folder, part)


def find_owner(module: str) -> str | None:
    """The paper in whose folder a module lies, by its dotted name; None for a module elsewhere."""
    return module.removeprefix(f"{_PACKAGE}.").split(".")[0].replace("_", "-") if module.startswith(f"{_PACKAGE}.") else None


def _list_modules(folder: Path) -> list[str]:
    return [module.name for module in pkgutil.iter_modules([str(folder)])]


def _import(folder: Path, part: str) -> ModuleType | None:
    try:
        if part in getattr(import_module(f"{_PACKAGE}.{folder.name}"), "ON_DEMAND", ()):
            return None
        return import_module(f"{_PACKAGE}.{folder.name}.{part}")
    except Exception as error:  # a module may raise anything while it is imported
        problem = f"its module {part} cannot be imported ({type(error).__name__}: {error})"
        raise DataError.at(folder, problem, "modules that can be imported") from error


def _folders() -> dict[str, Path]:
    roots = [Path(root) for root in import_module(_PACKAGE).__path__]
    packages = {module.name for module in pkgutil.iter_modules(map(str, roots)) if module.ispkg}
    found: dict[str, Path] = {}
    for folder in sorted(path for root in roots for path in root.iterdir() if path.is_dir() and path.name != "__pycache__"):
        if all(part.name == "__pycache__" for part in folder.iterdir()):
            continue  # what git leaves of a paper that another branch has
        missing = next((name for name in ("__init__.py", "recipe.py", "published.yaml") if not (folder / name).is_file()), None)
        if folder.name not in packages or missing:
            raise DataError.at(folder, f"has no {missing}" if missing else "is no package of Python", _EXPECTED)
        if folder.name != folder.name.lower().replace("-", "_"):
            raise DataError.at(folder, "has capitals or hyphens in its name", _EXPECTED)
        paper = folder.name.replace("_", "-")
        if paper in found:
            raise DataError.at(folder, f"comes twice, as {found[paper]} too", "one folder a paper")
        found[paper] = folder
    return found
