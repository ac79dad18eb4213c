"""Who a rendered person is: phenotype, local shape, skin, eyes, brows and hair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["AGE_SHARES", "GENDER_UNSURE_SHARE", "RACE_SHARES", "Identity", "sample_identity"]

#: Shares of RAF-DB's subjects, Li & Deng 2019, section III-A3 (codes 0 Caucasian, 1 African-American, 2 Asian).
RACE_SHARES = (0.77, 0.08, 0.15)
#: The paper gives 52 % female, 43 % male, 5 % unsure and says that the unsure are infants.
FEMALE_SHARE, GENDER_UNSURE_SHARE = 0.52, 0.05
#: Age ranges 0-3, 4-19, 20-39, 40-69, 70+: read by eye off the shape of the paper's Fig. 4(b), whose numbers are not printed.
AGE_SHARES = (0.08, 0.17, 0.54, 0.17, 0.04)

# anny's age axis: 0 baby, 1/3 child, 2/3 young adult, 1 old. One interval for each of RAF-DB's five ranges.
_AGE_AXIS = ((0.0, 0.10), (0.16, 0.60), (0.62, 0.74), (0.74, 0.93), (0.93, 1.0))
# Linear RGB albedo of the face, light and dark end of each group's range.
_SKIN = (
    ((0.74, 0.52, 0.41), (0.47, 0.29, 0.20)),
    ((0.34, 0.19, 0.12), (0.10, 0.050, 0.030)),
    ((0.68, 0.47, 0.34), (0.43, 0.27, 0.17)),
)
_IRIS = ((0.045, 0.020, 0.010), (0.10, 0.050, 0.020), (0.13, 0.13, 0.055), (0.10, 0.17, 0.24), (0.19, 0.22, 0.23))
_IRIS_SHARES = ((0.25, 0.30, 0.15, 0.20, 0.10), (0.9, 0.1, 0, 0, 0), (0.85, 0.15, 0, 0, 0))
_HAIR = ((0.012, 0.009, 0.008), (0.04, 0.02, 0.012), (0.11, 0.055, 0.028), (0.33, 0.21, 0.10), (0.20, 0.06, 0.025), (0.42, 0.41, 0.40))
_HAIR_SHARES = ((0.14, 0.30, 0.26, 0.23, 0.07, 0.0), (0.9, 0.1, 0, 0, 0, 0), (0.85, 0.15, 0, 0, 0, 0))
_REGIONS = ("cheek", "chin", "ear", "eye", "forehead", "head", "mouth", "nose", "neck-double")
# Local changes that read as an expression or fold the lids over the eyes stay small.
_TAME = ("mouth-angles", "eyebrows", "eye-height", "eye-eyefold", "mouth-laugh", "mouth-upperlip-ext", "mouth-lowerlip-ext",
         "eye-push", "eye-corner", "mouth-upperlip-middle", "mouth-lowerlip-middle", "head-age", "eye-bag")


@dataclass(frozen=True)
class Identity:
    """One rendered person. Colours are linear RGB in ``[0, 1]``; codes are RAF-DB's."""

    number: int  #: among all people
    gender: int  #: 0 male, 1 female, 2 unsure
    race: int  #: 0 Caucasian, 1 African-American, 2 Asian
    age: int  #: 0: 0-3, 1: 4-19, 2: 20-39, 3: 40-69, 4: 70+
    phenotype: dict[str, float]  #: of the head model, from 0 to 1
    shape: dict[str, float]  #: local changes of the head model, from -1 to 1
    skin: tuple[float, float, float]  #: colour
    lips: tuple[float, float, float]  #: colour
    iris: tuple[float, float, float]  #: colour
    hair: tuple[float, float, float]  #: colour
    brow: tuple[float, float, float]  #: colour
    brow_thickness: float  #: metres, half width of the brow
    brow_arch: float  #: metres added to the arch
    brow_density: float  #: from 0 to 1
    hairline: float  #: metres above the eyes
    hair_length: float  #: metres relative to the eyes: where the hair ends; nan for none
    beard: float  #: 0 none to 1 dense
    blush: float  #: how red the cheeks are, from 0
    skin_seed: int  #: of what is drawn in the textures

    @property
    def attributes(self) -> dict[str, bool]:
        """The facial attributes of Zhang et al. 2020, Table 1, that identity alone decides."""
        return {
            "bushy_eyebrows": self.brow_thickness > 0.0037 and self.brow_density > 0.75,
            "arched_eyebrows": self.brow_arch > 0.0018,
            "big_lips": self.shape.get("mouth-upperlip-volume-incr", 0) + self.shape.get("mouth-lowerlip-volume-incr", 0)
            + self.shape.get("mouth-upperlip-height-incr", 0) + self.shape.get("mouth-lowerlip-height-incr", 0) > 0.75,
        }


