"""The time of a training step of DAF-CNN, in Keras and in PyTorch, in one run."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from ...experiments.context import RunContext
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score
from ...losses import TripletCenterLoss
from ...training import crop_and_flip
from .networks import load_wild
from .recipe import StepTime

__all__ = ["measure_step_time"]


@register_experiment("daf-cnn/step-time", alone=True)
def plan_step_time(setup: Setup) -> list[Run]:
    """One run, which alternates between the two."""
    if "basic" not in setup.roles:
        return []
    return [Run("time of a step", measure_step_time, {"recipe": StepTime().at(setup.profile)})]


def measure_step_time(context: RunContext, recipe: StepTime) -> list[Score]:
    """Time whole training steps of the same network on the same batches.

    A step is augmentation, both losses, their gradient, Adam and the centres.
    Keras' are those of ``fit``, without what it does once a call; PyTorch's those of a plain loop. A trial is timed
    from the end of its first step to the end of its last. They take turns, so that both meet the same machine.
    Only a machine at rest says something.

    Parameters
    ----------
    context : RunContext
    recipe : StepTime

    Returns
    -------
    list of Score
        Rows ``Keras`` and ``PyTorch``: ``step time`` is the mean over trials, ``step time spread`` their standard
        deviation, in ms. A trial of one is compared with the same trial of the other.
    """
    from .training import prepare_faces

    train = load_wild(context, recipe).train
    count = recipe.batch_size * recipe.trial_steps
    images, labels = prepare_faces(train.images[:count], recipe), train.labels[:count]
    works = {"Keras": _make_keras(images, labels, recipe), "PyTorch": _make_torch(images, labels, recipe)}
    times: dict[str, list[float]] = {name: [] for name in works}
    for trial in range(recipe.trials + 1):
        for name, work in works.items():
            ends = work(trial)
            if trial:  # the first is to warm up
                times[name].append(1000 * (ends[-1] - ends[0]) / (len(ends) - 1))
    scores = []
    for name, found in times.items():
        metrics = {"step time": float(np.mean(found)), "step time spread": float(np.std(found, ddof=1))}
        scores.append(Score(name, "", metrics, values={"step time": found}, series={"step time": found}))
    return scores


def _read_clock() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()  # a step ends when the GPU is done with it
    return time.perf_counter()


def _make_keras(images: np.ndarray, labels: np.ndarray, recipe: StepTime) -> Callable[[int], list[float]]:
    """Trains an epoch of a trial by ``fit``, and says when each step ended, in seconds."""
    from .backend import keras
    from .objective import make_objective
    from .training import DrawnBatches, build_network

    model = make_objective(build_network(recipe), recipe)
    model.compile(keras.optimizers.Adam(recipe.learning_rate))
    batches = DrawnBatches(images, labels, recipe.batch_size)

    def work(trial: int) -> list[float]:
        ends: list[float] = []
        clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(_read_clock()))
        model.fit(
            batches, epochs=trial + 1, initial_epoch=trial, shuffle=False, verbose=0,
            callbacks=[batches.follow(), clock],
        )  # fmt: skip
        return ends

    return work


def _make_torch(images: np.ndarray, labels: np.ndarray, recipe: StepTime) -> Callable[[int], list[float]]:
    """The same in a plain loop, where Keras on torch would be: on a GPU if there is one."""
    from .training import DrawnBatches, build_network
    from .twin import make_twin, make_twin_optimizer

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    twin = make_twin(build_network(recipe), recipe).train().to(device)
    loss = TripletCenterLoss(
        twin.scores.out_features,
        recipe.embedding_size,
        margin=recipe.margin,
        alpha=recipe.centre_rate,
        reduction=recipe.reduction_of_loss,
        init_std=recipe.centre_std,
    ).to(device)
    optimizer = make_twin_optimizer(twin, recipe)
    batches, generator = DrawnBatches(images, labels, recipe.batch_size), torch.Generator().manual_seed(0)

    def work(trial: int) -> list[float]:
        batches.epoch, ends = trial, []
        for number in range(batches.num_batches):
            drawn, own = (torch.tensor(array) for array in batches[number])
            windows = crop_and_flip(drawn.permute(0, 3, 1, 2), generator, recipe.input_size).to(device).float()
            own = own.long().to(device)
            found = twin(windows)
            total = cross_entropy(found["scores"], own) + recipe.weight * loss(found["embedding"], own)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            ends.append(_read_clock())
        return ends

    return work
