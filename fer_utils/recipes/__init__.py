"""The papers' hyperparameters, one module a paper, each with its page or section, and the three profiles."""

from .base import Profile, Recipe, scale

__all__ = ["Profile", "Recipe", "scale"]
