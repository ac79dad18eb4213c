"""The networks that read: several trainings of the book's methods, and the face network with a linear classifier.

A method's certainty is the mean of its trainings' softmax, at one temperature (Guo et al. 2017) which ``calibrate``
chose on people of whom no training saw a face. A temperature belongs to the very files that it was chosen for, so
``calibration.json`` holds their checksums.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load
from scipy.special import softmax
from torch import nn

from ..errors import DataError
from ..experiments.ledger import checkpoint_folder
from ..models import FaceModel, load_face_network
from ..models.face_network import STAGES
from ..training import extract_features, predict_scores
from ..training.checkpoint import load_checkpoint

__all__ = [
    "METHODS",
    "STAGE",
    "Calibration",
    "Method",
    "Test",
    "average",
    "find_members",
    "load_calibration",
    "load_readers",
    "load_trunk",
]

#: Of the face network: the last whose maps the classifier looks at, as in the experiment transfer/face-network.
STAGE = "stage_128"
CLASSIFIER = Path(__file__).with_name("face_network_classifier.safetensors")
CALIBRATION = Path(__file__).with_name("calibration.json")
_EXPERIMENT, _PROFILE = "dlp-cnn/table-6", "book"
_AGAIN = "files that belong together; 'python -m fer_utils.reading.calibrate' calibrates those that are here"


@dataclass(frozen=True)
class Method:
    """One line of a reading.

    Attributes
    ----------
    name : str
    dataset : str
        On whose faces it was trained, ``facsynth`` or ``muxspace``.
    trainings : int
        How many networks speak, from other seeds; 0 for the classifier on the face network.
    """

    name: str
    dataset: str
    trainings: int = 0

    @property
    def key(self) -> str:
        """Name in the calibration."""
        return f"{self.name} on {self.dataset}"


#: In the order of a page.
METHODS = (
    *(Method(name, "facsynth", 10) for name in ("baseDCNN", "center loss", "DLP-CNN")),
    Method("face network", "facsynth"),
    *(Method(name, "muxspace", 5) for name in ("baseDCNN", "center loss", "DLP-CNN")),
)


class Test(NamedTuple):
    """How a method did on test faces.

    Attributes
    ----------
    count : int
        Faces.
    accuracy : float
        Share of right words.
    error : float
        Expected calibration error, from 0 to 1.
    """

    count: int
    accuracy: float
    error: float


@dataclass(frozen=True)
class Calibration:
    """What was measured of a method.

    Attributes
    ----------
    temperature : float
        What its scores are divided by.
    uncalibrated : float
        Expected calibration error on its own kind of test faces at temperature 1.
    tests : dict
        ``facsynth`` and ``muxspace`` to :class:`Test`, at that temperature.
    files : dict
        Each file that speaks, with its SHA-256.
    """

    temperature: float
    uncalibrated: float
    tests: dict[str, Test]
    files: dict[str, str]

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Calibration:
        """Make it from what JSON holds."""
        return cls(**{**kept, "tests": {name: Test(*values) for name, values in kept["tests"].items()}})


def load_calibration() -> dict[str, Any]:
    """Read what ships: ``methods`` (key to :class:`Calibration`), ``agreement`` and ``distances``.

    Raises
    ------
    DataError
        If the file is missing or damaged.
    """
    try:
        kept = json.loads(CALIBRATION.read_text(encoding="utf-8"))
        return {**kept, "methods": {key: Calibration.from_json(value) for key, value in kept["methods"].items()}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError.at(
            CALIBRATION, f"cannot be read ({error})", "the calibration that ships with the package"
        ) from error


def find_members(method: Method) -> list[Path]:
    """The files whose networks speak for a method."""
    if not method.trainings:
        return [CLASSIFIER]
    folder = checkpoint_folder(_EXPERIMENT, _PROFILE, method.dataset)
    return [folder / f"{method.name.replace(' ', '-')}-{seed}.safetensors" for seed in range(method.trainings)]


def load_trunk() -> FaceModel:
    """The face network up to ``STAGE``: its features are that stage's maps as one row, ``[B, 8192]``."""
    network = load_face_network(seed=0)
    network.body = nn.Sequential(network.body[: STAGES.index(STAGE) + 1], nn.Flatten())
    return network


def average(scores: Sequence[np.ndarray] | np.ndarray, temperature: float) -> np.ndarray:
    """Certainties from the scores of several trainings: their mean softmax at one temperature.

    Parameters
    ----------
    scores : float ``[S, N, K]``
        Before the softmax.
    temperature : float
        Above 0; above 1 makes less certain.

    Returns
    -------
    float64 ``[N, K]``
    """
    return softmax(np.asarray(scores, dtype=np.float64) / temperature, axis=-1).mean(axis=0)


def load_readers(
    calibration: Mapping[str, Calibration], say: Callable[[str], None]
) -> dict[Method, Callable[[np.ndarray], np.ndarray]]:
    """Load the networks of the methods whose files are here.

    Parameters
    ----------
    calibration : mapping
        Of :func:`load_calibration`.
    say : callable
        Told in one line what is left out, if anything is.

    Returns
    -------
    dict
        Method to what gives scores ``[S, N, 7]`` of aligned faces uint8 ``[N, 100, 100, 3]``.

    Raises
    ------
    DataError
        If a file is damaged, or not the one that was calibrated.
    """
    readers: dict[Method, Callable[[np.ndarray], np.ndarray]] = {}
    missing = []
    for method in METHODS:
        members = find_members(method)
        if not all(path.is_file() for path in members):
            missing.append(method)
            continue
        for path in members:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
            if found != calibration[method.key].files.get(path.name):
                raise DataError.at(
                    path, f"is not the file that was calibrated (its SHA-256 is {found[:12]}...)", _AGAIN
                )
        if method.trainings:
            readers[method] = partial(_ask_ledger, [load_checkpoint(path)[0] for path in members])
        else:
            readers[method] = partial(ask_classifier, load_trunk(), load(members[0].read_bytes()))
    if missing:
        say(
            f"{len(missing)} of {len(METHODS)} methods: the trained networks (data/checkpoints of the book's "
            "repository) are not here"
        )
    return readers


def _ask_ledger(networks: Sequence[FaceModel], images: np.ndarray) -> np.ndarray:
    return np.stack([predict_scores(network, images) for network in networks])


def ask_classifier(trunk: FaceModel, layer: Mapping[str, torch.Tensor], images: np.ndarray) -> np.ndarray:
    """Scores ``[1, N, 7]`` of aligned faces, by the layer on the maps of :func:`load_trunk`."""
    return apply_layer(extract_features(trunk, images, batch_size=32), layer)


def apply_layer(maps: np.ndarray, layer: Mapping[str, torch.Tensor]) -> np.ndarray:
    """Scores ``[1, N, 7]`` of maps ``[N, 8192]``: the linear layer as it is kept, in half precision."""
    return (maps @ layer["weight"].float().numpy().T + layer["bias"].float().numpy())[None]
