"""Both stages of a training: what is made small, on which pairs, what moves, and that a killed one goes on."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

from fer_utils.augment import rotate_and_flip
from fer_utils.datasets.base import FaceDataset
from fer_utils.datasets.celeba import PARTS
from fer_utils.experiments.faces import limit_per_class
from fer_utils.labels import BASIC
from fer_utils.papers.ws_lgan import networks
from fer_utils.papers.ws_lgan.attributes import pool_faces, sample_task
from fer_utils.papers.ws_lgan.model import normalise_maps
from fer_utils.papers.ws_lgan.networks import (
    METHODS,
    OnMaps,
    build_network,
    derive_samples,
    rotate_flip_and_crop,
    train_attribute_network,
    train_network,
)
from fer_utils.papers.ws_lgan.objective import PairObjective, make_objective
from fer_utils.papers.ws_lgan.recipe import Generator, Recognition
from fer_utils.training import Pairs, predict, prepare_images
from fer_utils.training.sampling import Pool

pytestmark = pytest.mark.usefixtures("one_thread")
STAGE_1 = replace(Generator().at("smoke"), layers=(1, 1, 1), growth=4, batch_size=10)
STAGE_2 = replace(Recognition().at("smoke"), layers=(1, 1, 1), growth=4, batch_size=12, steps=5, pretraining_steps=3, embedding=6)


def faces(count=56, size=16, seed=0):
    """Grey faces of seven classes, with FACSynth's attributes: a bright mouth smiles, dark eyes wear glasses."""
    rng = np.random.default_rng(seed)
    labels, smiling, glasses = np.arange(count) % 7, rng.random(count) < 0.5, rng.random(count) < 0.5
    images = rng.integers(90, 130, (count, size, size))
    images[smiling, 11:14, 5:11] = 250
    images[glasses, 4:7, 3:13] = 5
    images[:, 8, 8] = 30 * labels
    names = [name.lower() for part in PARTS.values() for name in part]
    truth = pd.DataFrame({name: np.zeros(count, dtype=bool) for name in names})
    truth = truth.assign(smiling=smiling, eyeglasses=glasses, identity=np.arange(count))
    split = np.where(np.arange(count) % 4 == 3, "test", "train")
    file_names = np.array([f"{i:03d}.png" for i in range(count)])
    return FaceDataset("toy", images.astype(np.uint8), labels, BASIC, file_names, split, identities=np.arange(count), truth=truth)


