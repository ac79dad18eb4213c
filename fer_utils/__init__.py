"""Helpers of an executable book on facial expression recognition."""

__version__ = "0.1.0"
