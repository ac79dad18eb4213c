"""The experiments of Li & Deng 2019 (RAF-DB and DLP-CNN)."""

from . import baselines, crowd

__all__ = ["baselines", "crowd"]
