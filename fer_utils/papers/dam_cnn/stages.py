"""The two stages of training (Xie, Hu & Wu 2019, 3.3.2, Algorithm 1), on faces or on maps of them that were computed once.

Test faces have no part in any function here but :func:`predict_faces`: all others are given training faces alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...augment import center_crop
from ...datasets.base import FaceDataset
from ...experiments.faces import limit_per_class
from ...files import data_root
from ...models import FaceNetwork, build_model
from ...models.face_network import STAGES
from ...training import Balanced, CrossEntropy, FitSettings, History, Samples, Shuffled, crop_and_flip, fit
from ...training.features import cache_face_maps, compute_batches, compute_named
from .model import DAMCNN, SerdNetwork, UpperPart, load_trunk
from .objective import CrossEntropyWithMask, CrossEntropyWithReconstruction, find_ceiling
from .pairs import Drawn, Targets
from .recipe import StageOne, StageTwo

__all__ = [
    "Trained", "build_dam_cnn", "build_serd_network", "compute_salient", "compute_seen", "find_vgg_face", "part_for", "predict_faces",
    "prepare_faces", "train_both", "train_first", "train_second",
]

_FILES = {
    "vgg-face.mat": "rgb", **{f"vgg_face_{order}.{kind}": order for order in ("rgb", "bgr") for kind in ("pth", "pt", "safetensors")},
}
_BATCH = 64


def find_vgg_face() -> tuple[Path, str] | None:
    """VGG-Face's weights in the folder ``vgg_face`` of the reader's data, and their order of colours; None where there are none.

    MatConvNet's file is called ``vgg-face.mat``. A ``state_dict`` does not say its order of colours, so its name has to:
    ``vgg_face_rgb.pth`` or ``vgg_face_bgr.pth``, ``.pt`` or ``.safetensors``.
    """
    folder = data_root() / "vgg_face"
    return next(((folder / name, order) for name, order in _FILES.items() if (folder / name).is_file()), None)


def build_serd_network(recipe: StageOne, num_classes: int, seed: int, *, attention: bool = True) -> SerdNetwork:
    """Build the network of stage one with a trunk that knows faces; SERD and the last layer are drawn from the seed.

    Parameters
    ----------
    recipe : StageOne
    num_classes : int
    seed : int
    attention : bool
        Without it there is no SERD: the rows of the trunk alone.

    Raises
    ------
    ValueError
        If the recipe wants VGG-Face and its weights are not there, or as the loaders.
    """
    network = build_model(
        SerdNetwork.name, seed=seed, num_classes=num_classes, trunk=recipe.trunk, width=recipe.width, input_size=recipe.input_size,
        dropout=recipe.dropout, attention=attention,
    )
    assert isinstance(network, SerdNetwork)
    if recipe.trunk == FaceNetwork.name:
        load_trunk(network)
        return network
    found = find_vgg_face()
    if found is None:
        raise ValueError(f"{data_root() / 'vgg_face'} has no weights of VGG-Face; expected one of {', '.join(_FILES)}")
    load_trunk(network, found[0], channels=found[1])
    return network


def build_dam_cnn(network: SerdNetwork, recipe: StageTwo, paths: int, seed: int, ceiling: torch.Tensor) -> DAMCNN:
    """Build the network of stage two around the trunk and SERD of stage one; MPVS-Net is drawn from the seed.

    Parameters
    ----------
    network : SerdNetwork
        Trained.
    recipe : StageTwo
    paths : int
        Decoders.
    seed : int
    ceiling : float32 ``[C, 1, 1]``
        Of :func:`~fer_utils.papers.dam_cnn.objective.find_ceiling`.
    """
    shared = {name: network.settings[name] for name in ("num_classes", "trunk", "width", "input_size", "image_size")}
    model = build_model(
        DAMCNN.name, seed=seed, **shared, hidden=recipe.hidden, paths=paths, decoder=recipe.decoder, dropout=recipe.dropout
    )
    assert isinstance(model, DAMCNN)
    model.start_from(network, ceiling)
    return model


# -- what the stages see of faces -----------------------------------------------------------------------------------------


def prepare_faces(faces: FaceDataset, recipe: StageOne, *, mirrored: bool = False) -> FaceDataset | Samples:
    """What stage one is trained on or asked about: faces as they are, or maps of the frozen stage, computed once and kept.

    Parameters
    ----------
    faces : FaceDataset
    recipe : StageOne
    mirrored : bool
        Whether to append the maps of mirror images, in the same order. Faces as they are get mirrored while they are trained on.
    """
    if recipe.frozen is None:
        return faces
    plain = cache_face_maps(faces, recipe.frozen)
    if not mirrored:
        return plain
    turned = cache_face_maps(faces, recipe.frozen, mirrored=True)
    return Samples(plain.name, np.concatenate([plain.inputs, turned.inputs]), np.tile(plain.labels, 2), plain.classes)


def part_for(network: SerdNetwork, recipe: StageOne) -> Any:
    """The part of the network that takes what :func:`prepare_faces` gives.

    Parameters
    ----------
    network : SerdNetwork
    recipe : StageOne
        The one that the network was built by.
    """
    return network if recipe.frozen is None else UpperPart(network, recipe.frozen)


def compute_seen(part: Any, seen: FaceDataset | Samples, name: str) -> np.ndarray:
    """Compute one of the named outputs, float32 ``[N, ...]``, in evaluation mode, of what :func:`prepare_faces` gives.

    Parameters
    ----------
    part : nn.Module
        With ``compute_outputs``.
    seen : FaceDataset or Samples
    name : str
    """
    if isinstance(seen, Samples):
        return compute_named(part, seen.inputs, name, batch_size=_BATCH)
    return torch.cat(list(compute_batches(lambda images: part.compute_outputs(images)[name], part, seen, _BATCH))).numpy()


def compute_salient(network: SerdNetwork, faces: FaceDataset, recipe: StageOne, *, mirrored: bool = False) -> np.ndarray:
    """Compute salient features of faces.

    Parameters
    ----------
    network : SerdNetwork
    faces : FaceDataset
    recipe : StageOne
        The one that the network was built by.
    mirrored : bool
        Whether to append those of the mirror images.

    Returns
    -------
    float32 ``[N, C, S, S]``
        Or ``[2 * N, C, S, S]``.
    """
    return compute_seen(part_for(network, recipe), prepare_faces(faces, recipe, mirrored=mirrored), "salient")


def predict_faces(network: SerdNetwork | DAMCNN, faces: FaceDataset, recipe: StageOne) -> np.ndarray:
    """Find the class with the highest score, int64 ``[N]``, of faces such as the test faces.

    Parameters
    ----------
    network : SerdNetwork or DAMCNN
    faces : FaceDataset
    recipe : StageOne
        The one that stage one was built by.
    """
    seen = prepare_faces(faces, recipe)
    if isinstance(network, SerdNetwork):
        return compute_seen(part_for(network, recipe), seen, "scores").argmax(1)
    if recipe.frozen is None:
        return compute_seen(network, seen, "scores").argmax(1)
    return compute_seen(_Behind(network, recipe.frozen), seen, "scores").argmax(1)


class _Behind(nn.Module):
    """DAM-CNN from maps of a frozen stage on."""

    def __init__(self, network: DAMCNN, stage: str) -> None:
        super().__init__()
        self.lower, self.serd, self.second = network.trunk[STAGES.index(stage) + 1 :], network.serd, network.second_stage()

    def compute_outputs(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.second.compute_outputs(self.serd(self.lower(inputs))[1])


# -- training -------------------------------------------------------------------------------------------------------------


def _cut_middle(images: torch.Tensor, generator: torch.Generator, size: int) -> torch.Tensor:
    """No augmentation."""
    return center_crop(images, size)


def train_first(
    network: SerdNetwork, train: FaceDataset, recipe: StageOne, seed: int, checkpoint: Path, *, parts: tuple[bool, bool] = (True, True),
    progress: bool = False,
) -> History:
    """Train trunk, SERD and the last layers in place (Algorithm 1, lines 1 to 3); without SERD by cross-entropy alone.

    Parameters
    ----------
    network : SerdNetwork
    train : FaceDataset
        Training faces alone.
    recipe : StageOne
    seed : int
    checkpoint : path
        Where the training is kept, and taken up again after a kill.
    parts : (bool, bool)
        Which parts of the regulariser count: that of gamma_1, and that of gamma_2 (Table 3).
    progress : bool
    """
    gammas = [gamma if counts else 0.0 for gamma, counts in zip((recipe.gamma_1, recipe.gamma_2), parts, strict=True)]
    settings = FitSettings(
        steps=recipe.steps, batch_size=recipe.batch_size, optimizer="adam", learning_rate=recipe.learning_rate,
        momentum=recipe.momentum, milestones=tuple(round(share * recipe.steps) for share in recipe.milestones), gamma=recipe.gamma,
        weight_decay=0.0, last_weight_decay=0.0, precision=recipe.precision, seed=seed,
    )
    part = part_for(network, recipe)
    history = fit(
        part, prepare_faces(train, recipe, mirrored=recipe.mirrored), settings,
        objective=CrossEntropy() if network.serd is None else CrossEntropyWithMask(*gammas, recipe.averaged),
        sampler=Balanced() if recipe.balanced else Shuffled(), augment=crop_and_flip if recipe.mirrored else _cut_middle,
        checkpoint=checkpoint, progress=progress,
    )
    _follow(network, part).eval()
    return history


def train_second(
    network: SerdNetwork, train: FaceDataset, first: StageOne, recipe: StageTwo, paths: int, seed: int, checkpoint: Path, *,
    make_targets: Callable[[np.ndarray], Targets] | None = None, salient: np.ndarray | None = None, scaled: bool = True,
    progress: bool = False,
) -> tuple[DAMCNN, History]:
    """Build DAM-CNN on a network of stage one and train its MPVS-Net (Algorithm 1, lines 4 to 11).

    As the paper does, salient features of all training faces are computed before; trunk and SERD play no part in the training.

    Parameters
    ----------
    network : SerdNetwork
        In evaluation mode; it stays as it is.
    train : FaceDataset
        Training faces alone.
    first, recipe : StageOne and StageTwo
    paths, seed : int
    checkpoint : path
        Where the training is kept, and taken up again after a kill.
    make_targets : callable, optional
        Gives the targets of samples, of whose faces it is told the positions int64 ``[N]`` in ``train`` (each comes twice with mirror
        images). By default others of the class, drawn anew at every step.
    salient : float32 ``[N, C, S, S]``, optional
        Of :func:`compute_salient`, where several networks are trained on them.
    scaled : bool
        Whether salient features are divided by their ceiling; False: as printed, though decoders end at 1.
    progress : bool

    Returns
    -------
    DAMCNN
        In evaluation mode.
    History
    """
    salient = compute_salient(network, train, first, mirrored=first.mirrored) if salient is None else salient
    where = np.resize(np.arange(len(train)), len(salient))
    targets = Drawn(train.labels[where], paths) if make_targets is None else make_targets(where)
    ceiling = find_ceiling(salient)
    model = build_dam_cnn(network, recipe, paths, seed, ceiling if scaled else torch.ones_like(ceiling))
    settings = FitSettings(
        steps=recipe.steps, batch_size=recipe.batch_size, optimizer="adam", learning_rate=recipe.learning_rate,
        momentum=recipe.momentum, milestones=(), weight_decay=0.0, last_weight_decay=0.0, precision=recipe.precision, seed=seed,
    )
    part = model.second_stage()
    history = fit(
        part, Samples(f"salient features of {train.name}", salient, train.labels[where], train.classes), settings,
        objective=CrossEntropyWithReconstruction(salient, targets, model.mpae.ceiling, recipe.weight),
        sampler=Balanced() if recipe.balanced else Shuffled(), checkpoint=checkpoint, progress=progress,
    )
    return _follow(model, part).eval(), history


def _follow(network: nn.Module, part: nn.Module) -> nn.Module:
    """Bring a network to the device of a part of it: a training moves to its own only what it trains."""
    return network.to(next(part.parameters()).device)


@dataclass(frozen=True, eq=False)
class Trained:
    """What both stages leave.

    Attributes
    ----------
    first : SerdNetwork
    whole : DAMCNN
    histories : (History, History)
        Of stage one and of stage two.
    """

    first: SerdNetwork
    whole: DAMCNN
    histories: tuple[History, History]


def train_both(train: FaceDataset, profile: str, paths: int, seed: int, folder: Path) -> Trained:
    """Train both stages at a profile's size; with ``"smoke"``, in seconds, a test that the wires are connected.

    Parameters
    ----------
    train : FaceDataset
        Training faces alone.
    profile : {"smoke", "book", "paper"}
    paths, seed : int
    folder : path
        For the checkpoints: a killed training goes on from there.
    """
    first, second = StageOne().at(profile), StageTwo().at(profile)
    train = limit_per_class(train, first.images)
    network = build_serd_network(first, len(train.classes), seed)
    histories = [train_first(network, train, first, seed, folder / "first.safetensors")]
    whole, history = train_second(network, train, first, second, paths, seed, folder / "second.safetensors")
    return Trained(network, whole, (histories[0], history))
