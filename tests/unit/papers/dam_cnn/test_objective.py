"""The losses: their formulas, the regulariser's minimiser, what each update moves, and the range of targets."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fer_utils.models import build_model, load_face_network
from fer_utils.papers.dam_cnn.model import DAMCNN, Serd
from fer_utils.papers.dam_cnn.objective import (
    CrossEntropyWithMask,
    CrossEntropyWithReconstruction,
    find_ceiling,
    find_floor,
    measure_emptiness,
    measure_size,
    sum_reconstruction_losses,
)
from fer_utils.papers.dam_cnn.pairs import Drawn, Itself
from fer_utils.papers.dam_cnn.recipe import StageOne, StageTwo

pytestmark = pytest.mark.usefixtures("one_thread")

GAMMAS = (StageOne().gamma_1, StageOne().gamma_2)


def make_masks(count: int = 3, side: int = 7) -> torch.Tensor:
    return (torch.rand(count, 1, side, side, dtype=torch.float64) * 2 - 1).mul(0.99)


def regularise(mask: torch.Tensor, gamma_1: float = GAMMAS[0], gamma_2: float = GAMMAS[1]) -> torch.Tensor:
    return gamma_1 * measure_size(mask) + gamma_2 * measure_emptiness(mask)


# -- the regulariser ------------------------------------------------------------------------------------------------------


def test_the_regulariser_is_equation_3():
    masks = make_masks()
    expected = [
        GAMMAS[0] * sum(abs(m) for m in mask.flatten().tolist()) ** 2 + GAMMAS[1] * sum((1 - m * m) ** 2 for m in mask.flatten().tolist())
        for mask in masks
    ]
    assert float(regularise(masks)) == pytest.approx(np.mean(expected))
    outputs, labels = {"scores": torch.randn(3, 7, dtype=torch.float64), "mask": masks}, torch.tensor([0, 1, 6])
    softmax = float(cross_entropy(outputs["scores"], labels))
    for gamma_1, gamma_2 in (GAMMAS, (GAMMAS[0], 0.0), (0.0, GAMMAS[1]), (0.0, 0.0)):
        parts = CrossEntropyWithMask(gamma_1, gamma_2, averaged=False)(outputs, {"labels": labels})
        assert float(parts["loss"]) == pytest.approx(softmax + float(regularise(masks, gamma_1, gamma_2)))
        means = gamma_1 * masks.abs().mean((1, 2, 3)).square().mean() + gamma_2 * (1 - masks.square()).square().mean()
        averaged = CrossEntropyWithMask(gamma_1, gamma_2, averaged=True)(outputs, {"labels": labels})
        assert float(averaged["loss"]) == pytest.approx(softmax + float(means))
        assert set(parts) == {"loss", "cross-entropy", "size", "emptiness"}


def test_its_gradient_by_hand():
    masks = make_masks().requires_grad_()
    regularise(masks).backward()
    with torch.no_grad():
        length = masks.abs().sum((1, 2, 3), keepdim=True)
        by_hand = 2 * GAMMAS[0] * length * masks.sign() - 4 * GAMMAS[1] * masks * (1 - masks.square())
    torch.testing.assert_close(masks.grad, by_hand / len(masks))
    assert torch.autograd.gradcheck(lambda mask: regularise(mask), make_masks(2, 2).requires_grad_())
    # of a mask of one value everywhere: the slope along it
    value = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    regularise(value.expand(1, 1, 7, 7)).backward()
    assert float(value.grad) == pytest.approx(0.3 * (4.802 - 0.0196 * (1 - 0.09)))


def test_the_printed_coefficients_have_the_zero_mask_as_their_only_minimiser():
    least = 49 * GAMMAS[1]
    assert float(regularise(torch.zeros(1, 1, 7, 7, dtype=torch.float64))) == pytest.approx(least)
    with torch.no_grad():
        for length in (1e-4, 0.01, 0.1, 1.0):
            for mask in make_masks(50):
                mask = mask[None] * length
                bound = least + ((GAMMAS[0] - 2 * GAMMAS[1]) * mask.square() + GAMMAS[1] * mask**4).sum()
                assert regularise(mask) >= bound > least
        # from anywhere in the range it leads there
        for start in (make_masks(1), torch.ones(1, 1, 7, 7, dtype=torch.float64), torch.zeros(1, 1, 7, 7, dtype=torch.float64)):
            mask = start.clone()
            mask[0, 0, 3, 3] = 0.9
            for _ in range(4000):
                force = 2 * GAMMAS[0] * mask.abs().sum() * mask.sign() - 4 * GAMMAS[1] * mask * (1 - mask.square())
                mask -= 2 * force
            assert mask.abs().max() < 0.01


@pytest.mark.parametrize("places", [1, 4, 49])
def test_how_many_places_which_coefficients_would_open(places):
    """A mask of one value in some places beats the zero mask from gamma_2 = gamma_1 * places / 2 on."""
    values = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)[:, None]
    masks = (values * (torch.arange(49) < places)).view(-1, 1, 7, 7)
    for factor, better in ((0.99, False), (1.01, True)):
        gamma_2 = factor * GAMMAS[0] * places / 2
        all_values = torch.stack([regularise(mask[None], GAMMAS[0], gamma_2) for mask in masks])
        assert bool((all_values < 49 * gamma_2).any()) is better


def test_means_over_places_open_a_fifteenth_of_them():
    """Of masks with one value in some places and 0 elsewhere: at a minimum all open places weigh the same, as m (1 - m^2) has to be one
    number for all, and of its two roots the smaller is a maximum along its own place."""
    values = torch.linspace(0, 1, 201, dtype=torch.float64)
    least = []
    for places in range(50):
        masks = (values[:, None] * (torch.arange(49) < places)).view(-1, 1, 7, 7)
        found = [regularise(mask[None], GAMMAS[0] / 49**2, GAMMAS[1] / 49) for mask in masks]
        least.append((float(torch.stack(found).min()), float(values[torch.stack(found).argmin()])))
    best = min(range(50), key=lambda places: least[places])
    assert best == 3 == round(49 * GAMMAS[1] / GAMMAS[0] * 2 / 3)
    assert least[3][1] == pytest.approx((2 / 3) ** 0.5, abs=0.03) and least[3][0] < least[0][0] == pytest.approx(GAMMAS[1])
    assert all(value < GAMMAS[1] for value, _ in least[1:10]) and least[10][1] == 0, "up to a fifth may be open at all"


def test_a_smaller_mask_before_larger_weights_is_the_same_network():
    """Nothing in eq. 4 sets the mask's size: its loss falls all the way down to no mask, at the same scores."""
    maps, head, labels = torch.rand(8, 5, 7, 7, dtype=torch.float64), nn.Linear(5 * 49, 7).double(), torch.arange(8) % 7
    mask, losses, scores = make_masks(8).abs(), [], []
    with torch.no_grad():
        for _ in range(5):
            scores.append(head((mask * maps).relu().flatten(1)))
            losses.append(float(CrossEntropyWithMask(*GAMMAS, False)({"scores": scores[-1], "mask": mask}, {"labels": labels})["loss"]))
            mask, head.weight.data = mask / 2, head.weight.data * 2
    assert losses == sorted(losses, reverse=True) and len(set(losses)) == 5
    for other in scores[1:]:
        torch.testing.assert_close(other, scores[0])


