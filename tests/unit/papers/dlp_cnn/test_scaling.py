"""How far baseDCNN gets: every point is planned, trained as asked and measured on people it has not seen."""

import torch
from torch import nn

from fer_utils.experiments import LedgerReader, find_experiment, run_experiment
from fer_utils.experiments.published import Cell
from fer_utils.models import build_model
from fer_utils.papers.dlp_cnn import scaling
from fer_utils.papers.dlp_cnn.recipe import DLPCNN
from fer_utils.papers.dlp_cnn.scaling import count_multiplications, name_point

from ..shipped import load_few


def test_points_are_planned_from_the_cheapest_on_and_no_dearer_than_said():
    runs = find_experiment("dlp-cnn/scaling").plan("book", "facsynth")
    costs = [run.arguments["width"] ** 2 * run.arguments["steps"] for run in runs if "method" not in run.arguments]
    assert costs == sorted(costs) and costs[-1] <= scaling.LARGEST
    assert {run.arguments["width"] for run in runs} == set(scaling.WIDTHS)
    assert {run.arguments["steps"] for run in runs} == set(scaling.STEPS)
    assert not find_experiment("dlp-cnn/scaling").plan("book", "ckplus"), "no wild faces"


def test_every_loss_is_trained_for_the_books_steps_and_for_twice_as_many():
    book = DLPCNN().at("book")
    names = {run.name for run in find_experiment("dlp-cnn/scaling").plan("book", "facsynth")}
    for method in ("baseDCNN", "center loss", "DLP-CNN"):
        assert {name_point(book.width, times * book.iterations, method) for times in (1, 2)} <= names


def test_multiplications_are_counted_layer_by_layer():
    model = build_model("base_dcnn", num_classes=3, width=0.05, input_size=24)
    expected, images = 0, torch.zeros(1, 1, 24, 24)
    for layer in [*model.body, model.classifier]:
        images = layer(images)
        if isinstance(layer, nn.Conv2d):
            expected += layer.in_channels * layer.out_channels * 9 * images.shape[2] * images.shape[3]
        elif isinstance(layer, nn.Linear):
            expected += layer.in_features * layer.out_features
    assert count_multiplications(model) == expected
    assert not any(layer._forward_hooks for layer in model.modules())


def test_the_smoke_profile(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "WIDTHS", (0.05, 0.1))
    monkeypatch.setattr(scaling, "STEPS", (500, 1000))
    monkeypatch.setattr("fer_utils.experiments.context.load_role", load_few(12))  # experiments take no more of them
    assert run_experiment("dlp-cnn/scaling", "smoke", data=tmp_path) == 4 + 4
    reader = LedgerReader("smoke", "facsynth", tmp_path)
    compute = {}
    for width in (0.05, 0.1):
        for steps in (500, 1000):
            row = name_point(width, steps)
            (spent,) = reader.measure(Cell("dlp-cnn/scaling", row, "basic", "compute"))
            compute[width, steps] = spent.value
            for role in ("basic", "held-back", "training"):
                (found,) = reader.measure(Cell("dlp-cnn/scaling", row, role, "mean diagonal"))
                assert 0 <= found.value <= 1 and found.guess is not None
    assert compute[0.05, 1000] == 2 * compute[0.05, 500] and compute[0.1, 500] > compute[0.05, 500]
