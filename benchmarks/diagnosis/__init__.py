"""Verdicts on whole data sets: as a run, as shortcuts of a model, and against planted truth."""

from __future__ import annotations

from cci_captum._extras import needed_by

with needed_by("cci_captum.benchmarks.diagnosis"):
    from .run import DiagnosisRun, table_of
    from .shortcuts import shortcuts

__all__ = ["DiagnosisRun", "shortcuts", "table_of"]
