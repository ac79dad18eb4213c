"""From jobs to shards: rendering in parallel with Dask, resumable.

A shard is a Parquet file of a few dozen pictures. The client writes it under a temporary name and renames it, so a shard that
exists is whole; a second run renders only what is missing.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ..datasets.ckplus import five_points
from ..files import replace_whole
from ..preprocess import align_face, similarity_transform, warp_points
from .conditions import Camera, background, click_points, develop, sample_camera, sample_light, sample_occlusion, sample_view
from .expressions import ACTION_UNITS, Expression, sample_lab, sample_wild
from .geometry import HeadModel, load_head_model
from .identity import Identity, sample_identity
from .render import Light, Shot, View, render_shot
from .sets import LAB_STAGES, Job, plan_set

__all__ = ["GENERATOR", "make_pictures", "render_sets"]

#: Changes whenever the same seed would give other pixels.
GENERATOR = "1.1"
SHARD = 32
JPEG_QUALITY = 83
_BORDER = 40

#: The 37 points among the 68: brows, eyes (corners, lid middles, centre), nose (bridge, tip, wings, base), outer lips.
_EYE_RINGS = ((36, 37, 38, 39, 40, 41), (42, 43, 44, 45, 46, 47))


def dense_points(marks: np.ndarray) -> np.ndarray:
    """The 37 points ``[37, 2]`` from 68 points: 10 on the brows, 10 on the eyes, 5 on the nose, 12 on the lips."""
    eyes = []
    for ring in _EYE_RINGS:
        p = marks[list(ring)]
        eyes.extend([p[0], p[[1, 2]].mean(0), p[3], p[[4, 5]].mean(0), p.mean(0)])
    return np.concatenate([marks[17:27], np.stack(eyes), marks[[27, 30, 31, 33, 35]], marks[48:60]])


def _lab_person(number: int, seed: int, names: tuple[str, ...]) -> Identity:
    """A grown subject: CK+'s were 18 to 50 years old. Draws again, in a fixed order, until the age fits."""
    for attempt in range(100):
        person = sample_identity(number + 1000 * attempt, seed, names)
        if person.age in (2, 3):
            return replace(person, number=number)
    raise AssertionError("no grown identity in 100 draws")


def _describe(job: Job, model: HeadModel, seed: int) -> tuple[Shot, Expression, Camera, np.random.Generator]:
    """All random choices of one picture."""
    rng = np.random.default_rng(job.key)
    if job.set == "lab":
        person = _lab_person(job.person, seed, model.shape_names)
        expression = sample_lab(job.emotion, rng, LAB_STAGES)[LAB_STAGES.index(job.stage)]
        view = View(*(float(v) for v in rng.normal(0, (2.0, 2.0, 1.5))), 1.3)
        sky, lamp = float(rng.uniform(0.4, 0.6)), float(rng.uniform(0.5, 0.9))
        light = Light("studio", sky, lamp, float(rng.normal(0, 20)), float(rng.uniform(15, 40)), radius=0.35)
        camera = Camera(blur=0.6, noise=0.0, exposure=float(np.exp(rng.normal(0, 0.08))), filter="grey", jpeg_quality=97)
        gaze = tuple(float(g) for g in rng.normal(0, 1.5, 2))
        cloth = tuple(float(c) for c in rng.uniform(0.02, 0.4, 3))
        grain = int(rng.integers(2**31)) + round(1000 * job.stage)
        shot = Shot(person, expression.actions, view, light, gaze=gaze, cloth=cloth, seed=grain)
        return shot, expression, camera, rng
    person = sample_identity(job.person, seed, model.shape_names)
    expression = sample_wild(job.emotion, rng)
    occlusion = sample_occlusion(rng)
    if occlusion == "bangs" and person.age == 0:
        occlusion = "none"
    gaze = tuple(float(g) for g in rng.normal(0, (7.0, 4.0)))
    shot = Shot(person, expression.actions, sample_view(rng), sample_light(rng), occlusion, int(rng.integers(2**31)), gaze,
                float(rng.uniform(0, 0.5)), tuple(float(c) for c in rng.uniform(0.01, 0.6, 3)), int(rng.integers(2**31)))
    return shot, expression, sample_camera(rng), rng


