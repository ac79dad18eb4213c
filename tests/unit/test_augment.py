"""Batched augmentation gives what torchvision gives image by image, and each image its own draw."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision.transforms.functional as reference
from torchvision.transforms import InterpolationMode, TenCrop

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


def test_jaffe_becomes_1065() -> None:
    images = pictures((213, 16, 16), torch.float32)
    many = augment.augment_jaffe(images, seeded())
    assert many.shape == (1065, 16, 16)
    original, mirror, left, right, noisy = many.unflatten(0, (213, 5)).unbind(1)
    assert torch.equal(original, images) and torch.equal(mirror, images.flip(-1))
    for turned, angle in ((left, 5), (right, -5)):
        torch.testing.assert_close(turned, torch.stack([reference.rotate(i[None], angle, InterpolationMode.BILINEAR)[0] for i in images]))
    assert torch.equal(noisy, augment.add_noise(images, 0.01, seeded()))


def test_noise_has_its_variance_and_stays_in_range() -> None:
    grey = torch.full((50, 40, 40), 0.5)
    noise = augment.add_noise(grey, 0.01, seeded()) - grey
    assert abs(noise.mean()) < 0.002 and noise.var().item() == pytest.approx(0.01, rel=0.03)
    assert not torch.equal(noise[0], noise[1])
    coded = augment.add_noise(torch.full((50, 40, 40), 128, dtype=torch.uint8), 0.01, seeded())
    assert coded.dtype == torch.uint8 and (coded.float() / 255).var().item() == pytest.approx(0.01, rel=0.03)
    edge = augment.add_noise(pictures((20, 20, 20), torch.float32), 0.5, seeded())
    assert edge.min() == 0 and edge.max() == 1
    ends = augment.add_noise(torch.tensor([0, 255], dtype=torch.uint8).repeat(1000, 1, 1), 0.01, seeded())
    assert ends[..., 0].max() < 140 and ends[..., 1].min() > 115, "clipped, not wrapped round"


DRAWS = [lambda x, g: augment.random_crop(x, 12, g), lambda x, g: augment.random_flip(x, generator=g), augment.augment_jaffe]


@pytest.mark.parametrize("draw", DRAWS, ids=["crop", "flip", "jaffe"])
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


# -- rotations -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_fourteen_of_each(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    images = pictures(shape, dtype)
    many = augment.rotate_and_flip(images)
    assert many.shape == (14 * 6, *shape[1:]) and many.dtype == dtype
    assert sorted(augment.ROTATIONS) == [-15, -10, -5, 0, 5, 10, 15]
    for i, image in enumerate(images):
        plane = image if image.ndim == 3 else image[None]
        turned = [reference.rotate(plane, angle, InterpolationMode.BILINEAR) if angle else plane for angle in augment.ROTATIONS]
        expected = torch.stack([*turned, *map(reference.hflip, turned)]).view(14, *shape[1:])
        # a byte that lies half-way between two may be rounded to either
        torch.testing.assert_close(many[14 * i : 14 * (i + 1)], expected, rtol=0, atol=1 if dtype == torch.uint8 else 1e-5)
        assert torch.equal(many[14 * i], image)


def test_each_image_is_turned_by_its_own_angle() -> None:
    images = pictures((4, 1, 19, 19))
    turned = augment.rotate(images, torch.tensor([0.0, 90.0, 180.0, -90.0]))
    expected = [image.rot90(quarters, (1, 2)) for image, quarters in zip(images, (0, 1, 2, -1), strict=True)]
    assert torch.equal(turned, torch.stack(expected))


def test_all_fourteen_are_drawn() -> None:
    image = pictures((1, 1, 20, 20))
    many = augment.rotate_and_flip(image)  # [14, 1, 20, 20]
    drawn = augment.random_rotate_and_flip(image.expand(1400, -1, -1, -1), seeded())
    found = (drawn[:, None] == many).flatten(2).all(2)  # [1400, 14]
    assert (found.sum(1) == 1).all() and (found.sum(0) - 100).abs().max() < 50


def test_a_seed_repeats_turns_and_the_input_stays() -> None:
    images = pictures((64, 20, 20))
    before = images.clone()
    first, again, other = (augment.random_rotate_and_flip(images, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other) and torch.equal(images, before)


def test_no_image_is_turned_without_error() -> None:
    none = pictures((0, 3, 20, 20))
    assert augment.random_rotate_and_flip(none).shape == augment.rotate_and_flip(none).shape == none.shape


def test_one_angle_each() -> None:
    with pytest.raises(ValueError, match="one angle each"):
        augment.rotate(pictures((2, 20, 20)), torch.zeros(3))
