"""Two coders read action units off lab and wild faces: section III-B and Table III of Li & Deng 2019.

The coders are simulated. FACSynth knows which units it rendered, and what stands before each part of a face; a coder here sees a unit as
strongly as its part is open, with an error that grows with pose and coarseness. No person coded anything, and the numbers of the simulation
(:class:`~fer_utils.papers.dlp_cnn.recipe.Coding`) are ours.
Which units a wild face shows was drawn from tables when it was rendered: that wild
faces are more diverse was put in, and can be read out, not found out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from sklearn.metrics import cohen_kappa_score

from ...datasets.base import FaceDataset
from ...experiments.context import RunContext
from ...experiments.faces import find_apex_options, keep_classes
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, checksum_names
from .cross_database import SIX, draw_balanced
from .recipe import Coding

__all__ = [
    "UNITS", "arbitrate", "code_units", "find_openness", "find_pseudo_values", "load_coded", "measure_coding", "measure_entropy",
    "plan_table_3", "read_units", "true_units",
]

#: The action units of the paper's Table III.
UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 15, 17, 20, 25, 26, 27)
#: Where each part of a face lies in an aligned picture of 100x100: top, bottom, left, right.
PARTS = {"brows": (22, 35, 18, 82), "eyes": (32, 45, 18, 82), "nose": (42, 64, 35, 65), "mouth": (66, 92, 28, 72)}
#: The part where a coder looks for a unit.
PART_OF = {1: "brows", 2: "brows", 4: "brows", 5: "eyes", 6: "eyes", 7: "eyes", 9: "nose", **dict.fromkeys((10, 12, 15, 17, 20, 25, 26, 27),
                                                                                                           "mouth")}
_OCCLUDER = 6  # of the region masks


@register_experiment("dlp-cnn/table-3", seeds={"book": 10})
def plan_table_3(setup: Setup) -> list[Run]:
    """One run a seed, which draws the wild faces and both coders' errors. Only FACSynth knows its units."""
    if setup.dataset != "facsynth":
        return []
    recipe = Coding().at(setup.profile)
    return [Run("two coders", measure_coding, {"recipe": recipe}, seed) for seed in setup.seeds]


def load_coded(context: RunContext, role: str) -> FaceDataset:
    """Load FACSynth's faces of the six emotions, with what is known of them and with masks.

    Parameters
    ----------
    context : RunContext
    role : {"basic", "lab"}
        Of a lab sequence the last frame, which is the one that CK+'s coders coded.
    """
    # as many are drawn as the paper has coded: more faces to draw from would change nothing
    options = {"more": False} if role == "basic" else find_apex_options(context.dataset, role)
    return keep_classes(context.load_faces(role, masks=True, **options), SIX)


def true_units(faces: FaceDataset) -> np.ndarray:
    """The intensities that were rendered, float64 ``[N, 15]`` in ``[0, 1]``, in the order of ``UNITS``.

    Raises
    ------
    ValueError
        If the faces do not know them.
    """
    if faces.truth is None:
        raise ValueError(f"{faces.name} does not know its action units; expected FACSynth's faces")
    return faces.truth[[f"au_{unit}" for unit in UNITS]].to_numpy(dtype=float)


def find_openness(faces: FaceDataset) -> np.ndarray:
    """How much of the part where each unit shows is open to view.

    Parameters
    ----------
    faces : FaceDataset
        With masks.

    Returns
    -------
    float64 ``[N, 15]``
        1 minus the share of the part that glasses, hair, a hand or another thing covers.

    Raises
    ------
    ValueError
        If the faces were loaded without masks.
    """
    if faces.masks is None:
        raise ValueError(f"{faces.name} has no region masks; load it with masks=True")
    covered = faces.masks == _OCCLUDER
    parts = {name: 1 - covered[:, top:bottom, left:right].mean(axis=(1, 2)) for name, (top, bottom, left, right) in PARTS.items()}
    return np.stack([parts[PART_OF[unit]] for unit in UNITS], axis=1)


def read_units(faces: FaceDataset, recipe: Coding, rng: np.random.Generator) -> np.ndarray:
    """One coder's readings of all units of all faces.

    A reading is intensity times openness plus a normal error; its standard deviation is ``error``, and more with the picture's coarseness
    and with the angle between face and camera.

    Parameters
    ----------
    faces : FaceDataset
        With masks and truth.
    recipe : Coding
    rng : numpy.random.Generator
        The coder's.

    Returns
    -------
    float64 ``[N, 15]``
        In units of intensity; below 0 by error only.
    """
    seen = true_units(faces) * find_openness(faces)
    truth = faces.truth
    assert truth is not None
    coarse = (1 - truth["scale"].to_numpy(dtype=float)) / 0.6
    turned = np.hypot(truth["yaw"].to_numpy(dtype=float), truth["pitch"].to_numpy(dtype=float)) / 45
    spread = recipe.error + recipe.blur * coarse + recipe.turn * turned
    return seen + spread[:, None] * rng.normal(size=seen.shape)


