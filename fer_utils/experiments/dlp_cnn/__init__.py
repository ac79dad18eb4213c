"""The experiments of Li & Deng 2019 (RAF-DB and DLP-CNN)."""

from . import crowd

__all__ = ["crowd"]
