"""Sweeps, convergence and intensity: Figures 8 to 10 of Li & Deng 2019.

The paper chose lambda and k, and drew its curves, on the test faces. So do these, to be compared; nothing else uses what they find.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata, spearmanr

from ...datasets.base import FaceDataset
from ...experiments.context import RunContext
from ...experiments.faces import find_roles
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, checksum_names, score_faces
from ...training import extract_features
from .networks import (
    ELSEWHERE,
    RIVALS,
    SEEDS,
    SWEPT_ELSEWHERE,
    SWEPT_SEEDS,
    TABLE,
    Trace,
    limit_seeds,
    load_faces,
    load_trace,
    save_trace,
    train_network,
)
from .recipe import DLPCNN
from .tables import average_pieces

__all__ = ["correlate_intensity", "measure_convergence", "measure_intensity", "measure_kept", "measure_setting"]

_SWEEP = "dlp-cnn/figure-8"
#: Classes of which Fig. 9 says that they are ordered by intensity.
_ORDERED = ("surprise", "fear", "happiness", "sadness", "anger")
#: Faces that are left out at a time, which bounds memory: 256 of 5,000 are 10 MB.
_BLOCK = 256


# -- Figure 8 -------------------------------------------------------------------------------------------------------------


@register_experiment(_SWEEP, seeds=SWEPT_SEEDS, needs=(TABLE,))
def plan_figure_8(setup: Setup) -> list[Run]:
    """Lambda at the paper's k, and k at the paper's lambda; the networks of Table VI are two of the points."""
    if "basic" not in setup.roles:
        return []
    recipe = DLPCNN().at(setup.profile)
    paper = {"weight": recipe.weight, "neighbours": recipe.neighbours}
    runs = []
    for seed in limit_seeds(setup, SWEPT_ELSEWHERE):
        for method, rows in {"baseDCNN": ["lambda 0"], "DLP-CNN": [f"lambda {recipe.weight:g}", f"k {recipe.neighbours}"]}.items():
            runs.append(Run(", ".join(rows), measure_kept, {"method": method, "rows": rows, "recipe": recipe}, seed))
        settings = {f"lambda {weight:g}": {"weight": weight} for weight in recipe.weights}
        settings |= {f"k {count}": {"neighbours": count} for count in recipe.neighbourhoods}
        for row, changes in settings.items():
            runs.append(Run(row, measure_setting, {"method": "DLP-CNN", "row": row, **paper, **changes, "recipe": recipe}, seed))
    return runs


def measure_kept(context: RunContext, method: str, rows: list[str], recipe: DLPCNN) -> list[Score]:
    """Score what a network of Table VI itself said of the test faces, as the rows of a sweep.

    Parameters
    ----------
    context : RunContext
    method : str
    rows : list of str
    recipe : DLPCNN
    """
    test = load_faces(context, "basic", recipe).test
    trace = load_trace(context, TABLE, method)
    return [_score(row, test, trace) for row in rows]


def measure_setting(context: RunContext, method: str, row: str, weight: float, neighbours: int, recipe: DLPCNN) -> list[Score]:
    """Train a network with another lambda or k, and score what it says itself.

    Parameters
    ----------
    context : RunContext
    method : {"DLP-CNN", "center loss"}
    row : str
    weight, neighbours : float and int
        Lambda and k.
    recipe : DLPCNN
    """
    faces = load_faces(context, "basic", recipe)
    _, trace = train_network(context, faces, method, recipe, weight=weight, neighbours=neighbours)
    save_trace(context, row, trace)
    return [_score(row, faces.test, trace)]


def _score(row: str, test: FaceDataset, trace: Trace) -> Score:
    return score_faces(row, "basic", test, trace.guess)


# -- Figure 10 ------------------------------------------------------------------------------------------------------------


@register_experiment("dlp-cnn/figure-10", seeds=SEEDS, needs=(TABLE, _SWEEP))
def plan_figure_10(setup: Setup) -> list[Run]:
    """DLP-CNN and center loss on the way, and over lambda; only center loss off the paper's lambda is trained here."""
    if "basic" not in setup.roles:
        return []
    recipe = DLPCNN().at(setup.profile)
    runs = []
    # what Table VI's networks say costs nothing, and has all their seeds
    swept = limit_seeds(setup, SWEPT_ELSEWHERE, SWEPT_SEEDS.get(setup.profile))
    for seed in limit_seeds(setup, ELSEWHERE):
        for method in RIVALS:
            runs.append(Run(method, measure_convergence, {"method": method, "recipe": recipe}, seed))
        for method in RIVALS:
            row = f"{method} lambda 0"
            runs.append(Run(row, measure_kept, {"method": "baseDCNN", "rows": [row], "recipe": recipe}, seed))
            for weight in recipe.rival_weights:
                row = f"{method} lambda {weight:g}"
                arguments = {"method": method, "row": row, "recipe": recipe}
                if weight == recipe.weight:
                    runs.append(Run(row, measure_kept, {"method": method, "rows": [row], "recipe": recipe}, seed))
                elif seed not in swept:
                    continue
                elif method == "DLP-CNN":
                    runs.append(Run(row, measure_swept, {"row": row, "swept": f"lambda {weight:g}", "recipe": recipe}, seed))
                else:
                    runs.append(Run(row, measure_setting, {**arguments, "weight": weight, "neighbours": recipe.neighbours}, seed))
    return runs


