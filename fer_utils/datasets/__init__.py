"""Loaders, one module a dataset; all return a :class:`FaceDataset`."""

from . import (
    affectnet,
    baum2i,
    catalog,
    celeba,
    ckplus,
    expw,
    facsynth,
    fer2013,
    folder,
    jaffe,
    mmi,
    muxspace,
    oulu_casia,
    rafdb,
    sfew,
    tfeid,
)
from .base import DataError, FaceDataset, data_root

__all__ = [
    "DataError", "FaceDataset", "affectnet", "baum2i", "catalog", "celeba", "ckplus", "data_root", "expw", "facsynth", "fer2013",
    "folder", "jaffe", "mmi", "muxspace", "oulu_casia", "rafdb", "sfew", "tfeid",
]
