"""What was computed from a face before networks learned it: shape, LBP, HOG and Gabor, as scikit-learn transformers.

Lengths are those of Li & Deng 2019, section V-A. Whole batches are described at once; each descriptor gives what scikit-image's own
function gives for one image, as its notes say.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Self

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

__all__ = [
    "GaborDescriptor", "HOGDescriptor", "LBPDescriptor", "ShapeDescriptor", "gabor_magnitudes", "lbp_codes", "to_grey",
]

#: Side of an aligned face, and of the grid of regions laid over it.
SIDE, GRID = 100, 10
LBP_CODES = 59
ORIENTATIONS = 10
CELL = 5
SCALES, DIRECTIONS = 5, 8
#: Images described together, small enough for a processor's cache.
_BATCH = 8
_GREY = np.array([0.299, 0.587, 0.114])


def to_grey(images: np.ndarray) -> np.ndarray:
    """Luminance of colour images, rounded; grey images as they are.

    Parameters
    ----------
    images : uint8 ``[N, H, W]`` or ``[N, H, W, 3]``

    Returns
    -------
    uint8 ``[N, H, W]``

    Raises
    ------
    ValueError
        For another type or shape.
    """
    images = _check_images(images)
    return images if images.ndim == 3 else np.rint(images @ _GREY).astype(np.uint8)


def _check_images(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim < 3 or images.shape[3:] not in ((), (3,)):
        raise ValueError(f"images must be uint8 [N, H, W] or [N, H, W, 3], got {images.dtype} {list(images.shape)}")
    return images


def _check_faces(images: np.ndarray) -> np.ndarray:
    images = _check_images(images)
    if images.shape[1:3] != (SIDE, SIDE):
        height, width = images.shape[1:3]
        raise ValueError(f"faces must be aligned, {SIDE}x{SIDE} pixels, got {width}x{height} (see fer_utils.preprocess.align_faces)")
    return images


# -- shape ----------------------------------------------------------------------------------------------------------------


class ShapeDescriptor(TransformerMixin, BaseEstimator):
    """Relative positions of all pairs of landmarks (Li & Deng 2019, section V-A and eq. 6): 37 points give 1,332 values.

    Parameters
    ----------
    points : int
        How many landmarks a face has; 37 in RAF-DB, 68 in CK+, which give 4,556 values.

    Attributes
    ----------
    mean_, scale_ : float64 ``[points * (points - 1)]``
        Mean and standard deviation of each value over the training faces. A standard deviation of 0 counts as 1.

    Notes
    -----
    Two standard deviations below the mean become 0, two above 1, and what lies beyond is cut off. The paper does not say in which
    order the pairs stand, nor which standard deviation is meant: ours are i < j, horizontal before vertical, and the population's.
    """

    def __init__(self, points: int = 37) -> None:
        self.points = points

    def fit(self, X: np.ndarray, y: Any = None) -> Self:
        """Learn mean and deviation from training faces.

        Parameters
        ----------
        X : array ``[N, points, 2]``
            As :meth:`transform`.
        y : ignored
            For scikit-learn's pipelines.

        Raises
        ------
        ValueError
            Without a face, or as :meth:`transform`.
        """
        pairs = self._pair(X)
        if not len(pairs):
            raise ValueError("the mean of each value needs at least one face to train on, got none")
        self.mean_, deviation = pairs.mean(0), pairs.std(0)
        # Rounding leaves a trace of deviation in a column whose entries are all alike.
        self.scale_ = np.where(np.ptp(pairs, axis=0) > 0, deviation, 1.0)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Describe faces.

        Parameters
        ----------
        X : array ``[N, points, 2]``
            Landmarks, in pixels of the aligned face, such as ``FaceDataset.landmarks_dense``.

        Returns
        -------
        float32 ``[N, points * (points - 1)]``
            In ``[0, 1]``.

        Raises
        ------
        ValueError
            For another shape, or points that are not finite.
        """
        check_is_fitted(self)
        return np.clip(((self._pair(X) - self.mean_) / (2 * self.scale_) + 1) / 2, 0, 1).astype(np.float32)

    def _pair(self, X: np.ndarray) -> np.ndarray:
        X = np.asarray(X, dtype=np.float64)
        if X.shape[1:] != (self.points, 2):
            raise ValueError(f"landmarks must be [N, {self.points}, 2], got {list(X.shape)}; for another number set points")
        if not np.isfinite(X).all():
            raise ValueError(f"landmarks must be finite; face {int((~np.isfinite(X)).any((1, 2)).argmax())} has a point that is not")
        first, second = np.triu_indices(self.points, 1)
        return (X[:, first] - X[:, second]).reshape(len(X), 2 * len(first))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names such as ``x0-x1``."""
        pairs = zip(*np.triu_indices(self.points, 1), strict=True)
        return np.array([f"{axis}{i}-{axis}{j}" for i, j in pairs for axis in "xy"], dtype=object)


# -- appearance -----------------------------------------------------------------------------------------------------------


class _AppearanceDescriptor(TransformerMixin, BaseEstimator):
    """A descriptor of aligned faces that learns nothing."""

    _length: int

    def __init__(self, n_jobs: int | None = -1) -> None:
        self.n_jobs = n_jobs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags

    def fit(self, X: np.ndarray, y: Any = None) -> Self:
        """Do nothing: there is nothing to learn."""
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Describe aligned faces.

        Parameters
        ----------
        X : uint8 ``[N, 100, 100]`` or ``[N, 100, 100, 3]``
            Grey or RGB; see :func:`to_grey`.

        Returns
        -------
        float32 ``[N, length]``

        Raises
        ------
        ValueError
            For another type or shape.
        """
        return _in_batches(self._describe, X, (self._length,), self.n_jobs)

    def _describe(self, grey: np.ndarray) -> np.ndarray:
        raise NotImplementedError


