"""The training loop on toys: what a step does, what is drawn, what is held back, resuming, checkpoints, features."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import nn
from torch.nn.functional import cross_entropy

from fer_utils.augment import center_crop
from fer_utils.datasets.base import FaceDataset
from fer_utils.errors import DataError
from fer_utils.losses import CenterLoss, FeatureBank, LocalityPreservingLoss
from fer_utils.metrics import count_confusions
from fer_utils.models import build_model
from fer_utils.splits import validation_split
from fer_utils.training import (
    Balanced,
    CrossEntropyWithMetric,
    FitSettings,
    crop_and_flip,
    extract_features,
    fit,
    load_checkpoint,
    predict,
    predict_scores,
    prepare_images,
    save_checkpoint,
)
from fer_utils.training.features import has_bfloat16
from fer_utils.training.state import TrainingState

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = ("anger", "fear", "sadness")
QUICK = {"steps": 12, "batch_size": 16, "milestones": (), "precision": "float32"}


def make_faces(count: int = 120, size: int = 28, seed: int = 0, **changes) -> FaceDataset:
    """Noise with a bright bar, whose height is the class; four images a person."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    images = rng.integers(0, 120, (count, size, size), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4 + 8 * label : 9 + 8 * label] += 90
    names, split = np.array([f"{i:04d}.png" for i in range(count)]), np.full(count, "train")
    given = {"name": "bars", "images": images, "labels": labels, "classes": CLASSES, "names": names, "split": split,
             "identities": np.arange(count) // 4}  # fmt: skip
    return FaceDataset(**{**given, **changes})


def make_model(name: str = "base_dcnn", seed: int = 0, **changes):
    return build_model(name, seed=seed, **{"num_classes": 3, "width": 0.04, "input_size": 24, **changes})


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first, second) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def center(images, generator, size):
    return center_crop(images, size)


def evaluate(model, faces) -> np.ndarray:
    return count_confusions(faces.labels, predict(model, faces.images), range(3))


# -- learning -------------------------------------------------------------------------------------------------------------


def test_the_loss_starts_at_ln_k():
    history = fit(make_model(), make_faces(), FitSettings(**{**QUICK, "steps": 1, "batch_size": 64}))
    assert float(history.losses[0]) == pytest.approx(math.log(3), abs=0.02)


@pytest.mark.parametrize(("name", "steps"), [("base_dcnn", 120), ("resnet", 40)])
def test_one_batch_can_be_overfitted(name, steps):
    faces = make_faces(16, labels=np.arange(16) % 3)  # the labels say nothing about the pictures
    model = make_model(name, width=0.1)
    history = fit(model, faces, FitSettings(**{**QUICK, "steps": steps, "learning_rate": 0.02}), augment=center)
    assert history.losses[-1] < 0.05 < 1 < history.losses[0]
    assert np.array_equal(predict(model, faces.images), faces.labels)


def test_it_learns_what_generalises():
    model = make_model()
    fit(model, make_faces(), FitSettings(**{**QUICK, "steps": 80, "batch_size": 32}))
    counts = evaluate(model, make_faces(60, seed=9))
    assert counts.sum() == 60 and np.trace(counts) > 54
    assert not model.training


def test_bfloat16_follows_float32():
    losses = []
    for precision in ("float32", "bfloat16"):
        model = make_model()
        history = fit(model, make_faces(), FitSettings(**{**QUICK, "precision": precision}))
        assert history.precision == precision
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
        losses.append(history.losses)
    assert not np.array_equal(*losses)
    np.testing.assert_allclose(*losses, atol=0.02)
    auto = fit(make_model(), make_faces(), FitSettings(**{**QUICK, "steps": 1, "precision": "auto"}))
    assert auto.precision == ("bfloat16" if has_bfloat16(torch.device("cpu")) else "float32")


def test_an_infinite_loss_is_an_error():
    with pytest.raises(ArithmeticError, match=r"the loss of step \d+ is not finite; try a smaller learning_rate \(1e\+10\)"):
        fit(make_model(), make_faces(), FitSettings(**{**QUICK, "learning_rate": 1e10}))


# -- one step -------------------------------------------------------------------------------------------------------------


