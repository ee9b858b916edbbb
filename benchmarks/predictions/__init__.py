"""What models predict on a data set: any classifier, kept in a store, as a table."""

from __future__ import annotations

from .models import Recogniser, check_recogniser, load_recogniser
from .run import PredictionRun, known_of, predictions_of

__all__ = [
    "PredictionRun",
    "Recogniser",
    "check_recogniser",
    "known_of",
    "load_recogniser",
    "predictions_of",
]