def test_a_closed_mask_stays_closed():
    """Where no place is open no gradient of the cross-entropy comes back, and the regulariser's does not lead above 0."""
    serd = Serd(5)
    nn.init.constant_(serd.attention.bias, -0.5)
    mask, salient = serd(torch.rand(4, 5, 7, 7))
    assert (mask < 0).all()
    cross_entropy(salient.mean((2, 3)), torch.arange(4)).backward()
    assert serd.attention.weight.grad.abs().max() == 0 and serd.attention.bias.grad == 0
    closed = torch.linspace(-0.9, -0.001, 49, dtype=torch.float64).view(1, 1, 7, 7).requires_grad_()
    regularise(closed).backward()
    # ||M||_1 is never 0 below 0, so the pull of a step is towards 0 alone
    assert (closed.grad < 0).all() and regularise(closed) > 49 * GAMMAS[1]


def test_a_kernel_drawn_around_0_starts_with_about_half_of_the_places_closed():
    torch.manual_seed(0)
    with torch.no_grad():
        maps = load_face_network().compute_stages(torch.rand(2, 3, 150, 150))["stage_128"]
        kernels = torch.randn(500, 128)
        closed = (torch.einsum("kc,bchw->kbhw", kernels, maps) < 0).float().mean((1, 2, 3))
    assert 0.35 < float((closed > 0.5).float().mean()) < 0.65, "one start in two begins with most places closed"
    assert float((closed > 0.95).float().mean()) > 0.05, "some with nearly all"


