"""Both stages on miniature faces: what moves and what stays, a kill in either, what is seen, and the paper's protocol."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fer_utils.experiments import list_experiments, load_published
from fer_utils.labels import BASIC
from fer_utils.models.vgg_face import LAYERS
from fer_utils.papers.dam_cnn import stages
from fer_utils.papers.dam_cnn.model import SerdNetwork
from fer_utils.papers.dam_cnn.pairs import Drawn, Fixed
from fer_utils.papers.dam_cnn.protocol import PROTOCOLS, augment_faces, split_faces
from fer_utils.papers.dam_cnn.recipe import StageOne, StageTwo
from fer_utils.papers.dam_cnn.stages import (
    build_serd_network,
    compute_seen,
    find_vgg_face,
    predict_faces,
    prepare_faces,
    train_both,
    train_first,
    train_second,
)
from fer_utils.training import FitSettings, fit, freeze

from .toys import make_faces

pytestmark = pytest.mark.usefixtures("one_thread")

FIRST, SECOND = StageOne().at("smoke"), StageTwo().at("smoke")
#: VGG-Face in miniature, which sees faces as they are.
IMAGES = StageOne(width=1 / 64, input_size=64, learning_rate=1e-3, steps=3)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def moved(model: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    """Names of the parts in which a weight is another than before, two levels deep."""
    return {".".join(name.split(".")[:2]) for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


# -- both stages ----------------------------------------------------------------------------------------------------------


def test_smoke(tmp_path):
    faces = make_faces()
    trained = train_both(faces, "smoke", 2, 0, tmp_path)
    first, second = trained.histories
    assert set(first.parts) == {"loss", "cross-entropy", "size", "emptiness"} and len(first.losses) == FIRST.steps
    assert set(second.parts) == {"loss", "cross-entropy", "reconstruction"} and len(second.losses) == SECOND.steps
    assert second.losses[0] == pytest.approx(second.parts["reconstruction"][0] + 20 * second.parts["cross-entropy"][0])
    guesses = [predict_faces(network, faces, FIRST) for network in (trained.first, trained.whole)]
    assert all(guess.shape == (28,) and set(guess) <= set(range(7)) for guess in guesses)
    # what was seen through cached maps is what the networks see of the faces
    plain = compute_seen(trained.whole, faces, "scores")
    np.testing.assert_array_equal(plain.argmax(1), guesses[1])


def test_stage_one_moves_what_is_above_the_frozen_stage(tmp_path):
    faces = make_faces()
    network = build_serd_network(FIRST, 7, seed=1)
    before = weights(network)
    train_first(network, faces, FIRST, 0, tmp_path / "first.safetensors")
    parts = {"trunk.stage_128", "serd.attention", "head.stage_256", "head.stage_out", "head.descriptor", "classifier.weight"}
    assert moved(network, before) == parts | {"classifier.bias"}
    assert not network.training


def test_all_of_vgg_face_moves_where_nothing_is_frozen(tmp_path):
    network = SerdNetwork(7, "vgg_face", IMAGES.width, IMAGES.input_size)
    before = weights(network)
    train_first(network, make_faces(), IMAGES, 0, tmp_path / "first.safetensors")
    assert {name.split(".")[0] for name in moved(network, before)} == {"trunk", "serd", "head", "classifier"}
    assert compute_seen(network, make_faces(), "mask").shape == (28, 1, 2, 2)


def test_frozen_parts_do_not_move_in_stage_two(tmp_path):
    faces = make_faces()
    network = build_serd_network(FIRST, 7, seed=1)
    before = weights(network)
    whole, _ = train_second(network, faces, FIRST, SECOND, 2, 0, tmp_path / "second.safetensors")
    assert not moved(network, before)
    start = stages.build_dam_cnn(network, SECOND, 2, 0, whole.mpae.ceiling)
    kinds = {name.split(".")[0] for name in moved(whole, weights(start))}
    assert kinds == {"mpae", "hidden", "classifier"}
    moving = {name for name, value in whole.state_dict().items() if not torch.equal(value, start.state_dict()[name])}
    assert moving == {name for name in whole.second_stage().state_dict() if name != "mpae.ceiling"}, "all of MPVS-Net does"


def test_nor_where_the_whole_network_is_trained_on_faces():
    network = SerdNetwork(7, "vgg_face", IMAGES.width, IMAGES.input_size)
    whole = stages.build_dam_cnn(network, SECOND, 2, 0, torch.ones(8, 1, 1))
    before = weights(whole)
    freeze(whole.trunk, whole.serd)
    fit(whole, make_faces(size=70), FitSettings(steps=2, batch_size=4, weight_decay=0.1), progress=False)
    # decoders have no part in the class scores
    assert moved(whole, before) == {"mpae.encoder", "hidden.0", "classifier.weight", "classifier.bias"}


def test_the_whole_network_follows_what_was_trained_to_its_device(tmp_path, monkeypatch):
    def fit_elsewhere(part, *args, **options):  # as on a GPU: a training moves the part that it is given, and nothing else
        part.to("meta")

    faces = make_faces()
    network = build_serd_network(FIRST, len(BASIC), seed=0)
    salient = compute_seen(stages.part_for(network, FIRST), prepare_faces(faces, FIRST, mirrored=True), "salient")
    monkeypatch.setattr(stages, "fit", fit_elsewhere)
    whole, _ = train_second(network, faces, FIRST, SECOND, 2, 0, tmp_path / "second.safetensors", salient=salient)
    train_first(network, faces, FIRST, 0, tmp_path / "first.safetensors")
    for model in (network, whole):
        assert {value.device.type for value in model.state_dict().values()} == {"meta"}


def test_without_a_mask_it_is_the_trunk_alone(tmp_path):
    network = build_serd_network(FIRST, 7, seed=1, attention=False)
    history = train_first(network, make_faces(), FIRST, 0, tmp_path / "first.safetensors")
    assert set(history.parts) == {"loss"} and network.serd is None
    seen = prepare_faces(make_faces(), FIRST)
    part = stages.part_for(network, FIRST)
    np.testing.assert_array_equal(compute_seen(part, seen, "salient"), compute_seen(part, seen, "maps"))


def test_each_part_of_the_regulariser_can_be_left_out(tmp_path):
    losses = {}
    for parts in ((True, True), (True, False), (False, True), (False, False)):
        network = build_serd_network(FIRST, 7, seed=1)
        history = train_first(network, make_faces(), FIRST, 0, tmp_path / f"{parts}.safetensors", parts=parts)
        assert history.parts["size"][0] < 1  # means over places
        gammas = [gamma * counts for gamma, counts in zip((FIRST.gamma_1, FIRST.gamma_2), parts, strict=True)]
        expected = history.parts["cross-entropy"] + gammas[0] * history.parts["size"] + gammas[1] * history.parts["emptiness"]
        np.testing.assert_allclose(history.losses, expected, rtol=1e-5)
        losses[parts] = history.losses.tobytes()
    assert len(set(losses.values())) == 4


@pytest.mark.parametrize("stage", ["first", "second"])
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, monkeypatch, stop_after, stage):
    monkeypatch.setattr(stages, "fit", lambda *args, **options: fit(*args, checkpoint_seconds=0, **options))
    faces = make_faces()
    whole = train_both(faces, "smoke", 2, 0, tmp_path / "whole")
    if stage == "second":
        network = build_serd_network(FIRST, 7, 0)
        train_first(network, faces, FIRST, 0, tmp_path / "killed/first.safetensors")
    stop_after(2)
    with pytest.raises(InterruptedError):
        train_both(faces, "smoke", 2, 0, tmp_path / "killed")
    assert (tmp_path / "killed/second.safetensors").is_file() is (stage == "second")
    stop_after(None)
    again = train_both(faces, "smoke", 2, 0, tmp_path / "killed")
    for one, other in ((whole.first, again.first), (whole.whole, again.whole)):
        assert not moved(one, weights(other))
    for one, other in zip(whole.histories, again.histories, strict=True):
        np.testing.assert_array_equal(one.losses, other.losses)


def test_other_targets_are_another_training(tmp_path):
    network, faces = build_serd_network(FIRST, 7, seed=1), make_faces()
    ends = []
    for seed, name in ((1, "one"), (1, "same"), (2, "other")):
        fixed = Fixed(Drawn(faces.labels, 2), seed)
        whole, _ = train_second(network, faces, FIRST, SECOND, 2, 0, tmp_path / name, make_targets=lambda _, fixed=fixed: fixed)
        ends.append(whole.mpae.decoders[0].weight)
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])
    with pytest.raises(ValueError, match="of another training"):
        train_second(
            network, faces, FIRST, SECOND, 2, 0, tmp_path / "one", make_targets=lambda _: Fixed(Drawn(faces.labels, 2), 2)
        )


# -- what is seen ---------------------------------------------------------------------------------------------------------


def test_targets_and_ceiling_are_of_training_faces_alone(tmp_path, monkeypatch):
    faces, recipe = make_faces(), replace(FIRST, mirrored=True)
    network, given = build_serd_network(FIRST, 7, seed=1), []
    monkeypatch.setattr(stages, "fit", lambda model, data, settings, **options: given.append((data, options)) or fit(
        model, data, settings, **options
    ))
    told = []
    whole, _ = train_second(
        network, faces, recipe, SECOND, 2, 0, tmp_path / "second", make_targets=lambda where: told.append(where) or Drawn(
            faces.labels[where], 2
        ),
    )
    ((data, options),) = given
    assert len(data) == 56 and np.array_equal(data.labels, np.tile(faces.labels, 2))
    np.testing.assert_array_equal(told[0], np.tile(np.arange(28), 2))
    plain = compute_seen(network, faces, "salient")
    np.testing.assert_allclose(data.inputs[:28], plain, rtol=1e-3, atol=1e-4)
    turned = compute_seen(network, faces.replace(images=faces.images[:, :, ::-1].copy()), "salient")
    np.testing.assert_allclose(data.inputs[28:], turned, atol=0.05)  # pixels are rounded after they were resized
    np.testing.assert_array_equal(whole.mpae.ceiling.flatten(), data.inputs.max((0, 2, 3)))
    assert torch.equal(options["objective"].ceiling, whole.mpae.ceiling)


def test_vgg_face_is_found_where_the_reader_put_it(tmp_path, monkeypatch):
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    assert find_vgg_face() is None
    with pytest.raises(ValueError, match=r"vgg_face has no weights of VGG-Face; expected one of vgg-face.mat, vgg_face_rgb.pth"):
        build_serd_network(IMAGES, 7, 0)
    model, tensors = SerdNetwork(7, "vgg_face", IMAGES.width, IMAGES.input_size), {}
    layers = [layer for layer in (*model.trunk, *model.head) if isinstance(layer, nn.Conv2d | nn.Linear)]
    for name, layer in zip(LAYERS, layers, strict=False):
        tensors |= {f"{name}.weight": layer.weight.detach().clone(), f"{name}.bias": torch.randn_like(layer.bias)}
    (tmp_path / "vgg_face").mkdir()
    save_file(tensors, tmp_path / "vgg_face/vgg_face_bgr.safetensors")
    assert find_vgg_face() == (tmp_path / "vgg_face/vgg_face_bgr.safetensors", "bgr")
    network = build_serd_network(IMAGES, 7, 0)
    assert torch.equal(network.trunk[1].weight, tensors["conv1_1.weight"].flip(1))
    assert torch.equal(network.head[-3].bias, tensors["fc7.bias"])


# -- recipes and protocol -------------------------------------------------------------------------------------------------


def test_profiles_change_the_size_alone():
    for recipe in (StageOne(), StageTwo()):
        assert recipe.at("paper") == recipe
        assert {recipe.at(profile) for profile in ("smoke", "book", "paper")} and recipe.at("book") != recipe
    assert StageOne().at("book").gamma_1 == 1e-3 and StageTwo().at("book").weight == 20
    assert load_published("dam-cnn").items and list_experiments()


def test_the_papers_folds():
    assert {name: protocol.folds for name, protocol in PROTOCOLS.items()} == {
        "ckplus": 10, "jaffe": 10, "tfeid": 5, "baum2i": 7, "sfew": None, "fer2013": None,
    }
    faces = make_faces(count=140)
    faces = faces.replace(identities=np.arange(140) % 20)
    for dataset in ("ckplus", "jaffe", "tfeid", "baum2i"):
        splits = split_faces(faces, dataset)
        assert len(splits) == PROTOCOLS[dataset].folds
        assert np.array_equal(np.sort(np.concatenate([split.test for split in splits])), np.arange(140))
        for split in splits:
            assert not set(faces.identities[split.train]) & set(faces.identities[split.test])
    parts = faces.replace(split=np.where(np.arange(140) < 100, "train", "val"))
    (split,) = split_faces(parts, "sfew")
    assert (parts.split[split.test] == "val").all() and len(split.train) == 100
    assert len(split_faces(faces.replace(identities=None), "tfeid")) == 5
    with pytest.raises(ValueError, match=r"no protocol for 'mmi'; expected one of ckplus, jaffe, tfeid, baum2i, sfew, fer2013"):
        split_faces(faces, "mmi")


def test_five_of_each_training_face():
    for images in (make_faces(), make_faces().replace(images=make_faces().images[..., 0])):
        many = augment_faces(images, seed=1)
        assert len(many) == 5 * len(images) and many.images.shape[1:] == images.images.shape[1:] and many.classes == BASIC
        np.testing.assert_array_equal(many.images[::5], images.images)
        np.testing.assert_array_equal(many.images[1::5], images.images[:, :, ::-1])
        np.testing.assert_array_equal(many.labels, np.repeat(images.labels, 5))
        np.testing.assert_array_equal(many.identities, np.repeat(images.identities, 5))
        assert len(set(many.names)) == len(many) and (many.split == "train").all()
        np.testing.assert_array_equal(many.images, augment_faces(images, seed=1).images)
