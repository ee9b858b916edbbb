"""How sure a measured mean is: intervals that cover, paired tests, and where there are none.

All are closed forms: no seed, and rows in another order change nothing but rounding. How often
they cover is measured by `cci_captum.benchmarks.coverage`; docs/faithfulness.md has the table.
"""

from __future__ import annotations

from cci_captum._extras import needed_by

with needed_by("cci_captum.benchmarks.statistics"):
    from .means import interval, rate_interval
    from .pairs import holm, paired_interval, paired_p_value
    from .roc import AUC, roc_auc

__all__ = [
    "AUC",
    "holm",
    "interval",
    "paired_interval",
    "paired_p_value",
    "rate_interval",
    "roc_auc",
]
