"""The experiments of Li & Deng 2019 (RAF-DB and DLP-CNN)."""

from . import networks, tables, figures  # noqa: F401, I001 (in the order of the paper)