def test_the_defaults_are_the_papers():
    paper = FitSettings()
    assert (paper.steps, paper.batch_size, paper.optimizer, paper.learning_rate, paper.momentum) == (20_000, 64, "sgd", 0.01, 0.9)
    assert [paper.learning_rate_at(step) for step in (4_999, 5_000, 17_999, 18_000)] == pytest.approx([0.01, 0.001, 0.001, 0.0001])
    assert (paper.weight_decay, paper.last_weight_decay) == (0.0005, 0.0025)


def test_one_step_is_sgd_with_a_weight_decay_for_each_layer():
    faces, model = make_faces(16), make_model()
    before = weights(model)
    images = prepare_images(center_crop(torch.tensor(faces.images), 24).numpy(), 1).float() / 255
    cross_entropy(model(images), torch.tensor(faces.labels)).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    fit(model, faces, FitSettings(**{**QUICK, "steps": 1, "weight_decay": 0.2, "last_weight_decay": 0.7}), augment=center)
    for name, after in model.state_dict().items():
        decay = 0.7 if name == "classifier.weight" else 0.2 if name.endswith("weight") else 0.0
        torch.testing.assert_close(after, before[name] - 0.01 * (gradients[name] + decay * before[name]), rtol=1e-4, atol=1e-7)


def test_milestones_lower_the_learning_rate():
    faces = make_faces()
    settings = FitSettings(**{**QUICK, "milestones": (5, 8, 8), "gamma": 0.1})
    assert [settings.learning_rate_at(step) for step in (0, 4, 5, 7, 8)] == pytest.approx([0.01, 0.01, 0.001, 0.001, 0.00001])
    short, long = make_model(), make_model()
    fit(short, faces, FitSettings(**{**QUICK, "steps": 5}))
    fit(long, faces, FitSettings(**{**QUICK, "milestones": (5,), "gamma": 0.0}))
    assert same(weights(short), weights(long)), "with gamma 0 nothing moves after the milestone"


def test_frozen_layers_stay():
    model = make_model()
    model.body.requires_grad_(False)
    before = weights(model)
    fit(model, make_faces(), FitSettings(**QUICK))
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"classifier.weight", "classifier.bias"}


def test_adam_is_torchs():
    faces, model, other = make_faces(16), make_model(), make_model()
    fit(model, faces, FitSettings(**{**QUICK, "optimizer": "adam", "learning_rate": 0.001, "weight_decay": 0, "last_weight_decay": 0,
                                     "steps": 3}), augment=center)  # fmt: skip
    optimizer = torch.optim.Adam(other.parameters(), 0.001)
    images = prepare_images(center_crop(torch.tensor(faces.images), 24).numpy(), 1).float() / 255
    for _ in range(3):
        optimizer.zero_grad()
        cross_entropy(other(images), torch.tensor(faces.labels)).backward()
        optimizer.step()
    for name, value in other.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-3, atol=2e-5)


# -- what is drawn --------------------------------------------------------------------------------------------------------


def test_a_seed_decides_everything_and_disturbs_nothing():
    faces, runs = make_faces(), {}
    for name, seed in (("first", 3), ("second", 3), ("other", 4)):
        torch.manual_seed(len(runs))
        expected = torch.rand(2)
        torch.manual_seed(len(runs))
        model = make_model("alexnet")  # it has dropout
        fit(model, faces, FitSettings(**{**QUICK, "seed": seed}))
        assert torch.equal(torch.rand(2), expected)
        runs[name] = weights(model)
    assert same(runs["first"], runs["second"]) and not same(runs["first"], runs["other"])


def test_augmentation_gets_the_whole_batch_in_bytes():
    seen = []

    def augment(images, generator, size):
        seen.append((images.dtype, tuple(images.shape), size, int(torch.randint(1 << 30, (1,), generator=generator))))
        return crop_and_flip(images, generator, size)

    fit(make_model(in_channels=3, image_size=26), make_faces(), FitSettings(**{**QUICK, "steps": 3}), augment=augment)
    assert [entry[:3] for entry in seen] == [(torch.uint8, (16, 3, 26, 26), 24)] * 3
    assert len({entry[3] for entry in seen}) == 3, "each step draws anew"


# -- validation -----------------------------------------------------------------------------------------------------------


