"""The gradients that the papers print, against the true ones: where the two differ, which one is right.

Each printed formula is written out here as loops over the paper's indices, apart from the package.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cosine_similarity

from fer_utils.losses import (
    CenterLoss,
    ContrastiveLoss,
    FeatureBank,
    IslandLoss,
    IsletsLoss,
    LocalityPreservingLoss,
    TripletCenterLoss,
)

CLASSES, SIZE = 7, 5


def draw(count: int, size: int = SIZE, classes: int = CLASSES, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Gaussian features in double precision, and labels."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(count, size, dtype=torch.float64, generator=generator)
    return embeddings, torch.arange(count) % classes


def gradient(function, *inputs: torch.Tensor) -> torch.Tensor:
    """With respect to the first input."""
    free = inputs[0].clone().requires_grad_()
    return torch.autograd.grad(function(free, *inputs[1:]), free)[0]


def alike(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(cosine_similarity(first.flatten(), second.flatten(), dim=0))


def step_of(loss: CenterLoss | TripletCenterLoss, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """What a training call subtracts from the centres, divided by alpha."""
    before = loss.centres.clone()
    loss(embeddings, labels)
    return (before - loss.centres) / loss.alpha


def double(loss: CenterLoss | TripletCenterLoss, seed: int = 1, spread: float = 1.0) -> CenterLoss | TripletCenterLoss:
    """The loss in double precision, with centres drawn anew."""
    loss = loss.double()
    generator = torch.Generator().manual_seed(seed)
    loss.centres.data = spread * torch.randn(loss.centres.shape, dtype=torch.float64, generator=generator)
    return loss


# -- center loss ----------------------------------------------------------------------------------------------------------


def test_center_loss_has_the_printed_gradient() -> None:
    """Li et al. 2021, eq. 3 (and Wen et al., eq. 3)."""
    embeddings, labels = draw(20)
    loss = double(CenterLoss(CLASSES, SIZE, reduction="sum")).eval()
    printed = torch.stack([x - loss.centres[y] for x, y in zip(embeddings, labels, strict=True)])
    torch.testing.assert_close(gradient(loss, embeddings, labels), printed)


def test_the_alpha_rule_is_the_gradient_over_one_more_than_the_class_has() -> None:
    embeddings, labels = draw(20)
    loss = double(CenterLoss(CLASSES, SIZE, reduction="sum"))
    true = gradient(lambda c: (embeddings - c[labels]).square().sum() / 2, loss.centres)
    counts = labels.bincount(minlength=CLASSES)[:, None]
    torch.testing.assert_close(step_of(loss, embeddings, labels) * (1 + counts), true)


def test_the_alpha_rule_cannot_overshoot() -> None:
    """With 64 samples of a class a step of 0.5 along the gradient of the sum explodes; the alpha rule with 0.5 halves the way."""
    embeddings = torch.ones(64, SIZE)
    labels = torch.zeros(64, dtype=torch.int64)
    ruled, learned = (CenterLoss(2, SIZE, update=update, reduction="sum", init_std=1) for update in ("alpha", "gradient"))
    for _ in range(20):
        ruled(embeddings, labels)
        (slope,) = torch.autograd.grad(learned(embeddings, labels), learned.centres)
        learned.centres.data -= 0.5 * slope
    assert (ruled.centres[0] - 1).abs().max() < 1e-5
    assert (learned.centres[0] - 1).abs().max() > 1e20


# -- locality preserving loss ---------------------------------------------------------------------------------------------


def neighbours_of(embeddings: torch.Tensor, labels: torch.Tensor, k: int) -> list[torch.Tensor]:
    """The k nearest of each sample's class, in the batch."""
    found = []
    for i, (x, y) in enumerate(zip(embeddings, labels, strict=True)):
        others = [j for j in range(len(labels)) if labels[j] == y and j != i]
        found.append(torch.tensor(sorted(others, key=lambda j: float((embeddings[j] - x).norm()))[:k]))
    return found


def locality(embeddings: torch.Tensor, near: list[torch.Tensor]) -> torch.Tensor:
    """Li & Deng 2019, eq. 4, with neighbours that depend on the features."""
    return sum((x - embeddings[js].mean(0)).square().sum() for x, js in zip(embeddings, near, strict=True)) / (2 * len(near))