def measure_swept(context: RunContext, row: str, swept: str, recipe: DLPCNN) -> list[Score]:
    """Score a network of Fig. 8 once more, under the name that Fig. 10 gives it."""
    test = load_faces(context, "basic", recipe).test
    return [_score(row, test, load_trace(context, _SWEEP, swept))]


def measure_convergence(context: RunContext, method: str, recipe: DLPCNN) -> list[Score]:
    """Measure how wrong a network of Table VI was on the way.

    Parameters
    ----------
    context : RunContext
    method : str
    recipe : DLPCNN

    Returns
    -------
    list of Score
        The row ``<method>``, whose ``mean test error`` is over the points of the curve; series ``test error``, a point every
        ``watch_every`` iterations, and ``loss``.
    """
    test = load_faces(context, "basic", recipe).test
    trace = load_trace(context, TABLE, method)
    each = trace.wrong.mean(0)
    series = {"test error": trace.wrong.mean(1).tolist(), "loss": average_pieces(trace.losses)}
    return [
        score_faces(
            method, "basic", test, trace.guess, series=series, metrics={"mean test error": float(each.mean())},
            values={"mean test error": each},
        )
    ]


# -- Figure 9 -------------------------------------------------------------------------------------------------------------


@register_experiment("dlp-cnn/figure-9", seeds=SEEDS, needs=(TABLE,))
def plan_figure_9(setup: Setup) -> list[Run]:
    """Only where the intensity of an expression is known, which is on FACSynth."""
    if find_roles(setup.dataset).get("basic") != "facsynth-basic":
        return []
    recipe = DLPCNN().at(setup.profile)
    rows = {"softmax": "baseDCNN", "center loss": "center loss", "DLP-CNN": "DLP-CNN"}
    return [
        Run(row, measure_intensity, {"row": row, "method": method, "recipe": recipe}, seed)
        for seed in setup.seeds for row, method in rows.items()
    ]


def correlate_intensity(distances: np.ndarray, intensities: np.ndarray) -> tuple[float, np.ndarray]:
    """Spearman's rank correlation, and what each face adds to it.

    Parameters
    ----------
    distances, intensities : float ``[N]``

    Returns
    -------
    float
        Correlation in [-1, 1].
    float64 ``[N]``
        Jackknife pseudo-values, shifted so that their mean is the correlation.

    Raises
    ------
    ValueError
        If there are fewer than three faces, or either does not vary.
    """
    count = len(distances)
    if count < 3 or np.ptp(distances) == 0 or np.ptp(intensities) == 0:
        raise ValueError(f"a rank correlation needs three faces that differ, got {count} faces")
    value = float(spearmanr(distances, intensities).statistic)
    both = [(numbers, rankdata(numbers)) for numbers in (distances, intensities)]
    without = np.empty(count)
    for start in range(0, count, _BLOCK):
        left_out = np.arange(start, min(start + _BLOCK, count))
        centred = []
        for numbers, ranks in both:
            # where a face is left out, those above it move down by one, and those beside it by a half
            above = (np.sign(numbers - numbers[left_out, None]) + 1) / 2
            rest = ranks - above - count / 2
            rest[np.arange(len(left_out)), left_out] = 0
            centred.append(rest)
        first, second = centred
        scale = np.sqrt(np.square(first).sum(1) * np.square(second).sum(1))
        without[left_out] = np.divide((first * second).sum(1), scale, out=np.full(len(left_out), value), where=scale > 0)
    pseudo = count * value - (count - 1) * without
    return value, pseudo - pseudo.mean() + value


def measure_intensity(context: RunContext, row: str, method: str, recipe: DLPCNN) -> list[Score]:
    """Measure whether features lie farther out the stronger the expression is.

    The paper says "from center to periphery" of a picture in two dimensions. Here all features of the trained network are used; the centre
    is the mean of the training faces' class means. The distance from the mean of the neutral training faces is measured as well.

    Parameters
    ----------
    context : RunContext
    row : {"softmax", "center loss", "DLP-CNN"}
    method : str
        The network of Table VI.
    recipe : DLPCNN

    Returns
    -------
    list of Score
        For each class ``intensity correlation <class>`` and ``intensity correlation from neutral <class>``, over its test faces.
    """
    faces = load_faces(context, "basic", recipe)
    model = context.load_network(TABLE, method)
    train, test = faces.train, faces.test
    features = extract_features(model, train.images)
    means = np.stack([features[train.labels == c].mean(0) for c in range(len(faces.classes))])
    centres = {"": means.mean(0), "from neutral ": means[faces.classes.index("neutral")]}
    shown, intensity = extract_features(model, test.images), test.truth["intensity"].to_numpy()
    metrics, values = {}, {}
    for name in _ORDERED:
        rows = test.labels == faces.classes.index(name)
        for word, centre in centres.items():
            key = f"intensity correlation {word}{name}"
            distances = np.linalg.norm(shown[rows] - centre, axis=1)
            values[key] = np.full(len(test), np.nan)
            metrics[key], values[key][rows] = correlate_intensity(distances, intensity[rows])
    images = checksum_names(test.names)
    return [Score(row, "basic", metrics, test.classes, test.labels, people=test.identities, images=images, values=values)]
