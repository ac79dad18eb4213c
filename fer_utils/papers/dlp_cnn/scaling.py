"""How far baseDCNN gets with how many steps and weights: where its training has converged, and from where on it beats descriptors.

The losses on features are looked at around the book's size alone: do they converge as early as softmax does?
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ...experiments.context import RunContext
from ...experiments.faces import limit_per_class
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, score_faces
from ...models import FaceModel, build_model
from ...splits import validation_split
from ...training import FitSettings, fit, predict
from .networks import RIVALS
from .objective import make_objective
from .recipe import DLPCNN, Scaling

__all__ = ["count_multiplications", "measure_point", "name_point"]

#: Factors of baseDCNN's channels; the paper's network is 1.
WIDTHS = (0.125, 0.25, 0.5, 1.0)
#: The paper takes 20,000.
STEPS = (500, 1_000, 2_000, 4_000, 8_000, 16_000)
#: Width squared times steps, about what a training costs. Points beyond it take too long on two cores and are left out.
LARGEST = 1_000


#: At the book's width, the losses on features are trained for the book's steps and for twice as many.
_BOOK_STEPS = (8_000, 16_000)


def name_point(width: float, steps: int, method: str = "baseDCNN") -> str:
    """The row of a point, such as ``"width 0.25, 2000 steps"``; of another method than softmax its name comes first.

    Parameters
    ----------
    width : float
    steps : int
    method : str
    """
    return f"{'' if method == 'baseDCNN' else f'{method}, '}width {width:g}, {steps} steps"


@register_experiment("dlp-cnn/scaling", seeds={"book": 3})
def plan_scaling(setup: Setup) -> list[Run]:
    """One training a width, number of steps and seed, the cheapest first; widths and steps beyond :data:`LARGEST` are left out.

    The narrowest network, at which the book compares losses, is trained with every seed, the others once: they show where the curve goes.
    """
    if "basic" not in setup.roles:
        return []
    recipe = Scaling().at(setup.profile)
    points = [(width, steps) for width in WIDTHS for steps in STEPS if width**2 * steps <= LARGEST]
    points.sort(key=lambda point: point[0] ** 2 * point[1])
    losses = DLPCNN().at(setup.profile)
    rivals = [
        Run(name_point(WIDTHS[0], steps, method), measure_point,
            {"width": WIDTHS[0], "steps": steps, "recipe": recipe, "method": method, "losses": losses}, seed)
        for steps in _BOOK_STEPS for seed in setup.seeds for method in RIVALS
    ]
    return [
        Run(name_point(width, steps), measure_point, {"width": width, "steps": steps, "recipe": recipe}, seed)
        for width, steps in points for seed in (setup.seeds if setup.asked or width == WIDTHS[0] else setup.seeds[:1])
    ] + rivals


def count_multiplications(model: FaceModel) -> int:
    """Multiplications of one image's way through the convolutions and dense layers of a network."""
    total = 0

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        weights = layer.weight.numel()
        total += weights * (output[0, 0].numel() if isinstance(layer, nn.Conv2d) else 1)

    hooks = [layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    try:
        with torch.inference_mode():
            model(torch.zeros(1, model.in_channels, model.input_size, model.input_size))
    finally:
        for hook in hooks:
            hook.remove()
    return total


def measure_point(
    context: RunContext, width: float, steps: int, recipe: Scaling, method: str = "baseDCNN", losses: DLPCNN | None = None
) -> list[Score]:
    """Train the network of a method on four fifths of the training people, and ask it for the held-back people and for the test faces.

    Parameters
    ----------
    context : RunContext
    width : float
        Factor of all channels.
    steps : int
        Before the profile shortens them.
    recipe : Scaling
    method : {"baseDCNN", "center loss", "DLP-CNN"}
    losses : DLPCNN, optional
        For lambda and k of the last two.

    Returns
    -------
    list of Score
        The row of :func:`name_point` on ``basic``, on ``held-back`` and on ``training``, the faces of the people whom it learned from. On
        ``basic`` also ``compute``: floating point operations of the training in units of 1e15, taken as three times those of the forward
        pass.
    """
    seed, taken = context.seed or 0, max(2, steps // recipe.shortening)
    faces = limit_per_class(context.load_faces("basic"), recipe.images)
    train, test = faces.train, faces.test
    held_back = validation_split(train, recipe.validation, seed).test
    model = build_model(
        "base_dcnn", seed=seed, num_classes=len(faces.classes), width=width, in_channels=1, input_size=recipe.input_size,
        image_size=recipe.image_size,
    )
    settings = FitSettings(
        steps=taken, batch_size=recipe.batch_size, learning_rate=recipe.learning_rate, momentum=recipe.momentum, gamma=recipe.gamma,
        milestones=tuple(round(share * taken) for share in recipe.drops), weight_decay=recipe.weight_decay,
        last_weight_decay=recipe.last_weight_decay, seed=seed, precision=recipe.precision,
        validate_every=taken,  # once, at the end: nothing is chosen by it
    )
    objective = make_objective(method, model, train, losses, seed) if losses is not None else None
    checkpoint = context.workdir / "training.safetensors"
    fit(model, train, settings, objective=objective, held_back=held_back, checkpoint=checkpoint, progress=False)
    rest = np.setdiff1d(np.arange(len(train)), held_back)
    row, compute = name_point(width, steps, method), 2 * 3 * count_multiplications(model) * recipe.batch_size * taken / 1e15
    parts = {"held-back": train.subset(held_back), "training": train.subset(rest)}
    return [
        score_faces(row, "basic", test, predict(model, test.images), metrics={"compute": compute}),
        *(score_faces(row, role, part, predict(model, part.images)) for role, part in parts.items()),
    ]
