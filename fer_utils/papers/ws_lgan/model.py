"""WS-LGAN: a network that finds eyes and mouth by their attributes, and one that weighs them against the whole face.

Everything behind the last maps is linear in them until the classifier: a map times an attention map, averaged over the pixels, is all that
fusion and classifier need of it. So features are pooled first, ``[B, branches, C]``, and fused then; fusing maps of 12x12 gives the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import nn

from ...models.base import FaceModel, initialise
from ...models.registry import register_model

__all__ = [
    "EVIDENCE", "FUSIONS", "PARTS", "WSLGAN", "AttentionMapGenerator", "AttributeNetwork", "SelectiveFeatureUnit", "build_backbone",
    "normalise_maps", "pool_attended",
]

#: Parts of the face that have a branch of the Attention Map Generator, in the order of its maps.
PARTS = ("eyes", "mouth")
#: Which class's weights are mapped back: that of the higher score, or "has an attribute" always.
EVIDENCE = ("predicted", "positive")
#: Ways to fuse branches: the Selective Feature Unit, and Table IX's rivals.
FUSIONS = ("select", "sum", "concatenate")
#: Which branches a network has: all, GFNet's or LFNet's (Table VIII).
BRANCHES = {"both": (*PARTS, "global"), "global": ("global",), "local": PARTS}


# -- the variant of DenseNet ----------------------------------------------------------------------------------------------


class _DenseLayer(nn.Module):
    """New maps beside all earlier ones: ``[x, conv3x3(relu(norm(conv1x1(relu(norm(x))))))]``."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        narrow = 4 * growth
        self.new = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.Conv2d(channels, narrow, 1, bias=False),
            nn.BatchNorm2d(narrow), nn.ReLU(inplace=True), nn.Conv2d(narrow, growth, 3, padding=1, bias=False),
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.cat([maps, self.new(maps)], dim=1)


def build_backbone(in_channels: int, layers: Sequence[int], growth: int, compression: float) -> tuple[nn.Sequential, int]:
    """Build the variant of DenseNet (Zhang, Su & Wang 2020, III-A): dense blocks with a transition between two.

    The paper prints the dense layers of each block. Three blocks and two transitions are those of DenseNet-BC for images of 32 pixels; so
    the stem is a 3x3 convolution with twice the growth rate as channels, and nothing pools before the first block: 48 pixels become 24 and
    12. With the stem for ImageNet, maps would be 3x3, too coarse to show where a mouth is.

    Parameters
    ----------
    in_channels : int
    layers : sequence of int
        Dense layers of each block.
    growth : int
        Channels that a dense layer adds; not in the paper.
    compression : float
        Share of the channels that a transition keeps, in (0, 1]; not in the paper.

    Returns
    -------
    nn.Sequential
        Images ``[B, in_channels, S, S]`` to maps ``[B, C, S / 4, S / 4]``, 0 or more, for three blocks.
    int
        Channels ``C``.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    if not layers or min(layers) < 1 or growth < 1 or not 0 < compression <= 1:
        expected = "a backbone needs blocks of at least 1 layer, growth of at least 1 and compression above 0 and at most 1"
        raise ValueError(f"{expected}, got layers={list(layers)}, growth={growth}, compression={compression}")
    channels = 2 * growth
    parts: list[nn.Module] = [nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)]
    for number, count in enumerate(layers):
        if number:
            kept = max(1, int(channels * compression))
            parts += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.Conv2d(channels, kept, 1, bias=False), nn.AvgPool2d(2)]
            channels = kept
        parts += [_DenseLayer(channels + i * growth, growth) for i in range(count)]
        channels += count * growth
    return nn.Sequential(*parts, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)), channels


# -- the Attention Map Generator ------------------------------------------------------------------------------------------


def normalise_maps(maps: torch.Tensor) -> torch.Tensor:
    """Bring each map ``[..., H, W]`` to the range from 0 to 1, its lowest value and its highest; an even map becomes 0."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny)


