"""Miniature datasets in the layouts of their owners, written to temporary folders."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fer_utils.preprocess import TEMPLATE_5

LISTED = {  # name -> label of the miniature RAF-DB trees
    "basic": {"train_00001.jpg": 5, "train_00002.jpg": 1, "train_00003.jpg": 7, "test_0001.jpg": 4, "test_0002.jpg": 4},
    "compound": {"train_00001.jpg": 11, "train_00002.jpg": 1, "test_0001.jpg": 3},
}
MORE = {"basic": {"test_0003.jpg": 4, "test_0004.jpg": 1}, "compound": {"test_0002.jpg": 11}}  # of the miniature FACSynth
SEQUENCES = {("S005", "001"): ("disgust", 3, 11), ("S010", "002"): ("surprise", 7, 14), ("S010", "004"): ("contempt", 2, 5)}  # code, apex
_NUMBERS = itertools.count()
UNLABELLED = ("S011", "001", 6)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test touches the user's cache of decoded images, nor keeps its own: they fill the disk."""
    folder = tmp_path_factory.getbasetemp() / f"cache-{next(_NUMBERS)}"
    monkeypatch.setenv("FER_CACHE", str(folder))
    yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def own_style() -> Iterator[None]:
    """No test hands the book's style on to the next: ``ferbook data show`` sets it for its whole process."""
    with mpl.rc_context():
        yield


@pytest.fixture(autouse=True)
def own_draws() -> None:
    """What a test draws from torch does not depend on which tests ran before it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch computes in one thread: small sums are then fastest, and always in one order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Make trainings end in ``InterruptedError`` once their checkpoint holds so many steps; None: no more."""
    from fer_utils.training.state import TrainingState

    save, limit = TrainingState.save, {"step": None}

    def save_and_stop(state: TrainingState, path: Path, begun: float) -> None:
        save(state, path, begun)
        if state.step == limit["step"]:
            raise InterruptedError

    monkeypatch.setattr(TrainingState, "save", save_and_stop)
    return lambda step: limit.update(step=step)


