"""A simulated crowd that votes on the rendered faces, with known reliability.

Each of 315 annotators looks at a face and names it rightly with probability ``sigmoid(alpha_i * beta_j - BLIND)``: ``alpha`` is the
annotator's reliability, ``beta`` the face's clarity. Li & Deng 2019, section III-A4, have the same form without ``BLIND``, by which
even a viewer who sees nothing is right half the time; among seven classes that is too kind, so the crowd here does not follow their
model exactly. ``beta`` follows from what is known of the picture: intensity, occlusion, pose and sharpness. A wrong vote goes where
perception would send it: to the classes whose action units the face shares, and to neutral when the expression is faint. Thirty
annotators are unreliable: they see little and often click without looking, some of them always on a favourite class. Nothing here is
fitted to a real crowd.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from ..labels import BASIC, COMPOUND_PARTS
from .expressions import ACTION_UNITS, EMOTION_AUS

__all__ = ["ANNOTATORS", "BLIND", "UNRELIABLE", "clarity", "confusion_shares", "sample_annotators", "simulate_votes"]

#: The crowd's size and how many of it are unreliable: RAF-DB hired 315 people and kept 285 (Li & Deng 2019, section III-A).
ANNOTATORS, UNRELIABLE = 315, 30

#: What a viewer loses who sees nothing: the right class is then named with probability ``sigmoid(-BLIND)``, about 0.23.
BLIND = 1.2

#: How much of the face each occluder takes from the viewer, as a loss of log clarity.
_HIDES = {"none": 0.0, "glasses": 0.08, "sunglasses": 0.45, "mask": 0.75, "hand": 0.40, "object": 0.30, "bangs": 0.12}
#: Look-alikes beyond shared action units, as gains in the logit of the confusion (symmetric).
_LOOK_ALIKE = {("surprise", "fear"): 1.2, ("disgust", "anger"): 1.0, ("sadness", "neutral"): 0.9, ("sadness", "fear"): 0.4,
               ("anger", "sadness"): 0.3, ("happiness", "surprise"): 0.3, ("anger", "neutral"): 0.4}


def sample_annotators(seed: int) -> pd.DataFrame:
    """Draw the crowd.

    Parameters
    ----------
    seed : int
        The population's seed.

    Returns
    -------
    pandas.DataFrame
        One row an annotator: ``worker`` (int16, 0 to 314), ``reliability`` (float, ``alpha``), ``lapse`` (share of votes cast
        without looking), ``favourite`` (the class that lapses go to, empty where they go anywhere), ``activity`` (relative number
        of faces the annotator takes), ``reliable`` (bool).
    """
    rng = np.random.default_rng([seed, 30])
    unreliable = np.zeros(ANNOTATORS, dtype=bool)
    unreliable[rng.choice(ANNOTATORS, UNRELIABLE, replace=False)] = True
    reliability = np.where(unreliable, rng.uniform(-0.2, 0.35, ANNOTATORS), np.clip(np.exp(rng.normal(0, 0.3, ANNOTATORS)), 0.55, 2.2))
    lapse = np.where(unreliable, rng.uniform(0.2, 0.7, ANNOTATORS), rng.beta(1, 60, ANNOTATORS))
    habit = unreliable & (rng.random(ANNOTATORS) < 1 / 3)
    favourite = np.where(habit, rng.choice(BASIC, ANNOTATORS), "")
    return pd.DataFrame({
        "worker": np.arange(ANNOTATORS, dtype=np.int16), "reliability": reliability, "lapse": lapse, "favourite": favourite,
        "activity": np.exp(rng.normal(0, 0.7, ANNOTATORS)), "reliable": ~unreliable,
    })


def clarity(truth: pd.DataFrame, rng: np.random.Generator | None = None) -> np.ndarray:
    """How clearly each face shows its emotion: ``beta``, float ``[N]``, above 0.

    Parameters
    ----------
    truth : pandas.DataFrame
        Columns ``emotion, intensity, occlusion, yaw, pitch, blur, scale, light`` of the truth table.
    rng : Generator, optional
        Draws what no recorded condition explains: log-normal, with a standard deviation of 0.4 in the logarithm.
    """
    strength = np.where(truth["emotion"].to_numpy(dtype=object) == "neutral", 0.6, truth["intensity"].to_numpy(dtype=float))
    turned = np.hypot(truth["yaw"].to_numpy(dtype=float) / 45, truth["pitch"].to_numpy(dtype=float) / 30)
    hidden = truth["occlusion"].map(_HIDES).to_numpy(dtype=float)
    soft = 0.10 * truth["blur"].to_numpy(dtype=float) + 0.35 * (1 - truth["scale"].to_numpy(dtype=float))
    dim = 0.25 * truth["light"].isin(("night", "back")).to_numpy(dtype=float)
    rest = rng.normal(0, 0.4, len(truth)) if rng is not None else 0.0
    return np.exp(-0.55 + 2.0 * strength - 0.35 * turned**1.5 - hidden - soft - dim + rest)


def confusion_shares(truth: pd.DataFrame) -> np.ndarray:
    """Where a mistaken viewer's vote goes: float ``[N, 7]``, rows sum to 1, in the order of ``labels.BASIC``.

    Parameters
    ----------
    truth : pandas.DataFrame
        Columns ``emotion, intensity`` and ``au_1`` to ``au_43`` of the truth table.
    """
    shown = truth[[f"au_{au}" for au in ACTION_UNITS]].to_numpy(dtype=float)
    shown = shown / np.maximum(np.linalg.norm(shown, axis=1, keepdims=True), 0.3)
    prototypes = np.zeros((len(BASIC), len(ACTION_UNITS)))
    for k, emotion in enumerate(BASIC):
        core, variants = EMOTION_AUS[emotion]
        for au, share in {**variants, **dict.fromkeys(core, 1.0)}.items():
            prototypes[k, ACTION_UNITS.index(au)] = share
    prototypes /= np.maximum(np.linalg.norm(prototypes, axis=1, keepdims=True), 1e-9)
    logits = 5.0 * shown @ prototypes.T
    logits[:, BASIC.index("neutral")] += 4.0 * (1 - truth["intensity"].to_numpy(dtype=float))
    alike = np.zeros((len(BASIC), len(BASIC)))
    for (a, b), gain in _LOOK_ALIKE.items():
        i, j = BASIC.index(a), BASIC.index(b)
        alike[i, j] = alike[j, i] = gain
    member = _membership(truth)
    logits += member @ alike
    logits[member > 0] = -np.inf
    return softmax(logits, axis=1)


def _membership(truth: pd.DataFrame) -> np.ndarray:
    """The basic classes that an image truly shows, ``[N, 7]``: one, or the two parts of a compound, equally."""
    member = np.zeros((len(truth), len(BASIC)))
    for row, emotion in enumerate(truth["emotion"]):
        parts = COMPOUND_PARTS.get(emotion, (emotion,))
        for part in parts:
            member[row, BASIC.index(part)] = 1 / len(parts)
    return member


def simulate_votes(truth: pd.DataFrame, annotators: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Let the crowd vote on some faces.

    Parameters
    ----------
    truth : pandas.DataFrame
        The truth table of one set: ``name`` and the columns that :func:`clarity` and :func:`confusion_shares` need.
    annotators : pandas.DataFrame
        Of :func:`sample_annotators`.
    seed : int
        The set's seed; the crowd's own is another.

    Returns
    -------
    pandas.DataFrame
        One row a vote: ``task`` (image name with ``.jpg``), ``worker`` (int16), ``label`` (int8, RAF-DB's codes 1 to 7). About 40
        votes an image, each of another annotator; compound faces get theirs in two peaks.
    """
    rng = np.random.default_rng([seed, 31])
    n = len(truth)
    beta, wrong, right = clarity(truth, rng), confusion_shares(truth), _membership(truth)
    # Nobody weighs the two parts of a compound alike: the face leans one way.
    lean = rng.gamma(9.0, size=right.shape) * right
    right = lean / lean.sum(axis=1, keepdims=True)
    votes = rng.binomial(50, 0.8, n)
    # The faces go to whoever asks first: busier annotators more often, nobody twice.
    order = np.argsort(-(np.log(annotators["activity"].to_numpy()) + rng.gumbel(size=(n, len(annotators)))), axis=1)
    task = np.repeat(np.arange(n), votes)
    worker = np.concatenate([order[i, : votes[i]] for i in range(n)])
    alpha, lapse = annotators["reliability"].to_numpy()[worker], annotators["lapse"].to_numpy()[worker]
    sees = rng.random(len(task)) < expit(alpha * beta[task] - BLIND)
    shares = np.where(sees[:, None], right[task], wrong[task])
    favourites = annotators["favourite"].to_numpy(dtype=object)
    clicks = np.full((len(annotators), len(BASIC)), 1 / len(BASIC))
    for i, favourite in enumerate(favourites):
        if favourite:
            clicks[i] = np.eye(len(BASIC))[BASIC.index(favourite)]
    shares = np.where((rng.random(len(task)) < lapse)[:, None], clicks[worker], shares)
    label = (shares.cumsum(axis=1) < rng.random((len(task), 1))).sum(axis=1).clip(max=len(BASIC) - 1) + 1
    names = np.array([f"{name}.jpg" for name in truth["name"]], dtype=object)
    return pd.DataFrame({"task": names[task], "worker": worker.astype(np.int16), "label": label.astype(np.int8)})