@register_model
class AttributeNetwork(FaceModel):
    """A branch of the Attention Map Generator: whether a part of the face shows an attribute (Zhang, Su & Wang 2020, III-B, Fig. 3).

    The features are means of the last maps over the pixels, so the classifier's weights can be mapped back onto these maps.

    Parameters
    ----------
    num_classes : {2}
        No attribute, and any of them.
    in_channels : int
        1 for grey, as in the paper, or 3.
    input_size : int
        Side of what the network sees, a multiple of 4; 48 in the paper.
    image_size : int, optional
        Side to which whole faces are brought first.
    layers : sequence of int
        Dense layers of each block; 6, 12 and 24 in the paper.
    growth : int
        32 gives DenseNet-121's blocks, of which 6, 12 and 24 are the first three.
    compression : float

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    name = "ws_lgan_attributes"

    def __init__(
        self, num_classes: int = 2, in_channels: int = 1, input_size: int = 48, image_size: int | None = None,
        layers: Sequence[int] = (6, 12, 24), growth: int = 32, compression: float = 0.5,
    ) -> None:
        if num_classes != 2:
            raise ValueError(f"a branch tells two classes apart, an attribute and none, got num_classes={num_classes}")
        super().__init__(
            num_classes=num_classes, in_channels=in_channels, input_size=input_size, image_size=image_size, layers=list(layers),
            growth=growth, compression=compression,
        )
        _check_side(input_size, layers)
        self.body, channels = build_backbone(in_channels, layers, growth, compression)
        self.classifier = nn.Linear(channels, num_classes)
        initialise(self)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the features ``[B, C]``; see :meth:`FaceModel.embed`."""
        self.check_images(images)
        return self.body(images).mean((2, 3))

    def compute_evidence(self, images: torch.Tensor, evidence: str = "predicted") -> torch.Tensor:
        """Compute class activation maps: the last maps, weighted as the score weighs their means.

        Parameters
        ----------
        images : float ``[B, in_channels, input_size, input_size]``
            From 0 to 1.
        evidence : {"predicted", "positive"}
            Whose score: that of the class with the higher one, as the paper has it, or that of "any attribute" for all images.

        Returns
        -------
        float ``[B, H, W]``
            Not normalised. The mean over the pixels is the score without its bias.

        Raises
        ------
        ValueError
            For another ``evidence``, or images of another shape.
        """
        if evidence not in EVIDENCE:
            raise ValueError(f"evidence must be one of {', '.join(map(repr, EVIDENCE))}, got {evidence!r}")
        self.check_images(images)
        maps = self.body(images)  # [B, C, H, W]
        chosen = self.classifier(maps.mean((2, 3))).argmax(1) if evidence == "predicted" else maps.new_ones(len(maps), dtype=torch.int64)
        return torch.einsum("bc,bchw->bhw", self.classifier.weight[chosen].to(maps.dtype), maps)


class AttentionMapGenerator(nn.Module):
    """Two trained branches, one a part of the face; they stay as they are (Zhang, Su & Wang 2020, III-B).

    Their weights get no gradient, and they are in evaluation mode whatever the network around them is in.

    Parameters
    ----------
    eyes, mouth : AttributeNetwork
    evidence : {"predicted", "positive"}
        See :meth:`AttributeNetwork.compute_evidence`.
    """

    def __init__(self, eyes: AttributeNetwork, mouth: AttributeNetwork, evidence: str = "predicted") -> None:
        super().__init__()
        self.eyes, self.mouth, self.evidence = eyes, mouth, evidence
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: normalisations keep their statistics."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Attention maps ``[B, 2, H, W]`` of eyes and mouth, from 0 to 1; ``images`` as the branches take them."""
        evidence = [branch.compute_evidence(images, self.evidence) for branch in (self.eyes, self.mouth)]
        return normalise_maps(torch.stack(evidence, dim=1).float())


# -- local features and fusion --------------------------------------------------------------------------------------------


