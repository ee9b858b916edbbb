"""Derivatives of a score, for the methods here."""

from __future__ import annotations

from cci_captum.attribution.derivatives import differentiable, gradients

__all__ = ["differentiable", "gradients"]
