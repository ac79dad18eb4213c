"""Two steps of both stages at the paper's size, on a miniature of SFEW in its owners' layout."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import image_bytes, put

from fer_utils.experiments import Profile
from fer_utils.experiments.context import RunContext
from fer_utils.papers.dam_cnn import stages
from fer_utils.papers.dam_cnn.networks import list_folds, load_set, train_network
from fer_utils.papers.dam_cnn.recipe import StageOne, StageTwo

pytestmark = pytest.mark.usefixtures("one_thread")


def test_two_steps_at_the_papers_size(tmp_path, monkeypatch):
    """The second is the first that finds what the optimiser keeps; from there on nothing grows."""
    for part in ("Train", "Val"):
        for i, name in enumerate(("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")):
            put(tmp_path, f"sfew/{part}_Aligned_Faces/{name}/{part}_{i}.png", image_bytes(10 * i, (143, 181), kind="PNG"))
    # the reader brings VGG-Face's weights; drawn ones are as large
    monkeypatch.setattr(stages, "load_trunk", lambda *_, **__: None)
    monkeypatch.setattr(stages, "find_vgg_face", lambda: (tmp_path, "rgb"))
    first, second = (replace(recipe().at("paper"), steps=2, batch_size=1) for recipe in (StageOne, StageTwo))
    context = RunContext("dam-cnn/table-4", Profile.PAPER, "sfew", 0, tmp_path / "run", str(tmp_path / "sfew"))
    faces = load_set(context, "film", None)
    assert faces.images.shape == (14, 224, 224, 3)
    (split,) = list_folds("sfew", faces, "film", first)
    train, test = faces.subset(split.train), faces.subset(split.test)
    monkeypatch.setattr(stages, "fit", _without_checkpoints(stages.fit))  # of gigabytes
    network, history = train_network(context, train, first, "first")
    assert len(history.parts["size"]) == 2 and np.isfinite(history.parts["cross-entropy"]).all()
    model, history = stages.train_second(network, train, first, second, 2, 0, tmp_path / "second.safetensors")
    assert model.mpae.encoder.weight.shape == (4096, 25_088) and len(history.parts["reconstruction"]) == 2
    weights = sum(weight.numel() for weight in model.second_stage().parameters())
    assert round(weights / 1e6) == 325  # million, by Table 1
    assert set(stages.predict_faces(model, test, first)) <= set(range(7))


def _without_checkpoints(fit):
    return lambda *args, checkpoint, **options: fit(*args, **options)