def copy(state):
    return {name: value.clone() for name, value in state.items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.fixture
def save_every_step(monkeypatch):
    fit = networks.fit
    monkeypatch.setattr(networks, "fit", lambda *args, **options: fit(*args, checkpoint_seconds=0, **options))


# -- recipes and methods --------------------------------------------------------------------------------------------------


def test_the_papers_values():
    first, second = Generator(), Recognition()
    assert (first.images, first.validation, first.layers, first.learning_rate, first.gamma) == (30_000, 3_000, (6, 12, 24), 0.1, 0.1)
    epoch = first.images // first.batch_size
    assert np.diff((0, *first.milestones)).tolist() == [20 * epoch] * 2
    assert (second.layers, second.reduction, second.margin, second.drops) == ((6, 6, 6), 16, 10, (0.5, 0.75))
    assert (second.pretraining_rate, second.learning_rate, second.global_weight, second.oulu_global_weight) == (0.1, 0.01, 2, 5)
    for recipe in (first, second):
        assert (recipe.batch_size, recipe.momentum, recipe.weight_decay, recipe.input_size, recipe.growth) == (100, 0.9, 0.0005, 48, 32)


@pytest.mark.parametrize("profile", ["smoke", "book", "paper"])
def test_both_stages_fit_at_each_profile(profile):
    with torch.device("meta"):
        model = build_network("WS-LGAN", Recognition().at(profile), Generator().at(profile), None)
    assert model.unit.squeeze[0].out_features == (5 if profile == "smoke" else 22)


def test_methods_are_the_rows_of_the_tables():
    assert list(METHODS) == ["WS-LGAN", "GFNet", "LFNet", "WS-LGAN-Sum", "WS-LGAN-Concat", "WS-LGAN-WCL"]
    for method in METHODS:
        model = build_network(method, STAGE_2, STAGE_1, 0)
        objective = make_objective(method, model, STAGE_2)
        assert objective.contrastive == (
            {} if method == "WS-LGAN-WCL" else {name: {"global": 2.0}.get(name, 1.0) for name in model.branches}
        )
    assert make_objective("WS-LGAN", build_network("WS-LGAN", STAGE_2, STAGE_1, 0), STAGE_2, 5.0).contrastive["global"] == 5
    with pytest.raises(ValueError, match=r"unknown method 'BothNet'; expected one of WS-LGAN, GFNet, LFNet"):
        build_network("BothNet", STAGE_2, STAGE_1, 0)
    with pytest.raises(ValueError, match=r"growth must be the same in both stages, got 5 and 4; take both recipes at one profile"):
        build_network("WS-LGAN", replace(STAGE_2, growth=5), STAGE_1, 0)


# -- the objective --------------------------------------------------------------------------------------------------------


def test_the_objective_is_equation_10():
    generator = torch.Generator().manual_seed(0)
    outputs = {name: 8 * torch.randn(10, 6, generator=generator) for name in ("eyes", "mouth", "global")}
    outputs["scores"] = torch.randn(10, 7, generator=generator)
    labels = torch.tensor([0, 1, 2, 3, 4, 0, 1, 5, 6, 4])
    weights, softmax = {"eyes": 0.5, "mouth": 1.5, "global": 2.0}, (0.7, 1.3)
    parts = PairObjective(weights, softmax, margin=10)(outputs, {"labels": labels})
    expected = {}
    for name in weights:
        losses = []
        for i in range(5):
            distance = torch.linalg.vector_norm(outputs[name][i] - outputs[name][5 + i])
            alike = labels[i] == labels[5 + i]
            losses.append(distance**2 / 2 if alike else (10 - distance).clamp_min(0) ** 2 / 2)
        expected[name] = torch.stack(losses).mean()
    expected["first stream"] = cross_entropy(outputs["scores"][:5], labels[:5])
    expected["second stream"] = cross_entropy(outputs["scores"][5:], labels[5:])
    total = softmax[0] * expected["first stream"] + softmax[1] * expected["second stream"]
    total = total + sum(weight * expected[name] for name, weight in weights.items())
    assert set(parts) == {"loss", *expected}
    for name, value in {**expected, "loss": total}.items():
        torch.testing.assert_close(parts[name], value)


def test_without_weight_a_loss_is_not_called():
    parts = PairObjective({"eyes": 0.0})({"scores": torch.zeros(4, 2)}, {"labels": torch.tensor([0, 1, 0, 1])})
    assert set(parts) == {"loss", "first stream", "second stream"} and parts["loss"] == pytest.approx(2 * np.log(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PairObjective({"eyes": -1.0}), r"the weight of eyes must be finite and not below 0, got -1.0"),
        (lambda: PairObjective({}, (1.0, float("nan"))), r"the weight of second stream must be finite"),
        (lambda: PairObjective({})({"scores": torch.zeros(3, 2)}, {"labels": torch.zeros(3).long()}), r"need an even batch, got 3"),
        (
            lambda: PairObjective({"mouth": 1.0})({"scores": torch.zeros(4, 2)}, {"labels": torch.zeros(4).long()}),
            r"the network gave scores; expected 'mouth' for its contrastive loss",
        ),
    ],
)
def test_errors_of_the_objective(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_pairs_are_of_one_class_half_of_the_time():
    labels = faces(70).labels
    order = Pairs(STAGE_2.same).make_order(Pool(70, labels), 100, 0)
    for step in range(5):
        first, second = order(step).chunk(2)
        alike = labels[first] == labels[second]
        assert alike.sum() == 25 and (first != second).all()


# -- first stage ----------------------------------------------------------------------------------------------------------


def test_a_branch_finds_what_it_was_never_shown_where():
    """Trained on a word an image, its map is highest where the attribute is."""
    pool = pool_faces(faces(400))
    task = sample_task(pool, "mouth", 160, 40, 0)
    recipe = replace(STAGE_1, growth=6, steps=60, milestones=(40,), validate_every=20, batch_size=20)
    model, history = train_attribute_network(task, recipe, 0)
    assert history.validations[-1]["accuracy"] > 0.9
    images = prepare_images(task.validation.images, 1).float() / 255
    with torch.no_grad():
        maps = normalise_maps(model.compute_evidence(images))[torch.tensor(task.validation.labels == 1)]  # [n, 4, 4]
    rows = maps.flatten(1).argmax(1) // 4
    assert (rows >= 2).float().mean() > 0.9, "the mouth is in the lower half"


def test_a_killed_first_stage_goes_on_to_the_same_weights(tmp_path, save_every_step, stop_after):
    task = sample_task(pool_faces(faces(200)), "eyes", 40, 8, 0)
    recipe, path = replace(STAGE_1, steps=5), tmp_path / "state.safetensors"
    expected = train_attribute_network(task, recipe, 0)[0].state_dict()
    stop_after(3)
    with pytest.raises(InterruptedError):
        train_attribute_network(task, recipe, 0, checkpoint=path)
    stop_after(None)
    assert same(expected, train_attribute_network(task, recipe, 0, checkpoint=path)[0].state_dict())


# -- second stage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", list(METHODS))
def test_only_the_generator_stays_as_it_is(method):
    model = build_network(method, STAGE_2, STAGE_1, 0)
    before, frozen = copy(model.state_dict()), {} if model.generator is None else copy(model.generator.state_dict())
    history = train_network(model, faces().train, method, STAGE_2, 0)
    assert history.losses.shape == (5,) and not model.training
    if model.generator is not None:
        assert same(frozen, model.generator.state_dict()), "weights and statistics"
    after = model.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    kept = {name for name in after if name.startswith("generator.")}
    if method == "WS-LGAN-WCL":
        kept |= {name for name in after if name.startswith("auxiliary.")}  # nothing asks for them
    weights = {name for name, _ in model.named_parameters()}
    assert moved & kept == set() and (weights - kept) - moved <= {name for name in weights if name.endswith("bias")}


def test_pretraining_has_its_own_rate_and_length():
    model = build_network("WS-LGAN", STAGE_2, STAGE_1, 0)
    first = train_network(model, faces().train, "WS-LGAN", STAGE_2, 0, pretraining=True)
    second = train_network(model, faces(seed=1).train, "WS-LGAN", STAGE_2, 0)
    assert (len(first.losses), len(second.losses)) == (3, 5)


@pytest.mark.parametrize("derived", [False, True])
def test_a_killed_second_stage_goes_on_to_the_same_weights(tmp_path, save_every_step, stop_after, derived):
    def train(checkpoint=None):
        model = build_network("WS-LGAN", STAGE_2, STAGE_1, 0)
        data = derive_samples(model, faces().train) if derived else faces().train
        history = train_network(model, data, "WS-LGAN", STAGE_2, 0, checkpoint=checkpoint)
        return model.state_dict(), history.losses

    expected, losses = train()
    path = tmp_path / "state.safetensors"
    stop_after(3)
    with pytest.raises(InterruptedError):
        train(path)
    stop_after(None)
    found, resumed = train(path)
    assert same(expected, found) and np.array_equal(losses, resumed)


# -- maps that are computed once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["WS-LGAN", "GFNet"])
def test_derived_samples_hold_the_fourteen_images_and_their_maps(method):
    model = build_network(method, STAGE_2, STAGE_1, 0).eval()
    some = faces(40)
    samples = derive_samples(model, some)
    assert len(samples) == 14 * 40 and np.array_equal(samples.labels, np.repeat(some.labels, 14)) and samples.inputs.dtype == np.float16
    images = rotate_and_flip(prepare_images(some.images, 1, 16)).float() / 255
    packed = torch.tensor(samples.inputs)
    with torch.no_grad():
        expected, found = model.compute_outputs(images), OnMaps(model).compute_outputs(packed)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=2e-3, rtol=2e-3)
    assert torch.equal(packed[:, :256].float(), rotate_and_flip(prepare_images(some.images, 1, 16)).flatten(1).float()), "pixels are exact"


