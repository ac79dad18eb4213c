"""Fit the face network's classifier and all temperatures, once: the package ships the results.

``python -m fer_utils.reading.calibrate --muxspace CLONE`` takes the rendered faces, the ledger's networks and, for
those trained on photographs, a clone of muxspace. Who is used for what:

* the classifier is fitted on four fifths of the people of FACSynth's basic training faces; ``C`` and its temperature
  are chosen on the last fifth;
* the ledger's networks saw all training people, so that their temperatures are chosen on the further test faces;
* both are tested on the first 3,068 test faces, of people who are in neither;
* the temperatures of networks trained on muxspace are chosen on half of the people of its test part, and all methods
  are tested on the other half, too.

Of people's faces only these counts and means are kept, no picture and no descriptor.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression

from ..datasets import facsynth
from ..datasets.base import FaceDataset
from ..experiments.faces import load_role
from ..files import replace_whole
from ..splits import subject_kfold, validation_split
from ..training import extract_features, predict_scores
from ..training.checkpoint import load_checkpoint
from ..training.features import cache_face_maps
from .methods import (
    CALIBRATION,
    CLASSIFIER,
    METHODS,
    STAGE,
    Calibration,
    Method,
    Test,
    apply_layer,
    ask_classifier,
    average,
    find_members,
    load_trunk,
)
from .reader import embed_rendered, find_nearest

__all__ = ["calibrate", "expected_calibration_error", "find_temperature"]

#: Of the logistic regression, for maps with a mean square length of 1.
_PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)
_BINS = 15


def expected_calibration_error(certainty: np.ndarray, right: np.ndarray, bins: int = _BINS) -> float:
    """Mean distance of certainty from the share of right answers, over bins weighted by faces (Guo et al. 2017, eq. 5).

    Parameters
    ----------
    certainty : array ``[N]``
        Of the answer given, from 0 to 1.
    right : bool ``[N]``
    bins : int
    """
    where = np.minimum((np.asarray(certainty) * bins).astype(int), bins - 1)
    gaps = np.bincount(where, weights=np.asarray(right, dtype=float) - certainty, minlength=bins)
    return float(np.abs(gaps).sum() / len(where))


def find_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    """The temperature, from 0.05 to 20, at which the mean softmax makes the labels likeliest.

    Parameters
    ----------
    scores : float ``[S, N, K]``
        Of ``S`` trainings, before the softmax.
    labels : int ``[N]``
    """

    def loss(logarithm: float) -> float:
        chosen = average(scores, np.exp(logarithm))[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(chosen, 1e-12)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=np.log((0.05, 20)), method="bounded").x))


def _test(scores: np.ndarray, labels: np.ndarray, temperature: float) -> Test:
    certainty = average(scores, temperature)
    right = certainty.argmax(1) == labels
    error = expected_calibration_error(certainty.max(1), right)
    return Test(len(labels), round(float(right.mean()), 4), round(error, 4))


def _ask(method: Method, images: np.ndarray) -> np.ndarray:
    if not method.trainings:
        return ask_classifier(load_trunk(), load_file(CLASSIFIER), images)
    return np.stack([predict_scores(load_checkpoint(path)[0], images) for path in find_members(method)])


def fit_classifier(faces: FaceDataset, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit the linear layer, write it, and return the scores and labels of the training people who were held back.

    Parameters
    ----------
    faces : FaceDataset
        The training faces.
    maps : float ``[N, 8192]``
        Of the face network.
    """
    split = validation_split(faces, 0.2)
    assert not set(faces.identities[split.train]) & set(faces.identities[split.test])
    length = np.sqrt(np.square(maps[split.train]).sum(1).mean())
    losses, layers = [], []
    for penalty in _PENALTIES:
        model = LogisticRegression(C=penalty, max_iter=1000).fit(maps[split.train] / length, faces.labels[split.train])
        layers.append(_as_layer(model, length))
        scores = apply_layer(maps[split.test], layers[-1])
        own = average(scores, find_temperature(scores, faces.labels[split.test]))
        losses.append(float(-np.log(own[np.arange(len(own)), faces.labels[split.test]]).mean()))
        print(f"C = {penalty:g}: held-back people, log loss {losses[-1]:.4f}", flush=True)
    best = int(np.argmin(losses))
    provenance = {
        "made by": "python -m fer_utils.reading.calibrate",
        "takes": f"maps of {STAGE} of face_network.safetensors, [8192], of FACSynth's alignment at 150 pixels",
        "gives": ", ".join(faces.classes),
        "fitted on": f"{len(split.train)} faces of {len(set(faces.identities[split.train]))} training people",
        "held back": f"{len(split.test)} faces of {len(set(faces.identities[split.test]))} people",
        "faces": facsynth.checksum(facsynth.list_folders("basic")),
        "C": f"{_PENALTIES[best]:g}",
    }
    with replace_whole(CLASSIFIER) as partial:
        # one entry: safetensors writes several in another order each time
        partial.write_bytes(save(layers[best], {"provenance": json.dumps(provenance)}))
    return apply_layer(maps[split.test], layers[best]), faces.labels[split.test]


