"""Deletion and insertion: does the score follow what a map calls important?

The protocol is data, so that two tables can agree; what is random is the same for every method,
so that they can be compared image by image.
"""

from __future__ import annotations

from .curves import Curve, FaithfulnessCurves, Scoring, area_under_curve, score
from .deletion_insertion import DeletionInsertion
from .perturbation import (
    filled,
    perturb,
    random_ties,
    rank_pixels,
    splits_ties,
    tied_share,
    ties_of,
)
from .protocols import PROTOCOLS, TIES, Protocol
from .retrieval import CaptionRetrieval, RetrievalCurve
from .strategies import PreparedImages

__all__ = [
    "PROTOCOLS",
    "TIES",
    "CaptionRetrieval",
    "Curve",
    "DeletionInsertion",
    "FaithfulnessCurves",
    "PreparedImages",
    "Protocol",
    "RetrievalCurve",
    "Scoring",
    "area_under_curve",
    "filled",
    "perturb",
    "random_ties",
    "rank_pixels",
    "score",
    "splits_ties",
    "tied_share",
    "ties_of",
]
