"""Augmentation of whole batches on torch tensors, each image with its own draw.

Images are ``[B, H, W]`` or ``[B, C, H, W]``, uint8 or float, and keep their type; every function gives a new tensor of the same
number of axes unless it says otherwise. The same parameters give what torchvision's transforms give image by image. Draws are
made on the generator's device, the CPU without one, so that a seed gives the same images wherever these are.

Apart from :mod:`~fer_utils.preprocess` because that is imported with the datasets, which do not need torch.
"""

from __future__ import annotations

import torch
from torch.nn.functional import grid_sample

__all__ = [
    "ROTATIONS", "add_noise", "augment_jaffe", "center_crop", "crop", "flip", "random_crop", "random_flip", "random_rotate_and_flip",
    "rotate", "rotate_and_flip", "ten_crop",
]

#: Degrees, counter-clockwise, of Zhang, Su & Wang 2020, section IV-B; 0 is the image itself.
ROTATIONS = (0, -15, -10, -5, 5, 10, 15)


def _check(images: torch.Tensor, size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of a crop that fits."""
    height, width = (size, size) if isinstance(size, int) else size
    if images.ndim not in (3, 4) or not (0 < height <= images.shape[-2] and 0 < width <= images.shape[-1]):
        raise ValueError(f"a crop of {height}x{width} (height x width) does not fit images of shape {list(images.shape)}")
    return height, width


def _device(generator: torch.Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device


def crop(images: torch.Tensor, top: torch.Tensor, left: torch.Tensor, size: int | tuple[int, int]) -> torch.Tensor:
    """Cut a window of one size out of each image, at its own place.

    Parameters
    ----------
    images : ``[B, H, W]`` or ``[B, C, H, W]``
    top, left : int64 ``[B]``
        The window's first row and column, in pixels.
    size : int or (int, int)
        Side, or height and width.

    Returns
    -------
    ``[B, h, w]`` or ``[B, C, h, w]``

    Raises
    ------
    ValueError
        If a window reaches over the border.
    """
    height, width = _check(images, size)
    batch, rows, columns = len(images), *images.shape[-2:]
    # Draws are read where they were made, which is the CPU as a rule; on a GPU they would have to be waited for.
    if top.shape != (batch,) or left.shape != (batch,) or ((top < 0) | (top > rows - height) | (left < 0) | (left > columns - width)).any():
        raise ValueError(f"windows of {height}x{width} need {batch} tops up to {rows - height} and lefts up to {columns - width}")
    if not batch:
        return images.new_empty((*images.shape[:-2], height, width))
    top, left = (places.to(images.device, non_blocking=True) for places in (top, left))
    # A row of a window is a run of pixels in memory: copy runs, for that is several times faster than indexing pixels.
    flat = images.contiguous().flatten()
    runs = flat.as_strided((flat.numel() - width + 1, width), (1, 1))
    planes = torch.arange(images[..., 0, 0].numel(), device=images.device).view(batch, -1, 1) * rows
    start = (planes + top.view(-1, 1, 1) + torch.arange(height, device=images.device)) * columns + left.view(-1, 1, 1)
    return runs.index_select(0, start.flatten()).view(*images.shape[:-2], height, width)


def flip(images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mirror some images left to right.

    Parameters
    ----------
    images : ``[B, H, W]`` or ``[B, C, H, W]``
    mask : bool ``[B]``
        Which to mirror.

    Raises
    ------
    ValueError
        If there is not one bool per image.
    """
    if images.ndim not in (3, 4) or mask.shape != (len(images),) or mask.dtype != torch.bool:
        raise ValueError(f"images of shape {list(images.shape)} need one bool each, got {mask.dtype} {list(mask.shape)}")
    if not len(images):
        return images.clone()
    # Image by image: on a CPU this is several times faster than indexing with the mask or choosing pixels from both. On a GPU it is a
    # launch for each mirrored image, and no wait where the mask was drawn on the CPU.
    return torch.stack([image.flip(-1) if turn else image for image, turn in zip(images.unbind(), mask.tolist(), strict=True)])


def random_crop(images: torch.Tensor, size: int | tuple[int, int], generator: torch.Generator | None = None) -> torch.Tensor:
    """Cut a window out of each image at a uniformly drawn place, such as 90 or 80 of 100 pixels and 40 of 48.

    Parameters
    ----------
    images : ``[B, H, W]`` or ``[B, C, H, W]``
    size : int or (int, int)
        Side, or height and width.
    generator : torch.Generator, optional
        Tops are drawn first, then lefts.

    Returns
    -------
    ``[B, h, w]`` or ``[B, C, h, w]``

    Raises
    ------
    ValueError
        If the window is larger than the images.
    """
    height, width = _check(images, size)
    top, left = (
        torch.randint(room + 1, (len(images),), generator=generator, device=_device(generator))
        for room in (images.shape[-2] - height, images.shape[-1] - width)
    )
    return crop(images, top, left, (height, width))


def random_flip(images: torch.Tensor, p: float = 0.5, generator: torch.Generator | None = None) -> torch.Tensor:
    """Mirror each image left to right with probability ``p``.

    Parameters
    ----------
    images : ``[B, H, W]`` or ``[B, C, H, W]``
    p : float
        In ``[0, 1]``.
    generator : torch.Generator, optional
    """
    return flip(images, torch.rand(len(images), generator=generator, device=_device(generator)) < p)


def center_crop(images: torch.Tensor, size: int | tuple[int, int]) -> torch.Tensor:
    """Cut out the middle; where it is between pixels, torchvision's rounding decides.

    Parameters
    ----------
    images : ``[B, H, W]`` or ``[B, C, H, W]``
    size : int or (int, int)
        Side, or height and width, in pixels.

    Raises
    ------
    ValueError
        If the window is larger than the images.
    """
    height, width = _check(images, size)
    top, left = round((images.shape[-2] - height) / 2), round((images.shape[-1] - width) / 2)
    return images[..., top : top + height, left : left + width].clone()


def ten_crop(images: torch.Tensor, size: int | tuple[int, int]) -> torch.Tensor:
    """Cut the corners and the middle out of each image and of its mirror image (Li et al. 2021, section 4.1, for testing).

    Parameters
    ----------
    images : ``[B, H, W]`` or ``[B, C, H, W]``
    size : int or (int, int)
        Side, or height and width; 80 of 100 and 40 of 48 pixels in the paper.

    Returns
    -------
    ``[B, 10, h, w]`` or ``[B, 10, C, h, w]``
        Top left, top right, bottom left, bottom right, middle, then the same of the mirror image. For the paper's average:
        ``model(crops.flatten(0, 1)).unflatten(0, (-1, 10)).mean(1)``.

    Raises
    ------
    ValueError
        If the window is larger than the images.
    """
    height, width = _check(images, size)
    crops = []
    for view in (images, images.flip(-1)):
        crops += [view[..., y, x] for y in (slice(height), slice(-height, None)) for x in (slice(width), slice(-width, None))]
        crops.append(center_crop(view, size))
    return torch.stack(crops, dim=1)


def rotate(images: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """Turn each image counter-clockwise about its centre by an angle of its own; bilinear, black outside.

    Parameters
    ----------
    images : ``[B, H, W]`` or ``[B, C, H, W]``
    degrees : ``[B]``

    Raises
    ------
    ValueError
        If there is not one angle an image.
    """
    if images.ndim not in (3, 4) or degrees.shape != (len(images),):
        raise ValueError(f"images of shape {list(images.shape)} need one angle each, got {list(degrees.shape)}")
    if not len(images):
        return images.clone()
    pixels = (images if images.ndim == 4 else images.unsqueeze(1)).to(torch.promote_types(images.dtype, torch.float32))
    height, width = pixels.shape[-2:]
    angle = torch.deg2rad(degrees.to(pixels))[:, None, None]  # [B, 1, 1]
    right = (torch.arange(width).to(pixels) - (width - 1) / 2)[None, None, :]  # of the centre, in pixels
    down = (torch.arange(height).to(pixels) - (height - 1) / 2)[None, :, None]
    # where a pixel comes from, as grid_sample counts: -1 and 1 are the outer edges
    across = (angle.cos() * right - angle.sin() * down) * (2 / width)
    along = (angle.sin() * right + angle.cos() * down) * (2 / height)
    turned = grid_sample(pixels, torch.stack([across, along], dim=-1), align_corners=False)
    kept = (degrees == 0).to(images.device).view(-1, *[1] * (images.ndim - 1))
    turned = (turned if images.is_floating_point() else turned.round()).to(images.dtype).view(images.shape)
    return torch.where(kept, images, turned)


def rotate_and_flip(images: torch.Tensor) -> torch.Tensor:
    """Make 14 images of each (Zhang, Su & Wang 2020, section IV-B).

    It is rotated by :data:`ROTATIONS`, and all seven are mirrored. The paper does not say how it interpolates and fills; here
    bilinearly and with black.

    Parameters
    ----------
    images : ``[B, H, W]`` or ``[B, C, H, W]``

    Returns
    -------
    ``[14 * B, ...]``
        The 14 of the first image, then those of the second; for the labels use ``repeat_interleave(14)``.
    """
    turned = [rotate(images, torch.full((len(images),), float(angle))) for angle in ROTATIONS]
    return torch.stack([*turned, *(image.flip(-1) for image in turned)], dim=1).flatten(0, 1)


def random_rotate_and_flip(images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Take one of the 14 images that :func:`rotate_and_flip` makes of each, all equally often; the angle is drawn first.

    Parameters
    ----------
    images : ``[B, H, W]`` or ``[B, C, H, W]``
    generator : torch.Generator, optional
    """
    turns = torch.randint(len(ROTATIONS), (len(images),), generator=generator, device=_device(generator))
    angles = torch.tensor(ROTATIONS, dtype=torch.float32, device=turns.device)[turns]
    return random_flip(rotate(images, angles), generator=generator)


def add_noise(images: torch.Tensor, variance: float = 0.01, generator: torch.Generator | None = None) -> torch.Tensor:
    """Add Gaussian noise of zero mean to every pixel and channel, and clip to the range.

    Parameters
    ----------
    images : uint8, or float from 0 to 1, ``[B, H, W]`` or ``[B, C, H, W]``
    variance : float
        On a scale from 0 to 1, as float images are; on uint8 images the noise is 255 times as strong, and rounded.
    generator : torch.Generator, optional
    """
    full = 1.0 if images.is_floating_point() else 255.0
    noise = torch.randn(images.shape, generator=generator, device=_device(generator)).to(images.device)
    noisy = (images + noise * (full * variance**0.5)).clamp(0, full)
    return (noisy if images.is_floating_point() else noisy.round()).to(images.dtype)


def augment_jaffe(images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Make five images of each, 1,065 of JAFFE's 213 (Xie, Hu & Wu 2019, section 4.1.1).

    Parameters
    ----------
    images : ``[B, H, W]`` or ``[B, C, H, W]``
        Float from 0 to 1, or uint8.
    generator : torch.Generator, optional
        Draws the noise.

    Returns
    -------
    ``[5 * B, ...]``
        The image, its mirror image, turned by 5 degrees counter-clockwise and clockwise, with noise of variance 0.01; then the
        five of the second. For the labels use ``repeat_interleave(5)``.
    """
    left, right = (rotate(images, torch.full((len(images),), angle)) for angle in (5.0, -5.0))
    five = [images, images.flip(-1), left, right, add_noise(images, 0.01, generator)]
    return torch.stack(five, dim=1).flatten(0, 1)
