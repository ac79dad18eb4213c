"""Descriptors: the papers' lengths, scikit-image's values, and scikit-learn's manners."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from conftest import image_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.signal import fftconvolve
from skimage.feature import hog, local_binary_pattern
from skimage.filters import gabor_kernel
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from fer_utils.datasets.base import decode_image
from fer_utils.descriptors import (
    GaborDescriptor,
    HOGDescriptor,
    LBPDescriptor,
    ShapeDescriptor,
    gabor_magnitudes,
    lbp_codes,
    to_grey,
)

LENGTHS = {LBPDescriptor: 5900, HOGDescriptor: 4000, GaborDescriptor: 4000}
RNG = np.random.default_rng(0)


def make_faces() -> np.ndarray:
    """Pictures that differ in what makes descriptors differ: noise, smooth ones, few levels, saturated and flat parts."""
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (3, 100, 100), dtype=np.uint8)
    smooth = np.stack([decode_image(image_bytes(seed, mode="L"), "test", "L") for seed in range(8)])
    levels = (200 + rng.integers(0, 3, (3, 100, 100))).astype(np.uint8)
    clipped = np.clip(3 * smooth[:4].astype(int) - 250, 0, 255).astype(np.uint8)
    ramps = np.stack([np.broadcast_to(np.arange(100), (100, 100)), np.add.outer(np.arange(100), np.arange(100)), np.full((100, 100), 77)])
    steps = smooth[4:] // 32 * 32
    return np.concatenate([noise, smooth, levels, clipped, ramps.astype(np.uint8), steps])


FACES = make_faces()


# -- LBP ------------------------------------------------------------------------------------------------------------------


def reference_codes(images: np.ndarray) -> np.ndarray:
    return np.stack([local_binary_pattern(image, 8, 2, method="nri_uniform") for image in images])


def test_codes_are_those_of_scikit_image():
    codes = lbp_codes(FACES)
    assert codes.dtype == np.uint8 and codes.shape == FACES.shape
    assert np.array_equal(codes, reference_codes(FACES))
    assert set(np.unique(codes)) == set(range(59)), "every code occurs"


@settings(max_examples=15, deadline=None)
@given(patch=arrays(np.uint8, (10, 10), elements=st.integers(0, 255)))
def test_codes_are_those_of_scikit_image_anywhere(patch):
    """The last bit of a place depends on where it is, so the patch is laid all over the face."""
    face = np.tile(patch, (1, 10, 10))
    assert np.array_equal(lbp_codes(face), reference_codes(face))


def test_smooth_skin_needs_the_same_rounding():
    """On a slope a neighbour between pixels equals the centre, and the last bit decides: interpolated otherwise, codes would differ."""
    slope = np.add.outer(np.arange(100), np.arange(100)).astype(np.uint8)
    codes = lbp_codes(np.stack([slope, slope[::-1]]))
    assert np.array_equal(codes, reference_codes(np.stack([slope, slope[::-1]])))
    assert len(np.unique(codes[0, 4:-4, 4:-4])) > 1, "the same slope everywhere, but not the same code"


def test_lbp_histograms():
    values = LBPDescriptor().transform(FACES).reshape(-1, 10, 10, 59)
    codes = lbp_codes(FACES)
    np.testing.assert_allclose(values.sum(-1), 1, rtol=1e-5)
    for row, column in ((0, 0), (3, 7), (9, 4)):
        region = codes[:, 10 * row : 10 * row + 10, 10 * column : 10 * column + 10].reshape(len(codes), -1)
        expected = np.stack([np.bincount(part, minlength=59) / 100 for part in region])
        np.testing.assert_allclose(values[:, row, column], expected, atol=1e-7)


# -- HOG ------------------------------------------------------------------------------------------------------------------


def reference_hog(image: np.ndarray) -> np.ndarray:
    blocks = hog(image, orientations=10, pixels_per_cell=(5, 5), cells_per_block=(2, 2), feature_vector=False)
    return blocks[::2, ::2].ravel()


def test_hog_is_that_of_scikit_image():
    values = HOGDescriptor().transform(FACES)
    np.testing.assert_allclose(values, np.stack([reference_hog(face) for face in FACES]), atol=1e-5, rtol=0)
    assert values.max() > 0.3, "not all zero"


@settings(max_examples=10, deadline=None)
@given(patch=arrays(np.uint8, (10, 10), elements=st.integers(0, 255)))
def test_hog_is_that_of_scikit_image_for_any_gradient(patch):
    face = np.tile(patch, (10, 10))
    np.testing.assert_allclose(HOGDescriptor().transform(face[None])[0], reference_hog(face), atol=1e-5, rtol=0)


def test_hog_blocks_do_not_overlap():
    """A change within one block leaves all others alone, but for gradients that look one pixel across."""
    face = FACES[4].copy()
    face[43:47, 63:67] += 30
    change = np.abs(HOGDescriptor().transform(np.stack([FACES[4], face])).reshape(2, 10, 10, 40))
    changed = np.abs(change[1] - change[0]).max(-1) > 1e-6
    assert changed[4, 6] and changed.sum() == 1


# -- Gabor ----------------------------------------------------------------------------------------------------------------


def reference_gabor(images: np.ndarray, scale: int, turn: int) -> np.ndarray:
    """Magnitudes by convolution with scikit-image's kernel, on mirrored images."""
    wavelength = 4 * 2 ** (scale / 2)
    kernel = gabor_kernel(1 / wavelength, np.pi * turn / 8, sigma_x=wavelength, sigma_y=wavelength, n_stds=6)
    rows, columns = (side // 2 for side in kernel.shape)
    mirrored = np.pad(images.astype(float), ((0, 0), (rows, rows), (columns, columns)), mode="symmetric")
    return np.abs(fftconvolve(mirrored, kernel[None], mode="valid"))


@pytest.mark.parametrize("scale", range(5))
def test_magnitudes_are_those_of_scikit_image(scale):
    faces = FACES[[0, 4, 14]]
    ours = gabor_magnitudes(faces)
    assert ours.shape == (3, 5, 8, 100, 100)
    for turn in range(8):
        np.testing.assert_allclose(ours[:, scale, turn], reference_gabor(faces, scale, turn), atol=2e-3, rtol=0)


def test_gabor_samples_magnitudes():
    faces = FACES[:6]
    sampled = gabor_magnitudes(faces)[:, :, :, 5::10, 5::10].reshape(6, 40, 100)
    expected = (sampled - sampled.mean(-1, keepdims=True)) / sampled.std(-1, keepdims=True)
    np.testing.assert_allclose(GaborDescriptor().transform(faces).reshape(6, 40, 100), expected, atol=5e-3)


def test_gabor_sees_the_direction_of_a_grating():
    """A wave along rows excites orientation 0 most, one along columns orientation 4, at the scale of its length."""
    wave = 128 + 100 * np.sin(2 * np.pi * np.arange(100) / 8)
    along_rows = np.broadcast_to(wave, (100, 100)).astype(np.uint8)
    magnitudes = gabor_magnitudes(np.stack([along_rows, along_rows.T])).mean((3, 4))
    assert np.unravel_index(magnitudes[0].argmax(), (5, 8)) == (2, 0)
    assert np.unravel_index(magnitudes[1].argmax(), (5, 8)) == (2, 4)


def test_gabor_ignores_contrast():
    weak = (60 + FACES[5] // 2 // 2 * 2 // 2).astype(np.uint8)
    strong = ((weak - 60) * 3).astype(np.uint8)
    weak, strong = GaborDescriptor().transform(np.stack([weak, strong]))
    np.testing.assert_allclose(weak, strong, atol=5e-3)


def test_gabor_of_a_flat_face_is_zero():
    assert not GaborDescriptor().transform(np.full((2, 100, 100), 200, dtype=np.uint8)).any()


# -- shape ----------------------------------------------------------------------------------------------------------------


def test_shape_is_equation_6():
    points = RNG.normal(50, 20, (30, 37, 2))
    descriptor = ShapeDescriptor().fit(points)
    values = descriptor.transform(points).reshape(30, 666, 2)
    pairs = [(i, j) for i in range(37) for j in range(i + 1, 37)]
    for p, k in ((0, 0), (100, 1), (665, 1)):
        i, j = pairs[p]
        f = points[:, i, k] - points[:, j, k]
        expected = ((f - f.mean()) / (2 * f.std()) + 1) / 2
        np.testing.assert_allclose(values[:, p, k], expected.clip(0, 1), atol=1e-6)
    assert values.min() == 0 and values.max() == 1, "something was cut off"
    name = descriptor.get_feature_names_out()[2 * 100 + 1]
    assert name == "y{}-y{}".format(*pairs[100])


def test_shape_learns_from_training_faces_only():
    train, test = RNG.normal(50, 5, (40, 37, 2)), RNG.normal(90, 30, (40, 37, 2))
    alone = ShapeDescriptor().fit(train).transform(test)
    assert np.array_equal(alone[:3], ShapeDescriptor().fit(train).transform(test[:3])), "other test faces play no part"
    assert not np.allclose(alone, ShapeDescriptor().fit(np.concatenate([train, test])).transform(test))


@pytest.mark.parametrize(("points", "length"), [(37, 1332), (68, 4556), (2, 2)])
def test_shape_has_the_papers_length(points, length):
    marks = RNG.normal(size=(5, points, 2))
    descriptor = ShapeDescriptor(points)
    assert descriptor.fit_transform(marks).shape == (5, length)
    assert len(set(descriptor.get_feature_names_out())) == length


def test_shape_does_not_care_where_a_face_is():
    marks = RNG.normal(50, 10, (6, 37, 2))
    shifted = marks + RNG.normal(0, 20, (6, 1, 2))
    np.testing.assert_allclose(ShapeDescriptor().fit(marks).transform(shifted), ShapeDescriptor().fit_transform(marks), atol=1e-6)


def test_shape_of_points_that_never_move():
    marks = np.broadcast_to(RNG.normal(size=(1, 37, 2)), (4, 37, 2))
    np.testing.assert_allclose(ShapeDescriptor().fit_transform(marks), 0.5)


@pytest.mark.parametrize("shape", [(3, 68, 2), (37, 2), (3, 37, 3)], ids=str)
def test_bad_input_points(shape):
    with pytest.raises(ValueError, match=r"landmarks must be \[N, 37, 2\], got"):
        ShapeDescriptor().fit(np.zeros(shape))


def test_bad_input_points_not_finite():
    marks = np.zeros((3, 37, 2))
    marks[1, 5, 0] = np.nan
    with pytest.raises(ValueError, match="face 1 has a point that is not"):
        ShapeDescriptor().fit(marks)


def test_bad_input_no_points():
    with pytest.raises(ValueError, match="at least one face"):
        ShapeDescriptor().fit(np.zeros((0, 37, 2)))


# -- what appearance descriptors share ------------------------------------------------------------------------------------


@pytest.mark.parametrize("descriptor", LENGTHS, ids=lambda d: d.__name__)
def test_lengths_and_names(descriptor):
    values = descriptor().transform(FACES[:2])
    assert values.shape == (2, LENGTHS[descriptor]) and values.dtype == np.float32
    names = descriptor().get_feature_names_out()
    assert len(names) == len(set(names)) == LENGTHS[descriptor]


@pytest.mark.parametrize("descriptor", LENGTHS, ids=lambda d: d.__name__)
def test_neither_batch_nor_threads_matter(descriptor):
    faces = np.resize(FACES, (37, 100, 100))
    together = descriptor(n_jobs=2).transform(faces)
    apart = np.concatenate([descriptor(n_jobs=None).transform(face[None]) for face in faces[:20]])
    np.testing.assert_allclose(together[:20], apart, atol=2e-3 if descriptor is GaborDescriptor else 0)
    assert descriptor().transform(faces[:0]).shape == (0, LENGTHS[descriptor])


@pytest.mark.parametrize("descriptor", LENGTHS, ids=lambda d: d.__name__)
def test_colour_counts_by_its_luminance(descriptor):
    colour = RNG.integers(0, 256, (2, 100, 100, 3), dtype=np.uint8)
    assert np.array_equal(descriptor().transform(colour), descriptor().transform(to_grey(colour)))


def test_grey():
    colour = RNG.integers(0, 256, (3, 8, 9, 3), dtype=np.uint8)
    luminance = 0.299 * colour[..., 0] + 0.587 * colour[..., 1] + 0.114 * colour[..., 2]
    assert np.abs(to_grey(colour) - luminance).max() <= 0.5 + 1e-9
    assert np.array_equal(to_grey(np.repeat(FACES[..., None], 3, axis=-1)), FACES)
    assert to_grey(FACES) is FACES


@pytest.mark.parametrize("descriptor", [*LENGTHS, ShapeDescriptor], ids=lambda d: d.__name__)
def test_manners_of_a_transformer(descriptor):
    X = RNG.normal(50, 10, (12, 37, 2)) if descriptor is ShapeDescriptor else FACES[:12]
    y = np.arange(12) % 2
    pipeline = make_pipeline(clone(descriptor()), SVC(kernel="linear")).fit(X, y)
    again = pickle.loads(pickle.dumps(pipeline))
    assert np.array_equal(again.predict(X), pipeline.predict(X))
    assert np.array_equal(pipeline[0].transform(X), again[0].transform(X))
    assert set(descriptor().get_params()) == ({"points"} if descriptor is ShapeDescriptor else {"n_jobs"})


@pytest.mark.parametrize("descriptor", LENGTHS, ids=lambda d: d.__name__)
@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((2, 48, 48), np.uint8, r"aligned, 100x100 pixels, got 48x48"),
        ((2, 100, 90, 3), np.uint8, r"aligned, 100x100 pixels, got 90x100"),
        ((2, 100, 100), np.float32, r"uint8 \[N, H, W\].*got float32"),
        ((100, 100), np.uint8, r"uint8 \[N, H, W\].*\[100, 100\]"),
        ((2, 3, 100, 100), np.uint8, r"uint8 \[N, H, W\].*\[2, 3, 100, 100\]"),
    ],
    ids=["small", "not square", "float", "one image", "channels first"],
)
def test_bad_input_images(descriptor, shape, dtype, message):
    with pytest.raises(ValueError, match=message):
        descriptor().transform(np.zeros(shape, dtype=dtype))


def test_bad_input_pictures():
    for function in (lbp_codes, gabor_magnitudes):
        with pytest.raises(ValueError, match="got 48x48"):
            function(np.zeros((1, 48, 48), dtype=np.uint8))