# -- reconstruction -------------------------------------------------------------------------------------------------------


def make_stage_two(paths: int = 2, decoder: str = "dense"):
    model = build_model(
        "dam_cnn", seed=0, trunk="vgg_face", width=1 / 64, input_size=64, num_classes=3, hidden=16, paths=paths, decoder=decoder,
        dropout=0.0,
    )
    assert isinstance(model, DAMCNN)
    salient = (torch.randn(12, 8, 2, 2).relu() * 3).numpy()
    model.mpae.ceiling.copy_(find_ceiling(salient))
    return model, salient, np.arange(12) % 3


def test_reconstruction_is_equations_8_and_9():
    made, targets = torch.rand(4, 3, 2, 2, 2), torch.rand(4, 3, 2, 2, 2)
    expected = sum(sum(float((made[i, j] - targets[i, j]).square().sum()) for i in range(4)) / 4 for j in range(3))
    assert float(sum_reconstruction_losses(made, targets)) == pytest.approx(expected)


def test_the_loss_is_equation_11_of_the_targets_that_were_drawn():
    model, salient, _ = make_stage_two()
    where = torch.tensor([[3, 6], [4, 7], [5, 8]])
    objective = CrossEntropyWithReconstruction(salient, lambda positions: where[positions], model.mpae.ceiling, 20.0)
    batch = {"indices": torch.tensor([2, 0]), "labels": torch.tensor([2, 0])}
    outputs = model.second_stage().compute_outputs(torch.from_numpy(salient[[2, 0]]))
    parts = objective(outputs, batch)
    scaled = torch.from_numpy(salient) / find_ceiling(salient)
    reconstruction = sum(
        (outputs["reconstructions"][row, path] - scaled[where[sample, path]]).square().sum() / 2
        for row, sample in enumerate((2, 0)) for path in range(2)
    )
    torch.testing.assert_close(parts["reconstruction"], reconstruction)
    torch.testing.assert_close(parts["loss"], reconstruction + 20 * cross_entropy(outputs["scores"], batch["labels"]))
    assert not objective.state_dict(), "what a checkpoint can do without"


