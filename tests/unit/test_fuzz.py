"""Every parser against damage drawn at random, with fixed seeds: a whole result, or one error that names a file of the dataset."""

from __future__ import annotations

import signal
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import image_bytes, pack, put, write_ckplus, write_muxspace, write_rafdb
from test_affectnet import write_files, write_lists
from test_celeba import write_celeba
from test_celeba import write_kaggle as write_celeba_kaggle
from test_ckplus import write_extended
from test_expw import write_expw
from test_fer2013 import write_folders, write_votes
from test_fer2013 import write_table as write_fer2013
from test_folder import write_table
from test_mmi import write_session
from test_rafdb import write_kaggle as write_rafdb_kaggle

from fer_utils.crowd.tables import open_votes
from fer_utils.datasets import (
    DataError,
    FaceDataset,
    affectnet,
    baum2i,
    celeba,
    ckplus,
    expw,
    facsynth,
    fer2013,
    folder,
    mmi,
    muxspace,
    oulu_casia,
    rafdb,
    tfeid,
)
from fer_utils.experiments.ledger import Ledger, ledger_path
from fer_utils.experiments.published import parse_published

INPUTS = 100  # of each parser
SECONDS = 5.0  # that one input may take
LONGEST = 2000  # characters of an error
BASE = Path(__file__).resolve().parents[2]

#: What a file may be in place of the one that was meant, and what may stand in a field of one.
OTHERS = (
    b"", b"\x00" * 200, b"\xff\xfe", b"\xef\xbb\xbf", b"<!DOCTYPE html><html>please log in</html>", b"PK\x05\x06" + bytes(18),
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", b"\x93NUMPY\x01\x00\xff\xff", b'"' * 70_000,
    b"[" * 100_000, b"%PDF-1.7\n", b"GIF89a\xff\xff\xff\xff",
)
FIELDS = (
    b"nan", b"-inf", b"1e999", b"1e300", b"-1", b"21474836", b"9" * 5000, b"1_0", "\uff11\uff12".encode(), b'"', b"'", b",", b";",
    b"\t", b"\n", b"\r", b"\x00", b"\x1b[2J", "\u202e".encode(), "\u2028".encode(), b"\xe9", b"../", b"/etc/passwd", b"\\", b"%s%n",
    b"<", b"&a;", b"{", b"]", b"null", b"true", b"x" * 3000,
)


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """Change a file in one to three places, or give another in its place."""
    if rng.random() < 0.05:
        return OTHERS[rng.integers(len(OTHERS))]
    for _ in range(rng.integers(1, 4)):
        start = int(rng.integers(len(data) + 1))
        stop = min(len(data), start + int(2 ** rng.uniform(0, 9)))
        kind = rng.integers(8)
        part = {
            0: bytes(byte ^ (1 << int(rng.integers(8))) for byte in data[start : start + 1]),  # a bit
            1: bytes(stop - start), 2: rng.bytes(stop - start), 3: b"", 4: data[start:stop] * 2,
        }.get(int(kind), FIELDS[rng.integers(len(FIELDS))])
        if kind == 7:  # in the place of a whole field
            data = data[:start] + part + data[start:].lstrip(b"0123456789.abcdefghijklmnopqrstuvwxyz_")
        elif kind == 6:
            data = data[:start]
        else:
            data = data[:start] + part + data[start + 1 if kind == 0 else start if kind == 5 else stop :]
    return data


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise ``TimeoutError`` in what takes longer."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Parser:
    """What is read, the files that are damaged (as a pattern below the tree), and how the tree is made."""

    write: Callable[[Path], object]
    files: str
    read: Callable[[Path], object]


def read_faces(load: Callable[..., FaceDataset], **options: Any) -> Callable[[Path], object]:
    """A loader, whose result must be whole: all images, and numbers that are some."""

    def read(root: Path) -> None:
        faces = load(root, **options)
        assert len(faces.images) == len(faces) == len(faces.names) > 0
        for marks in (faces.landmarks, faces.landmarks_dense):
            assert marks is None or (np.isfinite(marks).all() and np.abs(marks).max() < 1e6)
        assert all(map(str.isprintable, repr(faces).splitlines()))

    return read


def write_pictures(root: Path) -> None:
    for i, kind in enumerate(("PNG", "JPEG", "GIF", "BMP", "TIFF")):
        put(root, f"anger/{i}.{kind.lower()}", image_bytes(i, (24, 24), "L", kind))


