"""Turning whole batches of faces, each by an angle of its own, on torch tensors as :mod:`~fer_utils.augment` takes them.

Apart from that because what is kept of a training is tied to the modules that it went through, and most go through no rotation.
"""

from __future__ import annotations

import torch
from torch.nn.functional import grid_sample

from .augment import random_flip

__all__ = ["ROTATIONS", "random_rotate_and_flip", "rotate", "rotate_and_flip"]

#: Degrees, counter-clockwise, of Zhang, Su & Wang 2020, section IV-B; 0 is the image itself.
ROTATIONS = (0, -15, -10, -5, 5, 10, 15)


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
    """Take one of the 14 images that :func:`rotate_and_flip` makes of each, all equally often; the angle is drawn first."""
    device = torch.device("cpu") if generator is None else generator.device
    turns = torch.randint(len(ROTATIONS), (len(images),), generator=generator, device=device)
    angles = torch.tensor(ROTATIONS, dtype=torch.float32, device=turns.device)[turns]
    return random_flip(rotate(images, angles), generator=generator)
