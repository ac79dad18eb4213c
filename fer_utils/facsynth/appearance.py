"""Textures: skin with lips, brows, beard and scalp; the eye; hair. All arrays are linear RGB, rows growing upwards (``v``)."""

from __future__ import annotations

import functools

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from .geometry import Atlas, HeadModel, brow_height
from .identity import Identity

__all__ = ["eye_texture", "hair_texture", "label_atlas", "skin_texture"]

#: Codes of the region masks that ship with the faces.
REGIONS = {"background": 0, "face": 1, "brows": 2, "eyes": 3, "nose": 4, "mouth": 5, "occluder": 6}


@functools.lru_cache(maxsize=4)
def _noise_bank(shape: tuple[int, int]) -> np.ndarray:
    """Eight fixed fields of unit noise at several scales, ``[8, H, W]``; a face mixes a few of them."""
    rng = np.random.default_rng(20190903)
    bank = []
    for scale in (6, 6, 16, 16, 48, 48, 128, 128):
        small = rng.normal(size=(shape[0] // scale + 3, shape[1] // scale + 3)).astype(np.float32)
        field = zoom(small, scale, order=1 if scale < 16 else 3)[: shape[0], : shape[1]]
        bank.append(field / field.std())
    return np.stack(bank)


@functools.lru_cache(maxsize=1)
def _paint_window(model: HeadModel) -> tuple[slice, slice]:
    """Rows and columns of the atlas that show the front and sides of the head."""
    p = model.atlas.position
    rows, columns = np.nonzero((p[..., 1] < 0.10) & (p[..., 2] > -0.16))
    return slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)


def brow_mask(p: np.ndarray, thickness: float, arch: float) -> np.ndarray:
    """Soft mask of the brows over template points ``p [..., 3]``."""
    x = np.abs(p[..., 0])
    t = (x - 0.009) / 0.043
    middle = brow_height(x) + arch * np.sin(np.pi * np.clip(t, 0, 1)) * 1.5
    half = thickness * np.clip(1.15 - 0.75 * np.clip(t, 0, 1) ** 1.5, 0.25, 1.2)
    across = np.clip(1.6 * (1 - np.abs(p[..., 2] - middle) / half) + 0.25, 0, 1)
    along = np.clip(np.minimum(t, 1 - t) * 9 + 0.3, 0, 1)
    return (across * along * (p[..., 1] < 0.03)).astype(np.float32)


def skin_texture(model: HeadModel, person: Identity, *, flush: float = 0.0) -> np.ndarray:
    """Paint a head, float32 ``[S, T, 3]``.

    Parameters
    ----------
    model : HeadModel
    person : Identity
    flush : float
        Extra redness of cheeks and nose in ``[0, 1]``.
    """
    atlas: Atlas = model.atlas
    window = _paint_window(model)
    p, lips, lids, ears = (a[window] for a in (atlas.position, atlas.lips, atlas.lids, atlas.ears))
    skin = np.array(person.skin, dtype=np.float32)
    rng = np.random.default_rng(person.skin_seed)
    bank = _noise_bank(atlas.lips.shape)
    shift = rng.integers(0, 400, 2)
    weights = (rng.normal(size=8) * [0.5, 0.5, 0.8, 0.8, 1, 1, 1, 1]).astype(np.float32) / 2.2
    # Only the painted window is mixed; wrapping rows and columns gives each face another patch of the same fields.
    rows, columns = (np.arange(w.start, w.stop) + s for w, s in zip(window, shift, strict=True))
    patch = np.ix_(rows % bank.shape[1], columns % bank.shape[2])
    noise = np.zeros(lips.shape, dtype=np.float32)
    for weight, layer in zip(weights, bank, strict=True):
        noise += weight * layer[patch]
    x, y, z = np.abs(p[..., 0]), p[..., 1], p[..., 2]

    tone = 1 + 0.05 * noise
    cheeks = np.exp(-(((x - 0.042) / 0.02) ** 2 + ((z + 0.042) / 0.022) ** 2))
    cheeks = cheeks + 0.6 * np.exp(-((x / 0.015) ** 2 + ((z + 0.04) / 0.018) ** 2))
    red = (person.blush + flush) * 0.28 * cheeks + 0.15 * ears
    shadow = 0.14 * np.exp(-(((x - 0.03) / 0.02) ** 2 + ((z + 0.014) / 0.007) ** 2))  # under the eyes
    canvas = skin * (tone * (1 - shadow))[..., None] * (1 - red[..., None] * np.array([-0.05, 0.55, 0.5], dtype=np.float32))
    canvas = canvas * (1 - 0.12 * lids[..., None])

    def blend(mask: np.ndarray, colour: np.ndarray) -> None:
        canvas[...] = canvas * (1 - mask[..., None]) + mask[..., None] * colour

    hair = np.array(person.hair, dtype=np.float32)
    if person.beard:
        jaw = np.clip((x - 0.03) / 0.012, 0, 1) * np.clip((0.005 - z) / 0.03, 0, 1)
        chin = np.clip((-0.083 - z) / 0.008, 0, 1)
        moustache = np.clip(1.4 - np.abs(z + 0.058) / 0.006, 0, 1) * np.clip(1.5 - x / 0.024, 0, 1)
        area = np.clip(np.maximum(np.maximum(jaw * (z < -0.02), chin), moustache), 0, 1) * (z > -0.125) * (y < 0.06)
        area = gaussian_filter(area.astype(np.float32), 3) * (1 - np.clip(lips * 2, 0, 1))
        blend(np.clip(area * person.beard * (0.62 + 0.12 * bank[0][window]), 0, 0.88), np.minimum(hair, skin * 0.4))
    blend(lips * 0.9, np.array(person.lips, dtype=np.float32) * (1 + 0.05 * noise)[..., None])
    fibres = 0.92 + 0.10 * bank[1][window]
    blend(np.clip(brow_mask(p, person.brow_thickness, person.brow_arch) * person.brow_density * fibres, 0, 0.97), np.array(person.brow))
    if np.isfinite(person.hair_length):
        line = person.hairline - 0.35 * np.clip(x - 0.035, 0, 0.04) + 0.002 * bank[2][window]
        scalp = np.clip((z - line) / 0.008, 0, 1)
        side = np.clip((y - 0.075) / 0.006, 0, 1) * np.clip((z + 0.045) / 0.01, 0, 1)
        blend(np.maximum(scalp, side) * (1 - ears) * 0.95, hair)
    full = np.empty((*atlas.lips.shape, 3), dtype=np.float32)
    full[...] = hair if np.isfinite(person.hair_length) else skin
    full[window] = canvas
    return full.clip(0.005, 0.98)


@functools.lru_cache(maxsize=8)
def label_atlas(model: HeadModel, thickness: float, arch: float) -> np.ndarray:
    """Region code of each texel of the head's atlas, uint8 ``[S, T]`` (codes of ``REGIONS``).

    Parameters
    ----------
    model : HeadModel
    thickness, arch : float
        Of the brows, in metres; see :class:`~fer_utils.facsynth.identity.Identity`.
    """
    p = model.atlas.position
    x, y, z = np.abs(p[..., 0]), p[..., 1], p[..., 2]
    labels = np.full(p.shape[:2], REGIONS["face"], dtype=np.uint8)
    width = np.interp(z, [-0.052, -0.045, -0.03, 0.0], [0.016, 0.019, 0.013, 0.008])
    labels[(z > -0.054) & (z < 0.002) & (x < width) & (y < 0.0)] = REGIONS["nose"]
    labels[brow_mask(p, thickness, arch) > 0.4] = REGIONS["brows"]
    labels[model.atlas.lips > 0.5] = REGIONS["mouth"]
    return labels


def eye_texture(person: Identity, size: int = 128) -> np.ndarray:
    """The eyeball by polar angle from the gaze axis, float32 ``[size, size, 3]``; row 0 is the pupil.

    Parameters
    ----------
    person : Identity
    size : int
        Texels per side.
    """
    rng = np.random.default_rng(person.skin_seed + 1)
    angle = (np.arange(size, dtype=np.float32) + 0.5) / size * 180
    rays = gaussian_filter(rng.normal(size=size).astype(np.float32), 1, mode="wrap")
    iris = np.array(person.iris, dtype=np.float32)
    white = np.array([0.72, 0.69, 0.66], dtype=np.float32) * (0.92 if person.age == 4 else 1.0)
    pupil, limbus = 9.5, 24.5
    r = angle[:, None]
    ring = np.clip((r - pupil) / (limbus - pupil), 0, 1)
    shade = (1.5 - 0.7 * ring) * (1 + 0.5 * rays[None]) * (1 - 0.65 * np.clip((ring - 0.8) / 0.2, 0, 1))
    colour = iris * np.clip(shade, 0.1, 3)[..., None]
    colour = np.where((r < pupil)[..., None], 0.004, colour)
    edge = np.clip((r - limbus) / 2.5, 0, 1)[..., None]
    veins = white * (1 - np.clip((r - 40) / 120, 0, 1)[..., None] * np.array([0.05, 0.35, 0.35], dtype=np.float32))
    return (colour * (1 - edge) + veins * edge).astype(np.float32).clip(0.002, 0.98)


def hair_texture(person: Identity, size: tuple[int, int] = (32, 256)) -> np.ndarray:
    """Strands: fast changes around the head, slow ones along it; float32 ``[*size, 3]``.

    Parameters
    ----------
    person : Identity
    size : (int, int)
        Texels along the head and around it.
    """
    rng = np.random.default_rng(person.skin_seed + 2)
    strands = gaussian_filter(rng.normal(size=size), (6, 0.7), mode="wrap")
    strands = strands / strands.std()
    return (np.array(person.hair) * (1 + 0.32 * strands[..., None])).clip(0.003, 0.95).astype(np.float32)
