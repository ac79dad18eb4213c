"""Pointing and overlap on regions that are known."""

import numpy as np
import pytest

from fer_utils.datasets.base import FaceDataset
from fer_utils.papers.ws_lgan.localisation import compute_overlap, find_regions, make_template, point_at


def masks():
    """Four faces of 8x8: eyes above, mouth below; the eyes of the last are covered."""
    found = np.ones((4, 8, 8), dtype=np.uint8)
    found[:3, 1, 1:7], found[:3, 2, 1:7], found[:, 6, 2:6] = 2, 3, 5
    return found


def faces(known=True):
    names = np.array(["a", "b", "c", "d"])
    images = np.zeros((4, 8, 8), dtype=np.uint8)
    return FaceDataset("toy", images, np.zeros(4, int), ("face",), names, np.full(4, "test"), masks=masks() if known else None)


def lit(*pixels, side=4):
    maps = np.zeros((len(pixels), side, side), dtype=np.float32)
    for row, (down, right) in zip(maps, pixels, strict=True):
        row[down, right] = 1
    return maps


def test_regions_are_what_the_attributes_describe():
    eyes, mouth = (find_regions(faces(), part) for part in ("eyes", "mouth"))
    assert eyes.sum((1, 2)).tolist() == [12, 12, 12, 0] and mouth.sum((1, 2)).tolist() == [4] * 4


def test_the_maximum_hits_or_misses():
    eyes = find_regions(faces(), "eyes")
    found = point_at(lit((0, 1), (0, 2), (3, 1), (0, 1)), eyes)
    assert found[:3].tolist() == [1, 1, 0] and np.isnan(found[3]), "what is covered is not counted"
    assert point_at(lit((0, 1)), eyes)[:3].tolist() == [1, 1, 1], "a template is asked of every face"


def test_overlap_is_that_of_whole_pixels():
    mouth = find_regions(faces(), "mouth")
    maps = np.where(mouth, 0.8, 0.3).astype(np.float32)
    maps[0, 5, 2:6] = 0.6  # four pixels too many
    found = compute_overlap(maps, mouth, (0.2, 0.5, 0.7, 0.9))
    np.testing.assert_allclose(found, [[4 / 64, 0.5, 1, 0], *[[4 / 64, 1, 1, 0]] * 3])
    assert np.isnan(compute_overlap(maps, find_regions(faces(), "eyes"), (0.5,))[3, 0])


def test_a_template_is_the_mean_place():
    template = make_template(find_regions(faces(), "eyes"))
    assert template.max() == 1 and (template > 0).sum() == 12
    np.testing.assert_allclose(compute_overlap(template[None], find_regions(faces(), "eyes"), (0.5,))[:3, 0], 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: find_regions(faces(), "nose"), r"part must be one of eyes, mouth, got 'nose'"),
        (lambda: find_regions(faces(known=False), "eyes"), r"toy has no masks; expected FACSynth's faces, loaded with masks=True"),
        (lambda: make_template(np.zeros((3, 4, 4), dtype=bool)), r"a template needs a face on which the part is seen, got none"),
        (lambda: point_at(lit((0, 0), (1, 1)), masks() == 2), r"with regions \[N, H, W\], got \[2, 4, 4\] and \[4, 8, 8\]"),
    ],
)
def test_errors_say_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
