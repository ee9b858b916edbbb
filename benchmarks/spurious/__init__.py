"""How much models lean on backgrounds: the measures of three public sets, on predictions."""

from __future__ import annotations

from cci_captum._extras import needed_by

with needed_by("cci_captum.benchmarks.spurious"):
    from .as_made import as_made
    from .background_errors import background_errors
    from .background_gap import background_gap, challenge
    from .benchmark import BENCHMARKS, Benchmark, find_benchmark
    from .foreground_sensitivity import ablation_drops, relative_foreground_sensitivity
    from .super_classes import NineClasses, SuperClasses, read_super_classes, super_classes
    from .worst_group import worst_group

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "NineClasses",
    "SuperClasses",
    "ablation_drops",
    "as_made",
    "background_errors",
    "background_gap",
    "challenge",
    "find_benchmark",
    "read_super_classes",
    "relative_foreground_sensitivity",
    "super_classes",
    "worst_group",
]
