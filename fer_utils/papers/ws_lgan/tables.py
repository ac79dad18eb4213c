"""Expressions recognised: Tables II to X of Zhang, Su & Wang 2020, and the networks on poor attention maps of III-D 2).

A run trains one method, in the wild and then by folds of people in the lab. In the lab it starts from what it was
pre-trained on: FER2013 where the paper's own datasets are run, as in IV-C, and else the wild training faces. FACSynth
and muxspace have no further faces to be pre-trained on: in the wild they are trained from scratch.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch

from ...datasets.base import FaceDataset
from ...experiments.contents import describe_contents
from ...experiments.context import RunContext
from ...experiments.faces import fingerprint_faces, limit_per_class, load_role
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, score_faces, score_values
from ...splits import subject_kfold
from ...training import Samples, predict
from ...training.features import compute_batches
from ...training.stages import replace_head
from .kept import (
    GENERATOR,
    SEEDS,
    Kept,
    find_pretraining,
    limit_seeds,
    load_branches,
    load_faces,
    load_kept,
    measure_separation,
    save_kept,
)
from .model import BRANCHES, WSLGAN
from .networks import VARIANTS, build_network, derive_samples, train_network
from .recipe import Generator, Recognition

__all__ = ["measure_kept", "measure_network", "measure_rival", "measure_separations"]

_ROLES = ("basic", "lab")
_OULU = "oulu_casia"
#: The network whose weights in the wild are kept, and the rows whose branches are compared.
_FULL, _SEPARATED = "WS-LGAN", ("WS-LGAN", "WS-LGAN-WCL")
#: Rows of Table VI, and under which name Table VI of Li & Deng 2019 keeps the network.
_RIVALS = {"DLP-CNN": "DLP-CNN", "Center Loss": "center loss", "baseDCNN": "baseDCNN"}
_RIVALS_TABLE = "dlp-cnn/table-6"
_OTHERS = "a number of another paper, which is not rebuilt"
_UNTRAINED = ", untrained AMG"


def _omit(*rows: str) -> dict[str, str]:
    return dict.fromkeys(rows, _OTHERS)


def _list_roles(setup: Setup) -> list[str]:
    return [role for role in _ROLES if role in setup.roles]


# -- trainings ---------------------------------------------------------------------------------------------------------


def _plan_trainings(setup: Setup, methods: Mapping[str, bool]) -> list[Run]:
    """A run a seed of each method that is trained here, or else scored once more from what it left."""
    roles = _list_roles(setup)
    if not roles:
        return []
    recipe, generator = Recognition().at(setup.profile), Generator().at(setup.profile)
    runs = []
    for seed in limit_seeds(setup):
        for row, trained in methods.items():
            arguments = {"row": row, "roles": roles, "recipe": recipe}
            if trained:
                arguments |= {"generator": generator, "pretraining": find_pretraining(setup.dataset)}
            runs.append(Run(row, measure_network if trained else measure_kept, arguments, seed))
    return runs


@register_experiment("ws-lgan/table-8", seeds=SEEDS, needs=(GENERATOR,))
def plan_table_8(setup: Setup) -> list[Run]:
    """Global and local features; the full network is read by all other tables."""
    return _plan_trainings(setup, {"WS-LGAN": True, "GFNet": True, "LFNet": True})


@register_experiment("ws-lgan/table-9", seeds=SEEDS, needs=(GENERATOR, "ws-lgan/table-8"))
def plan_table_9(setup: Setup) -> list[Run]:
    """Ways to fuse; the unit's row is Table VIII's."""
    return _plan_trainings(setup, {"WS-LGAN": False, "WS-LGAN-Sum": True, "WS-LGAN-Concat": True})


_TWICE = "printed here a second time by mistake; see Table IX"


@register_experiment(
    "ws-lgan/table-10", seeds=SEEDS, needs=(GENERATOR, "ws-lgan/table-8"),
    omits=dict.fromkeys(("WS-LGAN-Sum", "WS-LGAN-Concat"), _TWICE),
)
def plan_table_10(setup: Setup) -> list[Run]:
    """With and without contrastive losses: what the paper announces here. It prints Table IX once more in its place."""
    return _plan_trainings(setup, {"WS-LGAN": False, "WS-LGAN-WCL": True})


@register_experiment("ws-lgan/section-3-d", seeds=SEEDS, needs=(GENERATOR, "ws-lgan/table-8", "ws-lgan/table-9"))
def plan_section_3_d(setup: Setup) -> list[Run]:
    """The unit and the sum on maps of a generator that learned nothing, beside those on trained maps."""
    methods = ("WS-LGAN", "WS-LGAN-Sum")
    untrained = {f"{method}{_UNTRAINED}": True for method in methods}
    return _plan_trainings(setup, {**dict.fromkeys(methods, False), **untrained})


def measure_network(
    context: RunContext, row: str, roles: list[str], recipe: Recognition, generator: Generator, pretraining: str | None
) -> list[Score]:
    """Train a method on each role's faces and score it.

    Parameters
    ----------
    context : RunContext
    row : str
        Of :data:`~fer_utils.papers.ws_lgan.networks.METHODS`, or such a one with ``, untrained AMG``.
    roles : list of str
        Of ``basic`` and ``lab``.
    recipe, generator : Recognition and Generator
    pretraining : str, optional
        A dataset whose training faces come first; all roles start from there. Without, the wild faces stand in for it.

    Returns
    -------
    list of Score
        The row on each role; folds are scored together. The run leaves :class:`~fer_utils.papers.ws_lgan.kept.Kept`,
        and the full network as it is trained in the wild.
    """
    training = _Training(context, row, recipe)
    branches = None if row.endswith(_UNTRAINED) else load_branches(context)
    start = build_network(training.method, recipe, generator, context.seed or 0, branches=branches)
    if torch.cuda.is_available():
        start.to("cuda")  # before maps are computed
    if pretraining is not None:
        faces = limit_per_class(load_role(pretraining), recipe.images).train
        known = {**fingerprint_faces(pretraining, faces), **describe_contents(faces)}
        context.loaded.append({"role": pretraining, "options": {}, **known})
        start = training.train(start, faces, derive_samples(start, faces), "pretraining")
    scores, guesses, separations = [], {}, {}
    for role in roles:
        faces = load_faces(context, role, recipe.images)
        if role == "lab":
            guess, apart = training.measure_folds(start, faces)
        else:
            samples, tuned = derive_samples(start, faces.train), pretraining is not None
            trained, faces = training.train(start, faces.train, samples, role, tuned=tuned), faces.test
            guess, apart = predict(trained, faces.images), training.separate(trained, faces)
            if row == _FULL:
                context.save_network(row, trained, recipe)
            start = start if tuned else trained
        guesses[role] = guess.astype(np.int8)
        if apart is not None:
            separations[role] = apart
        scores.append(score_faces(row, role, faces, guess))
    save_kept(context, row, Kept(guesses, separations))
    return scores


class _Training:
    """The trainings of one method and seed."""

    def __init__(self, context: RunContext, row: str, recipe: Recognition) -> None:
        self.context, self.row, self.recipe, self.seed = context, row, recipe, context.seed or 0
        self.method = row.removesuffix(_UNTRAINED)
        self.global_weight = recipe.oulu_global_weight if context.dataset == _OULU else None

    def train(self, start: WSLGAN, faces: FaceDataset, samples: Samples, name: str, *, tuned: bool = False) -> WSLGAN:
        """Train a copy of a network on what was derived of faces; a killed one goes on from the checkpoint ``name``."""
        model = deepcopy(start)
        if model.num_classes != len(faces.classes):
            replace_head(model, len(faces.classes), self.seed)
        recipe = replace(self.recipe, steps=self.recipe.lab_steps) if name.startswith("lab") else self.recipe
        train_network(
            model, samples, self.method, recipe, self.seed, pretraining=not tuned, global_weight=self.global_weight,
            checkpoint=self.context.workdir / f"{name}.safetensors",
        )
        return model

    def measure_folds(self, start: WSLGAN, faces: FaceDataset) -> tuple[np.ndarray, np.ndarray | None]:
        """What each fold's network says of people whom it has not seen, and how far their classes lie apart in it."""
        samples = derive_samples(start, faces)
        guess, apart = np.full(len(faces), -1), []
        for fold, split in enumerate(subject_kfold(faces, self.recipe.folds)):
            rows = (VARIANTS * split.train[:, None] + np.arange(VARIANTS)).reshape(-1)
            part = Samples(samples.name, samples.inputs[rows], samples.labels[rows], samples.classes)
            model = self.train(start, faces, part, f"lab-{fold}", tuned=True)
            test = faces.subset(split.test)
            guess[split.test] = predict(model, test.images)
            apart.append((split.test, self.separate(model, test)))
        if self.row not in _SEPARATED:
            return guess, None
        order = np.argsort(np.concatenate([where for where, _ in apart]))
        return guess, np.concatenate([found for _, found in apart])[order]

    def separate(self, model: WSLGAN, test: FaceDataset) -> np.ndarray | None:
        """How far classes lie apart in each branch, before fusion and auxiliary layers, float16 ``[N, P]``."""
        if self.row not in _SEPARATED:
            return None
        batches = compute_batches(lambda images: model.compute_branches(images)[0], model, test.images, 256)
        pooled = torch.cat(list(batches)).numpy()  # [N, P, C]
        found = [measure_separation(pooled[:, i], test.labels, test.identities) for i in range(len(model.branches))]
        return np.stack(found, axis=1).astype(np.float16)