def test_eq_5_leaves_out_that_a_feature_is_a_neighbour_of_others() -> None:
    embeddings, labels = draw(60, size=8, classes=2)
    n, k = len(labels), 5
    near = neighbours_of(embeddings, labels, k)
    means = torch.stack([embeddings[js].mean(0) for js in near])
    printed = (embeddings - means) / n
    missing = torch.zeros_like(printed)
    for j, js in enumerate(near):
        for i in js.tolist():
            missing[i] -= (embeddings[j] - means[j]) / (n * k)
    true = gradient(locality, embeddings, near)
    assert 0.7 < alike(printed, true) < 0.95, "eq. 5 is not the gradient of eq. 4"
    torch.testing.assert_close(printed + missing, true)
    loss = LocalityPreservingLoss(k)
    torch.testing.assert_close(loss(embeddings, labels), locality(embeddings, near))
    torch.testing.assert_close(gradient(loss, embeddings, labels), printed)  # ours: neighbours are constants
    assert not torch.autograd.gradcheck(lambda e: loss(e, labels), embeddings.clone().requires_grad_(), raise_exception=False)


def test_with_the_bank_eq_5_is_the_gradient() -> None:
    """Neighbours in the bank do not move with the batch: nothing is left out."""
    embeddings, labels = draw(60, size=8, classes=2)
    loss = LocalityPreservingLoss(5, bank=FeatureBank(labels, 8))
    loss.bank.update(embeddings, torch.arange(60))
    loss.eval()
    batch = torch.arange(10)
    free = (embeddings[:10] + 0.01).requires_grad_()
    assert torch.autograd.gradcheck(lambda e: loss(e, labels[:10], batch), free)
    means = torch.stack([embeddings.float()[js].double().mean(0) for js in neighbours_of(embeddings, labels, 5)[:10]])
    torch.testing.assert_close(gradient(loss, free.detach(), labels[:10], batch), (free - means) / 10, rtol=0, atol=1e-6)


def test_algorithm_2_divides_by_less_than_it_sums() -> None:
    """S of eq. 3 joins x_i and x_j if either is a neighbour of the other: rows sum to k or more, so C_i is no mean."""
    embeddings, _ = draw(400, size=8)
    k = 20
    order = torch.cdist(embeddings, embeddings).fill_diagonal_(torch.inf).argsort(1)[:, :k]
    chosen = torch.zeros(400, 400, dtype=torch.bool).scatter_(1, order, True)
    joined = chosen | chosen.T
    sums = joined.sum(1)
    assert sums.min() >= k and 25 < sums.double().mean() < 31

    def printed(x: torch.Tensor) -> torch.Tensor:
        return (x - joined.double() @ x / k).square().sum() / 800

    loss, labels = LocalityPreservingLoss(k), torch.zeros(400, dtype=torch.int64)
    torch.testing.assert_close(loss(embeddings + 5, labels), loss(embeddings, labels))
    assert printed(embeddings + 5) > 2 * printed(embeddings), "the printed centre depends on where 0 is; that of eq. 4 does not"


@pytest.mark.parametrize("size", [2, 5, 30])
def test_center_loss_is_a_special_case_but_for_a_factor(size: int) -> None:
    """All others as neighbours, k = n_c - 1: the squared distance to the class mean times (n_c / (n_c - 1))^2, as x_i is left out."""
    embeddings, labels = draw(3 * size, classes=3)
    centred = double(CenterLoss(3, SIZE)).eval()
    centred.centres.copy_(torch.stack([embeddings[labels == c].mean(0) for c in range(3)]))
    factor = (size / (size - 1)) ** 2
    torch.testing.assert_close(LocalityPreservingLoss(size - 1)(embeddings, labels), factor * centred(embeddings, labels))


def test_from_eq_2_to_eq_4_the_variance_is_lost() -> None:
    """The mean of the squared distances to the neighbours is that to their mean, plus their variance."""
    embeddings, labels = draw(60, classes=2)
    near = neighbours_of(embeddings, labels, 5)
    pairs = sum((x - embeddings[js]).square().sum(1).mean() for x, js in zip(embeddings, near, strict=True)) / 120
    variance = sum(embeddings[js].var(0, correction=0).sum() for js in near) / 120
    torch.testing.assert_close(pairs, LocalityPreservingLoss(5)(embeddings, labels) + variance)
    assert variance > 0.1 * pairs


