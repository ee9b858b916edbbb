"""Verdicts on whole data sets: as a run, as shortcuts of a model, and against planted truth."""