def write_masks(root: Path) -> None:
    root.mkdir(parents=True)
    np.savez_compressed(root / "masks.npz", names=np.array(["a", "b"]), masks=np.ones((2, 100, 100), dtype=np.uint8))


def write_parquet(root: Path) -> None:
    root.mkdir(parents=True)
    frame = pd.DataFrame({"name": ["a", "b"] * 20, "identity": range(40), "au_12": np.linspace(0, 1, 40)})
    frame.to_parquet(root / "truth.parquet")


def read_truth(root: Path) -> None:
    table = facsynth._read_table(root / "truth.parquet", ("name", "identity"))
    assert {"name", "identity"} <= set(table.columns)


def write_sums(root: Path) -> None:
    put(root, "a/b.txt", "content")
    put(root, "SHA256SUMS", "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73  a/b.txt\n")


def read_sums(root: Path) -> None:
    facsynth._verified.clear()
    assert facsynth.verify(root) > 0


def write_crowd(root: Path) -> None:
    lines = [f"task{i % 6},worker{i % 5},{i % 3}" for i in range(30)]
    put(root, "votes.csv", "\n".join(["task,worker,label", *lines, ""]))


def write_crowd_parquet(root: Path) -> None:
    root.mkdir(parents=True)
    votes = pd.DataFrame({"task": np.arange(30) % 6, "worker": np.arange(30) % 5, "label": np.arange(30) % 3})
    votes.to_parquet(root / "votes.parquet")


def read_crowd(root: Path) -> None:
    (path,) = (path for path in root.iterdir() if path.name.startswith("votes"))
    with open_votes(path) as table:
        for tasks, _, labels in table.batches:
            assert len(tasks) == len(labels)


def write_session_tree(root: Path) -> None:
    place = write_session(root, "7", "S001-007", 6, "0")
    for frame in range(5):
        put(place, f"S001-007_{frame:04d}.png", image_bytes(frame, (20, 20), kind="PNG"))


