"""The book's augmentation, a window at a drawn place and a mirror image, as one Keras layer at a network's entrance."""

from __future__ import annotations

from typing import Any

from .backend import PACKAGE, keras

__all__ = ["CropAndFlip"]

ops = keras.ops


@keras.saving.register_keras_serializable(PACKAGE)
class CropAndFlip(keras.layers.Layer):
    """In training cut a window out of each image at a place of its own and mirror every second image; else cut out the middle.

    As :func:`fer_utils.training.fit.crop_and_flip` and, in the middle, :func:`fer_utils.augment.center_crop`. Keras' own ``RandomCrop``
    draws one place for a whole batch.

    Parameters
    ----------
    size : int
        Side of the window, at most that of the images; with the same side it only mirrors.
    seed : int
        Draws places and mirror images. How far its generator has come is among the layer's ``variables``.
    **kwargs
        As all layers of Keras take.

    Raises
    ------
    ValueError
        If the size is below 1.

    Examples
    --------
    Images ``[B, H, W, C]`` become ``[B, size, size, C]``.
    """

    def __init__(self, size: int, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if size < 1:
            raise ValueError(f"a window needs a side of at least 1 pixel, got {size}")
        self.size, self.seed = size, seed
        self.generator = keras.random.SeedGenerator(seed)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """``[B, H, W, C]`` to ``[B, size, size, C]``. Raises ``ValueError`` if the window does not fit."""
        if len(input_shape) != 4 or not all(side is None or side >= self.size for side in input_shape[1:3]):
            raise ValueError(f"a window of {self.size}x{self.size} needs images [B, H, W, C] at least as large, got {list(input_shape)}")
        return (input_shape[0], self.size, self.size, input_shape[3])

    def call(self, images: Any, training: bool = False) -> Any:
        """Cut, and in training mirror, images float ``[B, H, W, C]``.

        Parameters
        ----------
        images : float ``[B, H, W, C]``
        training : bool
        """
        self.compute_output_shape(images.shape)
        height, width = images.shape[1:3]
        if not training:
            top, left = round((height - self.size) / 2), round((width - self.size) / 2)
            return images[:, top : top + self.size, left : left + self.size]
        count = ops.shape(images)[0]
        draw = keras.random.uniform((3, count), seed=self.generator)  # in [0, 1)
        window = ops.arange(self.size, dtype="int32")[None]  # [1, S]
        rows = _place(draw[0], height - self.size)[:, None] + window  # [B, S]
        columns = _place(draw[1], width - self.size)[:, None] + window
        columns = ops.where((draw[2] < 0.5)[:, None], ops.flip(columns, 1), columns)
        channels = images.shape[3]
        rows = ops.broadcast_to(rows[:, :, None, None], (count, self.size, width, channels))
        images = ops.take_along_axis(images, rows, axis=1)  # [B, S, W, C]
        columns = ops.broadcast_to(columns[:, None, :, None], (count, self.size, self.size, channels))
        return ops.take_along_axis(images, columns, axis=2)

    def get_config(self) -> dict[str, Any]:
        """The arguments, from which :meth:`from_config` builds the layer again."""
        return {**super().get_config(), "size": self.size, "seed": self.seed}


def _place(draw: Any, room: int) -> Any:
    """One of ``room + 1`` places for each draw in ``[0, 1)``, all as likely."""
    return ops.minimum(ops.cast(ops.floor(draw * (room + 1)), "int32"), room)
