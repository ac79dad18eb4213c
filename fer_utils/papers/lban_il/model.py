"""LBAN (Li et al. 2021, section 2): residual units of fixed random and learned filters, in blocks with encoder-decoder attention.

Text and Table 2 of the paper do not describe one network. :data:`READINGS` has two: the only architecture by which a search over seven
million readings found all five counts of the table, and the one that follows the text.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import conv2d

from ...models.base import EverySecondPixel, FaceModel, find_flat_size, initialise, round_width
from ...models.registry import register_model

__all__ = [
    "LBAB", "LBAN", "LBSL", "READINGS", "VARIANTS", "LocalBinaryConv2d", "PlainUnit", "Reading", "SlimVGG", "Variant", "count_learnable",
    "draw_filters",
]

#: Channels of the first convolution and of the three blocks, and how often attention halves the maps of each (2.2).
STEM, CHANNELS, SAMPLINGS = 64, (128, 256, 512), (2, 1, 0)
#: Deviation of a feature at the first step. The classifier's steps grow with the features' squared length: from 1 they overshoot, and the
#: network learns no more than how often each class comes.
FEATURE_DEVIATION = 0.1
#: Makes a unit of so many inputs and as many outputs.
_Maker = Callable[[int], nn.Module]


@dataclass(frozen=True)
class Reading:
    """How the paper is read where text and Table 2 disagree, or where the text says nothing.

    Attributes
    ----------
    forward : tuple of int
        LBSLs in the main stream of each block, behind the one that halves and widens.
    hidden : {"inputs", "outputs"}
        Channels between the fixed and the 1x1 convolution, the paper's weight size: as many as the unit's inputs or outputs.
    shortcut : int
        Kernel of a shortcut with weights.
    shortcut_everywhere : bool
        Every shortcut has weights, or only those where the number of channels changes; the others are plain sums.
    deconvolution : int
        Kernel of the deconvolutions; their stride is 2.
    attention : int
        1x1 convolutions before a sigmoid.
    without_standard : {"attention", "everywhere"}
        Where the rows LBC and LBCNN of Table 2 lack the standard convolution of the LBSLs.
    """

    forward: tuple[int, int, int]
    hidden: str
    shortcut: int
    shortcut_everywhere: bool
    deconvolution: int
    attention: int
    without_standard: str


#: ``table``: all five counts of Table 2, as printed. ``text``: sections 2 and 4.5; shortcuts are 3x3, as 1x1 would be further from Table 2.
READINGS: Mapping[str, Reading] = {
    "table": Reading((1, 2, 3), "inputs", 1, True, 4, 2, "attention"),
    "text": Reading((1, 1, 1), "outputs", 3, False, 2, 1, "everywhere"),
}


@dataclass(frozen=True)
class Variant:
    """A row of Tables 1 and 2: what an LBAN has.

    Attributes
    ----------
    unit : {"fixed", "learned", "plain"}
        An LBSL with fixed first filters; one with learned filters in their place; or one standard convolution in the place of an LBSL.
    standard, shortcuts, attention : bool
        Standard convolutions in the LBSLs (of those that the reading means), shortcuts, encoder-decoder attention.
    """

    unit: str = "fixed"
    standard: bool = True
    shortcuts: bool = True
    attention: bool = True


#: By the names of the rows of ``published.yaml``.
VARIANTS: Mapping[str, Variant] = {
    "LBAN": Variant(),
    "LBCNN": Variant(standard=False),
    "LBC": Variant(standard=False, shortcuts=False),
    "SC + STD Conv + SK CONN": Variant(unit="learned"),
    "SC + STD Conv": Variant(unit="learned", shortcuts=False),
    "LBSL": Variant(attention=False),
    "encoder-decoder": Variant(unit="plain"),
    "neither": Variant(unit="plain", attention=False),
}


# -- layers ---------------------------------------------------------------------------------------------------------------


class LocalBinaryConv2d(nn.Module):
    """Fixed 3x3 filters of 0, 1 and -1, a rectifier, and a learned 1x1 convolution (Juefei-Xu et al., CVPR 2017; Li et al. 2021, 2.1).

    The original has a sigmoid between the two; the paper has a rectifier. The fixed filters are a buffer of one byte a weight: they
    are in the ``state_dict`` and so in every checkpoint, no optimiser moves them, and no generator has to be kept to find them again.

    Parameters
    ----------
    in_channels, out_channels : int
    hidden_channels : int, optional
        Fixed filters, the paper's weight size; ``in_channels`` by default.
    sparsity : float
        Share of the fixed weights that are 0, at least 0 and below 1; 0.5 in the paper. In the original's code the number of that name is
        the share that is not.
    stride : int
        Of the fixed convolution.
    with_replacement : bool
        Draw the places of the weights that are not 0 as the original's code does, where some come twice: then a share of
        ``exp(sparsity - 1)`` is 0, 61 % at 0.5. Otherwise the share is exact, to the nearest weight.
    normalise : bool
        Batch normalisation between the fixed convolution and the rectifier.

    Raises
    ------
    ValueError
        If a size is below 1 or the sparsity out of range.
    """

    filters: torch.Tensor

    def __init__(
        self, in_channels: int, out_channels: int, *, hidden_channels: int | None = None, sparsity: float = 0.5, stride: int = 1,
        with_replacement: bool = False, normalise: bool = False,
    ) -> None:
        super().__init__()
        hidden = in_channels if hidden_channels is None else hidden_channels
        if min(in_channels, out_channels, hidden, stride) < 1:
            sizes = f"in_channels={in_channels}, out_channels={out_channels}, {hidden_channels=}, {stride=}"
            raise ValueError(f"a local binary convolution needs channels and a stride of at least 1, got {sizes}")
        if not 0 <= sparsity < 1:
            raise ValueError(f"sparsity is the share of weights that are 0, at least 0 and below 1, got {sparsity}")
        self.stride = stride
        self.register_buffer("filters", draw_filters((hidden, in_channels, 3, 3), sparsity, with_replacement=with_replacement))
        self.norm = nn.BatchNorm2d(hidden) if normalise else None
        self.mix = nn.Conv2d(hidden, out_channels, 1, bias=False)
        self.settings = {"sparsity": sparsity, "with_replacement": with_replacement}
        self._ready: tuple[torch.Tensor, int, torch.Tensor] | None = None
        self.reset_parameters()

    def extra_repr(self) -> str:
        """Sizes and options, for ``print``."""
        hidden, inputs = self.filters.shape[:2]
        options = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{inputs}, {len(self.mix.weight)}, hidden_channels={hidden}, stride={self.stride}, {options}"

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the 1x1 convolution by MSRA; without normalisation, smaller by what the fixed filters make of their inputs.

        A fixed filter sums ``(1 - sparsity) * 9 * in_channels`` inputs, so its output is by the root of that larger than they are.
        """
        inputs = len(self.filters)
        taps = 1.0 if self.norm is not None else (1 - self.settings["sparsity"]) * self.filters[0].numel()
        nn.init.normal_(self.mix.weight, std=(2 / (inputs * max(taps, 1.0))) ** 0.5)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Compute ``[B, out_channels, ceil(H / stride), ceil(W / stride)]`` from maps ``[B, in_channels, H, W]``."""
        maps = conv2d(maps, self._read_filters(maps.dtype), stride=self.stride, padding=1)
        return self.mix((maps if self.norm is None else self.norm(maps)).relu())

    def _read_filters(self, dtype: torch.dtype) -> torch.Tensor:
        """The filters as convolutions take them; made anew only after they have moved or changed, as when a state is loaded."""
        source = self.filters
        if self._ready is None or self._ready[0] is not source or self._ready[1] != source._version or self._ready[2].dtype != dtype:
            with torch.inference_mode(False):  # what is made in that mode cannot be trained through later
                self._ready = (source, source._version, source.to(dtype))
        return self._ready[2]


def draw_filters(shape: tuple[int, ...], sparsity: float, *, with_replacement: bool = False) -> torch.Tensor:
    """Draw int8 filters of 0, 1 and -1, the signs evenly.

    Parameters
    ----------
    shape : tuple of int
        ``[hidden_channels, in_channels, 3, 3]``
    sparsity, with_replacement
        See :class:`LocalBinaryConv2d`.
    """
    filters = torch.zeros(shape, dtype=torch.int8)
    count = filters.numel()
    kept = round((1 - sparsity) * count)
    places = torch.randint(count, (kept,)) if with_replacement else torch.randperm(count)[:kept]
    signs = 2 * torch.randint(2, (count,), dtype=torch.int8) - 1
    filters.view(-1)[places] = signs[places]  # by place, so that one that comes twice has one sign
    return filters


class LBSL(nn.Module):
    """A local binary standard layer: a local binary and a standard convolution, and a shortcut (Li et al. 2021, 2.1).

    ``relu(standard(relu(local_binary(x))) + shortcut(x))``; where the rectifiers stand is not said.

    Parameters
    ----------
    in_channels, out_channels : int
    stride : int
    learned : bool
        A learned 3x3 convolution in the place of the fixed one, the paper's SC.
    standard : bool
        Without it, the local binary convolution alone.
    shortcut : bool
    reading : Reading
    sparsity, with_replacement
        See :class:`LocalBinaryConv2d`.
    normalise : bool
        Batch normalisation behind the fixed and behind the 1x1 convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, learned: bool = False, standard: bool = True, shortcut: bool = True,
        reading: Reading = READINGS["table"], sparsity: float = 0.5, with_replacement: bool = False, normalise: bool = True,
    ) -> None:
        super().__init__()
        hidden = in_channels if reading.hidden == "inputs" else out_channels
        first: nn.Module
        if learned:
            first = nn.Sequential(OrderedDict(
                wide=nn.Conv2d(in_channels, hidden, 3, stride, 1, bias=False), norm=_make_norm(hidden, normalise),
                relu=nn.ReLU(inplace=True), mix=nn.Conv2d(hidden, out_channels, 1, bias=False),
            ))  # fmt: skip
        else:
            first = LocalBinaryConv2d(
                in_channels, out_channels, hidden_channels=hidden, sparsity=sparsity, stride=stride, with_replacement=with_replacement,
                normalise=normalise,
            )
        self.first, self.norm = first, _make_norm(out_channels, normalise)
        self.standard = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False) if standard else None
        self.shortcut: nn.Module | None = None
        if shortcut:
            weighted = reading.shortcut_everywhere or in_channels != out_channels or stride != 1
            kernel = reading.shortcut
            kind = EverySecondPixel if kernel == 1 and stride != 1 else nn.Conv2d
            self.shortcut = kind(in_channels, out_channels, kernel, stride, kernel // 2, bias=False) if weighted else nn.Identity()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Compute ``[B, out_channels, ceil(H / stride), ceil(W / stride)]``, at least 0, from maps ``[B, in_channels, H, W]``."""
        out = self.norm(self.first(maps))
        if self.standard is not None:
            out = self.standard(out.relu())
        return (out if self.shortcut is None else out + self.shortcut(maps)).relu()


class PlainUnit(nn.Sequential):
    """What stands in the place of an LBSL in the rows of Table 1 without them: a standard 3x3 convolution and a rectifier; not said.

    Parameters
    ----------
    in_channels, out_channels : int
    stride : int
    normalise : bool
        Batch normalisation behind the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, normalise: bool = True) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False), _make_norm(out_channels, normalise), nn.ReLU(inplace=True)
        )


def _make_norm(channels: int, normalise: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if normalise else nn.Identity()


# -- blocks ---------------------------------------------------------------------------------------------------------------


class _Attention(nn.Module):
    """Encoder and decoder, a unit behind every pooling and every deconvolution; then 1x1 convolutions and a sigmoid (2.2)."""

    def __init__(self, channels: int, samplings: int, reading: Reading, make_unit: _Maker) -> None:
        super().__init__()
        kernel = reading.deconvolution
        self.encoder = nn.ModuleList(make_unit(channels) for _ in range(samplings))
        self.decoder = nn.ModuleList(make_unit(channels) for _ in range(samplings))
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose2d(channels, channels, kernel, 2, (kernel - 2) // 2, bias=False) for _ in range(samplings)
        )
        self.weigh = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=False) for _ in range(reading.attention))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        levels = []
        for unit in self.encoder:
            levels.append(maps)
            maps = unit(nn.functional.max_pool2d(maps, 2))
        for enlarge, unit in zip(self.enlarge, self.decoder, strict=True):
            level = levels.pop()
            maps = unit(enlarge(maps, output_size=level.shape[-2:]) + level)
        for layer in self.weigh:
            maps = layer(maps.relu())
        return maps.sigmoid()


class LBAB(nn.Module):
    """A local binary attention block (Li et al. 2021, 2.2): ``(1 + attention(x)) * forward(x)``.

    Attention is a number between 0 and 1 for every channel and pixel. It is added as well as multiplied, so that what it does not look at
    is still seen.

    Parameters
    ----------
    channels : int
    forward : int
        Units in the main stream.
    samplings : int
        How often attention halves the maps and doubles them again.
    attention : bool
        Without it the main stream alone.
    reading : Reading
    make_main, make_unit : callable
        Make a unit of the main stream and one of the attention: ``make(channels)``.
    """

    def __init__(
        self, channels: int, forward: int, samplings: int, *, attention: bool, reading: Reading, make_main: _Maker, make_unit: _Maker
    ) -> None:
        super().__init__()
        self.main = nn.Sequential(*(make_main(channels) for _ in range(forward)))
        self.attention = _Attention(channels, samplings, reading, make_unit) if attention else None

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Compute maps ``[B, channels, H, W]`` from maps of the same shape."""
        main = self.main(maps)
        return main if self.attention is None else main + main * self.attention(maps)


@register_model
class LBAN(FaceModel):
    """The local binary attention network of Li et al. 2021, and the rows of its Tables 1 and 2.

    A 3x3 convolution, then three times an LBSL that halves and widens the maps and a block with attention; an average pooling, which rounds
    up; a layer of 128 features, for the losses on features; the class scores. The features are not rectified: the losses' cosines between
    centres reach -1 only where coordinates can be negative.

    The features are normalised over the batch, too. Without that, losses with centres and lambda 0.6 diverge at the paper's learning rate;
    with smaller first weights they make all features 0, the rectifiers of the last block close, and nothing comes back.

    Parameters
    ----------
    num_classes : int
    width : float
        Factor of all channels, but not of the features; 1 in the paper.
    in_channels : int
        1 for grey or 3, as in the paper's figures.
    input_size : int
        Side of what the network sees; 80 in the paper, cut out of 100, and 40 of 48 on FER-2013.
    image_size : int, optional
        Side to which whole faces are brought first.
    variant : str
        A row of Table 1 or 2, one of :data:`VARIANTS`.
    reading : {"table", "text"}
        See :data:`READINGS`.
    sparsity, with_replacement
        Of the fixed filters; see :class:`LocalBinaryConv2d`.
    normalise : bool
        Batch normalisation, behind every convolution of 3x3 but the standard ones and behind that of 1x1 in each LBSL, and of the features.
        The paper says nothing of it: at width 1 it adds 15,872 weights, which Table 2 cannot tell from none.
    dropout : float
        Share of the inputs of each of the two last layers that are dropped in training.
    features : int
        Outputs of the last hidden layer.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    name = "lban"

    def __init__(
        self, num_classes: int = 7, width: float = 1.0, in_channels: int = 3, input_size: int = 80, image_size: int | None = None,
        variant: str = "LBAN", reading: str = "table", sparsity: float = 0.5, with_replacement: bool = False, normalise: bool = True,
        dropout: float = 0.5, features: int = 128,
    ) -> None:
        super().__init__(
            num_classes=num_classes, width=width, in_channels=in_channels, input_size=input_size, image_size=image_size, variant=variant,
            reading=reading, sparsity=sparsity, with_replacement=with_replacement, normalise=normalise, dropout=dropout, features=features,
        )
        for argument, value, known in (("variant", variant, VARIANTS), ("reading", reading, READINGS)):
            if value not in known:
                raise ValueError(f"{argument} must be one of {', '.join(map(repr, known))}, got {value!r}")
        if features < 1:
            raise ValueError(f"features must be at least 1, got {features}")
        row, read = VARIANTS[variant], READINGS[reading]

        def make(inputs: int, outputs: int, *, stride: int = 1, standard: bool = True) -> nn.Module:
            if row.unit == "plain":
                return PlainUnit(inputs, outputs, stride=stride, normalise=normalise)
            return LBSL(
                inputs, outputs, stride=stride, learned=row.unit == "learned", standard=standard, shortcut=row.shortcuts, reading=read,
                sparsity=sparsity, with_replacement=with_replacement, normalise=normalise,
            )

        in_main = row.standard or read.without_standard == "attention"  # whether the main stream's LBSLs have standard convolutions
        stem, *blocks = (round_width(channels, width) for channels in (STEM, *CHANNELS))
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            stem=nn.Sequential(nn.Conv2d(in_channels, stem, 3, padding=1, bias=False), _make_norm(stem, normalise), nn.ReLU(inplace=True))
        )
        inputs = stem
        for i, (channels, forward, samplings) in enumerate(zip(blocks, read.forward, SAMPLINGS, strict=True), 1):
            layers[f"widen_{i}"] = make(inputs, channels, stride=2, standard=in_main)
            layers[f"block_{i}"] = LBAB(
                channels, forward, samplings, attention=row.attention, reading=read,
                make_main=lambda count: make(count, count, standard=in_main),
                make_unit=lambda count: make(count, count, standard=row.standard),
            )
            inputs = channels
        layers["pool"] = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Flatten(), nn.Dropout(dropout))
        flat = find_flat_size(nn.Sequential(layers), in_channels, input_size)
        layers["hidden"] = nn.Linear(flat, features)
        layers["norm"] = nn.BatchNorm1d(features) if normalise else nn.Identity()
        self.body = nn.Sequential(layers)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(features, num_classes)
        self._draw_weights()

    @torch.no_grad()
    def _draw_weights(self) -> None:
        """Draw the weights as all networks of the book are drawn, but for three kinds; the third is :data:`FEATURE_DEVIATION`.

        A deconvolution's maps start as large as its inputs. The last convolution before a sigmoid starts as small as the last layer: so
        attention starts at about a half, while of large inputs a sigmoid gives 0 or 1, and learns nothing.
        """
        initialise(self)
        for layer in self.modules():
            if isinstance(layer, LocalBinaryConv2d):
                layer.reset_parameters()
            elif isinstance(layer, nn.ConvTranspose2d):
                # a pixel gets a quarter of the kernel, as the stride is 2
                nn.init.normal_(layer.weight, std=(4 / layer.weight[:, 0].numel()) ** 0.5)
            elif isinstance(layer, _Attention):
                nn.init.normal_(layer.weigh[-1].weight, std=0.01)
            elif isinstance(layer, nn.BatchNorm1d):
                nn.init.constant_(layer.weight, FEATURE_DEVIATION)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Compute class scores ``[B, num_classes]`` before the softmax from features ``[B, features]``, some dropped in training."""
        return self.classifier(self.dropout(features))

    def attend(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the attention of each block.

        Parameters
        ----------
        images : float ``[B, in_channels, input_size, input_size]``
            From 0 to 1.

        Returns
        -------
        three of float ``[B, C, S, S]``
            Between 0 and 1; at the paper's size ``[B, 128, 40, 40]``, ``[B, 256, 20, 20]`` and ``[B, 512, 10, 10]``.

        Raises
        ------
        ValueError
            If the images have another shape, or the variant has no attention.
        """
        self.check_images(images)
        if not VARIANTS[self.settings["variant"]].attention:
            known = ", ".join(name for name, variant in VARIANTS.items() if variant.attention)
            raise ValueError(f"the variant {self.settings['variant']!r} has no attention; those with it are {known}")
        found = []
        for layer in self.body:
            if isinstance(layer, LBAB) and layer.attention is not None:
                found.append(layer.attention(images))
            images = layer(images)
        return tuple(found)


@register_model
class SlimVGG(FaceModel):
    """VGG19 with one hidden layer of 512, the only reading that was found for the 20.3 million weights of Table 2.

    Sixteen 3x3 convolutions with batch normalisation; what five poolings leave is averaged over the image. That the hidden layer is
    normalised and not rectified is as in :class:`LBAN`, so that the losses on features meet the same kind of features.

    Parameters
    ----------
    num_classes : int
    width : float
        Factor of all channels and of the hidden layer.
    in_channels : int
        1 for grey or 3.
    input_size : int
        Side of what the network sees.
    image_size : int, optional
        Side to which whole faces are brought first.
    dropout : float
        Share of the inputs of each of the two last layers that are dropped in training.
    """

    name = "slim_vgg"

    def __init__(
        self, num_classes: int = 7, width: float = 1.0, in_channels: int = 3, input_size: int = 80, image_size: int | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(
            num_classes=num_classes, width=width, in_channels=in_channels, input_size=input_size, image_size=image_size, dropout=dropout
        )
        layers: list[nn.Module] = []
        channels = in_channels
        for count, wide in ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)):
            for _ in range(count):
                outputs = round_width(wide, width)
                layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
                channels = outputs
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        features = round_width(512, width)
        self.body = nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels, features), nn.BatchNorm1d(features)
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(features, num_classes)
        initialise(self)
        nn.init.constant_(self.body[-1].weight, FEATURE_DEVIATION)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Compute class scores ``[B, num_classes]`` before the softmax from features ``[B, D]``, some dropped in training."""
        return self.classifier(self.dropout(features))


def count_learnable(model: nn.Module) -> int:
    """Weights that are learned, as Table 2 counts them: fixed filters are buffers and do not count."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