def image_bytes(seed: int, size: tuple[int, int] = (100, 100), mode: str = "RGB", kind: str = "JPEG") -> bytes:
    """A random smooth picture as a file; ``size`` is (width, height)."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (8, 8) if mode == "L" else (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(buffer, kind)
    return buffer.getvalue()


def put(root: Path, name: str, data: bytes | str) -> Path:
    """Write one file below ``root``."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def pack(folder: Path) -> Path:
    """Replace a folder by a zip archive of it, as the owners ship it."""
    target = folder.with_suffix(".zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder.parent).as_posix())
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    return target


def tamper(root: Path, folder: str, name: str, change: Callable[[bytes], bytes | None]) -> None:
    """Change, add (from nothing) or remove (return None) one file of ``folder``, which may be zipped."""
    base = root / folder
    if not base.with_suffix(".zip").exists():
        path = base / name
        data = change(path.read_bytes() if path.exists() else b"")
        path.unlink(missing_ok=True)
        if data is not None:
            put(base, name, data)
        return
    archive_path = base.with_suffix(".zip")
    with zipfile.ZipFile(archive_path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    full = f"{base.name}/{name}"
    data = change(members.pop(full, b""))
    if data is not None:
        members[full] = data
    with zipfile.ZipFile(archive_path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)


def five_marks(seed: int) -> np.ndarray:
    """Five points of a face in a 128x128 picture."""
    return TEMPLATE_5 * 0.8 + 20 + np.random.default_rng(seed).uniform(-2, 2, (5, 2))


def write_rafdb(
    root: Path, subset: str = "basic", *, zipped: bool = False, tabs: bool = True, originals: int | None = None,
    listed: dict[str, int] | None = None,
) -> Path:
    """A miniature RAF-DB subset; ``originals`` limits how many unaligned pictures there are, ``listed`` are other images and labels."""
    base = root / subset
    blank = "\t" if tabs else " "
    listed = listed or LISTED[subset]
    for i, name in enumerate(listed):
        stem = name.removesuffix(".jpg")
        put(base, f"Image/aligned/{stem}_aligned.jpg", image_bytes(i))
        if originals is None or i < originals:
            put(base, f"Image/original/{name}", image_bytes(i, (128, 128)))
        points = "\n".join(f"{x:.2f}{blank}{y:.2f}" for x, y in five_marks(i))
        put(base, f"Annotation/manual/{stem}_manu_attri.txt", f"{points}\n{i % 3}\n{(i + 1) % 3}\n{i % 5}\n")
        dense = np.random.default_rng(i).uniform(20, 110, (37, 2))
        put(base, f"Annotation/auto/{stem}_auto_attri.txt", "\n".join(f"{x:.1f}{blank}{y:.1f}" for x, y in dense) + "\n")
    put(base, "EmoLabel/list_patition_label.txt", "".join(f"{name} {label}\n" for name, label in listed.items()))
    shares = "0.5 0.1 0.1 0.1 0.1 0.1 0"
    put(base, f"EmoLabel/distribution_{subset}.txt", "".join(f"{name} {shares} \n" for name in listed))
    if zipped:
        for folder in ("Image/aligned", "Image/original", "Annotation/manual", "Annotation/auto"):
            if (base / folder).is_dir():
                pack(base / folder)
    return root


def lab_marks(seed: int, frame: int) -> np.ndarray:
    """68 points of a face in a frame of 128x128: those that alignment needs lie where a face has them."""
    rng = np.random.default_rng([seed, frame])
    marks = rng.uniform(25, 105, (68, 2))
    five = TEMPLATE_5 * 0.8 + 22
    marks[36:42], marks[42:48], marks[30], marks[48], marks[54] = five
    marks[36:48] += rng.normal(0, 0.5, (12, 2))
    return marks


def write_ckplus(root: Path, *, zipped: bool = False, sparse: bool = False) -> Path:
    """A miniature CK+; ``sparse`` keeps the first and the last three frames of each sequence."""
    sequences = [(*key, *what[1:]) for key, what in SEQUENCES.items()] + [(*UNLABELLED[:2], None, UNLABELLED[2])]
    for number, (subject, take, code, apex) in enumerate(sequences):
        for frame in (1, *range(apex - 2, apex + 1)) if sparse else range(1, apex + 1):
            stem = f"{subject}/{take}/{subject}_{take}_{frame:08d}"
            put(root, f"cohn-kanade-images/{stem}.png", image_bytes(number * 100 + frame, (128, 128), "L", "PNG"))
            text = "\n".join(f"   {x:.7e}   {y:.7e}" for x, y in lab_marks(number, frame))
            put(root, f"Landmarks/{stem}_landmarks.txt", text + "\n")
        put(root, f"FACS/{stem}_facs.txt", f"   4.0000000e+00   3.0000000e+00\n   {10 + number}.0000000e+00   0.0000000e+00\n")
        if code is not None:
            put(root, f"Emotion/{stem}_emotion.txt", f"   {code}.0000000e+00\n")
    if zipped:
        for folder in ("cohn-kanade-images", "Landmarks", "FACS", "Emotion"):
            pack(root / folder)
    return root


def write_muxspace(root: Path) -> Path:
    """A miniature clone: grey and coloured images of several sizes, emotions in any case, an annotator's second opinion."""
    rows = [
        ("302", "Ann_Lee_0001.jpg", "HAPPINESS"), ("302", "Ann_Lee_0002.jpg", "neutral"), ("628", "Bo_Ray_0001.jpg", "Surprised"),
        ("628", "Cy_0001.jpg", "anger"), ("520", "Cy_0001.jpg", "contempt"), ("302", "Cy_0001.jpg", "contempt"),
    ]
    for i, name in enumerate(dict.fromkeys(row[1] for row in rows)):
        put(root, f"images/{name}", image_bytes(i, (60 + 30 * i, 64), "RGB" if i % 2 else "L"))
    put(root, "images/Unlisted_0001.jpg", image_bytes(9))
    path = put(root, "data/legend.csv", "")
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("user.id", "image", "emotion"), *rows])
    return root


def write_sums(root: Path) -> None:
    """(Re)write SHA256SUMS of every file below ``root``."""
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(root).as_posix()}\n" for p in files]
    put(root, "SHA256SUMS", "".join(lines))


def write_facsynth(root: Path) -> Path:
    """A miniature of the shipped faces: three sets with truth, votes, masks and checksums, and further test faces of two."""
    rng = np.random.default_rng(0)
    write_ckplus(root / "ckplus", zipped=True, sparse=True)
    frames = sorted(
        f"{s}_{t}_{n:08d}" for (s, t), (_, _, apex) in SEQUENCES.items() for n in (1, *range(apex - 2, apex + 1))
    )
    sets = {"ckplus": frames}
    for subset in ("basic", "compound"):
        for above, listed, originals in (("raf", LISTED[subset], 2), ("more", MORE[subset], 0)):
            write_rafdb(root / above, subset, zipped=True, originals=originals, listed=listed)
            sets[f"{above}/{subset}"] = [name.removesuffix(".jpg") for name in listed]
            tasks = np.repeat(list(listed), 3)
            votes = pd.DataFrame({"task": tasks, "worker": np.arange(len(tasks)) % 4, "label": rng.integers(1, 8, len(tasks))})
            votes.astype({"worker": np.int16, "label": np.int8}).to_parquet(root / above / subset / "votes.parquet")
    for folder, stems in sets.items():
        shuffled = rng.permutation(stems)  # tables need not be in the order of the images
        truth = pd.DataFrame({"name": shuffled, "identity": [100 + stems.index(s) for s in shuffled], "au_12": rng.random(len(stems))})
        truth.to_parquet(root / folder / "truth.parquet")
        masks = np.stack([np.full((100, 100), stems.index(s) % 7, dtype=np.uint8) for s in shuffled])
        np.savez_compressed(root / folder / "masks.npz", names=shuffled, masks=masks)
    annotators = pd.DataFrame({"worker": range(4), "reliability": 0.8, "reliable": True})
    annotators.to_parquet(root / "raf" / "annotators.parquet")
    put(root, "README.md", "miniature")
    write_sums(root)
    return root


