"""Training in stages: weights of another training, frozen parts, cached outputs, another head."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_training import QUICK, make_faces, make_model, same, weights
from torch import nn

from fer_utils.datasets.base import FaceDataset
from fer_utils.errors import DataError
from fer_utils.files import cache_root
from fer_utils.training import (
    FitSettings,
    Samples,
    cache_outputs,
    extract_features,
    fit,
    freeze,
    load_weights,
    predict,
    replace_head,
    save_checkpoint,
)
from fer_utils.training import features as features_module

pytestmark = pytest.mark.usefixtures("one_thread")


class Head(nn.Module):
    """A last layer alone, on features."""

    def __init__(self, classifier: nn.Linear) -> None:
        super().__init__()
        self.classifier = classifier

    def compute_outputs(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"scores": self.classifier(inputs)}


def test_a_frozen_part_keeps_its_weights_and_statistics():
    model, before = make_model("resnet"), weights(make_model("resnet"))
    freeze(model.body)
    fit(model, make_faces(), FitSettings(**QUICK))
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"classifier.weight", "classifier.bias"}, "running means and counts of frozen layers stay too"


def test_everything_frozen_is_an_error():
    model = make_model()
    freeze(model)
    with pytest.raises(ValueError, match="every parameter of the network is frozen"):
        fit(model, make_faces(), FitSettings(**QUICK))


def test_a_second_stage_starts_from_the_first(tmp_path):
    first, path = make_model(), tmp_path / "first.safetensors"
    fit(first, make_faces(), FitSettings(**QUICK))
    save_checkpoint(first, path, half=False)
    second = make_model(seed=5)
    load_weights(second, path)
    assert same(weights(first), weights(second))
    other = make_model(seed=5, num_classes=4)
    before = weights(other)
    load_weights(other, path, without=("classifier",))
    changed = {name for name, value in other.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("body")}
    with pytest.raises(DataError, match=r"first.safetensors: classifier.bias is \[3\] there and \[4\] here; expected a network"):
        load_weights(make_model(num_classes=4), path)
    with pytest.raises(DataError, match="not found"):
        load_weights(second, tmp_path / "none.safetensors")


def test_a_head_is_replaced():
    model = make_model()
    body = {name: value for name, value in weights(model).items() if name.startswith("body")}
    replace_head(model, 5, seed=1)
    assert model.num_classes == 5 and model.settings["num_classes"] == 5
    assert all(torch.equal(model.state_dict()[name], value) for name, value in body.items())
    again = make_model()
    replace_head(again, 5, seed=1)
    assert same(weights(model), weights(again))
    faces = make_faces(labels=np.arange(120) % 5, classes=tuple("abcde"))
    history = fit(model, faces, FitSettings(**{**QUICK, "batch_size": 60, "steps": 1}))
    assert float(history.losses[0]) == pytest.approx(np.log(5), abs=0.03)
    with pytest.raises(ValueError, match="at least 2 classes, got 1"):
        replace_head(model, 1, seed=0)


def test_outputs_of_a_frozen_part_are_computed_once(monkeypatch):
    model, faces = make_model(), make_faces()
    expected = extract_features(model, faces.images)
    samples = cache_outputs(model.embed, model, faces, name="features")
    assert isinstance(samples.inputs, np.memmap) and (samples.classes, len(samples)) == (faces.classes, 120)
    np.testing.assert_allclose(samples.inputs, expected, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(features_module, "compute_batches", lambda *_: pytest.fail("computed again"))
    again = cache_outputs(model.embed, model, faces, name="features")
    assert np.array_equal(again.inputs, samples.inputs)
    assert not list((cache_root() / "outputs").glob("*.part"))


@pytest.mark.parametrize("what", ["weights", "images", "name"])
def test_other_weights_images_or_parts_are_computed_anew(what):
    model, faces = make_model(), make_faces()
    before = cache_outputs(model.embed, model, faces, name="features").inputs
    if what == "weights":
        with torch.no_grad():
            model.body[0].weight[0, 0, 0, 0] += 1
    images = faces.images.copy()
    images[0, 12, 12] ^= 1
    faces = faces.replace(images=images) if what == "images" else faces
    compute, name = (model, "scores") if what == "name" else (model.embed, "features")
    after = cache_outputs(compute, model, faces, name=name).inputs
    assert before.shape != after.shape or not np.array_equal(before, after)


def test_without_a_cache_they_stay_in_memory(monkeypatch):
    monkeypatch.setenv("FER_CACHE", "")
    samples = cache_outputs(make_model().embed, make_model(), make_faces(), name="features")
    assert type(samples.inputs) is np.ndarray


def test_a_head_on_cached_features_learns_what_the_frozen_network_would():
    """Two stages in the short way (cached features) and the long way (frozen body, no augmentation) are one training."""
    faces, long = make_faces(), make_model()
    short = Head(make_model().classifier)
    freeze(long.body)
    settings = FitSettings(**{**QUICK, "steps": 30})
    fit(long, faces, settings, augment=lambda images, generator, size: images[..., 2 : size + 2, 2 : size + 2])
    fit(short, cache_outputs(make_model().embed, make_model(), faces, name="features"), settings)
    torch.testing.assert_close(short.classifier.weight, long.classifier.weight, rtol=1e-4, atol=1e-6)
    assert predict(long, faces.images).shape == (120,)


def test_samples_must_fit():
    with pytest.raises(ValueError, match="toy: 3 inputs, but 2 labels"):
        Samples("toy", np.zeros((3, 2), np.float32), np.zeros(2, np.int64), ("a", "b"))
    assert isinstance(make_faces(), FaceDataset)
    with pytest.raises(ValueError, match="the column 'age' has 3 rows; expected one a sample"):
        fit(make_model(), make_faces(), FitSettings(**QUICK), columns={"age": [1, 2, 3]})
    with pytest.raises(ValueError, match="held_back must be positions from 0 to 119"):
        fit(make_model(), make_faces(), FitSettings(**QUICK), held_back=[500])
