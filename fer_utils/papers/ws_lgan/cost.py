"""What each part of WS-LGAN costs: parameters, time and memory, when it learns and when it is asked.

The paper says that patches make others slow, and prints no cost of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from torch import nn

from ...experiments.context import RunContext
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score
from ...training.memory import measure_peak_memory
from .kept import RENDERED
from .model import WSLGAN, pool_attended
from .networks import build_attribute_network, build_network
from .objective import make_objective
from .recipe import Generator, Recognition, Timing

__all__ = ["measure_cost", "plan_cost"]


@dataclass(frozen=True, eq=False)
class _Part:
    """A part: its modules, what it does with a batch when asked, and what is made small where it learns."""

    modules: tuple[nn.Module, ...]
    ask: Callable[[], torch.Tensor]
    teach: Callable[[], torch.Tensor] | None


@register_experiment("ws-lgan/cost", alone=True)
def plan_cost(setup: Setup) -> list[Run]:
    """One run, in which the parts take turns. Faces play no part in it, so it is done once, with FACSynth's results."""
    if setup.dataset != RENDERED:
        return []
    recipes = {"recipe": Recognition().at(setup.profile), "generator": Generator().at(setup.profile)}
    return [Run("parts", measure_cost, {**recipes, "timing": Timing().at(setup.profile)})]


def measure_cost(context: RunContext, recipe: Recognition, generator: Generator, timing: Timing) -> list[Score]:
    """Time each part on one batch of noise, in turns, so that all meet the same machine, which has to be at rest.

    Parameters
    ----------
    context : RunContext
    recipe, generator, timing : Recognition, Generator and Timing

    Returns
    -------
    list of Score
        A row a part, with ``parameters``, ``inference time`` of a batch, in ms, and ``inference memory``, in MB; for
        what learns also ``training time``, forward and backward without the optimiser's step, and ``training memory``.
        Memory is that of tensors at its peak, weights apart. A trial is the unit of a time.

    Notes
    -----
    ``one branch of AMG`` is what the first stage trains, ``AMG`` both, frozen; ``FE`` the Feature Extractor;
    ``bilinear pooling``, ``SFU`` and ``classifier`` what follows, each on ready inputs. ``WS-LGAN`` is the whole with
    its objective, as the paper trains it; ``WS-LGAN on kept maps`` the same where maps were computed before, as in the
    book's trainings; ``GFNet`` the network without local features.
    """
    parts = _list_parts(recipe, generator)
    asked = {name: _ask(part, recipe.precision) for name, part in parts.items()}
    taught = {name: _teach(part, recipe.precision) for name, part in parts.items() if part.teach is not None}
    times = {"inference": _take_turns(asked, timing), "training": _take_turns(taught, timing)}
    peaks = {
        kind: {name: measure_peak_memory(work) / 1e6 for name, work in works.items()}
        for kind, works in (("inference", asked), ("training", taught))
    }
    scores = []
    for name, part in parts.items():
        unique = {id(weight): weight.numel() for module in part.modules for weight in module.parameters()}
        metrics, values = {"parameters": float(sum(unique.values()))}, {}
        for kind in ("inference", "training") if part.teach is not None else ("inference",):
            values[f"{kind} time"] = times[kind][name]
            metrics |= {f"{kind} time": float(np.mean(times[kind][name])), f"{kind} memory": peaks[kind][name]}
        scores.append(Score(name, "", metrics, values=values))
    return scores


def _list_parts(recipe: Recognition, generator: Generator) -> Mapping[str, _Part]:
    """The parts by the name of their row, each with a batch to work on."""
    branch = build_attribute_network(generator, 0)
    full, plain = (build_network(method, recipe, generator, 0) for method in ("WS-LGAN", "GFNet"))
    assert full.unit is not None and full.generator is not None
    draws = torch.Generator().manual_seed(0)
    size, count = recipe.input_size, recipe.batch_size
    images = torch.rand(count, full.in_channels, size, size, generator=draws)
    images = images.contiguous(memory_format=torch.channels_last)
    half = torch.arange(count // 2) % full.num_classes
    labels = torch.cat([half, half.roll(1)])
    with torch.no_grad():
        found, maps = full.body(images).float(), full.generator(images)
        pooled, _ = full.compute_branches(images, maps)
    fused = pooled.mean(1)

    leaf = found.clone().requires_grad_()
    rest = tuple(module for name, module in full.named_children() if name != "generator")

    def whole(model: WSLGAN, method: str, modules: tuple[nn.Module, ...], *given: torch.Tensor) -> _Part:
        objective = make_objective(method, model, recipe)

        def teach() -> torch.Tensor:
            outputs = {name: value.float() for name, value in model.compute_outputs(images, *given).items()}
            return objective(outputs, {"labels": labels})["loss"]

        return _Part(modules, lambda: model.classify(model.fuse(model.compute_branches(images, *given)[0])[0]), teach)

    def single(module: nn.Module | None, work: Callable[[], torch.Tensor]) -> _Part:
        return _Part(() if module is None else (module,), work, work)

    return {
        "one branch of AMG": single(branch, lambda: branch(images)),
        "AMG": _Part((full.generator,), lambda: full.generator(images), None),
        "FE": single(full.body, lambda: full.body(images)),
        "bilinear pooling": single(None, lambda: pool_attended(leaf, maps)),
        "SFU": single(full.unit, lambda: full.unit(pooled)[0]),
        "classifier": single(full.classifier, lambda: full.classify(fused)),
        "WS-LGAN": whole(full, "WS-LGAN", (full,)),
        "WS-LGAN on kept maps": whole(full, "WS-LGAN", rest, maps),
        "GFNet": whole(plain, "GFNet", (plain,)),
    }


def _compute_in(precision: str) -> torch.autocast:
    """As a training computes; entered for each batch, since it keeps what it made of weights until it is left."""
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")


def _ask(part: _Part, precision: str) -> Callable[[], None]:
    def work() -> None:
        for module in part.modules:
            module.eval()
        with torch.no_grad(), _compute_in(precision):
            part.ask()

    return work


def _teach(part: _Part, precision: str) -> Callable[[], None]:
    def work() -> None:
        for module in part.modules:
            module.train().zero_grad()
        assert part.teach is not None
        with _compute_in(precision):
            loss = part.teach().float().sum()
        loss.backward()

    return work


def _take_turns(works: Mapping[str, Callable[[], None]], timing: Timing) -> dict[str, list[float]]:
    """Milliseconds of each piece of work, one number a trial; the first trial is to warm up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for trial in range(timing.trials + 1):
        for name, work in works.items():
            started = perf_counter()
            for _ in range(timing.steps):
                work()
            if trial:
                times[name].append(1000 * (perf_counter() - started) / timing.steps)
    return times
