"""Figures: one style for the whole book, and contact sheets."""