def _in_batches(
    describe: Callable[[np.ndarray], np.ndarray], images: np.ndarray, shape: tuple[int, ...], n_jobs: int | None, dtype: Any = np.float32
) -> np.ndarray:
    """Describe batch after batch, in threads that each use one core."""
    images = _check_faces(images)
    out = np.empty((len(images), *shape), dtype=dtype)

    def work(start: int) -> None:
        chunk = slice(start, start + _BATCH)
        out[chunk] = describe(to_grey(images[chunk])).reshape(-1, *shape)

    with threadpool_limits(1, user_api="blas"):
        Parallel(n_jobs=n_jobs, require="sharedmem")(delayed(work)(start) for start in range(0, len(images), _BATCH))
    return out


class LBPDescriptor(_AppearanceDescriptor):
    """Histograms of uniform local binary patterns in 10x10 regions (Li & Deng 2019, section V-A): 59 codes, 5,900 values.

    Parameters
    ----------
    n_jobs : int, optional
        Threads, as in scikit-learn; -1 for one a core.

    Notes
    -----
    Codes are those of :func:`lbp_codes`; the regions are 10x10 pixels each. A value is the share of a region's pixels that have a
    code, in ``[0, 1]``: whether the paper takes shares or counts is not said. They stand in the order region row, region column, code.
    """

    _length = GRID * GRID * LBP_CODES

    def _describe(self, grey: np.ndarray) -> np.ndarray:
        region = np.arange(SIDE) // (SIDE // GRID)
        place = (region[:, None] * GRID + region) * LBP_CODES + np.arange(len(grey))[:, None, None] * self._length
        place += _code(grey)
        return np.bincount(place.ravel(), minlength=len(grey) * self._length) / np.float32((SIDE // GRID) ** 2)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names such as ``row0_column3_code58``."""
        return _names(("row", GRID), ("column", GRID), ("code", LBP_CODES))


def lbp_codes(images: np.ndarray, n_jobs: int | None = -1) -> np.ndarray:
    """Code of each pixel's local binary pattern: 8 neighbours at a distance of 2 (Ojala et al. 2002).

    Parameters
    ----------
    images : uint8 ``[N, 100, 100]`` or ``[N, 100, 100, 3]``
    n_jobs : int, optional
        Threads; -1 for one a core.

    Returns
    -------
    uint8 ``[N, 100, 100]``
        0 to 58. The 58 uniform patterns, whose ring of bits changes at most twice, have a code each: 0 where all neighbours are darker
        than the pixel, 57 where none is, and between them by number of ones, then rotation. All other patterns share code 58.

    Notes
    -----
    The codes are those of ``skimage.feature.local_binary_pattern(image, 8, 2, method="nri_uniform")``, bit for bit where the processor
    rounds after each operation: neighbours between pixels are interpolated in the same steps, since the last bit decides where a slope
    makes one equal to the centre. Outside the image all is black.
    """
    return _in_batches(_code, images, (SIDE, SIDE), n_jobs, np.uint8)


@cache
def _lbp_table() -> np.ndarray:
    """Code of each of the 256 patterns; bit ``k`` stands for the neighbour at ``k`` eighths of a turn, counter-clockwise."""
    table = np.full(256, LBP_CODES - 1, dtype=np.uint8)
    for ones in range(1, 8):
        for turn in range(8):
            run = [(8 - turn + k) % 8 for k in range(ones)]
            table[sum(1 << k for k in run)] = 1 + (ones - 1) * 8 + turn
    table[0], table[255] = 0, LBP_CODES - 2
    return table


def _code(grey: np.ndarray) -> np.ndarray:
    border = 2
    padded = np.pad(grey.astype(np.float64), ((0, 0), (border, border), (border, border)))
    centre = grey.astype(np.float64)
    angles = 2 * np.pi * np.arange(8) / 8
    rows, columns = np.round(-2.0 * np.sin(angles), 5), np.round(2.0 * np.cos(angles), 5)
    across = {step: _interpolate(padded, step, 2) for step in np.unique(columns)}
    pattern = np.zeros(grey.shape, dtype=np.uint8)
    for k in range(8):
        pattern |= (_interpolate(across[columns[k]], rows[k], 1) >= centre).view(np.uint8) << np.uint8(k)
    return _lbp_table()[pattern]


def _interpolate(padded: np.ndarray, step: float, axis: int) -> np.ndarray:
    """Values ``step`` pixels further along an axis, from an array that has two more at both its ends."""
    at = np.arange(SIDE) + step
    low = int(np.floor(step))
    # A place is a rounded sum, so its distance from the pixel before it differs in the last bits from row to row.
    weight = (at - np.floor(at)).reshape((-1, 1) if axis == 1 else -1)
    near, far = (padded[(slice(None),) * axis + (slice(s, s + SIDE),)] for s in (2 + low, 3 + low))
    return near if step == low else (1 - weight) * near + weight * far


class HOGDescriptor(_AppearanceDescriptor):
    """Histograms of oriented gradients (Li & Deng 2019, section V-A): 10x10 blocks of four 5x5 cells, 10 orientations, 4,000 values.

    Parameters
    ----------
    n_jobs : int, optional
        Threads, as in scikit-learn; -1 for one a core.

    Notes
    -----
    Values are those of ``skimage.feature.hog(image, orientations=10, pixels_per_cell=(5, 5), cells_per_block=(2, 2),
    feature_vector=False)[::2, ::2]`` to 1e-5, in the same order: block row, block column, cell row, cell column, orientation. Blocks do
    not overlap. How the paper normalises a block is not said; this is L2-Hys, of Dalal & Triggs 2005, which it cites.
    """

    _length = (SIDE // CELL) ** 2 * ORIENTATIONS

    def _describe(self, grey: np.ndarray) -> np.ndarray:
        wide = grey.astype(np.int16)
        down, right = np.zeros_like(wide), np.zeros_like(wide)
        down[:, 1:-1] = wide[:, 2:] - wide[:, :-2]
        right[:, :, 1:-1] = wide[:, :, 2:] - wide[:, :, :-2]
        cell = np.arange(SIDE) // CELL
        place = (cell[:, None] * (SIDE // CELL) + cell) * ORIENTATIONS + np.arange(len(grey))[:, None, None] * self._length
        place += _orientation_table()[down + 255, right + 255]
        length = np.sqrt(np.square(down, dtype=np.float32) + np.square(right, dtype=np.float32))
        cells = np.bincount(place.ravel(), length.ravel(), len(grey) * self._length) / CELL**2
        blocks = cells.astype(np.float32).reshape(-1, GRID, 2, GRID, 2, ORIENTATIONS).swapaxes(2, 3).reshape(-1, 4 * ORIENTATIONS)
        for limit in (0.2, 1):  # scaled to length 1, clipped, and scaled again
            norm = np.sqrt(np.einsum("bv,bv->b", blocks, blocks) + 1e-10)
            blocks = np.minimum(blocks / norm[:, None], limit)
        return blocks

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names such as ``row0_column3_cell01_orientation9``."""
        return _names(("row", GRID), ("column", GRID), ("cell", 4), ("orientation", ORIENTATIONS))


@cache
def _orientation_table() -> np.ndarray:
    """Bin of a gradient by its two differences of pixels, -255 to 255 each: only half a turn counts."""
    step = np.arange(-255.0, 256.0)
    degrees = np.rad2deg(np.arctan2(step[:, None], step)) % 180
    return (degrees // (180 / ORIENTATIONS)).astype(np.uint8)


class GaborDescriptor(_AppearanceDescriptor):
    """Magnitudes of 40 Gabor filters at 10x10 places (Li & Deng 2019, section V-A): 5 scales, 8 orientations, 4,000 values.

    Parameters
    ----------
    n_jobs : int, optional
        Threads, as in scikit-learn; -1 for one a core.

    Notes
    -----
    The filters and what is done with them follow Liu & Wechsler 2002, whom the paper cites and leaves the rest to: magnitudes (see
    :func:`gabor_magnitudes`) are taken at every tenth pixel, and each filter's 100 values are brought to mean 0 and variance 1, so that
    brightness and contrast of a picture do not matter. A filter that sees nothing gives zeros. They stand in the order scale (fine to
    coarse), orientation, row, column.
    """

    _length = SCALES * DIRECTIONS * GRID * GRID

    def _describe(self, grey: np.ndarray) -> np.ndarray:
        values = _magnitude(grey, GRID).reshape(-1, GRID * GRID)
        values -= values.mean(1, keepdims=True)
        deviation = np.sqrt(np.square(values).mean(1, keepdims=True))
        # In single precision a flat image leaves some 1e-5 grey levels.
        return np.where(deviation > 1e-3, values / np.maximum(deviation, 1e-3), 0)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names such as ``scale0_direction7_row0_column9``."""
        return _names(("scale", SCALES), ("direction", DIRECTIONS), ("row", GRID), ("column", GRID))


def gabor_magnitudes(images: np.ndarray, n_jobs: int | None = -1) -> np.ndarray:
    """How strongly each Gabor filter answers at each pixel.

    Parameters
    ----------
    images : uint8 ``[N, 100, 100]`` or ``[N, 100, 100, 3]``
    n_jobs : int, optional
        Threads; -1 for one a core.

    Returns
    -------
    float32 ``[N, 5, 8, 100, 100]``
        By scale, from a wavelength of 4 pixels to one of 16 in steps of the square root of 2, and orientation, in eighths of half a
        turn; 0 is a wave that runs along a row. In grey levels.

    Notes
    -----
    A filter is a complex wave under a round Gaussian envelope whose deviation is one wavelength: sigma = 2 pi and k_max = pi / 2 in the
    terms of Liu & Wechsler 2002, and ``skimage.filters.gabor_kernel(1 / wavelength, theta, sigma_x=wavelength, sigma_y=wavelength)``,
    not cut off at three deviations. Their term that takes the mean out of a wave is 3e-9 here, and left out. The image is mirrored at
    its border, as ``skimage.filters.gabor`` does.
    """
    return _in_batches(lambda grey: _magnitude(grey, SIDE), images, (SCALES, DIRECTIONS, SIDE, SIDE), n_jobs)


@cache
def _waves(samples: int) -> np.ndarray:
    """What a wave along one axis makes of 100 pixels: float32 ``[scale, frequency, (real, imaginary), sample, pixel]``.

    A round envelope and a wave are products of one factor a direction, so a filter is two small matrices. Of the eight orientations'
    factors only five differ in more than sign: the cosines of 0 to 4 eighths of half a turn.
    """
    wavelength = 4 * 2 ** (np.arange(SCALES) / 2)
    # Sample, three mirrored copies of the pixels: no filter reaches further.
    at = np.arange(SIDE // samples // 2, SIDE, SIDE // samples)
    distance = at[:, None] - np.arange(-SIDE, 2 * SIDE)
    envelope = np.exp(-(distance**2) / (2 * wavelength[:, None, None] ** 2)) / (np.sqrt(2 * np.pi) * wavelength[:, None, None])
    frequency = 2 * np.pi / wavelength[:, None] * np.cos(np.pi / DIRECTIONS * np.arange(5))
    wave = envelope[:, None] * np.exp(1j * frequency[:, :, None, None] * distance)
    before, within, after = np.split(wave, 3, axis=-1)
    folded = before[..., ::-1] + within + after[..., ::-1]
    return np.stack([folded.real, folded.imag], axis=2).astype(np.float32)


def _magnitude(grey: np.ndarray, samples: int) -> np.ndarray:
    """Magnitudes ``[B, scale, orientation, samples, samples]``."""
    waves = _waves(samples)
    # Along columns, for all scales and frequencies at once, then along rows.
    down = (waves.reshape(-1, SIDE) @ grey.astype(np.float32)).reshape(len(grey), SCALES, 5, 2 * samples, SIDE)
    out = np.empty((len(grey), SCALES, DIRECTIONS, samples, samples), dtype=np.float32)
    for scale in range(SCALES):
        for turn in range(5):
            both = down[:, scale, 4 - turn] @ waves[scale, turn].reshape(2 * samples, SIDE).T
            real, imaginary = both[:, :samples], both[:, samples:]  # parts of the column's wave; halves of the rest are the row's
            (rr, ri), (ir, ii) = (np.split(part, 2, axis=2) for part in (real, imaginary))
            np.hypot(rr - ii, ri + ir, out=out[:, scale, turn])
            if 0 < turn < 4:  # the same wave running the other way along the row
                np.hypot(rr + ii, ir - ri, out=out[:, scale, DIRECTIONS - turn])
    return out


def _names(*axes: tuple[str, int]) -> np.ndarray:
    names = [""]
    for axis, count in axes:
        names = [f"{name}_{axis}{i}" for name in names for i in range(count)]
    return np.array([name[1:] for name in names], dtype=object)


assert LBPDescriptor._length == 5900 and HOGDescriptor._length == GaborDescriptor._length == 4000
