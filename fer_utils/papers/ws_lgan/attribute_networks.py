"""The branches of the Attention Map Generator, trained once a seed for all tables."""

from __future__ import annotations

from collections.abc import Sequence

from ...datasets import celeba
from ...datasets.base import FaceDataset
from ...experiments.contents import describe_contents
from ...experiments.context import RunContext
from ...experiments.faces import fingerprint_faces
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, checksum_names, score_predictions
from ...training import predict
from .attributes import AttributeTask, find_people, pool_faces, sample_task
from .kept import GENERATOR, RENDERED, SEEDS, find_home, limit_seeds, load_faces
from .model import PARTS, AttributeNetwork
from .networks import train_attribute_network
from .recipe import Generator

__all__ = ["draw_task", "measure_branch", "plan_attributes", "score_attributes"]


@register_experiment(GENERATOR, seeds=SEEDS)
def plan_attributes(setup: Setup) -> list[Run]:
    """One training a part of the face and seed, where the generator is kept; nothing on faces that take another's."""
    if setup.dataset != find_home(setup.dataset):
        return []
    recipe = Generator().at(setup.profile)
    return [
        Run(part, measure_branch, {"part": part, "recipe": recipe}, seed)
        for seed in limit_seeds(setup) for part in PARTS
    ]


def measure_branch(context: RunContext, part: str, recipe: Generator) -> list[Score]:
    """Train a branch, leave its weights, and ask it for the attributes of the faces that tables test on.

    Parameters
    ----------
    context : RunContext
    part : {"eyes", "mouth"}
    recipe : Generator

    Returns
    -------
    list of Score
        The row of the part on ``held-back``, the people by whom its best weights were chosen; and on FACSynth, whose
        attributes are known, on the test faces of ``basic`` and on ``lab``.
    """
    seed, checkpoint = context.seed or 0, context.workdir / "training.safetensors"
    task = draw_task(context, part, recipe, seed)
    model, _ = train_attribute_network(task, recipe, seed, checkpoint=checkpoint)
    context.save_network(part, model, recipe)
    scores = [_score(part, "held-back", model, task.validation)]
    if context.dataset == RENDERED:
        basic, lab = (load_faces(context, role, recipe.tested) for role in ("basic", "lab"))
        scores += [score_attributes(part, role, model, faces) for role, faces in (("basic", basic.test), ("lab", lab))]
    return scores


def draw_task(
    context: RunContext, part: str, recipe: Generator, seed: int, without: Sequence[str] = ()
) -> AttributeTask:
    """Draw what a branch learns from: CelebA as in the paper, or FACSynth's training people, wild and compound.

    Parameters
    ----------
    context : RunContext
    part : {"eyes", "mouth"}
    recipe : Generator
    seed : int
    without : sequence of str
        Attributes to do without, see :func:`~fer_utils.papers.ws_lgan.attributes.sample_task`.
    """
    if context.dataset == RENDERED:
        basic, compound, lab = (context.load_faces(role) for role in ("basic", "compound", "lab"))
        pool, tested = pool_faces(basic.train, compound.train), [basic.test, compound.test, lab]
        return sample_task(pool, part, recipe.images, recipe.validation, seed, without=without, apart_from=tested)
    options = {"size": recipe.input_size}
    pool = pool_faces(celeba.load(**options))
    task = sample_task(pool, part, recipe.images, recipe.validation, seed, without=without)
    # of 200,000 images only those that were drawn are read, and tied to the result
    known = {**fingerprint_faces("celeba", task.train), **describe_contents(task.train)}
    drawn = {"role": "celeba", "options": options, **known}
    if drawn not in context.loaded:
        context.loaded.append(drawn)
    return task


def score_attributes(part: str, role: str, model: AttributeNetwork, faces: FaceDataset) -> Score:
    """Score whether a branch knows on which of FACSynth's faces its part shows an attribute.

    Parameters
    ----------
    part : {"eyes", "mouth"}
    role : str
    model : AttributeNetwork
    faces : FaceDataset
    """
    pool = pool_faces(faces)
    assert pool.attributes is not None
    labels = pool.attributes[list(celeba.PARTS[part])].any(axis=1).to_numpy()
    return _score(part, role, model, pool.replace(labels=labels.astype(int), classes=("none", part)))


def _score(part: str, role: str, model: AttributeNetwork, faces: FaceDataset) -> Score:
    classes = (f"no attribute of the {part}", f"attribute of the {part}")
    guess, images = predict(model, faces.images), checksum_names(faces.names)
    return score_predictions(part, role, faces.labels, guess, classes, find_people(faces), images=images)
