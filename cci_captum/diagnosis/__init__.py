"""Why was it right, or wrong: the object, or what is behind it? Verdicts on predictions."""

from __future__ import annotations

from .donors import Donors
from .interventions import Interventions

__all__ = ["Donors", "Interventions"]