# -- island and islets ----------------------------------------------------------------------------------------------------


def eq_4(centres: torch.Tensor, embeddings: torch.Tensor, labels: torch.Tensor, lambda1: float, lambda2: float) -> torch.Tensor:
    """Li et al. 2021, eq. 4, with the last bracket inside the second sum, and without k = j in the third."""
    count, steps = len(centres), []
    for j, c in enumerate(centres):
        own = [x for x, y in zip(embeddings, labels, strict=True) if y == j]
        step = sum((c - x for x in own), torch.zeros_like(c)) / (1 + len(own))
        others = [centres[k] for k in range(count) if k != j]
        for d in others:
            step = step + lambda1 / (count - 1) * (d / (c.norm() * d.norm()) - (c @ d) / (c.norm() ** 3 * d.norm()) * c)
            step = step - lambda2 / (2 * count) * (c - d) / (c - d).norm() * penalty_of(centres)
        steps.append(step)
    return torch.stack(steps)


def penalty_of(centres: torch.Tensor) -> torch.Tensor:
    """Li et al. 2021, eq. 1, over ordered pairs."""
    pairs = [(j, k) for j in range(len(centres)) for k in range(len(centres)) if j != k]
    return torch.exp(-sum((centres[j] - centres[k]).norm() for j, k in pairs) / 2)


@pytest.mark.parametrize("kind", [IslandLoss, IsletsLoss])
def test_the_printed_rule_is_eq_4(kind: type[IslandLoss]) -> None:
    embeddings, labels = draw(20)
    options = {"lambda2": 0.9} if kind is IsletsLoss else {}
    loss = double(kind(CLASSES, SIZE, centre_rule="printed", **options), spread=0.05)
    expected = eq_4(loss.centres, embeddings, labels, 0.2, options.get("lambda2", 0.0))
    torch.testing.assert_close(step_of(loss, embeddings, labels), expected)


def test_eq_3_is_the_gradient_for_a_feature() -> None:
    embeddings, labels = draw(20)
    loss = double(IsletsLoss(CLASSES, SIZE, reduction="sum")).eval()
    torch.testing.assert_close(gradient(loss, embeddings, labels), embeddings - loss.centres[labels])


def test_the_value_is_eq_1_and_2() -> None:
    embeddings, labels = draw(20)
    loss, island, center = (double(kind(CLASSES, SIZE), spread=0.05).eval() for kind in (IsletsLoss, IslandLoss, CenterLoss))
    torch.testing.assert_close(loss(embeddings, labels), island(embeddings, labels) + 0.9 * penalty_of(loss.centres))
    cosines = cosine_similarity(loss.centres[:, None], loss.centres[None], dim=2)
    pairs = sum(cosines[j, k] + 1 for j in range(CLASSES) for k in range(CLASSES) if j != k)
    torch.testing.assert_close(island(embeddings, labels), center(embeddings, labels) + 0.2 * pairs)


