"""``ferbook``: the book's commands."""

from . import crowd, faces, results  # noqa: F401 - each adds its commands
from .base import app

__all__ = ["app"]