def test_the_best_validation_gives_the_weights():
    faces, model = make_faces(), make_model()
    # the second half of the training ruins the network
    settings = FitSettings(**{**QUICK, "steps": 60, "milestones": (40,), "gamma": 30.0, "validation_share": 0.25, "validate_every": 10})
    history = fit(model, faces, settings)
    values = {entry["step"]: entry["mean diagonal"] for entry in history.validations}
    assert list(values) == [10, 20, 30, 40, 50, 60]
    assert history.best_step == max(values, key=values.get) <= 50
    held_back = faces.subset(validation_split(faces, 0.25, settings.seed).test)
    counts = evaluate(model, held_back)
    assert np.mean(np.diag(counts) / counts.sum(1)) == pytest.approx(values[history.best_step])
    assert len(history.losses) == 60 and history.seconds > 0


def test_validation_faces_are_never_trained_on():
    faces, seen = make_faces(), set()

    def augment(images, generator, size):
        seen.update(image.numpy().tobytes() for image in images)
        return center_crop(images, size)

    settings = FitSettings(**{**QUICK, "steps": 20, "validation_share": 0.25, "validate_every": 5, "seed": 2})
    fit(make_model(), faces, settings, augment=augment)
    split = validation_split(faces, 0.25, 2)
    held_back, trained = ({faces.images[i].tobytes() for i in part} for part in (split.test, split.train))
    assert seen == trained and not seen & held_back
    assert not set(faces.identities[split.test]) & set(faces.identities[split.train])


def test_it_stops_when_it_gets_no_better():
    settings = FitSettings(
        **{**QUICK, "steps": 100, "learning_rate": 0.0, "validation_share": 0.25, "validate_every": 5, "patience": 3, "monitor": "accuracy"}
    )
    history = fit(make_model(), make_faces(), settings)
    assert len(history.losses) == 20 and history.best_step == 5, "the first is the best of equals; three more were not better"


@pytest.mark.parametrize("part", ["test", "val"])
def test_faces_of_the_owners_test_part_are_refused(part):
    faces = make_faces(split=np.where(np.arange(120) < 100, "train", part))
    for share in (0.0, 0.2):
        with pytest.raises(ValueError, match=f"bars holds a {part} part; train on training faces alone, such as faces.train"):
            fit(make_model(), faces, FitSettings(**{**QUICK, "validation_share": share}))
    fit(make_model(), faces.train, FitSettings(**{**QUICK, "steps": 1}))


# -- a loss on features ---------------------------------------------------------------------------------------------------


class Pull(nn.Module):
    """A toy: pulls features to a learnt point, counts its calls, and remembers the last features of every sample."""

    def __init__(self, faces: FaceDataset, size: int) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.ones(size))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("bank", torch.zeros(len(faces), size))
        self.expected = torch.tensor(faces.labels)

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        assert embeddings.dtype == torch.float32 and torch.equal(self.expected[indices], labels)
        self.calls += 1
        self.bank[indices] = embeddings.detach()
        return (embeddings - self.point).square().sum(1).mean()


