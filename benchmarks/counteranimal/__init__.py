"""CounterAnimal: how much worse a model is on photos of animals on backgrounds seldom seen."""

from __future__ import annotations

from cci_captum._extras import needed_by

with needed_by("cci_captum.benchmarks.counteranimal"):
    from cci_captum.diagnosis.verdicts import rules_of

    from .accuracy import accuracies, class_accuracies
    from .candidates import PAPER_MODEL, Candidates, choose_candidates
    from .published import published_classwise, published_results, published_row
    from .robustness import Fit, effective_robustness, fit, published_fit
    from .scoring import score_candidates
    from .verdicts import background_errors, drops_with_verdicts, mean_drops

__all__ = [
    "PAPER_MODEL",
    "Candidates",
    "Fit",
    "accuracies",
    "background_errors",
    "choose_candidates",
    "class_accuracies",
    "drops_with_verdicts",
    "effective_robustness",
    "fit",
    "mean_drops",
    "published_classwise",
    "published_fit",
    "published_results",
    "published_row",
    "rules_of",
    "score_candidates",
]