def pool_attended(features: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Bilinear attention pooling: weigh each pixel by each attention map, and average (Zhang, Su & Wang 2020, eq. 1-2).

    Parameters
    ----------
    features : float ``[B, C, H, W]``
    maps : float ``[B, P, H, W]``

    Returns
    -------
    float ``[B, P, C]``

    Raises
    ------
    ValueError
        If maps and features have other sides.
    """
    if maps.ndim != 4 or features.shape[2:] != maps.shape[2:] or len(features) != len(maps):
        raise ValueError(f"attention maps must be [{len(features)}, P, {', '.join(map(str, features.shape[2:]))}], got {list(maps.shape)}")
    return torch.einsum("bchw,bphw->bpc", features, maps.to(features.dtype)) / features[0, 0].numel()


class SelectiveFeatureUnit(nn.Module):
    """Weigh branches against each other, channel by channel (Zhang, Su & Wang 2020, III-D 2), eq. 5-9, Fig. 5).

    The branches' sum is squeezed to a few numbers, from which one matrix a branch makes its weights; a softmax over the branches lets the
    weights of a channel add up to 1. Layer, normalisation and rectifier come in this order, as in the unit's model, SK-Net.

    Parameters
    ----------
    channels, branches : int
        ``C`` and ``P``; the paper has 3 branches.
    reduction : int
        Channels for each number of the squeezed vector, at least 1 of which is left: ``d = C / 16`` in the paper.
        ``ValueError`` if this or another argument is below 1.
    """

    def __init__(self, channels: int, branches: int = 3, reduction: int = 16) -> None:
        super().__init__()
        if channels < 1 or branches < 1 or reduction < 1:
            raise ValueError(f"channels, branches and reduction must be at least 1, got {channels}, {branches} and {reduction}")
        squeezed = max(1, channels // reduction)
        self.squeeze = nn.Sequential(nn.Linear(channels, squeezed, bias=False), nn.BatchNorm1d(squeezed), nn.ReLU(inplace=True))
        self.select = nn.ModuleList(nn.Linear(squeezed, channels, bias=False) for _ in range(branches))  # E, M and G

    def compute_weights(self, pooled: torch.Tensor) -> torch.Tensor:
        """Weights ``[B, P, C]``, which add up to 1 over the branches, from pooled branches ``[B, P, C]``."""
        squeezed = self.squeeze(pooled.sum(1))  # [B, d]
        return torch.stack([matrix(squeezed) for matrix in self.select], dim=1).softmax(1)

    def forward(self, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fused features ``[B, C]`` and weights ``[B, P, C]``, from pooled branches ``[B, P, C]``."""
        weights = self.compute_weights(pooled)
        return (weights * pooled).sum(1), weights


# -- the whole ------------------------------------------------------------------------------------------------------------


