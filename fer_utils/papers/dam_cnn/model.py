"""DAM-CNN (Xie, Hu & Wu 2019, Fig. 2, Table 1): a trunk that knows faces, a mask of salient regions, an autoencoder of several paths.

The trunk's maps pass the mask (SERD). In the first stage what is left of them goes on through the trunk's own last layers
(:class:`SerdNetwork`, the paper's VGG-SERD), in the second through MPVS-Net, which takes those layers' place (:class:`DAMCNN`).
"""

from __future__ import annotations

import copy
import os
from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from torch.nn.functional import relu

from ...models.base import FaceModel, initialise
from ...models.face_network import STAGES, FaceNetwork, load_face_network
from ...models.registry import build_model, register_model
from ...models.vgg_face import VGGFace, load_vgg_face
from ...training.stages import freeze

__all__ = ["DAMCNN", "DECODERS", "MPAE", "TRUNKS", "MPVSNet", "Serd", "SerdNetwork", "UpperPart", "load_trunk"]

#: Networks that give the maps, and the side of the images that they learned from, in pixels.
TRUNKS = {VGGFace.name: 224, FaceNetwork.name: 150}
#: Kinds of decoders: the paper's, and what section 4.5 would put in their place.
DECODERS = ("dense", "convolutional")
#: The face network's maps of 8x8x128 take the place of VGG-Face's 7x7x512.
_LAST_STAGE = "stage_128"
#: Where the mask starts: tanh(1) = 0.76 in all places, but for small draws.
_FIRST_BIAS, _FIRST_STD = 1.0, 0.01


