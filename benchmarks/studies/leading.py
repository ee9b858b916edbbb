"""Which methods compete to lead, and what each may cost."""

from __future__ import annotations

LEADERS = (
    "gated-cci(parts=gradient+values,score=log-probability)",
    "gated-cci(parts=gradient+values+hidden,clusters=4+8,score=log-probability)",
    "gated-cci(score=log-probability)",
)
"""At most 3 passes, at most 16 and without bound; a backward pass counts as two."""

RIVALS = (
    "clip-surgery",
    "clip-surgery-2023-04-13",
    "clip-surgery-2023-04-12",
    "rollout",
    "grad-eclip",
    "m2ib",
    "game",
    "legrad",
    "legrad(blocks=all)",
    "atman(score=log-probability)",
    "atman(threshold=none,score=log-probability)",
    "rise(masks=1000)",
    "maskclip",
    "gradcam",
    "self-attention",
    "cci",
)
"""Every method that others have published."""
