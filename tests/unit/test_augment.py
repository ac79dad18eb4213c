"""Batched augmentation gives what torchvision gives image by image, and each image its own draw."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision.transforms.functional as reference
from torchvision.transforms import TenCrop

from fer_utils import augment

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
@pytest.mark.parametrize("size", [16, (18, 11), (15, 18)])
def test_crops_are_torchvisions(shape: tuple[int, ...], size: int | tuple[int, int], dtype: torch.dtype) -> None:
    images = pictures(shape, dtype)
    height, width = (size, size) if isinstance(size, int) else size
    draws = seeded()
    tops = torch.randint(shape[-2] - height + 1, (6,), generator=draws)
    lefts = torch.randint(shape[-1] - width + 1, (6,), generator=draws)
    expected = torch.stack([reference.crop(i, int(t), int(le), height, width) for i, t, le in zip(images, tops, lefts, strict=True)])
    assert torch.equal(augment.random_crop(images, size, seeded()), expected)
    assert torch.equal(augment.crop(images.transpose(-1, -2).contiguous().transpose(-1, -2), tops, lefts, size), expected)


@pytest.mark.parametrize(("side", "size"), [(100, 90), (100, 80), (48, 40)])
def test_every_place_is_drawn_equally_often(side: int, size: int) -> None:
    room = side - size + 1
    images = (torch.arange(side)[:, None] * side + torch.arange(side)).float().expand(4000, side, side)
    first = augment.random_crop(images, size, seeded())[:, 0, 0].long()
    for offsets in (first // side, first % side):
        counts = torch.bincount(offsets, minlength=room)
        assert len(counts) == room and (counts - 4000 / room).abs().max() < 5 * (4000 / room) ** 0.5
    assert (first // side != first % side).any() and len(first.unique()) > room, "rows and columns are drawn apart"


@pytest.mark.parametrize("shape", SHAPES)
def test_flips_are_torchvisions(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    images = pictures(shape, dtype)
    mask = torch.rand(6, generator=seeded()) < 0.5
    assert mask.any() and not mask.all()
    expected = torch.stack([reference.hflip(i) if m else i for i, m in zip(images, mask, strict=True)])
    assert torch.equal(augment.random_flip(images, generator=seeded()), expected)
    assert torch.equal(augment.random_flip(images, 1.0), images.flip(-1)) and torch.equal(augment.random_flip(images, 0.0), images)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [13, (16, 11), (17, 18)])
def test_center_and_ten_crop_are_torchvisions(shape: tuple[int, ...], size: int | tuple[int, int], dtype: torch.dtype) -> None:
    images = pictures(shape, dtype)
    assert torch.equal(augment.center_crop(images, size), torch.stack([reference.center_crop(i, size) for i in images]))
    ten = augment.ten_crop(images, size)
    assert torch.equal(ten, torch.stack([torch.stack(TenCrop(size)(i)) for i in images]))
    average = ten.flatten(0, 1).float().flatten(1).mean(1).unflatten(0, (-1, 10)).mean(1)
    torch.testing.assert_close(average, ten.float().flatten(1).mean(1))


DRAWS = [lambda x, g: augment.random_crop(x, 12, g), lambda x, g: augment.random_flip(x, generator=g)]


@pytest.mark.parametrize("draw", DRAWS, ids=["crop", "flip"])
def test_a_seed_repeats_and_the_input_stays(draw: Callable[[torch.Tensor, torch.Generator], torch.Tensor]) -> None:
    images = pictures((64, 20, 20))
    before = images.clone()
    assert torch.equal(draw(images, seeded(1)), draw(images, seeded(1)))
    assert not torch.equal(draw(images, seeded(1)), draw(images, seeded(2)))
    assert torch.equal(images, before)


def test_no_image_is_no_error() -> None:
    none = pictures((0, 3, 20, 20))
    assert augment.random_crop(none, 16).shape == (0, 3, 16, 16) and augment.random_flip(none).shape == none.shape
    assert augment.ten_crop(none, 16).shape == (0, 10, 3, 16, 16)


@pytest.mark.parametrize("size", [0, 21, (20, 21), (21, 20)])
def test_a_crop_must_fit(size: int | tuple[int, int]) -> None:
    for cut in (augment.random_crop, augment.center_crop, augment.ten_crop):
        with pytest.raises(ValueError, match="does not fit images"):
            cut(pictures((2, 20, 20)), size)


def test_wrong_parameters() -> None:
    images = pictures((2, 20, 20))
    for tops in ([0, 5], [-1, 0], [0]):
        with pytest.raises(ValueError, match="windows of 16x16 need 2 tops up to 4"):
            augment.crop(images, torch.tensor(tops), torch.zeros(2, dtype=torch.int64), 16)
    for mask in (torch.ones(2), torch.ones(3, dtype=torch.bool)):
        with pytest.raises(ValueError, match="one bool each"):
            augment.flip(images, mask)