class _SubtractMean(nn.Module):
    """Images from 0 to 1 to the scale of VGG-Face, without its mean; a part of the trunk, so that this takes images as they come."""

    def __init__(self, mean: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * 255 - self.mean


# -- the mask -------------------------------------------------------------------------------------------------------------


class Serd(nn.Module):
    """The salient expressional region descriptor: ``M = tanh(W_a * h_c + B_a)``, ``h_s = relu(M h_c)`` (section 3.2, eq. 1 and 2).

    Maps come from a rectifier and are 0 or more, so what the last ReLU cuts off are the places whose weight is negative.

    "Randomly initialised" is all that the paper says of the start, and it matters. Where the mask is not positive the ReLU hands no
    gradient of the cross-entropy back, and the regulariser pulls towards 0 and not beyond. Of a kernel drawn around 0, one start in two
    begins with most places closed, some with all; those open only by what other places and faces do to the kernel, or by chance. Here
    kernels are drawn small around 0 and the bias is 1: the mask begins at about 0.76 everywhere, where tanh is not yet flat.

    Parameters
    ----------
    channels : int
        Of the maps; 512 in Table 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = nn.Conv2d(channels, 1, 1)
        nn.init.normal_(self.attention.weight, std=_FIRST_STD)
        nn.init.constant_(self.attention.bias, _FIRST_BIAS)

    def forward(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weigh the places of maps.

        Parameters
        ----------
        maps : float ``[B, C, S, S]``
            0 or more.

        Returns
        -------
        mask : float ``[B, 1, S, S]``
            Between -1 and 1.
        salient : float ``[B, C, S, S]``
            0 or more.
        """
        mask = self.attention(maps).tanh()
        return mask, relu(mask * maps)


def _attend(network: Any, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    """All outputs of stage one, from what the network's trunk takes; without SERD all places stay as they are."""
    maps = network.trunk(inputs)  # [B, C, S, S]
    found = {"maps": maps, "salient": maps}
    if network.serd is not None:
        found["mask"], found["salient"] = network.serd(maps)
    features = network.head(found["salient"])
    return {**found, "features": features, "scores": network.classifier(features)}


@register_model
class SerdNetwork(FaceModel):
    """A network that knows faces, with SERD before its last layers: the paper's VGG-SERD, and VGG-Face itself (sections 3.1 and 3.2).

    VGG-Face's convolutions give maps of 7x7x512, behind which come its two hidden layers of 4,096 and a new last layer. (The paper speaks
    of 16 convolutions; its Table 1 lists VGG-Face's 13.) Of the face network that ships, ``stage_128`` gives maps of 8x8x128, behind
    which come its upper stages, the descriptor of 128 features, dropout and a new last layer. Weights are drawn; :func:`load_trunk`
    gives those that know faces.

    Parameters
    ----------
    num_classes : int
    trunk : {"vgg_face", "face_network"}
    width : float
        Of VGG-Face; 1 in the paper. The face network has one width.
    input_size : int, optional
        Side of what the network sees; what the trunk learned from by default, 224 or 150.
    image_size : int, optional
        Side to which whole faces are brought first; ``input_size`` by default.
    dropout : float
        Share of the features, and of VGG-Face's hidden layers, that is dropped in training; 0.5, section 4.1.2.
    attention : bool
        Whether there is a SERD; the paper compares with the trunk alone (Table 2).

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    name = "serd_network"

    def __init__(
        self, num_classes: int = 7, trunk: str = "vgg_face", width: float = 1.0, input_size: int | None = None,
        image_size: int | None = None, dropout: float = 0.5, attention: bool = True,
    ) -> None:
        if trunk not in TRUNKS:
            raise ValueError(f"trunk must be one of {', '.join(TRUNKS)}, got {trunk!r}")
        if trunk == FaceNetwork.name and width != 1:
            raise ValueError(f"the face network has one width; expected width=1, got {width}")
        size = input_size or TRUNKS[trunk]
        super().__init__(
            num_classes=num_classes, in_channels=3, input_size=size, image_size=image_size or size, trunk=trunk, width=width,
            dropout=dropout, attention=attention,
        )
        del self.settings["in_channels"]
        sizes = {"num_classes": num_classes, "input_size": size, "image_size": image_size}
        if trunk == FaceNetwork.name:
            whole = build_model(trunk, **sizes)
            count = STAGES.index(_LAST_STAGE) + 1
            self.trunk, self.head = whole.body[:count], whole.body[count:].append(nn.Dropout(dropout))
        else:
            whole = build_model(trunk, **sizes, width=width, dropout=dropout)
            # up to the last pooling; the names of the layers stay, in which weights are loaded
            count = next(i for i, layer in enumerate(whole.body) if isinstance(layer, nn.Flatten))
            self.trunk = nn.Sequential(OrderedDict(centre=_SubtractMean(whole.mean), **dict(whole.body[:count].named_children())))
            self.head = whole.body[count:]
        self.maps_shape = _find_shape(self.trunk, size)
        self.serd = Serd(self.maps_shape[0]) if attention else None
        self.classifier = whole.classifier

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the features of RGB images ``[B, 3, S, S]`` from 0 to 1, see :meth:`~fer_utils.models.base.FaceModel.embed`."""
        return self.compute_outputs(images)["features"]

    def compute_outputs(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute all that objectives and figures ask for.

        Parameters
        ----------
        images : float ``[B, 3, input_size, input_size]``
            RGB from 0 to 1.

        Returns
        -------
        dict of str to tensor
            ``maps`` and ``salient`` ``[B, C, S, S]``, ``mask`` ``[B, 1, S, S]`` (not without SERD), ``features`` ``[B, D]`` and
            ``scores`` ``[B, num_classes]``.

        Raises
        ------
        ValueError
            If the images have another shape.
        """
        self.check_images(images)
        return _attend(self, images)


class UpperPart(nn.Module):
    """What follows a frozen stage of the face network in a :class:`SerdNetwork`: each face passes the stages below only once.

    Parameters
    ----------
    network : SerdNetwork
        Its modules are used, not copied: what is trained here is trained there.
    stage : str
        The last frozen stage, up to that which gives the maps.

    Raises
    ------
    ValueError
        For another trunk or another stage.
    """

    def __init__(self, network: SerdNetwork, stage: str) -> None:
        super().__init__()
        known = [name for name, _ in network.trunk.named_children()]
        if network.settings["trunk"] != FaceNetwork.name or stage not in known:
            expected = f"one of {', '.join(STAGES[: STAGES.index(_LAST_STAGE) + 1])} of the face network"
            raise ValueError(f"stage must be {expected}, got {stage!r} of {network.settings['trunk']}")
        self.trunk, self.serd = network.trunk[known.index(stage) + 1 :], network.serd
        self.head, self.classifier = network.head, network.classifier
        self.num_classes = network.num_classes

    def compute_outputs(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """As :meth:`SerdNetwork.compute_outputs`, from maps ``[B, C, S, S]`` of the frozen stage."""
        return _attend(self, inputs)


def load_trunk(network: SerdNetwork, path: str | os.PathLike[str] | None = None, *, channels: str | None = None) -> None:
    """Give a network the weights that know faces, all but the last layer's and SERD's.

    Parameters
    ----------
    network : SerdNetwork
    path : path, optional
        VGG-Face's file, see :func:`~fer_utils.models.vgg_face.load_vgg_face`; the face network's ships.
    channels : {"rgb", "bgr"}, optional
        As there.

    Raises
    ------
    ValueError
        If a path is missing or one too many, or as the loaders; the network is then unchanged.
    """
    trunk = network.settings["trunk"]
    if (path is None) == (trunk == VGGFace.name):
        expected = "VGG-Face takes the path of its weights" if path is None else "the face network's weights ship, and take no path"
        raise ValueError(f"{expected}, got {path}")
    if path is None:
        known = load_face_network(network.num_classes, seed=0).body.state_dict()
        for part in (network.trunk, network.head):
            part.load_state_dict({name: known[name] for name in part.state_dict()})
        return
    with torch.device("meta"):
        whole = VGGFace(network.num_classes, network.settings["width"], network.input_size)
    whole.body, whole.classifier = nn.Sequential(*network.trunk[1:], *network.head), network.classifier
    load_vgg_face(whole, path, last="fc7", channels=channels)


def _find_shape(trunk: nn.Module, input_size: int) -> tuple[int, int]:
    """Channels and side of the maps, without computing them."""
    with torch.no_grad():
        maps = copy.deepcopy(trunk).to("meta")(torch.empty(1, 3, input_size, input_size, device="meta"))
    return maps.shape[1], maps.shape[2]


# -- the autoencoder of several paths ---------------------------------------------------------------------------------------


class _ConvolutionalDecoder(nn.Module):
    """One transposed convolution of stride 2 instead of a dense layer: the representation is read as maps of half the side."""

    def __init__(self, hidden: int, channels: int, side: int) -> None:
        super().__init__()
        start = (side + 1) // 2
        depth, rest = divmod(hidden, start**2)
        if rest:
            expected = f"a multiple of {start**2} for maps of {side}x{side}"
            raise ValueError(f"a convolutional decoder needs hidden to be {expected}, got {hidden}")
        self.start = (depth, start, start)
        # 3x3 or 4x4, so that twice the side, or one less, comes out
        self.layer = nn.ConvTranspose2d(depth, channels, 4 - side % 2, stride=2, padding=1)

    def forward(self, representation: torch.Tensor) -> torch.Tensor:
        return self.layer(representation.unflatten(1, self.start))


class MPAE(nn.Module):
    """The multi-path autoencoder: one encoder, and ``paths`` decoders that each make another sample of it (3.3.1, eq. 6 and 7).

    Decoders end in a sigmoid, but salient features have no upper bound, so what is above 1 could not be reconstructed. The paper does
    not say how it scales; here samples are salient features divided by ``ceiling``, the largest that each channel has in the training
    faces (:func:`~fer_utils.papers.dam_cnn.objective.find_ceiling`). Both the encoder's input and the decoders' targets are samples.
    :func:`~fer_utils.papers.dam_cnn.objective.find_floor` says what the printed form leaves unreconstructed.

    "Dropout is applied ... to the MPAE" (3.3.2): here to the representation, which decoders and classifier then see alike.

    Parameters
    ----------
    channels, side : int
        Of the salient features, 512 and 7 in Table 1.
    hidden : int
        Size of the representation, 4,096 in Table 1.
    paths : int
        Decoders ``N``; 2 to 5 in Table 4.
    decoder : {"dense", "convolutional"}
        The second is the paper's future work (4.5): transposed convolutions, here one, with a sigmoid as ever.
    dropout : float

    Attributes
    ----------
    ceiling : float32 ``[channels, 1, 1]``
        1 until it is set.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    def __init__(
        self, channels: int = 512, side: int = 7, hidden: int = 4096, paths: int = 5, decoder: str = "dense", dropout: float = 0.5
    ) -> None:
        super().__init__()
        if decoder not in DECODERS:
            raise ValueError(f"decoder must be one of {', '.join(DECODERS)}, got {decoder!r}")
        if min(channels, side, hidden, paths) < 1:
            given = f"channels={channels}, side={side}, hidden={hidden}, paths={paths}"
            raise ValueError(f"an autoencoder needs channels, side, hidden and paths of at least 1, got {given}")
        self.shape = (channels, side, side)
        size = channels * side**2
        self.encoder = nn.Linear(size, hidden)
        self.dropout = nn.Dropout(dropout)
        self.decoders = nn.ModuleList(
            nn.Linear(hidden, size) if decoder == "dense" else _ConvolutionalDecoder(hidden, channels, side) for _ in range(paths)
        )
        self.register_buffer("ceiling", torch.ones(channels, 1, 1))

    def encode(self, salient: torch.Tensor) -> torch.Tensor:
        """Compute the representation ``[B, hidden]``, from 0 to 1 but for dropout, of salient features ``[B, C, S, S]``.

        Raises ``ValueError`` if these have another shape.
        """
        if salient.shape[1:] != self.shape:
            raise ValueError(f"MPAE takes salient features [B, {', '.join(map(str, self.shape))}], got {list(salient.shape)}")
        samples = salient / self.ceiling
        return self.dropout(self.encoder(samples.flatten(1)).sigmoid())

    def decode(self, representation: torch.Tensor) -> torch.Tensor:
        """Compute what each decoder makes of representations ``[B, hidden]``: samples ``[B, paths, C, S, S]`` between 0 and 1."""
        found = [decoder(representation).flatten(1) for decoder in self.decoders]
        return torch.stack(found, 1).sigmoid().unflatten(2, self.shape)


class MPVSNet(nn.Module):
    """The multi-path variation-suppressing network: the autoencoder, and two dense layers on its representation (3.3.2, Table 1).

    Parameters
    ----------
    mpae : MPAE
    hidden : nn.Module
        Representations to features.
    classifier : nn.Linear
        Features to class scores.
    """

    def __init__(self, mpae: MPAE, hidden: nn.Module, classifier: nn.Linear) -> None:
        super().__init__()
        self.mpae, self.hidden, self.classifier = mpae, hidden, classifier
        self.num_classes = classifier.out_features

    def compute_outputs(self, salient: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute what stage two asks for, from salient features ``[B, C, S, S]`` as they are, not divided by the ceiling.

        Returns
        -------
        dict of str to tensor
            ``representation`` ``[B, hidden]``, ``reconstructions`` ``[B, paths, C, S, S]``, ``features`` ``[B, D]`` and ``scores``
            ``[B, num_classes]``.

        Raises
        ------
        ValueError
            If the salient features have another shape.
        """
        return _disentangle(self, salient)


def _disentangle(network: Any, salient: torch.Tensor) -> dict[str, torch.Tensor]:
    """All outputs of stage two, from salient features."""
    representation = network.mpae.encode(salient)
    features = network.hidden(representation)
    scores, reconstructions = network.classifier(features), network.mpae.decode(representation)
    return {"representation": representation, "reconstructions": reconstructions, "features": features, "scores": scores}


@register_model
class DAMCNN(FaceModel):
    """The whole: trunk, SERD, and MPVS-Net in the place of the trunk's last layers (Fig. 2, Table 1).

    With VGG-Face at full width, MPVS-Net has 325, 428, 531 and 634 million weights for 2 to 5 paths of dense decoders; 102.8 of them are
    the encoder's and as many each decoder's. A convolutional decoder has 1.2.

    Parameters
    ----------
    num_classes, trunk, width, input_size, image_size
        See :class:`SerdNetwork`.
    hidden : int
        Size of the representation and of the first dense layer; 4,096 in Table 1.
    paths, decoder
        See :class:`MPAE`.
    dropout : float
        Share of the representation, and of the first dense layer's outputs, that is dropped in training; 0.5, section 4.1.2.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    name = "dam_cnn"

    def __init__(
        self, num_classes: int = 7, trunk: str = "vgg_face", width: float = 1.0, input_size: int | None = None,
        image_size: int | None = None, hidden: int = 4096, paths: int = 5, decoder: str = "dense", dropout: float = 0.5,
    ) -> None:
        first = SerdNetwork(num_classes, trunk, width, input_size, image_size, dropout)
        super().__init__(
            num_classes=num_classes, in_channels=3, input_size=first.input_size, image_size=first.image_size, trunk=trunk, width=width,
            hidden=hidden, paths=paths, decoder=decoder, dropout=dropout,
        )
        del self.settings["in_channels"]
        self.trunk, self.serd = first.trunk, first.serd
        self.mpae = MPAE(*first.maps_shape, hidden, paths, decoder, dropout)
        self.hidden = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.classifier = nn.Linear(hidden, num_classes)
        initialise(self.second_stage())  # type: ignore[arg-type]

    def second_stage(self) -> MPVSNet:
        """The part that stage two trains, on salient features that were computed once; its modules are this network's own."""
        return MPVSNet(self.mpae, self.hidden, self.classifier)

    @torch.no_grad()
    def start_from(self, network: SerdNetwork, ceiling: torch.Tensor) -> None:
        """Take over the trunk and SERD of stage one, and keep them as they are from now on (Algorithm 1, line 4).

        Parameters
        ----------
        network : SerdNetwork
        ceiling : float32 ``[C, 1, 1]``
            Largest salient feature of each channel in the training faces.

        Raises
        ------
        ValueError
            If the network has no SERD, or is of another trunk or size.
        """
        shared = ("trunk", "width", "input_size")
        if network.serd is None or any(network.settings[name] != self.settings[name] for name in shared):
            given = ", ".join(f"{name}={network.settings[name]!r}" for name in (*shared, "attention"))
            wanted = ", ".join(f"{name}={self.settings[name]!r}" for name in shared)
            raise ValueError(f"stage two starts from a network of {wanted}, attention=True, got {given}")
        if ceiling.shape != self.mpae.ceiling.shape or not (ceiling > 0).all():
            raise ValueError(f"ceiling must be positive, {list(self.mpae.ceiling.shape)}, got {list(ceiling.shape)} from {ceiling.min()}")
        self.trunk.load_state_dict(network.trunk.state_dict())
        self.serd.load_state_dict(network.serd.state_dict())
        self.mpae.ceiling.copy_(ceiling)
        freeze(self.trunk, self.serd)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the first dense layer's activations ``[B, hidden]`` of RGB images ``[B, 3, S, S]`` from 0 to 1; no decoder runs."""
        self.check_images(images)
        return self.hidden(self.mpae.encode(self.serd(self.trunk(images))[1]))

    def compute_outputs(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute ``maps``, ``mask`` and ``salient`` as :meth:`SerdNetwork.compute_outputs`, the rest as :meth:`MPVSNet.compute_outputs`.

        Raises ``ValueError`` if the images are not ``[B, 3, input_size, input_size]``.
        """
        self.check_images(images)
        maps = self.trunk(images)
        mask, salient = self.serd(maps)
        return {"maps": maps, "mask": mask, "salient": salient, **_disentangle(self, salient)}
