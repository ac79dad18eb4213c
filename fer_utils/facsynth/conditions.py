"""What stands between a face and its label in the wild: pose, light, occlusion, background, and the camera's faults."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from .render import FRAME, Light, View

__all__ = [
    "CLICK_ERROR", "OCCLUSIONS", "Camera", "background", "click_points", "develop", "sample_camera", "sample_light", "sample_occlusion",
    "sample_view",
]

#: Occluders of the wild faces and their shares.
OCCLUSIONS = {"none": 0.58, "glasses": 0.13, "sunglasses": 0.03, "mask": 0.03, "hand": 0.075, "object": 0.075, "bangs": 0.08}
#: How far a clicked point lies from where it belongs: standard deviation along each axis, as a share of the distance between the eyes.
CLICK_ERROR = 0.06


@dataclass(frozen=True)
class Camera:
    """The faults of a camera and of the file it wrote."""

    blur: float = 0.0  #: standard deviation, pixels of the unaligned frame
    noise: float = 0.0  #: standard deviation in [0, 1]
    gamma: float = 1.0  #: exponent of the pixels, 1 for none
    exposure: float = 1.0  #: factor of the light
    filter: str = "none"  #: ``none``, or the name of a colour filter
    scale: float = 1.0  #: the face's size in the camera, 1 as rendered
    jpeg_quality: int = 92  #: from 1 to 95, as Pillow counts


def sample_view(rng: np.random.Generator) -> View:
    """A head pose of the wild: near frontal on the whole, with heavy tails. Yaw leads, as in RAF-DB's Fig. 4(b)."""
    yaw, pitch, roll = (float(np.clip(rng.standard_t(5) * s, -c, c)) for s, c in ((13.0, 60.0), (8.0, 32.0), (7.0, 30.0)))
    distance = float(rng.uniform(0.55, 1.8))
    shift = (float(rng.normal(0, 0.02)), float(rng.normal(0, 0.02)))
    return View(yaw, pitch, roll, distance, shift, float(rng.uniform(0.92, 1.04)))


