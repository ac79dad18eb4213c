"""Xie, Hu & Wu 2019: DAM-CNN."""
