"""Loaders, one module a dataset; all return a :class:`FaceDataset`."""

from ..errors import DataError
from ..files import data_root
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
from .base import FaceDataset

__all__ = [
    "DataError", "FaceDataset", "affectnet", "baum2i", "catalog", "celeba", "ckplus", "data_root", "expw", "facsynth", "fer2013",
    "folder", "jaffe", "mmi", "muxspace", "oulu_casia", "rafdb", "sfew", "tfeid",
]