def write_names(root: Path) -> None:
    with zipfile.ZipFile(root.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for i, code in enumerate(("ag", "dg", "hg")):
            archive.writestr(f"high/f0{i}_dfh_{code}.jpg", image_bytes(i, (24, 24)))


def write_zip(root: Path) -> None:
    for i, name in enumerate(("anger/a.png", "fear/b.png", "happy/c.jpg")):
        put(root, name, image_bytes(i, (24, 24), kind="PNG" if name.endswith("png") else "JPEG"))
    pack(root)


def write_published(root: Path) -> None:
    put(root, "published.yaml", (BASE / "fer_utils/papers/transfer/published.yaml").read_bytes())


def read_published(root: Path) -> None:
    path = root / "published.yaml"
    assert parse_published(path.read_text(encoding="utf-8", errors="replace"), str(path)).items


KEPT = ("dlp-cnn/section-5-c", "book", "facsynth")


def write_ledger(root: Path) -> None:
    put(root, ledger_path(*KEPT, root).relative_to(root).as_posix(), ledger_path(*KEPT, BASE / "data").read_bytes())


PARSERS = {
    "pictures": Parser(write_pictures, "*/*", read_faces(folder.load)),
    "pictures in a zip": Parser(write_zip, ".zip", read_faces(folder.load, size=24)),
    "table of a folder": Parser(write_table, "labels.csv", read_faces(folder.load, csv="labels.csv")),
    "rafdb": Parser(write_rafdb, "basic/*/**/*.txt", read_faces(rafdb.load)),
    "rafdb zipped": Parser(lambda root: write_rafdb(root, zipped=True), "basic/Annotation/*.zip", read_faces(rafdb.load)),
    "rafdb of Kaggle": Parser(write_rafdb_kaggle, "*.csv", read_faces(rafdb.load)),
    "ckextended": Parser(write_extended, "ckextended.csv", read_faces(ckplus.load)),
    "ckplus": Parser(write_ckplus, "[ELF]*/**/*.txt", read_faces(ckplus.load, frames="apex1")),
    "muxspace": Parser(write_muxspace, "data/legend.csv", read_faces(muxspace.load, size=24)),
    "fer2013": Parser(write_fer2013, "fer2013.csv", read_faces(fer2013.load)),
    "fer2013 folders": Parser(write_folders, "*/*/*", read_faces(fer2013.load)),
    "ferplus": Parser(lambda root: write_votes(write_fer2013(root)), "fer2013new.csv", read_faces(fer2013.load_ferplus)),
    "affectnet files": Parser(write_files, "*/annotations/*", read_faces(affectnet.load)),
    "affectnet lists": Parser(write_lists, "*.csv", read_faces(affectnet.load)),
    "celeba": Parser(write_celeba, "*.txt", read_faces(celeba.load, size=20)),
    "celeba of Kaggle": Parser(write_celeba_kaggle, "*.csv", read_faces(celeba.load, size=20)),
    "expw": Parser(write_expw, "label.lst", read_faces(expw.load, size=20)),
    "mmi": Parser(write_session_tree, "Sessions/*/*.xml", read_faces(mmi.load)),
    "tfeid": Parser(write_names, ".zip", read_faces(tfeid.load)),
    "masks": Parser(write_masks, "masks.npz", lambda root: facsynth._read_masks(root / "masks.npz", np.array(["a", "b"]))),
    "truth": Parser(write_parquet, "truth.parquet", read_truth),
    "checksums": Parser(write_sums, "SHA256SUMS", read_sums),
    "crowd": Parser(write_crowd, "votes.csv", read_crowd),
    "crowd parquet": Parser(write_crowd_parquet, "votes.parquet", read_crowd),
    "ledger": Parser(write_ledger, "**/*.json", lambda root: Ledger(*KEPT, root)),
    "published": Parser(write_published, "published.yaml", read_published),
}


@pytest.mark.parametrize("name", PARSERS)
def test_damage_ends_in_one_clear_error(name: str, tmp_path: Path) -> None:
    parser, root = PARSERS[name], tmp_path / "tree"
    parser.write(root)
    files = sorted(root.glob(parser.files)) if parser.files != ".zip" else [root.with_suffix(parser.files)]
    files = [path for path in files if path.is_file()]
    parser.read(root)  # whole, it can be read
    known = list(tmp_path.rglob("*"))
    refused = 0
    for number in range(INPUTS):
        rng = np.random.default_rng([*name.encode(), number])
        path = files[rng.integers(len(files))]
        whole = path.read_bytes()
        path.write_bytes(damage(whole, rng))
        try:
            with within(SECONDS), warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)
                parser.read(root)
        except DataError as error:
            message, refused = str(error), refused + 1
            assert any(str(file) in message for file in known), f"{name} {number}, {path.name}: {message}"
            assert message.isprintable() and len(message) < LONGEST, f"{name} {number}: {message[:LONGEST]!r}"
        except BaseException as error:
            raise AssertionError(f"{name} {number}, {path.name}: {type(error).__name__}") from error
        finally:
            path.write_bytes(whole)
    assert refused >= INPUTS // 20, "the damage is too small to test anything"


@pytest.mark.parametrize("digits", ["9" * 25, "\uff11\uff12"])
@pytest.mark.parametrize("dataset", [ckplus, mmi, affectnet, oulu_casia, baum2i])
def test_numbers_in_names_that_are_too_long_or_in_other_digits(dataset: ModuleType, digits: str, tmp_path: Path) -> None:
    subject, word = f"S{digits}", "Anger"
    if dataset is ckplus:
        write_ckplus(tmp_path)
        put(tmp_path, f"Emotion/{subject}/001/{subject}_001_00000004_emotion.txt", "1")
        for frame in range(1, 5):
            put(tmp_path, f"cohn-kanade-images/{subject}/001/{subject}_001_{frame:08d}.png", image_bytes(0, kind="PNG"))
    elif dataset is mmi:
        write_session_tree(tmp_path)
        put(tmp_path, f"Sessions/7/S001-007_{digits}.png", image_bytes(0, (20, 20), kind="PNG"))
    elif dataset is affectnet:
        write_files(tmp_path)
        put(tmp_path, f"train_set/images/{digits}.jpg", image_bytes(0))
    elif dataset is oulu_casia:
        put(tmp_path, f"PreProcess_Img/VL_Acropped/Strong/P{digits}/{word}/000.jpeg", image_bytes(0))
    else:
        put(tmp_path, f"{word}/{subject}_1.jpg", image_bytes(0))
    if dataset is baum2i:  # its names may say nothing of the subject
        assert dataset.load(tmp_path).identities is None
        return
    with pytest.raises(DataError, match=r"unexpected file|in no sequence|without a number"):
        dataset.load(tmp_path)