@register_model
class WSLGAN(FaceModel):
    """Weakly supervised local-global attention network, and its rivals (Zhang, Su & Wang 2020, Fig. 2, Tables VIII and IX).

    Trained on pairs, whose two images pass through the same weights in one batch; one image is enough to predict. The Attention Map
    Generator is frozen: give it trained branches with :meth:`set_branches`.

    Parameters
    ----------
    num_classes : int
    in_channels : int
        1 for grey, as in the paper, or 3.
    input_size : int
        Side of what the network sees, a multiple of 4; 48 in the paper.
    image_size : int, optional
        Side to which whole faces are brought first.
    features : {"both", "global", "local"}
        The last two are GFNet and LFNet. GFNet has no generator.
    fusion : {"select", "sum", "concatenate"}
        The Selective Feature Unit, or WS-LGAN-Sum and WS-LGAN-Concat.
    layers, amg_layers : sequence of int
        Dense layers of each block of the Feature Extractor and of a branch of the generator.
    growth, compression : int and float
        Of all backbones; see :func:`build_backbone`.
    embedding : int
        Outputs of the auxiliary layers, on which the contrastive losses work; not in the paper.
    reduction : int
        See :class:`SelectiveFeatureUnit`.
    evidence : {"predicted", "positive"}
        See :meth:`AttributeNetwork.compute_evidence`.

    Attributes
    ----------
    branches : tuple of str
        Of ``eyes``, ``mouth`` and ``global``, those that are there, in the order of the weights.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    name = "ws_lgan"

    def __init__(
        self, num_classes: int = 7, in_channels: int = 1, input_size: int = 48, image_size: int | None = None, features: str = "both",
        fusion: str = "select", layers: Sequence[int] = (6, 6, 6), amg_layers: Sequence[int] = (6, 12, 24), growth: int = 32,
        compression: float = 0.5, embedding: int = 128, reduction: int = 16, evidence: str = "predicted",
    ) -> None:
        for argument, value, options in (
            ("features", features, BRANCHES), ("fusion", fusion, FUSIONS), ("evidence", evidence, EVIDENCE)
        ):
            if value not in options:
                raise ValueError(f"{argument} must be one of {', '.join(map(repr, options))}, got {value!r}")
        super().__init__(
            num_classes=num_classes, in_channels=in_channels, input_size=input_size, image_size=image_size, features=features,
            fusion=fusion, layers=list(layers), amg_layers=list(amg_layers), growth=growth, compression=compression, embedding=embedding,
            reduction=reduction, evidence=evidence,
        )
        _check_side(input_size, layers)
        if len(layers) != len(amg_layers):
            raise ValueError(f"both backbones need as many blocks, so that maps fit, got layers={layers}, amg_layers={amg_layers}")
        if embedding < 1:
            raise ValueError(f"embedding must be at least 1, got {embedding}")
        self.branches, self.fusion = BRANCHES[features], fusion
        start = int(torch.randint(2**62, (1,), device="cpu"))  # from one draw, so that parts which rivals share start alike
        self.body, channels = build_backbone(in_channels, layers, growth, compression)
        generator = None
        if features != "global":
            options = {
                "in_channels": in_channels, "input_size": input_size, "image_size": image_size, "layers": amg_layers, "growth": growth,
                "compression": compression,
            }
            generator = AttentionMapGenerator(AttributeNetwork(**options), AttributeNetwork(**options), evidence)
        self.auxiliary = nn.ModuleDict({name: nn.Linear(channels, embedding) for name in self.branches})
        self.unit = None
        if fusion == "select" and len(self.branches) > 1:
            self.unit = SelectiveFeatureUnit(channels, len(self.branches), reduction)
        self.classifier = nn.Linear(channels * (len(self.branches) if fusion == "concatenate" else 1), num_classes)
        with torch.random.fork_rng():
            torch.manual_seed(start)
            initialise(self)
        self.generator = generator  # drawn already, each branch as a network of its own

    def set_branches(self, eyes: AttributeNetwork, mouth: AttributeNetwork) -> None:
        """Take over the weights of two trained branches; GFNet needs none and takes none.

        Parameters
        ----------
        eyes, mouth : AttributeNetwork

        Raises
        ------
        ValueError
            If a branch was built with other settings than this network's.
        """
        if self.generator is None:
            return
        for part, given in zip(PARTS, (eyes, mouth), strict=True):
            own: AttributeNetwork = getattr(self.generator, part)
            for name, expected in own.settings.items():
                if given.settings[name] != expected:
                    raise ValueError(f"the branch of the {part} has {name}={given.settings[name]}; expected {expected}, this network's")
            own.load_state_dict(given.state_dict())

    def compute_branches(self, images: torch.Tensor, maps: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compute the branches' features before they are fused.

        Parameters
        ----------
        images : float ``[B, in_channels, input_size, input_size]``
            From 0 to 1.
        maps : float ``[B, 2, H, W]``, optional
            Attention maps of eyes and mouth, in the place of the generator's.

        Returns
        -------
        float ``[B, P, C]``
            In the order of ``branches``.
        float ``[B, 2, H, W]``
            The attention maps; None for GFNet.

        Raises
        ------
        ValueError
            If images or maps have another shape.
        """
        self.check_images(images)
        found = self.body(images)  # [B, C, H, W]
        pooled = [found.mean((2, 3)).unsqueeze(1)] if "global" in self.branches else []
        if self.generator is None:
            return pooled[0], None
        maps = self.generator(images) if maps is None else maps
        if maps.shape[1:2] != (len(PARTS),):
            raise ValueError(f"there must be attention maps of {' and '.join(PARTS)}, got {list(maps.shape)}")
        return torch.cat([pool_attended(found, maps), *pooled], dim=1), maps

    def fuse(self, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Fuse branches ``[B, P, C]`` to features ``[B, embedding_size]``; and the unit's weights ``[B, P, C]``, None without it."""
        if self.unit is not None:
            return self.unit(pooled)
        return (pooled.flatten(1) if self.fusion == "concatenate" else pooled.sum(1)), None

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the fused features; see :meth:`FaceModel.embed`."""
        return self.fuse(self.compute_branches(images)[0])[0]

    def compute_outputs(self, images: torch.Tensor, maps: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Compute all that an objective or a picture may ask for.

        Parameters
        ----------
        images, maps
            As :meth:`compute_branches`.

        Returns
        -------
        dict
            ``features`` ``[B, embedding_size]`` and ``scores`` ``[B, num_classes]``; by the names of ``branches`` the outputs of the
            auxiliary layers, ``[B, embedding]``; ``maps`` ``[B, 2, H, W]``, but for GFNet; and ``weights`` ``[B, P, C]`` of the unit, where
            there is one.
        """
        pooled, maps = self.compute_branches(images, maps)
        features, weights = self.fuse(pooled)
        outputs = {"features": features, "scores": self.classify(features)}
        outputs |= {name: self.auxiliary[name](pooled[:, i]) for i, name in enumerate(self.branches)}
        known: dict[str, Any] = {"maps": maps, "weights": weights}
        return outputs | {name: value for name, value in known.items() if value is not None}


def _check_side(input_size: int, layers: Sequence[int]) -> None:
    """Raise ``ValueError`` unless transitions can halve the side without a rest."""
    factor = 2 ** (len(layers) - 1)
    if input_size % factor:
        raise ValueError(f"input_size must be a multiple of {factor}, which {len(layers)} blocks with transitions need, got {input_size}")