@pytest.mark.parametrize(("term", "too_small"), [("island", 2 * (CLASSES - 1)), ("islets", 2 * CLASSES)])
def test_eq_4_is_too_small(term: str, too_small: int) -> None:
    """12 times for the island term, 14 times for the new one, by finite differences; the corrected rule is exact."""
    embeddings, labels = draw(20)
    lambdas = {"lambda1": 0.0, "lambda2": 1.0} if term == "islets" else {"lambda1": 1.0, "lambda2": 0.0}
    loss = double(IsletsLoss(CLASSES, SIZE, **lambdas), spread=0.05)
    centres = loss.centres.clone()

    def value(c: torch.Tensor) -> float:
        if term == "islets":
            return float(penalty_of(c))
        cosines = cosine_similarity(c[:, None], c[None], dim=2)
        return float(cosines.sum() - cosines.diagonal().sum())

    differences, width = torch.zeros_like(centres), 1e-6
    for place in range(centres.numel()):
        up, down = centres.clone(), centres.clone()
        up.view(-1)[place] += width
        down.view(-1)[place] -= width
        differences.view(-1)[place] = (value(up) - value(down)) / (2 * width)
    pull = step_of(double(CenterLoss(CLASSES, SIZE), spread=0.05), embeddings, labels)
    corrected = step_of(loss, embeddings, labels) - pull
    printed = eq_4(centres, embeddings, labels, lambdas["lambda1"], lambdas["lambda2"]) - pull
    torch.testing.assert_close(corrected, differences, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(printed * too_small, differences, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("distance", "expected"), [(0.5, 2.8e-5), (1.0, 7.6e-10), (2.0, 5.7e-19)])
def test_the_islets_penalty_vanishes(distance: float, expected: float) -> None:
    """Seven centres at one distance from each other: exp(-21 d), and its gradient with it; next to the rest of the loss it is nothing."""
    embeddings, labels = draw(20, size=CLASSES)
    islets, island = (kind(CLASSES, CLASSES).double().eval() for kind in (IsletsLoss, IslandLoss))
    centres = torch.eye(CLASSES, dtype=torch.float64) * distance / math.sqrt(2) + 0.3  # corners of a simplex
    for loss in (islets, island):
        loss.centres.copy_(centres)
    penalty = penalty_of(centres)
    assert float(penalty) == pytest.approx(expected, rel=0.02) == pytest.approx(math.exp(-21 * distance), rel=0.02)
    torch.testing.assert_close(islets(embeddings, labels) - island(embeddings, labels), 0.9 * penalty, rtol=1e-6, atol=1e-14)
    push, between = gradient(penalty_of, centres), gradient(island._between, centres)
    assert push.norm() < 15 * expected and push.norm() < 1e-2 * between.norm()


# -- triplet-centre -------------------------------------------------------------------------------------------------------


def tc_setting(centre_rule: str = "corrected") -> tuple[TripletCenterLoss, torch.Tensor, torch.Tensor]:
    embeddings, labels = draw(40)
    return double(TripletCenterLoss(CLASSES, SIZE, margin=1.0, reduction="sum", centre_rule=centre_rule)), embeddings, labels


def triplets(loss: TripletCenterLoss, embeddings: torch.Tensor, labels: torch.Tensor) -> list[tuple[int, int, bool]]:
    """Own class, nearest other class, and whether the margin is missed."""
    found = []
    for x, p in zip(embeddings, labels.tolist(), strict=True):
        q = min((k for k in range(CLASSES) if k != p), key=lambda k, x=x: float((x - loss.centres[k]).norm()))
        gap = ((x - loss.centres[p]).square().sum() + 2 * loss.margin - (x - loss.centres[q]).square().sum()) / 2
        found.append((p, q, bool(gap > 0)))
    return found


def test_eq_9_and_eq_11() -> None:
    loss, embeddings, labels = tc_setting()
    loss.eval()
    chosen = triplets(loss, embeddings, labels)
    assert {active for *_, active in chosen} == {True, False}
    c = loss.centres
    printed = torch.stack([(c[q] - c[p]) * active for p, q, active in chosen])
    torch.testing.assert_close(gradient(loss, embeddings, labels), printed)
    halves = [((x - c[p]).square().sum() + 2 - (x - c[q]).square().sum()) / 2 for x, (p, q, _) in zip(embeddings, chosen, strict=True)]
    torch.testing.assert_close(loss(embeddings, labels), torch.stack(halves).clamp_min(0).sum())


def test_eq_8_means_that_the_own_centre_is_nearer() -> None:
    """The text before eq. 8 calls the distance to the own centre the larger one; the inequality, and a loss of 0, need the smaller."""
    loss = TripletCenterLoss(2, 1, margin=1.0)
    loss.centres.copy_(torch.tensor([[0.0], [4.0]]))
    loss.eval()
    at = torch.tensor([[0.5], [3.5]])
    assert loss(at, torch.tensor([0, 1])) == 0
    assert loss(at, torch.tensor([1, 0])) > 0


def eq_12(loss: TripletCenterLoss, embeddings: torch.Tensor, labels: torch.Tensor, normalise: bool = True) -> torch.Tensor:
    """Zhou et al., eq. 12, as printed; optionally its numerators alone."""
    rows, chosen = [], triplets(loss, embeddings, labels)
    for j, c in enumerate(loss.centres):
        own = [x - c for x, (p, _, active) in zip(embeddings, chosen, strict=True) if active and p == j]
        disturbed = [x - c for x, (_, q, active) in zip(embeddings, chosen, strict=True) if active and q == j]
        parts = [sum(part, torch.zeros_like(c)) / (1 + len(part) if normalise else 1) for part in (own, disturbed)]
        rows.append(parts[0] - parts[1])
    return torch.stack(rows)


def test_eq_12_has_the_wrong_sign() -> None:
    loss, embeddings, labels = tc_setting()

    def value(c: torch.Tensor) -> torch.Tensor:
        chosen = triplets(loss, embeddings, labels)
        pairs = zip(embeddings, chosen, strict=True)
        return torch.stack([(x - c[p]).square().sum() - (x - c[q]).square().sum() for x, (p, q, active) in pairs if active]).sum() / 2

    true = gradient(value, loss.centres)
    assert (eq_12(loss, embeddings, labels, normalise=False) + true).abs().max() < 1e-10
    printed = eq_12(loss, embeddings, labels)
    assert alike(printed, true) < -0.85
    torch.testing.assert_close(step_of(tc_setting("printed")[0], embeddings, labels), printed)
    torch.testing.assert_close(step_of(loss, embeddings, labels), -printed)


def test_descending_along_eq_12_drives_centres_off() -> None:
    """Seven distinct classes, centres that start together: one rule finds the classes, the other leaves them."""
    means = 4 * torch.eye(CLASSES)
    labels = torch.arange(70) % CLASSES
    embeddings = means[labels] + 0.3 * torch.randn(70, CLASSES, generator=torch.Generator().manual_seed(0))
    far, found = {}, {}
    for rule in ("corrected", "printed"):
        torch.manual_seed(0)
        loss = TripletCenterLoss(CLASSES, CLASSES, margin=1.0, centre_rule=rule)
        start = float(loss.eval()(embeddings, labels))
        loss.train()
        for _ in range(15):
            loss(embeddings, labels)
        far[rule] = float(loss.eval()(embeddings, labels)) / start
        found[rule] = float((torch.cdist(embeddings, loss.centres).argmin(1) == labels).float().mean())
    assert far["corrected"] < 0.05 and found["corrected"] == 1
    assert far["printed"] > 20 and found["printed"] < 0.2


# -- contrastive ----------------------------------------------------------------------------------------------------------


def test_contrastive_loss_is_eq_3() -> None:
    embeddings, labels = draw(12, classes=3)
    values, slopes, margin = [], torch.zeros_like(embeddings), 3.0
    for i in range(12):
        for j in range(i + 1, 12):
            d = (embeddings[i] - embeddings[j]).norm()
            same = labels[i] == labels[j]
            values.append(d**2 / 2 if same else max(margin - d, torch.tensor(0.0)) ** 2 / 2)
            slope = (embeddings[i] - embeddings[j]) * (1 if same else -max(margin - d, torch.tensor(0.0)) / d)
            slopes[i] += slope
            slopes[j] -= slope
    loss = ContrastiveLoss(margin=margin, reduction="sum")
    torch.testing.assert_close(loss(embeddings, labels), torch.stack(values).sum())
    torch.testing.assert_close(gradient(loss, embeddings, labels), slopes)
    assert any(value == 0 for value in values), "some pairs keep the margin"


@settings(max_examples=20, deadline=None)
@given(pairs=st.integers(1, 6), seed=st.integers(0, 99))
def test_halves_are_the_papers_pairs(pairs: int, seed: int) -> None:
    embeddings, labels = draw(2 * pairs, classes=3, seed=seed)
    single = ContrastiveLoss(margin=3.0)
    each = [single(embeddings[[i, i + pairs]], labels[[i, i + pairs]]) for i in range(pairs)]
    torch.testing.assert_close(ContrastiveLoss(margin=3.0, pairs="halves")(embeddings, labels), torch.stack(each).mean())
