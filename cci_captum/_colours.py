"""The colours of maps, the same in figures and in HTML."""

from __future__ import annotations

# At equal steps from opposes (blue) over zero (white) to supports (red): the two ends stay apart
# for every common kind of colour blindness.
DIVERGING_STOPS = ("#1f56a3", "#4393c3", "#b9d8ea", "#ffffff", "#f9c4ab", "#de6e56", "#b51c2e")
