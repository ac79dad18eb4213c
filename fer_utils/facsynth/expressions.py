"""Action units: what they do to the mesh, and which of them an emotion shows.

Sources
-------
Core and variant action units with the share of subjects that show each: Du, Tao & Martinez, PNAS 2014, Table 1. Posed
prototypes: Ekman, Friesen & Hager's FACS manual as summarised in the EMFACS lists. Action unit to blendshape: our own map,
checked by eye on rendered faces; it starts from the usual ARKit correspondence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..labels import BASIC, COMPOUND_12

__all__ = ["ACTION_UNITS", "EMOTION_AUS", "LAB_PROTOTYPES", "Expression", "actions_from_aus", "sample_lab", "sample_wild"]

#: Action units that the generator knows, in the order of the truth table's columns.
ACTION_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 18, 20, 22, 23, 24, 25, 26, 27, 43)


def _pair(name: str, weight: float) -> list[tuple[str, float]]:
    return [(name + "Left", weight), (name + "Right", weight)]


#: Blendshapes and their weight at full intensity of each action unit.
AU_TO_ACTIONS: dict[int, list[tuple[str, float]]] = {
    1: [("browInnerUp", 1.5)],
    2: _pair("browOuterUp", 1.35),
    4: [*_pair("browDown", 1.4), ("browInnerUp", -0.9), *_pair("noseSneer", 0.3)],
    5: _pair("eyeWide", 1.0),
    6: [*_pair("cheekSquint", 1.2), *_pair("eyeSquint", 0.35)],
    7: [*_pair("eyeSquint", 0.65), *_pair("eyeBlink", 0.08)],
    9: [*_pair("noseSneer", 1.5), *_pair("mouthUpperUp", 0.35), *_pair("browDown", 0.45), *_pair("eyeSquint", 0.4)],
    10: [*_pair("mouthUpperUp", 1.0), *_pair("noseSneer", 0.3)],
    11: [*_pair("noseSneer", 0.35), *_pair("cheekSquint", 0.2)],
    12: [*_pair("mouthSmile", 1.1), *_pair("mouthUpperUp", 0.15)],
    14: _pair("mouthDimple", 1.0),
    15: _pair("mouthFrown", 1.25),
    16: _pair("mouthLowerDown", 0.7),
    17: [("mouthShrugLower", 1.2), ("mouthShrugUpper", 0.5)],
    18: [("mouthPucker", 0.8)],
    20: _pair("mouthStretch", 1.0),
    22: [("mouthFunnel", 0.9)],
    23: [("mouthRollUpper", 0.7), ("mouthRollLower", 0.7), ("mouthPucker", 0.2)],
    24: [*_pair("mouthPress", 0.9), ("mouthRollUpper", 0.5), ("mouthRollLower", 0.5)],
    25: [*_pair("mouthLowerDown", 0.5), *_pair("mouthUpperUp", 0.38), ("jawOpen", 0.06)],
    26: [("jawOpen", 0.34)],
    27: [("jawOpen", 0.85)],
    43: _pair("eyeBlink", 1.0),
}

#: Core action units and (variant: share of subjects), Du, Tao & Martinez 2014, Table 1.
EMOTION_AUS: dict[str, tuple[tuple[int, ...], dict[int, float]]] = {
    "surprise": ((1, 2, 25, 26), {5: 0.66}),
    "fear": ((1, 4, 20, 25), {2: 0.57, 5: 0.63, 26: 0.33}),
    "disgust": ((9, 10, 17), {4: 0.31, 24: 0.26}),
    "happiness": ((12, 25), {6: 0.51}),
    "sadness": ((4, 15), {1: 0.60, 6: 0.50, 11: 0.26, 17: 0.67}),
    "anger": ((4, 7, 24), {10: 0.26, 17: 0.52, 23: 0.29}),
    "neutral": ((), {}),
    "happily surprised": ((1, 2, 12, 25), {5: 0.64, 26: 0.67}),
    "happily disgusted": ((10, 12, 25), {4: 0.32, 6: 0.61, 9: 0.59}),
    "sadly fearful": ((1, 4, 20, 25), {2: 0.46, 5: 0.24, 6: 0.34, 15: 0.30}),
    "sadly angry": ((4, 15), {6: 0.26, 7: 0.48, 11: 0.20, 17: 0.50}),
    "sadly surprised": ((1, 4, 25, 26), {2: 0.27, 6: 0.31}),
    "sadly disgusted": ((4, 10), {1: 0.49, 6: 0.61, 9: 0.20, 11: 0.35, 15: 0.54, 17: 0.47, 25: 0.43}),
    "fearfully angry": ((4, 20, 25), {5: 0.40, 7: 0.39, 10: 0.30, 11: 0.33}),
    "fearfully surprised": ((1, 2, 5, 20, 25), {4: 0.47, 10: 0.35, 11: 0.22, 26: 0.51}),
    "fearfully disgusted": ((1, 4, 10, 20, 25), {2: 0.64, 5: 0.50, 6: 0.26, 9: 0.28, 15: 0.33}),
    "angrily surprised": ((4, 25, 26), {5: 0.35, 7: 0.50, 10: 0.34}),
    "angrily disgusted": ((4, 10, 17), {7: 0.60, 9: 0.57, 24: 0.36}),
    "disgustedly surprised": ((1, 2, 5, 10), {4: 0.45, 9: 0.37, 17: 0.66, 24: 0.33}),
}

#: What the RAF-DB paper saw in the wild beyond the laboratory (section III-B, Fig. 7): the same emotion through other action
#: units. Shares are ours, since the columns of its Table III are damaged in the text that we could read.
WILD_EXTRA: dict[str, dict[int, float]] = {
    "surprise": {27: 0.25, 4: 0.06, 12: 0.08},
    "fear": {27: 0.20, 7: 0.12, 15: 0.06},
    "disgust": {7: 0.30, 15: 0.25, 25: 0.35, 6: 0.15, 20: 0.06},
    "happiness": {26: 0.40, 27: 0.08, 10: 0.15, 14: 0.06, 43: 0.05, 7: 0.12},
    "sadness": {25: 0.22, 7: 0.20, 43: 0.10, 20: 0.05, 24: 0.08, 26: 0.06},
    "anger": {25: 0.45, 27: 0.25, 16: 0.25, 9: 0.45, 5: 0.12, 20: 0.05},
    "neutral": {25: 0.12, 14: 0.04, 24: 0.05, 7: 0.05},
}

#: Posed prototypes, one or several an emotion, and the grade (1 to 5) that the apex reaches.
LAB_PROTOTYPES: dict[str, tuple[dict[int, int], ...]] = {
    "anger": ({4: 5, 7: 4, 9: 2, 23: 4, 24: 4}, {4: 5, 5: 2, 7: 4, 17: 2, 23: 4}, {4: 5, 7: 4, 9: 2, 10: 3, 16: 3, 25: 5, 27: 3}),
    "contempt": ({14: 4, 12: 2},),
    "disgust": ({9: 5, 10: 3, 17: 3, 4: 2},),
    "fear": ({1: 4, 2: 2, 4: 3, 5: 4, 20: 5, 25: 4},),
    "happiness": ({6: 4, 12: 5, 25: 4},),
    "sadness": ({1: 4, 4: 3, 15: 5, 17: 3},),
    "surprise": ({1: 4, 2: 5, 5: 4, 25: 4, 27: 4},),
    "neutral": ({},),
}


@dataclass(frozen=True)
class Expression:
    """A face's action units.

    Attributes
    ----------
    emotion : str
    intensity : float
        Overall strength in ``[0, 1]``.
    aus : dict
        Action unit to intensity in ``[0, 1]``; absent means 0.
    actions : dict
        Blendshape weights, asymmetry included.
    """

    emotion: str
    intensity: float
    aus: dict[int, float]
    actions: dict[str, float]


def actions_from_aus(aus: dict[int, float], tilt: float = 0.0, one_sided: tuple[int, ...] = ()) -> dict[str, float]:
    """Blendshape weights of a set of action units.

    Parameters
    ----------
    aus : dict
        Action unit to intensity in ``[0, 1]``.
    tilt : float
        Asymmetry in ``[-1, 1]``: positive weakens the subject's right side.
    one_sided : tuple of int
        Action units that act on the stronger side only (contempt's).

    Returns
    -------
    dict
        Weights up to 1.6; where two action units drive one blendshape the sum saturates. Knitted brows give the inner
        brow's raiser a negative weight.
    """
    weights: dict[str, float] = {}
    for au, level in aus.items():
        for name, weight in AU_TO_ACTIONS[au]:
            side = 1 if name.endswith("Left") else -1 if name.endswith("Right") else 0
            share = 1 - max(0.0, -side * tilt)
            if au in one_sided:
                share = float(side * np.sign(tilt or 1.0) >= 0)
            weights[name] = weights.get(name, 0.0) + level * weight * share
    # Raised and knitted together, the brows slant instead of cancelling: the corrugator yields at the inner end.
    if 1 in aus and 4 in aus:
        for side in ("Left", "Right"):
            weights["browDown" + side] *= 1 - 0.6 * min(aus[1], 1.0)
        weights["browInnerUp"] += 0.8 * min(aus[1], aus[4])
    # Lids that widen do not close as well: the stronger movement wins.
    for side in ("Left", "Right"):
        if "eyeWide" + side in weights and "eyeBlink" + side in weights:
            weights["eyeBlink" + side] = max(0.0, weights["eyeBlink" + side] - weights["eyeWide" + side])
    return {k: float(min(v, 1.6)) for k, v in weights.items()}


def sample_wild(emotion: str, rng: np.random.Generator) -> Expression:
    """Draw a spontaneous expression: core units mostly present, variants by their shares, faint to full strength.

    Parameters
    ----------
    emotion : str
        Basic or compound.
    rng : numpy.random.Generator

    Raises
    ------
    ValueError
        For another emotion.
    """
    if emotion not in EMOTION_AUS:
        raise ValueError(f"unknown emotion {emotion!r}; expected one of {(*BASIC, *COMPOUND_12)}")
    core, variants = EMOTION_AUS[emotion]
    intensity = float(0.4 + 0.6 * rng.beta(2.6, 1.2)) if emotion != "neutral" else 0.0
    strength = intensity if intensity else 0.3
    aus: dict[int, float] = {}
    for au in core:
        if rng.random() < 0.96:
            aus[au] = strength * rng.uniform(0.8, 1.2)
    for table, low in ((variants, 0.6), (WILD_EXTRA.get(emotion, {}), 0.45)):
        for au, share in table.items():
            if rng.random() < share:
                aus[au] = max(aus.get(au, 0.0), strength * rng.uniform(low, 1.05))
    if 27 in aus:
        aus.pop(26, None)
    if aus.get(24) or aus.get(23):  # pressed lips are not parted ones
        for au in (25, 26, 27):
            if au in aus:
                aus.pop(24, None)
                aus.pop(23, None)
    for au in rng.choice(ACTION_UNITS, size=int(rng.poisson(0.5)), replace=False):  # talk, habit, the face at rest
        aus[int(au)] = max(aus.get(int(au), 0.0), float(rng.uniform(0.05, 0.22)))
    aus = {au: float(min(v, 1.0)) for au, v in sorted(aus.items())}
    return Expression(emotion, intensity, aus, actions_from_aus(aus, tilt=float(np.clip(rng.normal(0, 0.14), -0.5, 0.5))))


def sample_lab(emotion: str, rng: np.random.Generator, stages: tuple[float, ...]) -> list[Expression]:
    """Draw a posed sequence: one person's version of the prototype, stage by stage.

    Parameters
    ----------
    emotion : str
        Of ``LAB_PROTOTYPES``.
    rng : numpy.random.Generator
    stages : tuple of float
        From 0, the onset, to 1, the apex.

    Raises
    ------
    ValueError
        For another emotion.
    """
    if emotion not in LAB_PROTOTYPES:
        raise ValueError(f"unknown posed emotion {emotion!r}; expected one of {tuple(LAB_PROTOTYPES)}")
    reach = float(rng.uniform(0.8, 1.0))
    variants = LAB_PROTOTYPES[emotion]
    prototype = variants[int(rng.integers(len(variants)))]
    peak = {au: float(np.clip(grade / 5 * reach * rng.uniform(0.85, 1.2), 0, 1)) for au, grade in prototype.items()}
    tilt = float(np.clip(rng.normal(0, 0.06), -0.2, 0.2))
    one_sided: tuple[int, ...] = ()
    if emotion == "contempt":
        one_sided, tilt = (14, 12), float(rng.choice([-0.5, 0.5]))
    sequence = []
    for stage in stages:
        aus = {au: v * stage for au, v in peak.items() if v * stage > 0}
        sequence.append(Expression(emotion, reach * stage, aus, actions_from_aus(aus, tilt, one_sided)))
    return sequence
