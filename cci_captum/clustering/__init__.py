"""Clustering of patch embeddings, image by image."""

from cci_captum.clustering.kmeans import KMeans

__all__ = ["KMeans"]
