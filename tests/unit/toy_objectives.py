"""Small networks and objectives of the kinds that papers train: a mask with a penalty, an autoencoder, pairs with heads, attributes.

In a module of their own so that other processes can import them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from fer_utils.datasets.base import FaceDataset
from fer_utils.losses import ContrastiveLoss
from fer_utils.models import build_model
from fer_utils.training import BalancedLabels, CrossEntropy, Objective, Pairs, Samples, Shuffled

CLASSES = ("anger", "fear", "sadness")


def make_faces(count: int = 96, seed: int = 0) -> FaceDataset:
    """Noise with a bright bar, whose height is the class; four images a person."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    images = rng.integers(0, 120, (count, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4 + 8 * label : 9 + 8 * label] += 90
    names = np.array([f"{i:04d}.png" for i in range(count)])
    return FaceDataset("bars", images, labels, CLASSES, names, np.full(count, "train"), identities=np.arange(count) // 4)


def build(kind: str) -> nn.Module:
    """The network of a kind, always the same."""
    if kind == "autoencoder":
        return Autoencoder()
    model = build_model("base_dcnn", seed=1, num_classes=3, width=0.04, input_size=24)
    wrap = {"mask": Masked, "attributes": Attributes}.get(kind)
    return model if wrap is None else wrap(model)


class Wrapped(nn.Module):
    """A face network with more outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.classifier = model, model.classifier
        self.in_channels, self.image_size, self.input_size, self.num_classes = 1, None, 24, model.num_classes


class Masked(Wrapped):
    """Features seen through a mask between 0 and 1."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.mask = nn.Linear(model.embedding_size, model.embedding_size)
        nn.init.zeros_(self.mask.weight)
        nn.init.zeros_(self.mask.bias)

    def compute_outputs(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.model.embed(images)
        mask = self.mask(features).sigmoid()
        return {"mask": mask, "scores": self.classifier(mask * features)}


class MaskPenalty(CrossEntropy):
    def __init__(self, weight: float = 0.01) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, outputs, batch):
        softmax, penalty = super().forward(outputs, batch)["loss"], outputs["mask"].abs().mean()
        return {"loss": softmax + self.weight * penalty, "cross-entropy": softmax, "mask penalty": penalty}


class Autoencoder(nn.Module):
    """Features to features."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(2)
            self.layers = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 10))

    def compute_outputs(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"reconstruction": self.layers(inputs)}


class Reconstruct(Objective):
    def forward(self, outputs, batch):
        return {"loss": mse_loss(outputs["reconstruction"], batch["targets"])}


class Heads(Objective):
    """Contrastive losses of three heads on the features of pairs, with weights of their own, and cross-entropy."""

    def __init__(self, size: int = 80) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.heads = nn.ModuleDict({name: nn.Linear(size, 4) for name in ("eyes", "mouth", "face")})
        self.contrastive = ContrastiveLoss(margin=2.0, pairs="halves")

    def forward(self, outputs, batch):
        parts = {name: self.contrastive(head(outputs["features"]), batch["labels"]) for name, head in self.heads.items()}
        softmax = cross_entropy(outputs["scores"], batch["labels"])
        return {"loss": softmax + 0.1 * sum(parts.values()), "cross-entropy": softmax, **parts}


class Attributes(Wrapped):
    """One branch a group of attributes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.branches = nn.ModuleList(nn.Linear(model.embedding_size, 1) for _ in range(2))
        for branch in self.branches:
            nn.init.zeros_(branch.weight)
            nn.init.zeros_(branch.bias)

    def compute_outputs(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.model.embed(images)
        return {"scores": self.classifier(features), "attributes": torch.cat([branch(features) for branch in self.branches], 1)}


class AttributeEntropy(Objective):
    def forward(self, outputs, batch):
        each = binary_cross_entropy_with_logits(outputs["attributes"], batch["attributes"].float(), reduction="none").mean(0)
        return {"loss": each.sum(), "eyes": each[0], "mouth": each[1]}


@dataclass
class Kind:
    """How a kind is trained, and what its loss starts at."""

    data: Any
    objective: Objective
    start: float | None
    options: dict[str, Any] = field(default_factory=dict)


def prepare(kind: str, count: int = 96) -> Kind:
    """Data, objective and options of a kind."""
    faces = make_faces(count)
    if kind == "autoencoder":
        features = np.random.default_rng(0).normal(size=(count, 10)).astype(np.float32)
        features[:, 5:] = features[:, :5]
        targets = features[np.random.default_rng(1).permutation(count)] * 0.1 + features
        return Kind(Samples("features", features, faces.labels, CLASSES), Reconstruct(), None, {"columns": {"targets": targets}})
    if kind == "attributes":
        attributes = np.stack([faces.labels == 0, faces.labels != 1], 1).astype(np.uint8)
        options = {"columns": {"attributes": attributes}, "sampler": BalancedLabels("attributes")}
        return Kind(faces, AttributeEntropy(), 2 * np.log(2), options)
    objectives = {"softmax": CrossEntropy, "mask": MaskPenalty, "pairs": Heads}
    sampler = Pairs(0.5) if kind == "pairs" else Shuffled()
    return Kind(faces, objectives[kind](), np.log(3) if kind != "pairs" else None, {"sampler": sampler})


KINDS = ("softmax", "mask", "autoencoder", "pairs", "attributes")
