"""Pointing and overlap on regions that are known."""

import numpy as np
import pytest
import torch

from fer_utils import localisation
from fer_utils.datasets.base import FaceDataset
from fer_utils.localisation import (
    compute_grad_cam,
    compute_overlap,
    find_regions,
    follow_removal,
    make_centred_gaussian,
    make_template,
    match_overlap,
    measure_energy,
    measure_mean,
    point_at,
)


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


# -- energy, overlap at the region's size ------------------------------------------------------------------------------


def test_a_map_equal_to_the_truth_is_inside():
    mouth = find_regions(faces(), "mouth")
    np.testing.assert_array_equal(measure_energy(mouth.astype(float), mouth), 1)
    np.testing.assert_array_equal(measure_energy((~mouth).astype(float), mouth), 0)
    np.testing.assert_array_equal(point_at(mouth.astype(float), mouth), 1)
    np.testing.assert_array_equal(match_overlap(mouth.astype(float), mouth), 1)
    np.testing.assert_array_equal(match_overlap(-mouth.astype(float), mouth), 0)
    np.testing.assert_allclose(measure_mean(np.where(mouth, 0.5, -0.5), mouth), 0.5)


def test_an_even_map_has_the_share_of_the_area_and_what_is_below_0_counts_as_0():
    eyes = find_regions(faces(), "eyes")
    np.testing.assert_allclose(measure_energy(np.ones((1, 4, 4)), eyes)[:3], 12 / 64)
    assert np.isnan(measure_energy(np.ones((1, 4, 4)), eyes)[3]), "covered"
    assert np.isnan(measure_energy(-np.ones((1, 4, 4)), eyes)).all(), "nothing is above 0"
    np.testing.assert_allclose(measure_energy(np.where(eyes, 1.0, -3.0), eyes)[:3], 1)


def test_other_regions_by_their_codes():
    brows = find_regions(faces(), "brows", {"brows": (2,)})
    assert brows.sum((1, 2)).tolist() == [6, 6, 6, 0]


def test_the_centred_gaussian_is_highest_in_the_middle():
    found = make_centred_gaussian(8, 8, 0.25)
    assert np.unravel_index(found.argmax(), (8, 8)) == (3, 3)
    np.testing.assert_allclose(found, found[::-1, ::-1])
    assert found[3, 0] == pytest.approx(np.exp(-(0.25**2 + 1.75**2) / 2), rel=1e-5)
    with pytest.raises(ValueError, match="spread must be above 0, got 0"):
        make_centred_gaussian(8, 8, 0)


# -- a network that looks at one place ---------------------------------------------------------------------------------


def looks_at_corner(images):
    """The first class, if the upper left quarter is bright."""
    bright = images[:, 0, :4, :4].mean((1, 2))
    return torch.stack([10 * bright, 5 + 0 * bright], 1)


def corner_image():
    images = torch.zeros(1, 3, 8, 8)
    images[:, :, :4, :4] = 1
    return images


def test_curves_of_a_map_that_knows_and_of_one_that_is_wrong(monkeypatch):
    monkeypatch.setattr(localisation, "_BLURRED", 1)  # the blurred image is grey all over
    good, bad = np.zeros((1, 2, 2)), np.ones((1, 2, 2))
    good[0, 0, 0], bad[0, 0, 0] = 1, 0
    maps = {"good": good, "bad": bad}
    answers = {name: follow_removal(looks_at_corner, corner_image(), each, 4)[0] for name, each in maps.items()}
    whole, without = (float(torch.tensor([10 * x, 5.0]).softmax(0)[0]) for x in (1, 0.25))
    np.testing.assert_allclose(answers["good"], [whole, without, without, without, without], rtol=1e-5)
    np.testing.assert_allclose(answers["bad"], [whole, whole, whole, whole, without], rtol=1e-5)
    back = follow_removal(looks_at_corner, corner_image(), good, 4, insert=True)[0]
    np.testing.assert_allclose(back, [without, whole, whole, whole, whole], rtol=1e-5)
    with pytest.raises(ValueError, match=r"expected maps \[1, h, w\] and 1 step or more"):
        follow_removal(looks_at_corner, corner_image(), good, 0)


def test_grad_cam_is_the_channel_that_speaks_for_the_class():
    maps = torch.rand(2, 2, 4, 4)
    found = compute_grad_cam(lambda x: x.mean((2, 3)), maps, torch.tensor([0, 1]))
    # the gradient of a mean is one over the places, of the channel's own class
    torch.testing.assert_close(found, torch.stack([maps[0, 0], maps[1, 1]]) / 16)
    by_itself = compute_grad_cam(lambda x: x.mean((2, 3)) * torch.tensor([1.0, 100.0]), maps)
    torch.testing.assert_close(by_itself, maps[:, 1] * 100 / 16)
    against = compute_grad_cam(lambda x: -x.mean((2, 3)), maps, torch.tensor([0, 1]))
    assert (against == 0).all(), "what speaks against it is left out"
