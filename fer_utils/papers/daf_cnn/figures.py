"""Embeddings of the four networks of Table 1: Figures 4 and 5 of Zhou et al., with numbers beside the pictures."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import silhouette_samples

from ...datasets.base import FaceDataset
from ...experiments.context import RunContext
from ...experiments.registry import Run, Setup, register_experiment
from ...experiments.scores import Score, checksum_names
from ...separation import compute_separation
from .networks import SEEDS, TABLE, ask_network, hold_back, load_network, load_wild
from .recipe import DAFCNN, VARIANTS

__all__ = ["draw_faces", "measure_embeddings", "score_embeddings"]


def _plan(setup: Setup, part: str) -> list[Run]:
    if "basic" not in setup.roles:
        return []
    recipe = DAFCNN().at(setup.profile)
    return [
        Run(row, measure_embeddings, {"row": row, "part": part, "recipe": recipe}, seed)
        for seed in setup.seeds
        for row in VARIANTS
    ]


@register_experiment("daf-cnn/figure-4", seeds=SEEDS, needs=(TABLE,))
def plan_figure_4(setup: Setup) -> list[Run]:
    """Embeddings of 512 training faces by Table 1's networks."""
    return _plan(setup, "train")


@register_experiment("daf-cnn/figure-5", seeds=SEEDS, needs=(TABLE,))
def plan_figure_5(setup: Setup) -> list[Run]:
    """Embeddings of the test faces by the same networks."""
    return _plan(setup, "test")


def draw_faces(faces: FaceDataset, count: int) -> np.ndarray:
    """Draw faces for a picture, always the same.

    Parameters
    ----------
    faces : FaceDataset
    count : int
        How many; all, if there are no more.

    Returns
    -------
    int64 ``[count]``
        Positions, ascending.
    """
    return np.sort(np.random.default_rng(0).permutation(len(faces))[:count])


def measure_embeddings(context: RunContext, row: str, part: str, recipe: DAFCNN) -> list[Score]:
    """Measure how compact and separate the embeddings of a network of Table 1 are.

    Parameters
    ----------
    context : RunContext
    row : str
        The variant.
    part : {"train", "test"}
        ``recipe.drawn`` of the faces that it learned from, or all test faces.
    recipe : DAFCNN

    Returns
    -------
    list of Score
        See :func:`score_embeddings`. The run of the first seed leaves what a picture needs: ``embedding``, float16
        ``[M, D]``, of ``recipe.drawn`` faces, and their ``labels``, uint8 ``[M]``.
    """
    faces = load_wild(context, recipe)
    faces = hold_back(faces.train, recipe)[0] if part == "train" else faces.test
    shown = draw_faces(faces, recipe.drawn)
    if part == "train":
        faces, shown = faces.subset(shown), np.arange(len(shown))
    embeddings = ask_network(load_network(context, row), faces, recipe, ("embedding",))["embedding"]
    if not context.seed:
        context.save_arrays(
            row,
            {
                "embedding": embeddings[shown].astype(np.float16),
                "labels": faces.labels[shown].astype(np.uint8),
            },
        )
    return [score_embeddings(row, faces, embeddings)]


def score_embeddings(row: str, faces: FaceDataset, embeddings: np.ndarray) -> Score:
    """Measure ``silhouette``, the mean of the faces' silhouettes by Euclidean distance, and ``inter/intra ratio``.

    See :func:`~fer_utils.separation.compute_separation` for the second.

    Parameters
    ----------
    row : str
    faces : FaceDataset
    embeddings : float ``[N, D]``
    """
    each = silhouette_samples(embeddings, faces.labels).astype(np.float64)
    ratio, shares = compute_separation(embeddings, faces.labels)
    return Score(
        row,
        "basic",
        {"silhouette": float(each.mean()), "inter/intra ratio": ratio},
        faces.classes,
        faces.labels,
        people=faces.identities,
        images=checksum_names(faces.names),
        values={"silhouette": each, "inter/intra ratio": shares},
    )
