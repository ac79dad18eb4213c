"""Train a network, resume it, and use it."""

from .checkpoint import load_checkpoint, save_checkpoint
from .features import evaluate, extract_features, predict, predict_scores, prepare_images
from .fit import FitSettings, History, MetricLoss, fit

__all__ = [
    "FitSettings", "History", "MetricLoss", "evaluate", "extract_features", "fit", "load_checkpoint", "predict", "predict_scores",
    "prepare_images", "save_checkpoint",
]
