"""The experiments of Li & Deng 2019 (RAF-DB and DLP-CNN)."""

from . import baselines, cross_database, crowd, facs, figures, networks, tables

__all__ = ["baselines", "cross_database", "crowd", "facs", "figures", "networks", "tables"]