@pytest.fixture(params=[False, True], ids=["folders", "zips"])
def zipped(request: pytest.FixtureRequest) -> bool:
    """Whether the tree at hand is zipped."""
    return request.param


@pytest.fixture
def rafdb_tree(tmp_path: Path, zipped: bool) -> Path:
    """Both subsets of a miniature RAF-DB."""
    for subset in LISTED:
        write_rafdb(tmp_path / "rafdb", subset, zipped=zipped, tabs=zipped)
    return tmp_path / "rafdb"


@pytest.fixture
def ckplus_tree(tmp_path: Path, zipped: bool) -> Path:
    """A miniature CK+."""
    return write_ckplus(tmp_path / "ckplus", zipped=zipped)


@pytest.fixture
def muxspace_tree(tmp_path: Path) -> Path:
    """A miniature muxspace clone."""
    return write_muxspace(tmp_path / "muxspace")


@pytest.fixture
def facsynth_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A miniature FACSynth below ``$FER_DATA``."""
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    return write_facsynth(tmp_path / "facsynth")


# -- damage that tests do to a tree: each returns a function of its root -----------------------------------------------


def edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    """Change one place in a text file."""
    def change(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        put(root, name, text.replace(old, new, 1))

    return change


def fill(name: str, data: bytes) -> Callable[[Path], object]:
    """Give a file other bytes."""
    return lambda root: put(root, name, data)


def drop(name: str) -> Callable[[Path], object]:
    """Take a file away."""
    return lambda root: (root / name).unlink()


# -- the bad-input table of the test report -------------------------------------------------------------------------------

#: Column of the table: what the id of a ``test_bad_input`` case says.
CASES = {
    "labels gone": r"label file (missing|empty|blank)|list (absent|empty|blank)|missing folder|header alone|table missing|no l(abels|ines)",
    "absent": r"absent|images missing|no images|image missing|row missing",
    "unlisted": r"unlisted|without a class|in no class|in no part|in the root|too deep|unknown name|too many$|stray",
    "truncated": r"truncat|cut|is text|no image file|cannot be decoded",
    "0 bytes": r"zero|^image empty|-zero|byte order mark|mark alone|^empty$",
    "columns": r"column|short|wide|header|quote",
    "label": r"label|class|emotion|code|vote|usage|grade|expression|word",
    "twice": r"twice|duplicate|listed twice",
    "UTF-8": r"utf-8|binary",
    "climbing": r"climb|leav",
    "loop": r"loop|itself",
    "unreadable": r"unreadable",
}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print which damage was tried on which layout, and whether each ended in its one error."""
    table: dict[str, dict[str, list[bool]]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            found = re.search(r"test_(\w+)\.py::test_bad_input(\w*)(?:\[(.+)\])?$", report.nodeid)
            if found and report.when == "call":
                case = f"{found[2]} {found[3] or ''}".strip()
                column = next((name for name, words in CASES.items() if re.search(words, case, re.IGNORECASE)), "other")
                table.setdefault(found[1], {}).setdefault(column, []).append(outcome == "passed")
    if not table:
        return
    terminalreporter.section("bad input: cases that ended in one clear error, by layout")
    columns = [*CASES, "other"]
    terminalreporter.line(f"{'':<12}" + "".join(f"{name:>12}" for name in columns))
    for layout in sorted(table):
        cells = []
        for column in columns:
            results = table[layout].get(column, [])
            cells.append(f"{len(results)}" if all(results) and results else f"{results.count(False)} FAILED" if results else "-")
        terminalreporter.line(f"{layout:<12}" + "".join(f"{cell:>12}" for cell in cells))


@pytest.fixture
def empty_registry(monkeypatch):
    """A registry without the papers' own experiments."""
    from fer_utils.experiments import list_experiments, registry

    list_experiments()  # once, so that no later call registers them
    monkeypatch.setattr(registry, "_REGISTRY", {})
    monkeypatch.setattr(registry, "list_papers", lambda: ())
