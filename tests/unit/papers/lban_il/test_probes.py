"""The penalty's course, widths of equal weights, time and memory: measured where the answer is known."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from fer_utils.losses import IslandLoss, IsletsLoss
from fer_utils.papers.lban_il import probes, timing
from fer_utils.papers.lban_il.model import count_learnable
from fer_utils.papers.lban_il.networks import build_network
from fer_utils.papers.lban_il.probes import find_width, list_points
from fer_utils.papers.lban_il.recipe import LBANIL, Timing
from fer_utils.papers.lban_il.traces import Trace, load_trace, save_trace
from fer_utils.training.memory import measure_peak_memory

from .toys import TINY, make_context, make_faces

pytestmark = pytest.mark.usefixtures("one_thread")


def test_from_centres_far_apart_islets_loss_is_island_loss():
    """To the last digit, value and centres, so no experiment trains both from there; from close ones they part at once."""
    features, labels = torch.randn(20, 128, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 7
    for std, same in ((1.0, True), (probes.CLOSE_STD, False)):
        found = []
        for kind in (IslandLoss, IsletsLoss):
            torch.manual_seed(0)
            loss = kind(7, 128, init_std=std)
            found.append((float(loss(features, labels)), loss.centres.clone()))
        assert (found[0][0] == found[1][0]) == same
        assert torch.equal(found[0][1], found[1][1]) == same



def make_trace(count):
    """Seven centres at a mean distance of 0.1, 0.2, ...: the penalty is exp(-21 d)."""
    distance = np.arange(1, 21, dtype=np.float32) / 10
    curves = {"centre distance": distance, "centre length": distance / 2, "log penalty": -21 * distance}
    return Trace(np.zeros(count, np.int8), np.ones(count, np.int8), curves)


def test_when_the_penalty_is_gone(monkeypatch):
    faces = make_faces(42)
    values = {"silhouette": np.linspace(0, 1, len(faces.test))}
    monkeypatch.setattr(probes, "measure_network_geometry", lambda model, faces: values)
    whole, course = probes._score_penalty("row", None, make_trace(len(faces.test)), faces)
    # exp(-21 * 0.4) = 2.2e-4, exp(-21 * 0.5) = 2.8e-5
    assert course.metrics["steps of penalty"] == 4 and course.metrics["first penalty"] == pytest.approx(np.exp(-2.1))
    assert (course.metrics["centre distance"], course.metrics["centre length"]) == pytest.approx((2, 1))
    assert course.series["step"][0] == 0 and course.series["step"][-1] == 19
    np.testing.assert_allclose(course.series["log10 penalty"][0], -2.1 / np.log(10), rtol=1e-6)
    assert whole.metrics["silhouette"] == pytest.approx(0.5) and (whole.role, course.role) == ("basic", "")


def test_points_are_the_denser_the_earlier():
    points = list_points(3835)
    assert points[0] == 0 and points[-1] == 3834 and len(points) < 60
    gaps = np.diff(points)
    assert (points[:5] == np.arange(5)).all() and (gaps > 0).all() and (np.diff(gaps) >= -1).all()


def test_a_trace_is_read_as_it_was_written(tmp_path):
    context, trace = make_context(tmp_path), make_trace(9)
    save_trace(context, "Islets loss", trace)
    ((name, content),) = context.files.items()
    folder = tmp_path / "checkpoints/smoke/facsynth/lban-il/table-4"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(content)
    found = load_trace(context, "lban-il/table-4", "Islets loss")
    np.testing.assert_array_equal(found.guess, trace.guess)
    np.testing.assert_array_equal(found.one_crop, trace.one_crop)
    for key, values in trace.centres.items():
        np.testing.assert_allclose(found.centres[key], values, rtol=1e-3)


def test_learned_filters_in_a_network_of_as_many_weights():
    """At the book's width as at the paper's, to two percent; fixed filters do not count."""
    for recipe in (LBANIL().at("book"), LBANIL()):
        width = find_width("SC + STD Conv + SK CONN", recipe)
        with torch.device("meta"):
            ours, theirs = (
                count_learnable(build_network(row, recipe, 0, width=size))
                for row, size in (("LBAN", recipe.width), ("SC + STD Conv + SK CONN", width))
            )
        assert width < recipe.width and abs(theirs / ours - 1) < 0.02


# -- time and memory ---------------------------------------------------------------------------------------------------


def test_rivals_take_turns_and_the_first_turn_does_not_count(monkeypatch):
    clock, order = itertools.count(), []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))
    found = timing.time_in_turns({name: lambda name=name: order.append(name) for name in "ab"}, 3)
    assert order == list("abababab") and found == {"a": [1, 1, 1], "b": [1, 1, 1]}


def test_peak_memory_by_hand():
    held = torch.zeros(1000)  # 4,000 bytes, there before

    def compute():
        first = held + 1  # 4,000
        second = torch.cat([first, first])  # 12,000
        del first
        return (second.view(2, 1000) + 1).relu_()  # 16,000, and no more

    assert measure_peak_memory(compute) == 16_000
    assert measure_peak_memory(lambda: held.mul_(2)) == 0
    assert measure_peak_memory(lambda: [held + 1 for _ in range(3)]) == 12_000
    assert measure_peak_memory(lambda: [None for _ in range(3) if (held + 1).any()]) < 8_200, "what was let go"


def test_the_cost_of_a_face():
    recipe, sizes = replace(TINY, precision="bfloat16"), Timing().at("smoke")
    scores = {score.row: score for score in timing.measure_cost(None, recipe, sizes)}
    assert set(scores) == {"LBAN", "ResNet18"}
    for row, score in scores.items():
        model = build_network(row, timing._size(recipe, sizes), 0)
        assert score.metrics["parameters"] == pytest.approx(count_learnable(model) / 1e6)
        assert all(len(values) == sizes.trials and min(values) > 0 for values in score.values.values())
        assert score.metrics["step memory"] > score.metrics["face memory"] > 0
    ours = scores["LBAN"].metrics
    assert ours["weights"] > ours["parameters"] and scores["ResNet18"].metrics["weights"] == pytest.approx(
        scores["ResNet18"].metrics["parameters"]
    )


def test_multiplications_of_one_convolution_by_hand():
    class Toy(torch.nn.Conv2d):
        pass

    model = Toy(3, 5, 3, padding=1, bias=False)
    found = timing.count_weights(model, torch.zeros(1, 3, 8, 8))
    assert found["multiplications"] == pytest.approx(3 * 5 * 9 * 64 / 1e6)
    assert found["parameters"] == found["weights"] == pytest.approx(135 / 1e6)
    assert found["file size"] == pytest.approx(270 / 2**20)
