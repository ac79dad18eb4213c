"""DAF-CNN (Zhou et al., Fig. 1): blocks of convolutions, attention to channels and to places, two dense layers; in Keras 3.

Images and maps are ``[B, H, W, C]``. Attention layers give weights and the network multiplies, so the weights of each face can be read at
the layers ``channel_attention`` and ``spatial_attention``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...models.base import round_width
from ...training.sampling import derive_seed
from .augment import CropAndFlip
from .backend import PACKAGE, keras

__all__ = ["ChannelAttention", "SpatialAttention", "attend", "build_daf_cnn", "copy_layers"]

layers, ops = keras.layers, keras.ops
#: PyTorch's, so that the same network there gives the same scores; the paper names none.
_MOMENTUM, _EPSILON = 0.9, 1e-5


@keras.saving.register_keras_serializable(PACKAGE)
class ChannelAttention(layers.Layer):
    """Which channels matter: one network of two layers reads the mean and the maximum of each (Zhou et al., eq. 1 and 2).

    Maps ``[B, H, W, C]`` give weights ``[B, 1, 1, C]`` in (0, 1).

    Parameters
    ----------
    reduction : int
        r: the first layer has ``C / r`` outputs, at least one, and is rectified; 8 in the paper, 4.2. That it is rectified is Woo et al.'s.
    net_output : {"linear", "sigmoid"}
        Of the second layer. ``"sigmoid"`` takes 3.2.1 at its word, that the network is a sigmoid: beside that of eq. 1 it leaves the
        weights between 0.5 and 0.88.
    seed : int
    **kwargs
        As all layers of Keras take.

    Raises
    ------
    ValueError
        If ``reduction`` is below 1, or for another ``net_output``.
    """

    def __init__(self, reduction: int = 8, net_output: str = "linear", seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if reduction < 1:
            raise ValueError(f"reduction must be at least 1, got {reduction}")
        self.reduction, self.seed = reduction, seed
        self.net_output = _choose("net_output", net_output, ("linear", "sigmoid"))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the shared network for maps ``[B, H, W, C]``."""
        channels = _check_maps(input_shape)
        first, second = _he(derive_seed(self.seed, 0)), _glorot(derive_seed(self.seed, 1))
        self.first = layers.Dense(max(1, channels // self.reduction), activation="relu", kernel_initializer=first, name="first")
        self.second = layers.Dense(channels, activation=self.net_output, kernel_initializer=second, name="second")
        self.first.build((None, channels))
        self.second.build((None, self.first.units))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """``[B, 1, 1, C]``."""
        return (input_shape[0], 1, 1, input_shape[3])

    def call(self, maps: Any) -> Any:
        """Weights ``[B, 1, 1, C]`` of maps ``[B, H, W, C]``."""
        pooled = (ops.mean(maps, (1, 2)), ops.max(maps, (1, 2)))  # [B, C] each
        weights = ops.sigmoid(sum(self.second(self.first(values)) for values in pooled))
        return weights[:, None, None]

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "reduction": self.reduction, "net_output": self.net_output, "seed": self.seed}


@keras.saving.register_keras_serializable(PACKAGE)
class SpatialAttention(layers.Layer):
    """Which places matter: one convolution over the mean and the maximum map (Zhou et al., eq. 3).

    Maps ``[B, H, W, C]`` give weights in (0, 1): ``[B, H, W, 1]``, or ``[B, H, 1, 1]`` with ``pool_over="width"``.

    Parameters
    ----------
    kernel_size : int
        7 in the paper, 4.2. The maps are padded to keep their size.
    pool_over : {"channels", "width"}
        ``"channels"`` as in Woo et al., which gives the two maps of W x H of 3.2.2. ``"width"`` takes its words: both the pooling and the
        joining go along the width, so a row has one weight.
    seed : int
    **kwargs
        As all layers of Keras take.

    Raises
    ------
    ValueError
        If ``kernel_size`` is below 1, or for another ``pool_over``.
    """

    def __init__(self, kernel_size: int = 7, pool_over: str = "channels", seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if kernel_size < 1:
            raise ValueError(f"kernel_size must be at least 1, got {kernel_size}")
        self.kernel_size, self.seed = kernel_size, seed
        self.pool_over = _choose("pool_over", pool_over, ("channels", "width"))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the convolution for maps ``[B, H, W, C]``."""
        channels = _check_maps(input_shape)
        over_width = self.pool_over == "width"
        self.convolution = layers.Conv2D(
            1, self.kernel_size, strides=(1, 2) if over_width else 1, padding="same",
            kernel_initializer=_glorot(derive_seed(self.seed)), activation="sigmoid", name="convolution",
        )
        self.convolution.build((None, None, 2, channels) if over_width else (None, None, None, 2))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """``[B, H, W, 1]``, or ``[B, H, 1, 1]`` over the width."""
        return (*input_shape[:2], 1 if self.pool_over == "width" else input_shape[2], 1)

    def call(self, maps: Any) -> Any:
        """Weights ``[B, H, W, 1]``, or ``[B, H, 1, 1]``, of maps ``[B, H, W, C]``."""
        axis = 2 if self.pool_over == "width" else 3
        pooled = (ops.mean(maps, axis, keepdims=True), ops.max(maps, axis, keepdims=True))
        return self.convolution(ops.concatenate(pooled, axis))

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "kernel_size": self.kernel_size, "pool_over": self.pool_over, "seed": self.seed}


def attend(maps: Any, mode: str | None, channel: ChannelAttention, spatial: SpatialAttention) -> Any:
    """Weigh maps ``[B, H, W, C]`` by channel and by place.

    Parameters
    ----------
    maps : Keras tensor
    mode : {"cascaded", "parallel", None}
        Places are looked for in what the channels' weights leave (eq. 4 and 5), or in the maps themselves; or nothing is weighted.
    channel, spatial : layers
    """
    if _choose("attention", mode, ("cascaded", "parallel", None)) is None:
        return maps
    weighted = layers.Multiply(name="weighted_channels")([maps, channel(maps)])
    return layers.Multiply(name="weighted_places")([weighted, spatial(weighted if mode == "cascaded" else maps)])


def build_daf_cnn(
    num_classes: int = 7,
    *,
    input_size: int = 96,
    image_size: int | None = None,
    in_channels: int = 1,
    width: float = 1.0,
    convolutions: Sequence[int] = (3, 3, 4, 4, 4),
    channels: Sequence[int] = (64, 128, 256, 512, 512),
    pools: int = 4,
    attention: str | None = "cascaded",
    reduction: int = 8,
    net_output: str = "linear",
    kernel_size: int = 7,
    pool_over: str = "channels",
    dense: int = 512,
    embedding_size: int = 128,
    dropout: float = 0.5,
    seed: int = 0,
) -> Any:
    """Build the network.

    A convolution of 3x3 is followed by batch normalisation and a rectifier; pooling is the maximum of 2x2, and rounds up. The embedding is
    the second dense layer's output, neither rectified nor dropped from.

    Parameters
    ----------
    num_classes : int
    input_size : int
        Side of the window that the convolutions see; 96 in the paper, 4.2.
    image_size : int, optional
        Side of the images that the network takes, from which the window is cut; ``input_size`` by default.
    in_channels : int
        1 for grey, or 3.
    width : float
        Factor of ``channels`` and ``dense``.
    convolutions, channels : sequence of int
        Of each block; the first are from 3.1, the second are VGG's.
    pools : int
        How many blocks, from the first, end in a pooling.
    attention, reduction, net_output, kernel_size, pool_over
        See :func:`attend`, :class:`ChannelAttention` and :class:`SpatialAttention`.
    dense, embedding_size : int
        Outputs of the two dense layers.
    dropout : float
        Behind each of the two.
    seed : int
        Draws the first weights, the augmentation and what is dropped.

    Returns
    -------
    keras.Model
        Takes images ``[B, image_size, image_size, in_channels]`` from 0 to 255; gives ``embedding`` ``[B, embedding_size]``, ``scores``
        before the softmax and ``softmax``, both ``[B, num_classes]``.

    Raises
    ------
    ValueError
        If an argument is out of range, or two do not fit together.
    """
    _check_sizes(input_size, image_size, in_channels, convolutions, channels, pools)
    if num_classes < 2 or dense < 1 or embedding_size < 1 or not 0 <= dropout < 1:
        expected = "at least 2 classes, 1 output of each dense layer, and a dropout from 0 and below 1"
        raise ValueError(f"expected {expected}, got {num_classes=}, {dense=}, {embedding_size=}, {dropout=}")
    size = image_size or input_size
    images = keras.Input((size, size, in_channels), name="images")
    maps = layers.Rescaling(1 / 255, name="rescaling")(images)
    maps = CropAndFlip(input_size, derive_seed(seed, 0) % _LARGEST, name="crop_and_flip")(maps)
    for block, (count, wide) in enumerate(zip(convolutions, channels, strict=True), 1):
        for number in range(1, count + 1):
            name, own = f"block{block}_convolution{number}", derive_seed(seed, 1, block, number)
            maps = layers.Conv2D(
                round_width(wide, width), 3, padding="same", use_bias=False, kernel_initializer=_he(own), name=name,
            )(maps)
            maps = layers.BatchNormalization(momentum=_MOMENTUM, epsilon=_EPSILON, name=f"{name}_normalisation")(maps)
            maps = layers.ReLU(name=f"{name}_relu")(maps)
        if block <= pools:
            maps = layers.MaxPooling2D(2, padding="same", name=f"block{block}_pool")(maps)
    channel = ChannelAttention(reduction, net_output, derive_seed(seed, 2) % _LARGEST, name="channel_attention")
    spatial = SpatialAttention(kernel_size, pool_over, derive_seed(seed, 3) % _LARGEST, name="spatial_attention")
    found = layers.Flatten(name="flatten")(attend(maps, attention, channel, spatial))
    hidden = round_width(dense, width)
    found = layers.Dense(hidden, activation="relu", kernel_initializer=_he(derive_seed(seed, 4)), name="dense")(found)
    found = layers.Dropout(dropout, seed=derive_seed(seed, 5) % _LARGEST, name="dense_dropout")(found)
    embedding = layers.Dense(embedding_size, kernel_initializer=_glorot(derive_seed(seed, 6)), name="embedding")(found)
    found = layers.Dropout(dropout, seed=derive_seed(seed, 7) % _LARGEST, name="embedding_dropout")(embedding)
    scores = layers.Dense(num_classes, kernel_initializer=_glorot(derive_seed(seed, 8)), name="scores")(found)
    outputs = {"embedding": embedding, "scores": scores, "softmax": layers.Softmax(name="softmax")(scores)}
    return keras.Model(images, outputs, name="daf_cnn")


def copy_layers(source: Any, target: Any, leave: Sequence[str] = ("scores",)) -> None:
    """Give a network the weights of another, layer by layer, as for a second stage (4.3.2).

    Parameters
    ----------
    source, target : keras.Model
    leave : sequence of str
        Layers that keep their own weights, such as a second stage's last one.

    Raises
    ------
    ValueError
        Naming the layer that the source has not, or in another shape.
    """
    known = {layer.name: layer for layer in source.layers}
    for layer in target.layers:
        if layer.name in leave or not layer.weights:
            continue
        own = [tuple(weight.shape) for weight in layer.weights]
        found = [tuple(weight.shape) for weight in known[layer.name].weights] if layer.name in known else None
        if found != own:
            raise ValueError(f"the layer {layer.name!r} has weights of {own}, the source's are {found or 'missing'}")
        layer.set_weights(known[layer.name].get_weights())


#: Keras' seeds are below.
_LARGEST = 2**31


def _he(seed: int) -> Any:
    return keras.initializers.HeNormal(seed % _LARGEST)


def _glorot(seed: int) -> Any:
    return keras.initializers.GlorotUniform(seed % _LARGEST)


def _choose(argument: str, value: Any, options: tuple[Any, ...]) -> Any:
    if value not in options:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, options))}, got {value!r}")
    return value


def _check_maps(shape: tuple[int | None, ...]) -> int:
    """The channels of maps ``[B, H, W, C]``."""
    if len(shape) != 4 or shape[3] is None:
        raise ValueError(f"attention needs maps [B, H, W, C], got the shape {list(shape)}")
    return shape[3]


def _check_sizes(
    input_size: int, image_size: int | None, in_channels: int, convolutions: Sequence[int], channels: Sequence[int], pools: int
) -> None:
    if image_size is not None and image_size < input_size:
        raise ValueError(f"image_size must be at least input_size ({input_size}), got {image_size}")
    if in_channels not in (1, 3):
        raise ValueError(f"in_channels must be 1 or 3, got {in_channels}")
    if len(convolutions) != len(channels) or not convolutions or min(*convolutions, *channels) < 1:
        raise ValueError(f"each block needs convolutions and channels, at least 1 each, got {tuple(convolutions)} and {tuple(channels)}")
    if not 0 <= pools <= len(channels):
        raise ValueError(f"pools must be 0 to {len(channels)}, one a block at most, got {pools}")
    if input_size < 2**pools:
        raise ValueError(f"{pools} pools need an input_size of at least {2**pools}, got {input_size}")