def test_a_loss_on_features_is_added_with_its_weight():
    faces, model = make_faces(16), make_model()
    loss = Pull(faces, model.embedding_size)
    images = prepare_images(center_crop(torch.tensor(faces.images), 24).numpy(), 1).float() / 255
    with torch.no_grad():
        features = model.embed(images)
        plain = cross_entropy(model.classify(features), torch.tensor(faces.labels))
        expected = plain + 0.3 * (features - 1).square().sum(1).mean()
    history = fit(model, faces, FitSettings(**{**QUICK, "steps": 1}), augment=center, objective=CrossEntropyWithMetric(loss, 0.3))
    assert float(history.losses[0]) == pytest.approx(float(expected), rel=1e-5)
    assert float(history.parts["cross-entropy"][0]) == pytest.approx(float(plain), rel=1e-5)
    assert float(history.parts["metric"][0]) == pytest.approx(float(expected - plain) / 0.3, rel=1e-4)
    torch.testing.assert_close(loss.point.detach(), 1 - 0.01 * 0.3 * 2 * (1 - features.mean(0)), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(loss.bank, features, rtol=1e-4, atol=1e-6)


def test_a_loss_of_two_arguments_will_do():
    called = []

    class Plain(nn.Module):
        def forward(self, embeddings, labels, indices_tuple=None):  # as pytorch-metric-learning's
            called.append((tuple(embeddings.shape), indices_tuple))
            return embeddings.mean()

    model = make_model()
    fit(model, make_faces(), FitSettings(**{**QUICK, "steps": 2}), objective=CrossEntropyWithMetric(Plain(), 1.0))
    assert called == [((16, model.embedding_size), None)] * 2


def test_weight_0_is_the_plain_loss():
    class Never(nn.Module):
        def forward(self, embeddings, labels):
            raise AssertionError

    first, second, faces = make_model(), make_model(), make_faces()
    fit(first, faces, FitSettings(**QUICK))
    fit(second, faces, FitSettings(**QUICK), objective=CrossEntropyWithMetric(Never(), 0.0))
    assert same(weights(first), weights(second))


# -- interrupted and resumed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "weight", "changes"),
    [
        ("base_dcnn", 0.01, {"validation_share": 0.25, "validate_every": 3}),
        ("alexnet", 0.0, {"optimizer": "adam", "learning_rate": 0.001, "precision": "bfloat16"}),
        ("resnet", 0.01, {"momentum": 0.0}),
    ],
)
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, stop_after, name, weight, changes):
    faces, settings = make_faces(), FitSettings(**{**QUICK, "milestones": (7,), **changes})
    results = []
    for stops in ([], [1, 6, 7, 11]):
        path = tmp_path / f"{len(stops)}.safetensors"
        for stop in [*stops, None]:
            model = make_model(name)
            loss = Pull(faces, model.embedding_size)
            options = {"objective": CrossEntropyWithMetric(loss, weight), "sampler": Balanced() if name == "alexnet" else None}
            stop_after(stop)
            with pytest.raises(InterruptedError) if stop else nullcontext():
                history = fit(model, faces, settings, checkpoint=path, checkpoint_seconds=0, **options)
            assert len(saved_losses(path)) == (stop or 12)
        results.append((weights(model), weights(loss), history))
    (model, loss, history), (resumed, resumed_loss, resumed_history) = results
    assert same(model, resumed) and same(loss, resumed_loss)
    assert history.parts.keys() == resumed_history.parts.keys()
    assert all(np.array_equal(history.parts[name], resumed_history.parts[name]) for name in history.parts)
    assert (history.validations, history.best_step) == (resumed_history.validations, resumed_history.best_step)
    assert int(resumed_loss["calls"]) == (12 if weight else 0)


@pytest.mark.parametrize("kind", ["center", "center by gradient", "locality"])
def test_the_books_losses_resume_too(tmp_path, stop_after, kind):
    faces, settings = make_faces(), FitSettings(**{**QUICK, "validation_share": 0.25, "validate_every": 5})
    path, finals = tmp_path / "run.safetensors", []
    for stop in (None, 7):
        torch.manual_seed(0)
        model = make_model()
        loss = {
            "center": lambda size: CenterLoss(3, size), "center by gradient": lambda size: CenterLoss(3, size, update="gradient"),
            "locality": lambda size: LocalityPreservingLoss(5, bank=FeatureBank(faces.labels.copy(), size)),
        }[kind](model.embedding_size)
        before = weights(loss)
        if stop:
            stop_after(stop)
            with pytest.raises(InterruptedError):
                fit(model, faces, settings, objective=CrossEntropyWithMetric(loss, 0.01), checkpoint=path, checkpoint_seconds=0)
            stop_after(None)
            model = make_model()
            loss.load_state_dict(before)
        fit(model, faces, settings, objective=CrossEntropyWithMetric(loss, 0.01), checkpoint=path if stop else None)
        finals.append((weights(model), weights(loss)))
        assert not same(finals[-1][1], before), "the loss has learnt"
    assert same(finals[0][0], finals[1][0]) and same(finals[0][1], finals[1][1])


def saved_losses(path) -> list[float]:
    with safe_open(path, framework="pt") as file:
        step = json.loads(file.metadata()["content"])["step"]
        return file.get_tensor("part.loss")[:step].tolist()