def _openness(ring: np.ndarray) -> float:
    """Height over width of one eye's six points."""
    height = np.linalg.norm(ring[[1, 2]].mean(0) - ring[[4, 5]].mean(0))
    return float(height / max(np.linalg.norm(ring[0] - ring[3]), 1e-6))


def _truth(job: Job, shot: Shot, expression: Expression, camera: Camera, marks: np.ndarray, clicked: np.ndarray) -> dict[str, Any]:
    """One row of the truth table. ``marks`` are the 68 points in the frame, ``clicked`` the five by which the face is aligned."""
    person = shot.person
    openness = np.linalg.norm(marks[62] - marks[66]) / max(np.linalg.norm(marks[48] - marks[54]), 1e-6)
    lids = np.mean([_openness(marks[list(ring)]) for ring in _EYE_RINGS])
    row: dict[str, Any] = {
        "name": job.name, "split": job.split, "emotion": job.emotion, "label": job.label, "identity": job.person, "gender": person.gender,
        "race": person.race, "age": person.age, "intensity": expression.intensity, "stage": job.stage,
        "yaw": shot.view.yaw, "pitch": shot.view.pitch, "roll": shot.view.roll,
        "light": shot.light.name, "light_azimuth": shot.light.azimuth, "light_elevation": shot.light.elevation,
        "light_sky": shot.light.sky, "light_lamp": shot.light.lamp, "occlusion": shot.occlusion,
        "blur": camera.blur, "noise": camera.noise, "gamma": camera.gamma, "exposure": camera.exposure, "filter": camera.filter,
        "scale": camera.scale, "jpeg_quality": camera.jpeg_quality,
        **person.attributes, "narrow_eyes": bool(lids < 0.24), "eyeglasses": shot.occlusion in ("glasses", "sunglasses"),
        "mouth_slightly_open": bool(openness > 0.06), "smiling": expression.aus.get(12, 0.0) >= 0.3,
    }
    exact, aligned = (warp_points(marks, similarity_transform(p)) for p in (five_points(marks), clicked))
    row["misaligned"] = float(np.linalg.norm(aligned - exact, axis=1).mean())
    row.update({f"au_{au}": expression.aus.get(au, 0.0) for au in ACTION_UNITS})
    row["frame_points"] = marks.astype(np.float32).ravel().tolist()
    row["clicked_points"] = clicked.astype(np.float32).ravel().tolist()
    return row


def _png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _heads(model: HeadModel, *rows: list[dict[str, float]]) -> np.ndarray:
    """Vertices of some heads, in batches of one size: sums over another number of heads round differently in the last bit."""
    batches = []
    for start in range(0, len(rows[0]), SHARD):
        parts = [row[start : start + SHARD] for row in rows]
        count = len(parts[0])
        full = [part + part[-1:] * (SHARD - count) for part in parts]
        batches.append(model.vertices(*full)[:count])
    return np.concatenate(batches)


def halve_levels(frame: np.ndarray) -> np.ndarray:
    """Drop the last bit of a grey picture: it holds only noise, and takes a quarter of a PNG."""
    return frame & 0xFE


def make_pictures(jobs: Sequence[Job], seed: int) -> list[dict[str, Any]]:
    """Render some pictures of one set.

    Parameters
    ----------
    jobs : sequence of Job
    seed : int
        The population's seed.

    Returns
    -------
    list of dict
        ``name``, ``image`` (bytes: JPEG of the aligned face, or PNG of the lab frame), ``frame`` (PNG of the unaligned frame,
        wild sets only), ``mask`` (PNG of region codes, aligned) and ``truth`` (a dict).
    """
    model = load_head_model()
    described = [_describe(job, model, seed) for job in jobs]
    people = [shot.person for shot, *_ in described]
    actions = [shot.actions for shot, *_ in described]
    phenotypes, shapes = [p.phenotype for p in people], [p.shape for p in people]
    posed, neutral = _heads(model, phenotypes, shapes, actions), _heads(model, phenotypes, shapes, [{}] * len(jobs))
    pictures = []
    for job, (shot, expression, camera, rng), v, v0 in zip(jobs, described, posed, neutral, strict=True):
        colour, regions, marks = render_shot(model, shot, v, v0)
        lab = job.set == "lab"
        scene = np.full((*regions.shape, 3), 0.25, dtype=np.float32) if lab else background(rng)
        frame = develop(colour, scene, camera, rng)
        # A laboratory's points come from tracking, checked by hand; those of the wild were clicked, face by face.
        points = five_points(marks) if lab else click_points(five_points(marks), np.random.default_rng((*job.key, 5)))
        picture: dict[str, Any] = {
            "name": job.name, "mask": _png(align_face(regions, points, smooth=False)),
            "truth": _truth(job, shot, expression, camera, marks, points),
        }
        if lab:
            picture["image"], picture["frame"] = _png(halve_levels(frame[..., 0])), b""
        else:
            buffer = io.BytesIO()
            # The crop may reach past the frame: its border goes on, as a wider photograph's background would.
            wide = np.pad(frame, ((_BORDER, _BORDER), (_BORDER, _BORDER), (0, 0)), mode="edge")
            Image.fromarray(align_face(wide, points + _BORDER)).save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
            picture["image"], picture["frame"] = buffer.getvalue(), _png(frame) if _sampled(job) else b""
        pictures.append(picture)
    return pictures