def test_maps_are_computed_once_for_a_generator(monkeypatch):
    some, made = faces(20), []
    derive = networks._derive
    monkeypatch.setattr(networks, "_derive", lambda *given: made.append(given) or derive(*given))
    first = derive_samples(build_network("WS-LGAN", STAGE_2, STAGE_1, 0), some)
    other = build_network("WS-LGAN-Sum", STAGE_2, STAGE_1, 0)
    assert np.array_equal(derive_samples(other, some).inputs, first.inputs) and len(made) == 1, "rivals of one seed share the generator"
    torch.nn.init.normal_(other.generator.mouth.classifier.weight)
    assert not np.array_equal(derive_samples(other, some).inputs, first.inputs) and len(made) == 2
    derive_samples(other, some.subset(range(10)))
    derive_samples(build_network("WS-LGAN-Sum", STAGE_2, replace(STAGE_1, evidence="positive"), 0), some)
    assert len(made) == 4
    monkeypatch.setenv("FER_CACHE", "")
    assert np.array_equal(derive_samples(build_network("WS-LGAN", STAGE_2, STAGE_1, 0), some).inputs, first.inputs) and len(made) == 5


def test_the_augmentation_is_one_of_fourteen():
    images = prepare_images(faces(12).images, 1, 16)
    drawn = rotate_flip_and_crop(images, torch.Generator().manual_seed(0), 16)
    many = rotate_and_flip(images).unflatten(0, (12, 14))
    assert (drawn[:, None] == many).flatten(2).all(2).any(1).all()


# -- both stages ----------------------------------------------------------------------------------------------------------


def test_both_stages_at_the_smoke_profile():
    """From faces to predictions at the smoke profile, as an experiment would go."""
    first, second = Generator().at("smoke"), Recognition().at("smoke")
    everybody = faces(200)
    train = limit_per_class(everybody.train, second.images)
    pool = pool_faces(everybody.train)
    branches = tuple(
        train_attribute_network(sample_task(pool, part, first.images, first.validation, 0, apart_from=[everybody.test]), first, 0)[0]
        for part in PARTS
    )
    model = build_network("WS-LGAN", second, first, 0, branches=branches)
    train_network(model, train, "WS-LGAN", second, 0, pretraining=True)
    train_network(model, derive_samples(model, train), "WS-LGAN", second, 0)
    guess = predict(model, everybody.test)
    assert guess.shape == (len(everybody.test),) and set(guess) <= set(range(7))
    assert same(model.generator.eyes.state_dict(), branches[0].state_dict())
