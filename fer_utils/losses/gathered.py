"""stub"""
import inspect

from torch import nn


class GatheredLoss(nn.Module):
    def __init__(self, loss):
        super().__init__(); self.loss = loss
        self.takes_indices = "indices" in inspect.signature(loss.forward).parameters
    def forward(self, embeddings, labels, indices=None):
        return self.loss(embeddings, labels, indices) if self.takes_indices else self.loss(embeddings, labels)