def _sampled(job: Job) -> bool:
    """Whether the unaligned frame is kept too: the first 40 basic test faces, for the pages that show alignment."""
    return job.set == "basic" and job.split == "test" and job.key[-1] < 40


# -- shards ---------------------------------------------------------------------------------------------------------------


def _fingerprint(jobs: Iterable[Job], seed: int) -> str:
    """Changes when the same file name would hold other pictures."""
    text = json.dumps([GENERATOR, seed, [asdict(job) for job in jobs]])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_shard(path: Path, pictures: list[dict[str, Any]]) -> None:
    columns = {k: [p[k] for p in pictures] for k in ("name", "image", "frame", "mask")}
    columns["truth"] = [json.dumps(p["truth"]) for p in pictures]
    with replace_whole(path) as partial:
        pq.write_table(pa.table(columns), partial)


def render_sets(
    sets: Sequence[str], out: Path, seed: int, *, workers: int | None = None, scheduler: str | None = None, limit: int | None = None
) -> dict[str, list[Path]]:
    """Render every picture of some sets into shards.

    Parameters
    ----------
    sets : sequence of str
        Of ``sets.SETS``.
    out : Path
        Folder of the shards; those that are there are kept.
    seed : int
    workers : int, optional
        Processes of the local cluster; one a core by default.
    scheduler : str, optional
        Address of a running Dask scheduler, in place of a local cluster.
    limit : int, optional
        Only the first so many pictures of each set.

    Returns
    -------
    dict
        Set to its shards, in order.
    """
    from dask.distributed import Client, LocalCluster, as_completed
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    shards: dict[str, list[Path]] = {}
    todo: list[tuple[Path, list[Job]]] = []
    for name in sets:
        jobs = plan_set(name, seed)[:limit]
        folder = Path(out) / name
        folder.mkdir(parents=True, exist_ok=True)
        shards[name] = []
        for start in range(0, len(jobs), SHARD):
            part = jobs[start : start + SHARD]
            path = folder / f"{start:06d}-{_fingerprint(part, seed)}.parquet"
            shards[name].append(path)
            if not path.exists():
                todo.append((path, part))
    if not todo:
        return shards
    if scheduler is None:
        # certificates of its own: a port of this machine is open to everybody on it, and would run whatever it is sent
        cluster = LocalCluster(n_workers=workers or os.cpu_count(), threads_per_worker=1, dashboard_address=None, security=True)
        client = Client(cluster)
    else:
        client = Client(scheduler, timeout=20)
    done = sum(len(part) for _, part in todo)
    columns = (TextColumn("rendering"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"), TimeRemainingColumn())
    try:
        with Progress(*columns) as bar:
            task = bar.add_task("rendering", total=done, speed="")
            futures = {client.submit(make_pictures, part, seed, pure=False): (path, len(part)) for path, part in todo}
            for future in as_completed(list(futures)):
                path, count = futures.pop(future)
                write_shard(path, future.result())
                future.release()
                bar.advance(task, count)
                speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
                bar.update(task, speed=f"{speed:.1f} images/s" if speed else "")
    finally:
        client.close()
        if scheduler is None:
            cluster.close()
    return shards
