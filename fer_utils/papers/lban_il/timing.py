"""Time and memory: what fixed filters save in training (4.5 of Li et al. 2021), and LBAN against ResNet18.

Rivals take turns, so that they meet the same machine; only a machine at rest says something. Sizes are the paper's also
for the book.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ...experiments.context import RunContext
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score
from ...models import FaceModel
from ...training import fit
from ...training.features import evaluation_mode
from ...training.memory import measure_peak_memory
from .model import count_learnable
from .networks import build_network, make_settings
from .objective import make_objective
from .recipe import LBANIL, Timing
from .traces import load_faces, plan_recipe

__all__ = ["measure_cost", "measure_training_time", "time_in_turns"]

_RIVALS = ("SC + STD Conv + SK CONN", "LBAN")
_SIZED = ("LBAN", "ResNet18")
#: Bytes of a MB.
_MB = 2**20


def time_in_turns(works: Mapping[str, Callable[[], object]], trials: int) -> dict[str, list[float]]:
    """Time each of some works so many times, in turns, after one turn to warm up.

    Parameters
    ----------
    works : dict of str to callable
    trials : int

    Returns
    -------
    dict of str to list of float
        Seconds by the clock, one a trial.
    """
    found: dict[str, list[float]] = {name: [] for name in works}
    for trial in range(trials + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if trial:
                found[name].append(time.perf_counter() - start)
    return found


def _size(recipe: LBANIL, timing: Timing) -> LBANIL:
    return replace(recipe, width=timing.width, input_size=timing.input_size, image_size=None, precision="float32")


def _plan(setup: Setup, name: str, function: Callable[..., list[Score]]) -> list[Run]:
    if "basic" not in setup.roles:
        return []
    return [Run(name, function, {"recipe": plan_recipe(setup), "timing": Timing().at(setup.profile)})]


# -- 4.5 3) ------------------------------------------------------------------------------------------------------------


@register_experiment("lban-il/section-4-5", alone=True)
def plan_section_4_5(setup: Setup) -> list[Run]:
    """One run, which alternates between learned and fixed filters; named for a row, so that a plan finds it."""
    return _plan(setup, _RIVALS[1], measure_training_time)


def measure_training_time(context: RunContext, recipe: LBANIL, timing: Timing) -> list[Score]:
    """Time training steps of LBAN with fixed filters and with learned ones in their place, under the islets loss.

    Parameters
    ----------
    context : RunContext
    recipe : LBANIL
    timing : ~fer_utils.papers.lban_il.recipe.Timing

    Returns
    -------
    list of Score
        Rows ``LBAN`` and ``SC + STD Conv + SK CONN``: ``training time``, the seconds of an epoch of the training faces
        by the clock, computed from trials of some steps; a trial of one is compared with the same trial of the other.
    """
    train, sized = load_faces(context, "basic", recipe).train, _size(recipe, timing)
    settings = make_settings(sized, len(train), 0)
    settings = replace(settings, steps=timing.steps, batch_size=timing.batch_size, milestones=())
    found: dict[str, list[float]] = {row: [] for row in _RIVALS}
    for trial in range(timing.trials + 1):
        for row in _RIVALS:
            model = build_network(row, sized, 0, len(train.classes))
            objective = make_objective("Islets loss", model, sized, 0)
            seconds = fit(model, train, settings, objective=objective, progress=False).seconds
            if trial:  # the first is to warm up
                found[row].append(seconds * len(train) / (timing.steps * timing.batch_size))
    name = "training time"
    return [Score(row, "", {name: float(np.mean(each))}, values={name: each}) for row, each in found.items()]


# -- LBAN against ResNet18 ---------------------------------------------------------------------------------------------


@register_experiment("lban-il/cost", alone=True)
def plan_cost(setup: Setup) -> list[Run]:
    """One run: LBAN and ResNet18 on the same images, in turns; nothing is trained."""
    return _plan(setup, _SIZED[0], measure_cost)


def measure_cost(context: RunContext, recipe: LBANIL, timing: Timing) -> list[Score]:
    """Measure what one face and one training step cost.

    Parameters
    ----------
    context : RunContext
    recipe : LBANIL
    timing : ~fer_utils.papers.lban_il.recipe.Timing

    Returns
    -------
    list of Score
        Rows ``LBAN`` and ``ResNet18``: ``face time`` and ``step time`` in ms, one number a trial; ``face memory`` and
        ``step memory``, the most MB that tensors hold besides weights and images; ``multiplications`` of a face,
        ``parameters`` (learned) and ``weights`` (with the fixed ones) in millions; ``file size`` in MB, as they are
        kept.
    """
    sized = _size(recipe, timing)
    models = {row: build_network(row, sized, 0) for row in _SIZED}
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(timing.batch_size, 3, sized.input_size, sized.input_size, generator=generator)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(len(images)) % 7
    for model in models.values():
        model.to(memory_format=torch.channels_last)

    def look(model: FaceModel) -> None:
        with evaluation_mode(model):
            model(images[:1])

    def step(model: FaceModel) -> None:
        model.train().zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()

    works = {"face": look, "step": step}
    times = {
        name: time_in_turns({row: partial(work, model) for row, model in models.items()}, timing.trials)
        for name, work in works.items()
    }
    scores = []
    for row, model in models.items():
        values = {f"{name} time": [1000 * seconds for seconds in found[row]] for name, found in times.items()}
        model.zero_grad()  # gradients are made anew, and counted
        peaks = {f"{name} memory": measure_peak_memory(partial(work, model)) / _MB for name, work in works.items()}
        metrics = {name: float(np.mean(each)) for name, each in values.items()}
        scores.append(Score(row, "", {**metrics, **peaks, **count_weights(model, images[:1])}, values=values))
    return scores


def count_weights(model: FaceModel, image: torch.Tensor) -> dict[str, float]:
    """Multiplications of a face and weights, in millions, and the size of a file in MB; see :func:`measure_cost`."""
    with evaluation_mode(model), FlopCounterMode(display=False) as counter:
        model(image)
    state = model.state_dict()
    fixed = sum(value.numel() for name, value in state.items() if name.endswith("filters"))
    # floating point numbers are kept in half precision, fixed filters as they are
    size = sum(value.numel() * (2 if value.is_floating_point() else value.element_size()) for value in state.values())
    learned = count_learnable(model)
    return {
        "multiplications": counter.get_total_flops() / 2e6, "parameters": learned / 1e6,
        "weights": (learned + fixed) / 1e6, "file size": size / _MB,
    }
