"""Losses on features: center, locality preserving, island, islets, triplet-centre and contrastive."""

from .center import CenterLoss
from .contrastive import ContrastiveLoss
from .gathered import GatheredLoss
from .island import IslandLoss, IsletsLoss
from .locality import LocalityPreservingLoss
from .triplet_center import TripletCenterLoss

__all__ = ["CenterLoss", "ContrastiveLoss", "IslandLoss", "IsletsLoss", "LocalityPreservingLoss", "TripletCenterLoss"]