# -- scored once more --------------------------------------------------------------------------------------------------


def _plan_kept(setup: Setup, role: str) -> list[Run]:
    """The full network on one role, where Table VIII has it."""
    if role not in setup.roles:
        return []
    arguments = {"row": _FULL, "roles": [role], "recipe": Recognition().at(setup.profile)}
    return [Run(_FULL, measure_kept, arguments, seed) for seed in limit_seeds(setup)]


def measure_kept(context: RunContext, row: str, roles: list[str], recipe: Recognition) -> list[Score]:
    """Score what a method's networks said of the test faces when they were trained.

    Parameters
    ----------
    context : RunContext
    row : str
    roles : list of str
    recipe : Recognition
    """
    kept, scores = load_kept(context, row), []
    for role in roles:
        faces = load_faces(context, role, recipe.images)
        scores.append(score_faces(row, role, faces if role == "lab" else faces.test, kept.guesses[role]))
    return scores


@register_experiment(
    "ws-lgan/table-2", seeds=SEEDS, needs=("ws-lgan/table-8",),
    omits=_omit(
        "HOG 3D", "Cov3D", "3DCNN-DAP", "DCMA-CNNs", "STM-ExpLet", "IL-CNN", "LOMo", "IACNN",
        "PAT-ResNet-(gender,race)", "BDBN", "2B(N+M)Softmax", "DTAGN", "DeRL", "GCNet", "PHRNN-MSCNN",
    ),
)
def plan_table_2(setup: Setup) -> list[Run]:
    """The accuracy in the lab: CK+'s folds of people, or FACSynth's."""
    return [] if setup.dataset == _OULU else _plan_kept(setup, "lab")


