"""The packaging files agree with each other and with the package."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "fer_utils"
# From the ground up: a module imports only from the ones before it (and from its own folder).
ORDER = (
    "errors",
    "labels",
    "files",
    "discovery",
    "preprocess",
    "augment",
    "detect",
    "datasets",
    "splits",
    "crowd",
    "descriptors",
    "classifiers",
    "losses",
    "models",
    "metrics",
    "localisation",
    "probes",
    "separation",
    "training",
    "experiments",
    "papers",
    "plotting",
    "facsynth",
    "reading",
    "cli",
)
PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([0-9][A-Za-z0-9.+!]*)$")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def pins():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    lines = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    assert [line for line in lines if not PIN.match(line)] == [], "not an exact pin"
    names = [canonical(line.split("==")[0]) for line in lines]
    assert len(names) == len(set(names)), "a package is pinned twice"
    return dict(zip(names, (line.split("==")[1] for line in lines), strict=True))


def name_of(requirement: str) -> str:
    return canonical(re.match(r"[A-Za-z0-9._-]+", requirement).group())


def test_everything_asked_for_is_pinned(project, pins):
    asked = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    assert [r for r in asked if name_of(r) not in pins] == []
    assert pins["jupyter-book"] == "1.0.4.post1"
    assert "fer-utils" not in pins


def test_pins_satisfy_the_bounds(project, pins):
    requirements = pytest.importorskip("packaging.requirements")
    for extra in (project["dependencies"], *project["optional-dependencies"].values()):
        for text in extra:
            requirement = requirements.Requirement(text)
            assert requirement.specifier.contains(pins[canonical(requirement.name)]), text


def test_the_installed_versions_are_the_pinned_ones(project, pins):
    metadata = pytest.importorskip("importlib.metadata")
    for text in project["dependencies"]:
        name = name_of(text)
        assert metadata.version(name).split("+")[0] == pins[name], name


def test_base_dependencies_leave_torch_alone(project):
    loose = [r for r in project["dependencies"] if re.search(r"==|<|~=|!=", r)]
    assert loose == [], "base dependencies take lower bounds only"
    assert any(name_of(r) == "torch" for r in project["dependencies"])


def test_reading_the_book_never_asks_for_the_renderer(project):
    extras = project["optional-dependencies"]
    reading = {name_of(r) for r in [*project["dependencies"], *extras["book"], *extras["dev"]]}
    assert not reading & {"anny", "mitsuba", "fer"}
    assert {"anny", "mitsuba", "dask"} <= {name_of(r) for r in extras["synth"]}


def test_conda_users_get_the_same_versions(project):
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    plain = [d for d in environment["dependencies"] if isinstance(d, str)]
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert "python=3.11" in plain and "pip" in plain and len(plain) == 2, "conda brings Python and pip alone"
    assert pip == ["-c constraints.txt", "-e .[book,dev]"]


def test_version_is_said_once(project):
    fer_utils = pytest.importorskip("fer_utils")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert project["version"] == fer_utils.__version__ == citation["version"]


def test_no_package_index_is_named():
    files = ("constraints.txt", "environment.yml", "pyproject.toml", "Makefile", ".ci/setup.sh", ".ci/run")
    for name in files:
        assert not re.search(r"index-url|find-links|trusted-host", (ROOT / name).read_text(encoding="utf-8")), name


# -- imports go downhill -------------------------------------------------------------------------------------------------


def imported(source: str, module: str, is_package: bool) -> set[str]:
    """Names of the top parts of `fer_utils` that the source of `module` (dotted) imports, at any depth of nesting."""
    here = module.split(".") if is_package else module.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            stem = [*base, *(node.module.split(".") if node.module else [])]
            targets = [".".join([*stem, alias.name]) for alias in node.names]
        else:
            continue
        found |= {parts[1] for parts in (t.split(".") for t in targets) if parts[0] == "fer_utils" and len(parts) > 1}
    return found


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        yield ".".join(parts[:-1] if is_package else parts), path, is_package


def uphill(module: str, source: str, is_package: bool) -> list[str]:
    top = module.split(".")[1]
    rank = ORDER.index(top)
    return sorted(part for part in imported(source, module, is_package) if part in ORDER and part != top and ORDER.index(part) > rank)


def test_every_module_has_its_place():
    known = {module.split(".")[1] for module, _, _ in modules() if "." in module}
    assert sorted(part for part in known - set(ORDER) if not part.startswith("_")) == []


def test_imports_go_downhill():
    wrong = {}
    for module, path, is_package in modules():
        if "." in module and module.split(".")[1] in ORDER:
            parts = uphill(module, path.read_text(encoding="utf-8"), is_package)
            if parts:
                wrong[module] = parts
    assert wrong == {}


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("fer_utils.splits", "from fer_utils.training import fit", ["training"]),
        ("fer_utils.splits", "def f():\n    from . import models", ["models"]),
        ("fer_utils.datasets.rafdb", "from ..metrics import accuracy", ["metrics"]),
        ("fer_utils.datasets.rafdb", "import fer_utils.cli as c", ["cli"]),
        ("fer_utils.training", "from .metrics import accuracy\nimport torch", []),
        ("fer_utils.datasets.facsynth", "from . import rafdb\nfrom ..labels import BASIC", []),
    ],
)
def test_an_uphill_import_is_caught(module, source, expected):
    assert uphill(module, source, is_package=False) == expected


def test_no_star_imports_and_no_bare_except():
    for _, path, _ in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            star = isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
            bare = isinstance(node, ast.ExceptHandler) and node.type is None
            assert not star and not bare, f"{path.relative_to(ROOT)}:{node.lineno}"


# -- the wheel -----------------------------------------------------------------------------------------------------------


def test_the_wheel_holds_the_package(tmp_path):
    pytest.importorskip("setuptools")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-DATA"):
        if not (ROOT / name).is_file():
            pytest.skip(f"{name} is not written yet")
        shutil.copy(ROOT / name, source)
    shutil.copytree(PACKAGE, source / "fer_utils", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(tmp_path), "."]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    kinds = {".py", ".yaml", ".json", ".safetensors", ".html"}
    sources = [path for path in PACKAGE.rglob("*") if path.suffix in kinds and "__pycache__" not in path.parts]
    wanted = {"fer_utils/py.typed", *(path.relative_to(ROOT).as_posix() for path in sources)}
    assert sorted(wanted - held) == []
    assert [name for name in held if name.split("/")[0] not in {"fer_utils", wheel.name.rsplit("-", 3)[0] + ".dist-info"}] == []


# -- the cache of executed chapters ---------------------------------------------------------------------------------------


def test_the_cache_is_dropped_when_something_changes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / ".ci"))
    import cache_key

    for name in ("fer_utils/a.py", "data/facsynth/x.txt", "data/private/y.txt", "constraints.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("as it was", encoding="utf-8")
    build = tmp_path / "_build"
    cache = build / ".jupyter_cache"

    def fill_and_refresh() -> bool:
        cache.mkdir(parents=True, exist_ok=True)
        return cache_key.refresh(build, tmp_path)

    assert fill_and_refresh() and not cache.exists(), "a cache without a key is not trusted"
    assert not fill_and_refresh() and cache.exists(), "nothing changed"
    for name in ("fer_utils/a.py", "data/facsynth/x.txt", "constraints.txt"):
        (tmp_path / name).write_text("changed", encoding="utf-8")
        assert fill_and_refresh() and not cache.exists(), name
        assert not fill_and_refresh()
    (tmp_path / "data" / "private" / "y.txt").write_text("faces from elsewhere", encoding="utf-8")
    (tmp_path / "fer_utils" / "__pycache__").mkdir()
    (tmp_path / "fer_utils" / "__pycache__" / "a.pyc").write_text("x", encoding="utf-8")
    assert not fill_and_refresh()
    (tmp_path / "fer_utils" / "a.py").rename(tmp_path / "fer_utils" / "b.py")
    assert fill_and_refresh(), "a renamed file counts"
