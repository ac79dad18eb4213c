"""Keras for the modules of this paper: on torch, unless another backend was chosen by ``KERAS_BACKEND`` or by importing Keras before."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

try:
    import keras
except ImportError as error:
    problem = f"DAF-CNN needs Keras 3 and its backend {os.environ['KERAS_BACKEND']} ({error})"
    raise ImportError(f"{problem}; pip install 'fer-utils[book]' brings Keras, and torch is here") from error

__all__ = ["PACKAGE", "keras"]

#: Under which the layers are registered, so that a saved network is loaded by whoever has imported them.
PACKAGE = "fer_utils.daf_cnn"
