"""Studies: which method leads, and what each choice of CCI changes, pooled over conditions."""

from __future__ import annotations

from cci_captum._extras import needed_by

with needed_by("study"):
    from .choices import Level, levels
    from .leading import LEADERS, RIVALS
    from .report import choices_page, leading_page
    from .tables import conditions_of, differences, joined, means

__all__ = [
    "LEADERS",
    "RIVALS",
    "Level",
    "choices_page",
    "conditions_of",
    "differences",
    "joined",
    "leading_page",
    "levels",
    "means",
]