def click_points(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Where a person would click five points of a face: near them, each with an error of its own.

    Parameters
    ----------
    points : array ``[5, 2]``
        The true points, eyes first.
    rng : Generator

    Returns
    -------
    array ``[5, 2]``
        The same points, each moved by a normal error of ``CLICK_ERROR`` eye distances along both axes.
    """
    # The distance between the eyes shrinks as a head turns; the face's height does not, so the larger of the two measures the face.
    eyes, mouth = points[1] - points[0], points[3:].mean(0) - points[:2].mean(0)
    unit = max(np.linalg.norm(eyes), 0.9 * np.linalg.norm(mouth))
    return points + rng.normal(0, CLICK_ERROR * unit, points.shape)


def sample_light(rng: np.random.Generator) -> Light:
    """A light of the wild: its kind, then its strength and colour."""
    kinds = {"soft": 0.34, "front": 0.20, "side": 0.19, "top": 0.11, "below": 0.04, "back": 0.06, "night": 0.06}
    kind = str(rng.choice(list(kinds), p=list(kinds.values())))
    warm = float(rng.normal(0, 0.10))
    tint = (1 + warm, 1.0, 1 - warm)
    cool = float(rng.normal(0, 0.05))
    sign = float(rng.choice([-1, 1]))
    azimuth, elevation, sky, lamp, radius = {
        "soft": (sign * rng.uniform(0, 60), rng.uniform(10, 60), rng.uniform(0.5, 0.8), rng.uniform(0.2, 0.7), 0.4),
        "front": (rng.normal(0, 12), rng.uniform(0, 25), rng.uniform(0.15, 0.35), rng.uniform(0.7, 1.3), 0.12),
        "side": (sign * rng.uniform(50, 100), rng.uniform(0, 40), rng.uniform(0.12, 0.35), rng.uniform(0.8, 1.8), 0.15),
        "top": (rng.normal(0, 30), rng.uniform(55, 85), rng.uniform(0.12, 0.35), rng.uniform(0.9, 1.8), 0.12),
        "below": (rng.normal(0, 30), rng.uniform(-60, -25), rng.uniform(0.1, 0.3), rng.uniform(0.6, 1.2), 0.15),
        "back": (sign * rng.uniform(120, 160), rng.uniform(10, 50), rng.uniform(0.2, 0.4), rng.uniform(1.2, 2.5), 0.2),
        "night": (sign * rng.uniform(0, 80), rng.uniform(-10, 60), rng.uniform(0.05, 0.12), rng.uniform(0.25, 0.6), 0.12),
    }[kind]
    return Light(kind, float(sky), float(lamp), float(azimuth), float(elevation), tint, (1 + cool, 1.0, 1 - cool), radius)


def sample_occlusion(rng: np.random.Generator) -> str:
    """One of ``OCCLUSIONS`` by its share."""
    return str(rng.choice(list(OCCLUSIONS), p=list(OCCLUSIONS.values())))


def sample_camera(rng: np.random.Generator) -> Camera:
    """The faults of one picture from the web."""
    names = ["none", "grey", "sepia", "cool", "warm", "faded", "vivid"]
    return Camera(
        blur=float(rng.gamma(1.2, 0.3)) if rng.random() < 0.5 else 0.0,
        noise=float(rng.gamma(1.5, 0.005)) if rng.random() < 0.4 else 0.0,
        gamma=float(np.exp(rng.normal(0, 0.18))),
        exposure=float(np.exp(rng.normal(0, 0.22))),
        filter=str(rng.choice(names, p=[0.66, 0.12, 0.04, 0.05, 0.05, 0.04, 0.04])),
        scale=float(np.clip(rng.beta(3, 1.4) * 1.1, 0.4, 1.0)),
        jpeg_quality=int(rng.integers(55, 96)),
    )


def background(rng: np.random.Generator) -> np.ndarray:
    """An out-of-focus scene: a graded wall, blurred boxes, bokeh or foliage; linear RGB ``[128, 128, 3]``."""
    base, other = rng.uniform(0.01, 0.7, 3), rng.uniform(0.01, 0.7, 3)
    grey = rng.random()
    base, other = (grey * c.mean() + (1 - grey) * c for c in (base, other))
    y, x = np.mgrid[0:FRAME, 0:FRAME] / FRAME
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.clip(0.5 + (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle), 0, 1)[..., None]
    scene = base * (1 - ramp) + other * ramp
    kind = rng.random()
    if kind < 0.45:
        for _ in range(int(rng.integers(2, 9))):
            cx, cy, w, h = rng.uniform(-0.1, 1.1), rng.uniform(-0.1, 1.1), rng.uniform(0.05, 0.5), rng.uniform(0.05, 0.7)
            colour = rng.uniform(0.01, 0.8, 3) * (1 - grey) + rng.uniform(0.01, 0.8) * grey
            scene[(np.abs(x - cx) < w / 2) & (np.abs(y - cy) < h / 2)] = colour
    elif kind < 0.7:
        for _ in range(int(rng.integers(10, 40))):
            cx, cy, r = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.02, 0.12)
            scene[(x - cx) ** 2 + (y - cy) ** 2 < r * r] = rng.uniform(0.05, 1.0, 3)
    sharp = Image.fromarray((np.clip(scene, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8))
    blurred = sharp.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.8, 6))))
    return ((np.asarray(blurred) / 255.0) ** 2.2).astype(np.float32)


def _tone(image: np.ndarray, name: str) -> np.ndarray:
    """A photo filter on display values ``[H, W, 3]`` in ``[0, 1]``."""
    grey = image @ np.array([0.299, 0.587, 0.114])
    if name == "grey":
        return np.repeat(grey[..., None], 3, -1)
    if name == "sepia":
        return grey[..., None] * np.array([1.07, 0.90, 0.68])
    if name == "cool":
        return image * np.array([0.86, 0.98, 1.12])
    if name == "warm":
        return image * np.array([1.12, 1.0, 0.82])
    if name == "faded":
        return 0.16 + 0.72 * (0.6 * image + 0.4 * grey[..., None])
    if name == "vivid":
        return np.clip(grey[..., None] + 1.5 * (image - grey[..., None]), 0, 1) ** 1.15
    return image


def develop(colour: np.ndarray, scene: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Turn a linear render into the picture that a camera would have saved.

    Parameters
    ----------
    colour : float32 ``[H, W, 4]``
        Linear RGB premultiplied by the coverage in the last channel.
    scene : float32 ``[H, W, 3]``
        The background, linear RGB.
    camera : Camera
    rng : Generator
        For the sensor's noise.

    Returns
    -------
    uint8 ``[H, W, 3]``
    """
    covered = colour[..., 3] > 0.5
    level = float(np.median(colour[covered][:, :3].mean(-1))) if covered.any() else 0.3
    # Automatic exposure halves, in log terms, the gap to a mid tone: dark skin and night scenes stay darker, but visible.
    gain = camera.exposure * (0.30 / max(level, 1e-3)) ** 0.5
    linear = (colour[..., :3] + (1 - colour[..., 3:]) * scene * max(level, 0.05) ** 0.5 * 1.6) * gain
    image = np.clip(linear, 0, None)
    image = np.where(image < 0.8, image, 0.8 + 0.2 * np.tanh((image - 0.8) / 0.2))  # highlights roll off
    image = np.clip(image, 0, 1) ** (1 / 2.2)
    image = _tone(np.clip(image, 0, 1) ** camera.gamma, camera.filter)
    picture = Image.fromarray((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8))
    if camera.scale < 0.99:
        small = max(24, round(FRAME * camera.scale))
        picture = picture.resize((small, small), Image.Resampling.BOX).resize((FRAME, FRAME), Image.Resampling.BICUBIC)
    if camera.blur:
        picture = picture.filter(ImageFilter.GaussianBlur(camera.blur))
    if camera.noise:
        noisy = np.asarray(picture) / 255.0 + rng.normal(0, camera.noise, (FRAME, FRAME, 3))
        picture = Image.fromarray((np.clip(noisy, 0, 1) * 255 + 0.5).astype(np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=camera.jpeg_quality)
    return np.asarray(Image.open(buffer).convert("RGB"))
