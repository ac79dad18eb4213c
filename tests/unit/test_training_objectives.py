"""Every promise of the loop, under every kind of objective."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from toy_objectives import KINDS, Heads, Reconstruct, build, make_faces, prepare

from fer_utils.training import CrossEntropy, FitSettings, Hook, Objective, WatchErrors, fit, predict

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = {"steps": 10, "batch_size": 16, "milestones": (), "precision": "float32", "learning_rate": 0.02}


def train(kind: str, model: nn.Module | None = None, count: int = 96, objective: Objective | None = None, hooks=(), path=None, **changes):
    made = prepare(kind, count)
    model = build(kind) if model is None else model
    objective = objective or made.objective
    options = {"checkpoint": path, "checkpoint_seconds": 0} if path else {}
    history = fit(model, made.data, FitSettings(**{**QUICK, **changes}), objective=objective, hooks=hooks, **made.options, **options)
    return history, {**model.state_dict(), **{f"objective.{name}": value for name, value in objective.state_dict().items()}}


def same(first, second) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kind", ["softmax", "mask", "attributes"])
def test_the_loss_starts_where_guessing_is(kind):
    history, _ = train(kind, steps=1)
    assert float(history.losses[0]) == pytest.approx(prepare(kind).start, abs=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_one_batch_can_be_overfitted(kind):
    history, _ = train(kind, count=16, steps=200, learning_rate=0.01)
    start, end = float(history.losses[0]), float(history.losses[-20:].mean())
    assert end < 0.2 * start, (start, end)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, stop_after, kind):
    history, whole = train(kind)
    for step in (3, 4, 9):
        stop_after(step)
        with pytest.raises(InterruptedError):
            train(kind, path=tmp_path / "run.safetensors")
    stop_after(None)
    resumed, weights = train(kind, path=tmp_path / "run.safetensors")
    assert same(whole, weights) and not same(whole, build(kind).state_dict())
    assert history.parts.keys() == resumed.parts.keys()
    assert all(np.array_equal(history.parts[name], resumed.parts[name]) for name in history.parts)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_recorded_and_add_up(kind):
    parts = train(kind)[0].parts
    expected = {
        "softmax": lambda p: p["loss"], "mask": lambda p: p["cross-entropy"] + 0.01 * p["mask penalty"], "autoencoder": lambda p: p["loss"],
        "pairs": lambda p: p["cross-entropy"] + 0.1 * (p["eyes"] + p["mouth"] + p["face"]), "attributes": lambda p: p["eyes"] + p["mouth"],
    }[kind](parts)
    np.testing.assert_allclose(parts["loss"], expected, rtol=1e-5)
    assert all(part.shape == (10,) and np.isfinite(part).all() for part in parts.values())


@pytest.mark.parametrize("kind", KINDS)
def test_an_infinite_loss_names_the_step(kind):
    class Break(type(prepare(kind).objective)):
        calls = 0

        def forward(self, outputs, batch):
            Break.calls += 1
            parts = super().forward(outputs, batch)
            return parts if Break.calls < 4 else {name: part / 0 for name, part in parts.items()}

    with pytest.raises(ArithmeticError, match=r"the loss of step 4 is not finite.*; try a smaller learning_rate \(0.02\)"):
        train(kind, objective=Break())


def test_the_part_that_broke_is_named():
    class Break(CrossEntropy):
        def forward(self, outputs, batch):
            softmax = super().forward(outputs, batch)["loss"]
            return {"loss": softmax + float("nan"), "softmax": softmax, "penalty": softmax * float("nan")}

    with pytest.raises(ArithmeticError, match=r"step 1 is not finite \(softmax is 1.1\d*, penalty is nan\)"):
        train("softmax", objective=Break())


def test_heads_of_an_objective_learn_and_have_no_weight_decay():
    objective = Heads()
    before = objective.heads["eyes"].weight.clone()
    train("pairs", objective=objective, steps=1, learning_rate=0.01, weight_decay=0.0)
    one = objective.heads["eyes"].weight.clone()
    objective = Heads()
    train("pairs", objective=objective, steps=1, learning_rate=0.01, weight_decay=0.9)
    assert not torch.equal(one, before) and torch.equal(one, objective.heads["eyes"].weight)


def test_a_network_without_scores_is_validated_by_its_loss():
    made = prepare("autoencoder")
    settings = FitSettings(**{**QUICK, "steps": 40, "monitor": "loss", "validate_every": 10, "milestones": (20,), "gamma": 40.0})
    model, held_back = build("autoencoder"), np.arange(0, 96, 4)
    history = fit(model, made.data, settings, objective=Reconstruct(), held_back=held_back, **made.options)
    values = {entry["step"]: entry["loss"] for entry in history.validations}
    assert history.best_step == min(values, key=values.get)
    inputs, targets = (torch.from_numpy(a[held_back]) for a in (made.data.inputs, made.options["columns"]["targets"]))
    with torch.no_grad():
        found = (model.compute_outputs(inputs)["reconstruction"] - targets).square().mean()
    assert float(found) == pytest.approx(values[history.best_step], rel=1e-5)


def test_the_loss_must_be_there_and_its_parts_stay_the_same():
    class Silent(CrossEntropy):
        def forward(self, outputs, batch):
            return {"softmax": super().forward(outputs, batch)["loss"]}

    class Moody(CrossEntropy):
        calls = 0

        def forward(self, outputs, batch):
            Moody.calls += 1
            loss = super().forward(outputs, batch)["loss"]
            return {"loss": loss} | ({"more": loss} if Moody.calls > 2 else {})

    with pytest.raises(ValueError, match="Silent gave softmax; expected a part called 'loss'"):
        train("softmax", objective=Silent())
    with pytest.raises(ValueError, match="the objective gave the parts loss, more; expected loss, as at the first step"):
        train("softmax", objective=Moody())


# -- hooks ----------------------------------------------------------------------------------------------------------------


class Count(Hook):
    """Remembers steps and losses."""

    def __init__(self) -> None:
        self.seen = torch.zeros(0, 2)

    def after_step(self, step, model, parts):
        self.seen = torch.cat([self.seen, torch.tensor([[step, float(parts["loss"].detach())]])])

    def state_dict(self):
        return {"seen": self.seen}


def test_a_hook_sees_every_step_and_resumes(tmp_path, stop_after):
    hook = Count()
    history, whole = train("softmax", hooks=[hook])
    assert hook.seen[:, 0].tolist() == list(range(1, 11))
    np.testing.assert_array_equal(hook.seen[:, 1].numpy(), history.losses)
    stop_after(4)
    with pytest.raises(InterruptedError):
        train("softmax", hooks=[Count()], path=tmp_path / "run.safetensors")
    stop_after(None)
    again = Count()
    _, resumed = train("softmax", hooks=[again], path=tmp_path / "run.safetensors")
    assert torch.equal(again.seen, hook.seen) and same(whole, resumed)


def test_watching_test_faces_changes_nothing():
    test = make_faces(40, seed=5)
    hook = WatchErrors(test.images, test.labels, every=3, steps=10)
    model = build("softmax")
    _, watched = train("softmax", model=model, hooks=[hook])
    _, plain = train("softmax")
    assert same(watched, plain)
    assert hook.wrong.shape == (3, 40)
    # the last point is of 9 steps: a training of 9 steps says the same
    short = build("softmax")
    train("softmax", model=short, steps=9)
    assert np.array_equal(hook.wrong[2].numpy(), predict(short, test.images) != test.labels)
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        WatchErrors(test.images, test.labels, every=0, steps=10)
