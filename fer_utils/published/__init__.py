"""Every number that the papers print, as YAML, and the claims that they argue from them."""

from .loader import Cell, Claim, Column, Comparison, Item, Published, list_published, load_published, parse_published

__all__ = ["Cell", "Claim", "Column", "Comparison", "Item", "Published", "list_published", "load_published", "parse_published"]