@register_experiment("ws-lgan/table-3", seeds=SEEDS, needs=("ws-lgan/table-8",))
def plan_table_3(setup: Setup) -> list[Run]:
    """The confusion matrix of the same."""
    return plan_table_2(setup)


@register_experiment(
    "ws-lgan/table-4", seeds=SEEDS, needs=("ws-lgan/table-8",),
    omits=_omit("HOG 3D", "STM-ExpLet", "IL-CNN", "DTAGN", "LOMo", "PHRNN-MSCNN", "GCNet", "FN2EN", "DeRL"),
)
def plan_table_4(setup: Setup) -> list[Run]:
    """The accuracy on Oulu-CASIA, which nothing stands in for."""
    return _plan_kept(setup, "lab") if setup.dataset == _OULU else []


@register_experiment("ws-lgan/table-5", seeds=SEEDS, needs=("ws-lgan/table-8",))
def plan_table_5(setup: Setup) -> list[Run]:
    """The confusion matrix of the same."""
    return plan_table_4(setup)


@register_experiment(
    "ws-lgan/table-6", seeds=SEEDS, needs=("ws-lgan/table-8", _RIVALS_TABLE),
    omits=_omit("FSN", "PAT-ResNet-(gender,race)", "Lin et al."),
)
def plan_table_6(setup: Setup) -> list[Run]:
    """The accuracy in the wild, beside the three networks of Li & Deng 2019 that the paper compares itself with."""
    recipe, kept = Recognition().at(setup.profile), _plan_kept(setup, "basic")
    return kept + [Run(row, measure_rival, {"row": row, "recipe": recipe}, run.seed) for run in kept for row in _RIVALS]


def measure_rival(context: RunContext, row: str, recipe: Recognition) -> list[Score]:
    """Score what the SVM on features of a network of Li & Deng 2019, their Table VI, said of the same test faces.

    Parameters
    ----------
    context : RunContext
    row : {"DLP-CNN", "Center Loss", "baseDCNN"}
    recipe : Recognition
    """
    guess = context.load_arrays(_RIVALS_TABLE, _RIVALS[row], ("guess mSVM basic",))["guess mSVM basic"]
    return [score_faces(row, "basic", load_faces(context, "basic", recipe.images).test, guess)]


@register_experiment("ws-lgan/table-7", seeds=SEEDS, needs=("ws-lgan/table-8",))
def plan_table_7(setup: Setup) -> list[Run]:
    """The confusion matrix in the wild."""
    return _plan_kept(setup, "basic")


@register_experiment("ws-lgan/contrastive-features", seeds=SEEDS, needs=("ws-lgan/table-8", "ws-lgan/table-10"))
def plan_contrastive_features(setup: Setup) -> list[Run]:
    """How far classes lie apart in the branches, with and without contrastive losses."""
    roles, recipe = _list_roles(setup), Recognition().at(setup.profile)
    return [
        Run(row, measure_separations, {"row": row, "roles": roles, "recipe": recipe}, seed)
        for seed in limit_seeds(setup) for row in _SEPARATED if roles
    ]


def measure_separations(context: RunContext, row: str, roles: list[str], recipe: Recognition) -> list[Score]:
    """Score how far classes lie apart, from what the trainings left: ``eyes``, ``mouth`` and ``global separation``.

    Parameters
    ----------
    context : RunContext
    row : str
    roles : list of str
    recipe : Recognition
    """
    kept, scores = load_kept(context, row), []
    for role in roles:
        faces = load_faces(context, role, recipe.images)
        test = faces if role == "lab" else faces.test
        apart = kept.separations[role].astype(float)
        values = {f"{branch} separation": apart[:, i] for i, branch in enumerate(BRANCHES["both"])}
        scores.append(score_values(row, role, test, values))
    return scores