def test_a_finished_run_only_gives_back_its_weights(tmp_path, monkeypatch):
    faces, path = make_faces(), tmp_path / "run.safetensors"
    first, second = make_model(), make_model()
    history = fit(first, faces, FitSettings(**QUICK), checkpoint=path)
    stamp = path.stat().st_mtime_ns
    monkeypatch.setattr(TrainingState, "record", lambda *_: pytest.fail("a step was taken"))
    again = fit(second, faces, FitSettings(**QUICK), checkpoint=path)
    assert same(weights(first), weights(second)) and np.array_equal(history.losses, again.losses)
    assert path.stat().st_mtime_ns == stamp


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    path, frozen = tmp_path / "run.safetensors", make_model()
    fit(make_model(), make_faces(), FitSettings(**QUICK), checkpoint=path)
    frozen.body.requires_grad_(False)
    cases = [
        (make_model(), make_faces(), {"learning_rate": 0.1}, "learning_rate was 0.01 and is now 0.1"),
        (make_model(width=0.05), make_faces(), {}, "model's width was 0.04 and is now 0.05"),
        (make_model(), make_faces(seed=1), {}, r"data was content '\w{8}' and is now content '\w{8}'"),
        (make_model(), make_faces(), {"steps": 13}, "steps was 12 and is now 13"),
        (make_model(seed=99), make_faces(), {}, r"weights at the start was 'checksum \w{8}' and is now 'checksum \w{8}'"),
        (frozen, make_faces(), {}, r"model's frozen parameters was \[\] and is now \['body.0.weight', .*\.\.\."),
        (make_model(), make_faces(identities=np.arange(120) // 5), {}, r"data was content '\w{8}' and is now content '\w{8}'"),
    ]
    for model, faces, changes, message in cases:
        with pytest.raises(DataError, match=rf"run.safetensors: of another training \({message}\); .* delete it to train from the start"):
            fit(model, faces, FitSettings(**{**QUICK, **changes}), checkpoint=path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"run.safetensors: cannot be read"):
        fit(make_model(), make_faces(), FitSettings(**QUICK), checkpoint=path)
    with pytest.raises(DataError, match=rf"{tmp_path.name}: is a folder; expected a safetensors file"):
        fit(make_model(), make_faces(), FitSettings(**QUICK), checkpoint=tmp_path)


def test_a_frozen_network_resumes(tmp_path, stop_after):
    path, finals = tmp_path / "run.safetensors", []
    for stop, options in ((None, {}), (5, {"checkpoint": path, "checkpoint_seconds": 0}), (None, {"checkpoint": path})):
        model = make_model()
        model.body.requires_grad_(False)
        stop_after(stop)
        with pytest.raises(InterruptedError) if stop else nullcontext():
            fit(model, make_faces(), FitSettings(**QUICK), **options)
        finals.append(weights(model))
    assert same(finals[0], finals[2]) and not same(finals[0], finals[1])


@pytest.mark.parametrize("kind", ["training", "network"])
def test_a_flipped_byte_is_noticed(tmp_path, kind):
    path, faces = tmp_path / "run.safetensors", make_faces()
    if kind == "training":
        fit(make_model(), faces, FitSettings(**QUICK), checkpoint=path)
    else:
        save_checkpoint(make_model(), path, provenance={"steps": 12})
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    step = whole.index(b"12", whole.index(b"step"))
    for place in (step, header, (header + len(whole)) // 2, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(DataError, match=r"run.safetensors: damaged \(its checksum is \w{8}\); expected .* with the checksum \w{8}"):
            fit(make_model(), faces, FitSettings(**QUICK), checkpoint=path) if kind == "training" else load_checkpoint(path)


def test_leftovers_of_killed_writes_are_removed(tmp_path):
    path = tmp_path / "run.safetensors"
    (tmp_path / "run.safetensors.123.part").write_bytes(b"half")
    (tmp_path / "other.safetensors.123.part").write_bytes(b"half")
    fit(make_model(), make_faces(), FitSettings(**QUICK), checkpoint=path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.safetensors.123.part", "run.safetensors"]


# -- bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "lamb"}, "optimizer must be one of 'sgd', 'adam', got 'lamb'"), ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"monitor": "recall"}, "monitor must be one of"), ({"precision": "half"}, "precision must be one of"),
        ({"learning_rate": -1.0}, "learning_rate must be finite and not below 0"), ({"momentum": 1.0}, "momentum must be at least 0"),
        ({"validation_share": 1.0}, "validation_share must be"), ({"gamma": math.nan}, "gamma must be finite"),
        ({"steps": 2.5}, "steps must be an integer, got 2.5"), ({"batch_size": 16.0}, "batch_size must be an integer, got 16.0"),
        ({"seed": 1.5}, "seed must be an integer, got 1.5"), ({"steps": None}, "steps must be an integer, got None"),
        ({"validate_every": "7"}, "validate_every must be an integer, got '7'"),
        ({"patience": 1.5}, "patience must be an integer, got 1.5"),
        ({"milestones": 5}, r"milestones must be several integers, such as \(5,\), got 5"),
        ({"milestones": (1.5,)}, "milestones must be integers, got 1.5"),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        FitSettings(**changes)


def test_settings_take_integers_of_numpy(tmp_path):
    numbers = FitSettings(steps=np.int64(2), batch_size=np.int32(16), milestones=np.array([1]), seed=np.uint8(1), precision="float32")
    assert numbers == FitSettings(steps=2, batch_size=16, milestones=(1,), seed=1, precision="float32")
    fit(make_model(), make_faces(), numbers, checkpoint=tmp_path / "run.safetensors")


def test_faces_that_do_not_fit():
    with pytest.raises(ValueError, match="bars has 3 classes, the network 7"):
        fit(make_model(num_classes=7), make_faces(), FitSettings(**QUICK))
    with pytest.raises(ValueError, match="patience needs a validation_share or held_back"):
        fit(make_model(), make_faces(), FitSettings(**{**QUICK, "patience": 2}))
    with pytest.raises(ValueError, match="weight must be finite and not below 0, got nan"):
        CrossEntropyWithMetric(CenterLoss(3, 2), math.nan)
    with pytest.raises(ValueError, match="bars has images of 28x28, the network takes 40; set its image_size"):
        fit(make_model(input_size=40), make_faces(), FitSettings(**QUICK))
    with pytest.raises(ValueError, match="bars holds no faces"):
        fit(make_model(), make_faces().subset([]), FitSettings(**QUICK))
    accelerator = SimpleNamespace(device=torch.device("cpu"), num_processes=3, is_main_process=True)
    with pytest.raises(ValueError, match="3 processes cannot share batches of 16; batch_size must be a multiple of their number"):
        fit(make_model(), make_faces(), FitSettings(**QUICK), accelerator=accelerator)
    for images in (np.zeros((2, 28, 28)), np.zeros((2, 28, 28, 4), np.uint8), np.zeros((28, 28), np.uint8)):
        with pytest.raises(ValueError, match=r"images must be uint8 \[N, H, W\] or \[N, H, W, 3\]"):
            predict(make_model(), images)
    with pytest.raises(ValueError, match="there are no images"):
        predict(make_model(), np.zeros((0, 28, 28), np.uint8))


# -- images and features --------------------------------------------------------------------------------------------------


def test_images_are_brought_to_the_networks_colours():
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (300, 10, 12, 3), dtype=np.uint8)
    grey = prepare_images(colour, 1)
    assert grey.shape == (300, 1, 10, 12) and grey.dtype == torch.uint8
    pillow = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in colour]).astype(int)
    assert np.abs(grey[:, 0].numpy().astype(int) - pillow).max() <= 1
    assert np.array_equal(prepare_images(colour, 3).permute(0, 2, 3, 1).numpy(), colour)
    tripled = prepare_images(pillow.astype(np.uint8), 3)
    assert tripled.shape == (300, 3, 10, 12) and torch.equal(tripled[:, 0], tripled[:, 2])


@pytest.mark.parametrize("size", [9, 20, 45])
def test_images_are_resized_as_pillow_does(size):
    rng = np.random.default_rng(0)
    smooth = np.asarray(Image.fromarray(rng.integers(0, 256, (5, 5), dtype=np.uint8)).resize((30, 30), Image.Resampling.BICUBIC))
    ours = prepare_images(smooth[None], 1, size)[0, 0].numpy().astype(int)
    pillow = np.asarray(Image.fromarray(smooth).resize((size, size), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(ours - pillow).max() <= 1


def test_features_are_of_the_middle_of_the_whole_face():
    faces, model = make_faces(20), make_model("alexnet", image_size=26).train()
    images = center_crop(prepare_images(faces.images, 1, 26), 24).float() / 255
    expected = model.eval().embed(images).detach()
    model.train()
    features = extract_features(model, faces.images, batch_size=7)
    assert model.training, "left as it was"
    assert features.dtype == np.float32 and features.shape == (20, model.embedding_size)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-6)
    scores = predict_scores(model, faces.images)
    np.testing.assert_allclose(scores, model.classify(torch.from_numpy(features)).detach(), rtol=1e-4, atol=1e-6)
    assert np.array_equal(predict(model, faces.images), scores.argmax(1))


def test_a_classifier_on_top_of_the_features():
    train, test, model = make_faces(), make_faces(60, seed=9), make_model()
    fit(model, train, FitSettings(**{**QUICK, "steps": 60}))
    lda = LinearDiscriminantAnalysis().fit(extract_features(model, train.images), train.labels)
    assert lda.score(extract_features(model, test.images), test.labels) > 0.9


# -- networks to ship -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["base_dcnn", "resnet"])
def test_a_network_comes_back_from_disk(tmp_path, name):
    faces, path = make_faces(), tmp_path / "deep" / "model.safetensors"
    model = make_model(name, image_size=26)
    fit(model, faces, FitSettings(**QUICK))
    provenance = {"recipe": "toy", "seed": 0, "metrics": {"mean diagonal": 0.5}}
    sizes = {}
    for half in (True, False):
        save_checkpoint(model, path, half=half, provenance=provenance)
        sizes[half] = path.stat().st_size
        again, read = load_checkpoint(path)
        assert read == provenance and not again.training
        assert all(value.dtype == torch.float32 for value in again.parameters())
        expected = predict_scores(model, faces.images)
        np.testing.assert_allclose(predict_scores(again, faces.images), expected, atol=0.02 if half else 1e-6)
    assert sizes[True] < 0.65 * sizes[False]
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]


def test_equal_networks_are_equal_files(tmp_path):
    model, provenance, found = make_model(), {"method": 'centre "é"\n\t\x7f', "seed": 0}, set()
    for _ in range(12):
        save_checkpoint(model, tmp_path / "m.safetensors", provenance=provenance)
        found.add((tmp_path / "m.safetensors").read_bytes())
        assert load_checkpoint(tmp_path / "m.safetensors")[1] == provenance
    assert len(found) == 1


def test_what_half_precision_cannot_hold_stays_whole(tmp_path):
    model = make_model("resnet")
    model.body[1].running_var[0] = 1e6
    save_checkpoint(model, tmp_path / "m.safetensors")
    again, _ = load_checkpoint(tmp_path / "m.safetensors")
    assert float(again.body[1].running_var[0]) == 1e6
    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        assert file.get_tensor("body.1.running_var").dtype == torch.float32
        assert file.get_tensor("body.0.weight").dtype == torch.float16


def test_the_books_network_is_small_enough_to_ship(tmp_path):
    save_checkpoint(build_model("base_dcnn", width=0.25, input_size=48), tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").stat().st_size < 5e6


def test_files_that_are_no_networks(tmp_path):
    path = tmp_path / "run.safetensors"
    fit(make_model(), make_faces(), FitSettings(**QUICK), checkpoint=path)
    with pytest.raises(ValueError, match=r"run.safetensors: of kind 'fer_utils training 3'; expected .* kind 'fer_utils model 1'"):
        load_checkpoint(path)
    with pytest.raises(ValueError, match=r"nowhere.safetensors: not found"):
        load_checkpoint(tmp_path / "nowhere.safetensors")
    model = make_model()
    model.settings = {**model.settings, "width": 0.1}
    save_checkpoint(model, path)
    with pytest.raises(ValueError, match=r"run.safetensors: does not fit the network that it names"):
        load_checkpoint(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"run.safetensors: cannot be read"):
        load_checkpoint(path)
    with pytest.raises(TypeError):
        save_checkpoint(model, tmp_path / "bad.safetensors", provenance={"x": object()})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.safetensors"]
