import numpy as np
import pytest
import torch

from fer_utils.augment import center_crop
from fer_utils.papers.daf_cnn.augment import CropAndFlip
from fer_utils.papers.daf_cnn.backend import keras

#: Each pixel knows its row and column.
IMAGES = np.broadcast_to(np.stack(np.mgrid[:9, :11], -1).astype("float32"), (400, 9, 11, 2))


def test_windows_are_whole_and_of_each_image_alone():
    found = keras.ops.convert_to_numpy(CropAndFlip(8, seed=0)(IMAGES, training=True))
    assert found.shape == (400, 8, 8, 2)
    np.testing.assert_array_equal(np.diff(found[..., 0], axis=1), 1)
    steps = np.diff(found[..., 1], axis=2)
    mirrored = steps[:, 0, 0] == -1
    np.testing.assert_array_equal(steps, np.where(mirrored, -1, 1)[:, None, None] * np.ones_like(steps))
    places = np.stack([found[:, 0, 0, 0], np.minimum(found[:, 0, 0, 1], found[:, 0, -1, 1]), mirrored], 1)
    _, counts = np.unique(places, axis=0, return_counts=True)
    assert len(counts) == 2 * 4 * 2 and counts.min() > 8 and counts.max() < 50, "25 expected of each"


def test_outside_training_the_middle_is_cut_out():
    for size in (8, 7, 9):
        found = keras.ops.convert_to_numpy(CropAndFlip(size)(IMAGES[:2]))
        wanted = center_crop(torch.tensor(IMAGES[:2]).permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)
        np.testing.assert_array_equal(found, wanted.numpy())


def test_a_seed_is_a_sequence():
    first, second, other = CropAndFlip(7, 1), CropAndFlip(7, 1), CropAndFlip(7, 2)
    once, again = (keras.ops.convert_to_numpy(layer(IMAGES[:20], training=True)) for layer in (first, second))
    np.testing.assert_array_equal(once, again)
    for layer in (first, other):
        assert not np.array_equal(once, keras.ops.convert_to_numpy(layer(IMAGES[:20], training=True)))
    assert CropAndFlip.from_config(first.get_config()).get_config() == first.get_config()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CropAndFlip(10)(IMAGES), r"a window of 10x10 needs images \[B, H, W, C\] at least as large, got \[400, 9, 11, 2\]"),
        (lambda: CropAndFlip(3)(IMAGES[0]), r"a window of 3x3 needs images \[B, H, W, C\]"),
        (lambda: CropAndFlip(0), r"a window needs a side of at least 1 pixel, got 0"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
