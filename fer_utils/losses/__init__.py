"""Losses on features: center, locality preserving, island, islets, triplet-centre and contrastive; a feature bank; a batch's processes."""

from .bank import FeatureBank
from .center import CenterLoss
from .contrastive import ContrastiveLoss
from .gathered import GatheredLoss
from .island import IslandLoss, IsletsLoss
from .locality import LocalityPreservingLoss
from .triplet_center import TripletCenterLoss

__all__ = [
    "CenterLoss",
    "ContrastiveLoss",
    "FeatureBank",
    "GatheredLoss",
    "IslandLoss",
    "IsletsLoss",
    "LocalityPreservingLoss",
    "TripletCenterLoss",
]
