"""Which methods compete to lead, and what each may cost."""

from __future__ import annotations

from ..comparison.titles import title

LEADERS = {
    "gated-cci(parts=gradient+values,score=log-probability)": "at most 3 passes",
    "gated-cci(parts=gradient+values+hidden,clusters=4+8,score=log-probability)": "at most 16",
    "gated-cci(score=log-probability)": "without bound",
}
"""Method -> what it may cost, in passes; a backward pass counts as two."""

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


def label_of(method: str) -> str:
    """What a leader is called where many stand side by side: by what it may cost."""
    return LEADERS.get(method, title(method))