def _as_layer(model: LogisticRegression, length: float) -> dict[str, torch.Tensor]:
    return {
        "weight": torch.from_numpy(model.coef_ / length).half().contiguous(),
        "bias": torch.from_numpy(model.intercept_).half(),
    }


def calibrate(muxspace: Path) -> None:
    """Fit, measure, and write both files of the package."""
    faces = facsynth.load("basic", more=True)
    train = np.flatnonzero(faces.split == "train")
    first = np.isin(faces.names, facsynth.load("basic", split="test").names)
    test, further = np.flatnonzero(first & (faces.split == "test")), np.flatnonzero(~first & (faces.split == "test"))
    assert not set(faces.identities[test]) & (set(faces.identities[further]) | set(faces.identities[train]))
    photos = load_role("muxspace", "basic", muxspace)
    photos = photos.subset(photos.split == "test")
    half = subject_kfold(photos, 2)[0]

    measured, words = {}, []
    for method in METHODS:
        if not method.trainings:
            maps = cache_face_maps(faces, STAGE).inputs.reshape(len(faces), -1)
            chosen = fit_classifier(faces.subset(train), maps[train])
            on_renders = apply_layer(maps[test], load_file(CLASSIFIER))
        else:
            on_renders = _ask(method, faces.images[test])
        on_photos = _ask(method, photos.images)
        if method.dataset == "muxspace":
            chosen = on_photos[:, half.train], photos.labels[half.train]
        elif method.trainings:
            chosen = _ask(method, faces.images[further]), faces.labels[further]
        parts = {
            "facsynth": (on_renders, faces.labels[test]),
            "muxspace": (on_photos[:, half.test], photos.labels[half.test]),
        }
        temperature = round(find_temperature(*chosen), 4)
        measured[method.key] = Calibration(
            temperature,
            _test(*parts[method.dataset], 1.0).error,
            {name: _test(*part, temperature) for name, part in parts.items()},
            {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in find_members(method)},
        )
        if method.dataset == "facsynth":
            words.append(average(on_renders, temperature).argmax(1))
        print(method.key, temperature, measured[method.key].tests, flush=True)

    same = (np.stack(words) == words[0]).all(0)
    right = np.stack(words) == faces.labels[test]
    agreement = {
        "share": round(float(same.mean()), 4),
        "right": round(float(right[0, same].mean()), 4),
        "right otherwise": round(float(right[:, ~same].mean()), 4),
    }
    network, kept = embed_rendered(faces.subset(train))
    distances = find_nearest(extract_features(network, faces.images[test]), kept, 1)[1][:, 0]
    content = {
        "made by": "python -m fer_utils.reading.calibrate",
        "faces": {
            "facsynth": facsynth.checksum(facsynth.list_folders("basic", more=True)),
            "muxspace": f"a copy with {len(photos)} test faces",
        },
        "methods": {key: asdict(value) for key, value in measured.items()},
        "agreement": agreement,
        "distances": {str(q): round(float(np.quantile(distances, q / 100)), 4) for q in (50, 90, 99)},
    }
    with replace_whole(CALIBRATION) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fit and calibrate what ships.")
    parser.add_argument("--muxspace", type=Path, required=True, help="a clone of muxspace/facial_expressions")
    calibrate(parser.parse_args().muxspace)
