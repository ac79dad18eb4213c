"""Batched rotation gives what torchvision gives image by image, and each image its own draw."""

from __future__ import annotations

import pytest
import torch
import torchvision.transforms.functional as reference
from torchvision.transforms import InterpolationMode

from fer_utils import rotation

SHAPES = [(6, 20, 20), (6, 3, 20, 24), (6, 1, 21, 18)]


def pictures(shape: tuple[int, ...], dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return images if dtype == torch.uint8 else images.to(dtype) / 255


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=[torch.uint8, torch.float32], ids=["uint8", "float"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.mark.parametrize("shape", SHAPES)
def test_fourteen_of_each(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    images = pictures(shape, dtype)
    many = rotation.rotate_and_flip(images)
    assert many.shape == (14 * 6, *shape[1:]) and many.dtype == dtype
    assert sorted(rotation.ROTATIONS) == [-15, -10, -5, 0, 5, 10, 15]
    for i, image in enumerate(images):
        plane = image if image.ndim == 3 else image[None]
        turned = [reference.rotate(plane, angle, InterpolationMode.BILINEAR) if angle else plane for angle in rotation.ROTATIONS]
        expected = torch.stack([*turned, *map(reference.hflip, turned)]).view(14, *shape[1:])
        # a byte that lies half-way between two may be rounded to either
        torch.testing.assert_close(many[14 * i : 14 * (i + 1)], expected, rtol=0, atol=1 if dtype == torch.uint8 else 1e-5)
        assert torch.equal(many[14 * i], image)


def test_each_image_is_turned_by_its_own_angle() -> None:
    images = pictures((4, 1, 19, 19))
    turned = rotation.rotate(images, torch.tensor([0.0, 90.0, 180.0, -90.0]))
    expected = [image.rot90(quarters, (1, 2)) for image, quarters in zip(images, (0, 1, 2, -1), strict=True)]
    assert torch.equal(turned, torch.stack(expected))


def test_all_fourteen_are_drawn() -> None:
    image = pictures((1, 1, 20, 20))
    many = rotation.rotate_and_flip(image)  # [14, 1, 20, 20]
    drawn = rotation.random_rotate_and_flip(image.expand(1400, -1, -1, -1), seeded())
    found = (drawn[:, None] == many).flatten(2).all(2)  # [1400, 14]
    assert (found.sum(1) == 1).all() and (found.sum(0) - 100).abs().max() < 50


def test_a_seed_repeats_and_the_input_stays() -> None:
    images = pictures((64, 20, 20))
    before = images.clone()
    first, again, other = (rotation.random_rotate_and_flip(images, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other) and torch.equal(images, before)


def test_no_image_is_no_error() -> None:
    none = pictures((0, 3, 20, 20))
    assert rotation.random_rotate_and_flip(none).shape == rotation.rotate_and_flip(none).shape == none.shape


def test_wrong_parameters() -> None:
    with pytest.raises(ValueError, match="one angle each"):
        rotation.rotate(pictures((2, 20, 20)), torch.zeros(3))
