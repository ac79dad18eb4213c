"""Xie, Hu & Wu 2019: DAM-CNN, a mask of salient regions and an autoencoder of several paths."""