def code_units(readings: np.ndarray, threshold: float, slip: float, rng: np.random.Generator) -> np.ndarray:
    """Code which units are present: those that read above a threshold, but for some wrong codes.

    Parameters
    ----------
    readings : float64 ``[N, 15]``
        Of :func:`read_units`.
    threshold : float
        In units of intensity.
    slip : float
        Share of wrong codes.
    rng : numpy.random.Generator

    Returns
    -------
    bool ``[N, 15]``
    """
    return (readings > threshold) ^ (rng.random(readings.shape) < slip)


def arbitrate(faces: FaceDataset, recipe: Coding, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Let two coders code the same faces, and settle what they disagree on.

    Parameters
    ----------
    faces : FaceDataset
        FACSynth's, with masks.
    recipe : Coding
    seed : int

    Returns
    -------
    first, second, agreed : bool ``[N, 15]``
        Where the two differ, the mean of their readings against the mean of their thresholds decides.
    """
    rng = np.random.default_rng([seed, 3])
    readings = [read_units(faces, recipe, rng) for _ in recipe.thresholds]
    first, second = (code_units(r, t, recipe.slip, rng) for r, t in zip(readings, recipe.thresholds, strict=True))
    return first, second, np.where(first == second, first, np.mean(readings, axis=0) > np.mean(recipe.thresholds))


def measure_entropy(present: np.ndarray, labels: np.ndarray) -> float:
    """How diverse the units of an emotion are, in bits: the entropy of each unit's presence, summed over units, mean over emotions.

    Parameters
    ----------
    present : bool ``[N, 15]``
    labels : int ``[N]``

    Notes
    -----
    The paper calls wild units more diverse and gives no measure. This one is 0 where all faces of an emotion show the same units, and 15
    where each unit is there or not by the toss of a coin. It needs only shares, so 25 faces of a class bias it little; counting
    combinations of 15 units would need far more.
    """
    shares = np.stack([present[labels == k].mean(axis=0) for k in np.unique(labels)])
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = -(shares * np.log2(shares) + (1 - shares) * np.log2(1 - shares))
    return float(np.nan_to_num(bits).sum(axis=1).mean())


def find_pseudo_values(measure: Callable[[np.ndarray], float], people: np.ndarray) -> tuple[float, np.ndarray]:
    """A number that is no mean over faces, and what each face adds to it.

    Parameters
    ----------
    measure : callable
        Takes positions of faces, returns the number.
    people : int ``[N]``

    Returns
    -------
    float
        The number, of all faces.
    float64 ``[N]``
        A person's jackknife pseudo-value, shared out to his faces, and shifted so that the mean over faces is the number.
    """
    everything, (known, who) = np.arange(len(people)), np.unique(people, return_inverse=True)
    value = measure(everything)
    without = np.array([measure(everything[who != i]) for i in range(len(known))])
    moved = (len(known) - 1) * (without.mean() - without)
    return value, value + (moved * len(people) / (len(known) * np.bincount(who)))[who]


def measure_coding(context: RunContext, recipe: Coding) -> list[Score]:
    """Draw as many wild faces as CK+ has, have them and the lab faces coded, and measure.

    Parameters
    ----------
    context : RunContext
    recipe : Coding

    Returns
    -------
    list of Score
        For ``basic`` and ``lab``: row ``two coders`` with ``kappa`` and ``images``; a row an emotion with the share of faces that show
        each unit, ``AU1`` to ``AU27``, after arbitration; row ``all emotions`` with ``action unit entropy``. Row ``all emotions, rendered``
        is the same of the units that were rendered at the coders' mean threshold or above.

    Raises
    ------
    ValueError
        If there are not as many wild faces as the recipe wants.
    """
    seed = context.seed or 0
    scores = []
    for role in ("basic", "lab"):
        faces = load_coded(context, role)
        if role == "basic":
            rows = draw_balanced(faces, seed)
            if len(rows) != recipe.faces:
                raise ValueError(f"{faces.name}: drew {len(rows)} faces, expected {recipe.faces}")
            faces = faces.subset(rows)
        first, second, agreed = arbitrate(faces, recipe, seed)
        rendered = true_units(faces) >= np.mean(recipe.thresholds)
        labels, people = faces.labels, faces.identities
        assert people is not None
        # what is measured of each row, and on the faces one by one
        found = {
            "two coders": {"kappa": find_pseudo_values(partial(_agree, first, second), people)},
            "all emotions": {"action unit entropy": find_pseudo_values(partial(_measure_rows, agreed, labels), people)},
            "all emotions, rendered": {"action unit entropy": find_pseudo_values(partial(_measure_rows, rendered, labels), people)},
        }
        for k in np.unique(labels):
            each = np.where((labels == k)[:, None], agreed, np.nan)
            found[SIX[k]] = {f"AU{unit}": (float(np.nanmean(each[:, i])), each[:, i]) for i, unit in enumerate(UNITS)}
        for row, measured in found.items():
            metrics = {metric: value for metric, (value, _) in measured.items()}
            values = {metric: each for metric, (_, each) in measured.items()}
            if row == "two coders":
                metrics["images"] = float(len(faces))
            scores.append(Score(row, role, metrics, SIX, labels, people=people, images=checksum_names(faces.names), values=values))
    return scores


def _agree(first: np.ndarray, second: np.ndarray, rows: np.ndarray) -> float:
    return float(cohen_kappa_score(first[rows].ravel(), second[rows].ravel()))


def _measure_rows(present: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> float:
    return measure_entropy(present[rows], labels[rows])
