"""Loaders, one module a dataset; all return a :class:`FaceDataset`."""

from . import ckplus, facsynth, muxspace, rafdb
from .base import DataError, FaceDataset, data_root

__all__ = ["DataError", "FaceDataset", "ckplus", "data_root", "facsynth", "muxspace", "rafdb"]