def gradients(loss: torch.Tensor, model: nn.Module) -> dict[str, torch.Tensor]:
    named = {name: value for name, value in model.named_parameters() if value.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
    return {name: gradient for name, gradient in zip(named, found, strict=True) if gradient is not None and gradient.any()}


def test_which_parameters_each_of_algorithm_1s_updates_can_move():
    model, salient, labels = make_stage_two()
    net = model.second_stage()
    outputs = net.compute_outputs(torch.from_numpy(salient))
    where = Drawn(labels, 2)(torch.arange(12))
    targets = torch.from_numpy(salient)[where] / model.mpae.ceiling
    softmax = cross_entropy(outputs["scores"], torch.from_numpy(labels))
    paths = [sum_reconstruction_losses(outputs["reconstructions"][:, [j]], targets[:, [j]]) for j in range(2)]
    objective = CrossEntropyWithReconstruction(salient, lambda positions: where[positions], model.mpae.ceiling, 20.0)
    whole = objective(outputs, {"indices": torch.arange(12), "labels": torch.from_numpy(labels)})["loss"]
    moved = {name: gradients(loss, net) for name, loss in (("all", whole), ("ce", softmax), ("0", paths[0]), ("1", paths[1]))}
    encoder = {"mpae.encoder.weight", "mpae.encoder.bias"}
    dense = {"hidden.0.weight", "hidden.0.bias", "classifier.weight", "classifier.bias"}
    assert set(moved["ce"]) == encoder | dense
    for j in "01":
        assert set(moved[j]) == encoder | {f"mpae.decoders.{j}.{kind}" for kind in ("weight", "bias")}
    for name in dense:  # eq. 11 gives lambda times eq. 10
        torch.testing.assert_close(moved["all"][name], 20 * moved["ce"][name])
    for j in "01":
        for kind in ("weight", "bias"):
            torch.testing.assert_close(moved["all"][f"mpae.decoders.{j}.{kind}"], moved[j][f"mpae.decoders.{j}.{kind}"])
    for name in encoder:
        torch.testing.assert_close(moved["all"][name], moved["0"][name] + moved["1"][name] + 20 * moved["ce"][name])


def test_adam_takes_one_step_for_equations_10_and_11():
    """The factor lambda of the dense layers' gradient is lost in Adam, so that one loss serves both rules."""
    ends = []
    model, salient, labels = make_stage_two()
    for factor in (1.0, 20.0):
        net = copy.deepcopy(model.second_stage())
        optimizer = torch.optim.Adam([*net.hidden.parameters(), *net.classifier.parameters()], 1e-3)
        for _ in range(10):
            optimizer.zero_grad()
            (factor * cross_entropy(net.compute_outputs(torch.from_numpy(salient))["scores"], torch.from_numpy(labels))).backward()
            optimizer.step()
        ends.append(net.classifier.weight.detach())
    torch.testing.assert_close(*ends, rtol=1e-3, atol=1e-6)


# -- targets and a sigmoid's range ------------------------------------------------------------------------------------------


def test_scaled_targets_lie_in_the_decoders_range():
    salient = (np.random.default_rng(0).normal(size=(700, 4, 3, 3)).clip(0) * 5).astype(np.float32)
    salient[:, 2] = 0
    ceiling = find_ceiling(salient)
    np.testing.assert_array_equal(ceiling[:, 0, 0], [*salient[:, :2].max((0, 2, 3)), 1, salient[:, 3].max()])
    scaled = salient / ceiling.numpy()
    assert scaled.min() == 0 and scaled.max() == 1 and (scaled[:, 0].max(), scaled[:, 3].max()) == (1, 1)
    assert find_floor(scaled) == 0


def test_what_a_sigmoid_cannot_reconstruct():
    salient = (np.random.default_rng(0).normal(size=(300, 4, 3, 3)).clip(0) * 5).astype(np.float32)
    best = np.clip(salient, 0, 1)  # the limit of what sigmoids reach
    expected = np.square(salient - best).sum((1, 2, 3)).mean()
    assert find_floor(salient) == pytest.approx(expected, rel=1e-5) and expected > 0
    best_loss = sum_reconstruction_losses(torch.from_numpy(best[:, None]), torch.from_numpy(salient[:, None]))
    assert float(best_loss) == pytest.approx(expected, rel=1e-5)


def test_a_quarter_of_the_face_networks_maps_is_out_of_reach():
    with torch.no_grad():
        maps = load_face_network().compute_stages(torch.rand(4, 3, 150, 150))["stage_128"].numpy()
    share = find_floor(maps) / float(np.square(maps).sum((1, 2, 3)).mean())
    assert share > 0.1
    assert find_floor(maps / find_ceiling(maps).numpy()) == 0


def test_the_papers_values():
    first, second = StageOne().at("paper"), StageTwo().at("paper")
    assert (first.learning_rate, second.learning_rate, first.gamma_1, first.gamma_2) == (1e-5, 1e-4, 1e-3, 1e-4)
    assert (second.weight, first.dropout, second.dropout, second.hidden, first.input_size) == (20, 0.5, 0.5, 4096, 224)
    assert (first.trunk, first.frozen, second.decoder) == ("vgg_face", None, "dense")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CrossEntropyWithMask(-1, 0, True), r"gamma_1 and gamma_2 must be finite and not below 0, got -1 and 0"),
        (lambda: CrossEntropyWithMask(0, float("nan"), True), r"must be finite"),
        (lambda: CrossEntropyWithMask(*GAMMAS, True)({"scores": torch.zeros(1, 2)}, {}), r"needs the output mask, of a network wi"),
        (lambda: CrossEntropyWithReconstruction(np.zeros((1, 1, 1, 1)), Itself(1), torch.ones(1, 1, 1), -1), r"weight must be finite and"),
        (
            lambda: CrossEntropyWithReconstruction(np.zeros((4, 1, 1, 1)), Itself(3), torch.ones(1, 1, 1), 20)(
                {"reconstructions": torch.zeros(2, 5, 1, 1, 1)}, {"indices": torch.arange(2)}
            ),
            r"the network reconstructs \[2, 5\] samples, the targets are \[2, 3\]",
        ),
    ],
)
def test_errors_name_what_was_expected(make, message):
    with pytest.raises(ValueError, match=message):
        make()
