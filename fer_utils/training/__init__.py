"""Train a network, resume it, and use it."""

from .checkpoint import load_checkpoint, save_checkpoint
from .data import Samples, prepare_images
from .features import cache_outputs, extract_features, predict, predict_scores
from .fit import History, crop_and_flip, fit
from .hooks import Hook, WatchErrors
from .objectives import CrossEntropy, CrossEntropyWithMetric, Objective
from .sampling import Balanced, BalancedLabels, Pairs, Shuffled
from .settings import FitSettings
from .stages import freeze, load_weights, replace_head

__all__ = [
    "Balanced", "BalancedLabels", "CrossEntropy", "CrossEntropyWithMetric", "FitSettings", "History", "Hook", "Objective", "Pairs",
    "Samples", "Shuffled", "WatchErrors", "cache_outputs", "crop_and_flip", "extract_features", "fit", "freeze", "load_checkpoint",
    "load_weights", "predict", "predict_scores", "prepare_images", "replace_head", "save_checkpoint",
]