def _mirrored_shape(rng: np.random.Generator, names: tuple[str, ...], spread: float) -> dict[str, float]:
    """Random local changes, the same on both sides up to a little asymmetry."""
    shape: dict[str, float] = {}
    for name in names:
        bare = name[2:] if name[:2] in ("l-", "r-") else name
        if not bare.startswith(_REGIONS) and not bare.startswith(_TAME):
            continue
        scale = spread * (0.3 if bare.startswith(_TAME) else 1.0)
        value = float(np.clip(rng.normal() * scale, -0.9, 0.9))
        if name.startswith("r-"):
            value = float(np.clip(shape["l-" + bare] + rng.normal() * 0.03, -1, 1))
        if bare.endswith("trans-out") and bare == name:
            value *= 0.1  # shifts a midline part sideways
        shape[name] = value
    return shape


def sample_identity(number: int, seed: int, shape_names: tuple[str, ...]) -> Identity:
    """Draw person ``number`` of the population ``seed``.

    Parameters
    ----------
    number : int
        The identity's number; together with ``seed`` it fixes everything.
    seed : int
        The population.
    shape_names : tuple of str
        The head model's local shape changes, left sides before right ones.
    """
    rng = np.random.default_rng([seed, 1, number])
    race = int(rng.choice(3, p=RACE_SHARES))
    age = int(rng.choice(5, p=AGE_SHARES))
    female = rng.random() < FEMALE_SHARE / (1 - GENDER_UNSURE_SHARE)
    unsure = age == 0 and rng.random() < GENDER_UNSURE_SHARE / AGE_SHARES[0]
    grown = age >= 2
    light, dark = (np.array(c) for c in _SKIN[race])
    tone = np.clip(rng.beta(1.6, 2.2) + 0.08 * (not female), 0, 1)
    skin = light * (dark / light) ** tone * rng.normal(1, 0.025, 3)
    lip_tint = np.array([rng.uniform(0.80, 1.02), rng.uniform(0.48, 0.68), rng.uniform(0.50, 0.72)])
    if race == 1:
        lip_tint = lip_tint**0.7
    made_up = female and grown and rng.random() < 0.35
    lips = np.array([rng.uniform(0.3, 0.55), 0.05, 0.07]) if made_up and rng.random() < 0.5 else skin * lip_tint
    hair_p = np.array(_HAIR_SHARES[race])
    if age >= 3:
        hair_p = hair_p * (0.45 if age == 3 else 0.12)
        hair_p[-1] = 1 - hair_p[:-1].sum()
    hair = np.array(_HAIR[int(rng.choice(len(_HAIR), p=hair_p / hair_p.sum()))]) * rng.uniform(0.7, 1.3)
    bald = (not female and rng.random() < (0, 0, 0.06, 0.22, 0.4)[age]) or (age == 0 and rng.random() < 0.4)
    length = rng.uniform(-0.16, -0.05) if female and rng.random() < 0.75 else rng.uniform(-0.045, 0.02)
    race_weights = np.full(3, 0.06) + 0.82 * (np.arange(3) == race)
    phenotype = {
        "gender": (0.75 + 0.25 * rng.random() if female else 0.25 * rng.random()) if age else 0.5,
        "age": float(rng.uniform(*_AGE_AXIS[age])),
        "muscle": float(rng.uniform(0.3, 0.7)),
        "weight": float(np.clip(rng.normal(0.5, 0.16), 0.1, 0.95)),
        "caucasian": float(race_weights[0]), "african": float(race_weights[1]), "asian": float(race_weights[2]),
    }
    return Identity(
        number=number,
        gender=2 if unsure else int(female),
        race=race,
        age=age,
        phenotype={k: float(v) for k, v in phenotype.items()},
        shape=_mirrored_shape(rng, shape_names, 0.22 if grown else 0.15),
        skin=tuple(np.clip(skin, 0.02, 0.95)),
        lips=tuple(np.clip(lips, 0.02, 0.9)),
        iris=tuple(np.array(_IRIS[int(rng.choice(5, p=_IRIS_SHARES[race]))]) * rng.uniform(0.7, 1.3)),
        hair=tuple(hair),
        brow=tuple(np.minimum(hair * rng.uniform(0.4, 0.75), np.array(skin) * 0.5)),
        brow_thickness=float(rng.uniform(0.0016, 0.0032) + (0.0 if female else 0.0010)) * (1.0 if age else 0.7),
        brow_arch=float(rng.normal(0.0002, 0.0009) + (0.0008 if female else 0.0)),
        brow_density=float(rng.uniform(0.7, 1.0)) * (1.0 if age else 0.5),
        hairline=float(rng.uniform(0.042, 0.062)),
        hair_length=float("nan") if bald else float(length),
        beard=float(rng.beta(0.7, 1.6)) if (not female and grown and rng.random() < 0.55) else 0.0,
        blush=float(rng.uniform(0, 0.5)),
        skin_seed=int(rng.integers(2**31)),
    )
