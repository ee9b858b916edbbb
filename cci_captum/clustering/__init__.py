"""Clustering of patch embeddings, image by image."""

from .kmeans import KMeans

__all__ = ["KMeans"]
