"""Xie, Hu & Wu 2019: what the paper prints of its settings stands in ``published.yaml``, section-4-1-2; no recipe is written yet."""
