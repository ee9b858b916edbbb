"""Rules that say whether the background drove a prediction, as data: names, options, costs.

Each gives every image a share of the background; a verdict is that share above a threshold.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from ..regions import Intervention
from ..spec_text import split_spec
from .evidence import Evidence

Score = Literal["centred", "margin", "log-probability", "logit"]
Cut = Literal["half", "otsu"]


@dataclass(frozen=True)
class Rule(ABC):
    """A share of the background for each image, and the threshold from which it is to blame.

    Attributes:
        name: As texts call it.
        uses_maps: Whether it reads a method's map; else it runs interventions of its own.
    """

    name: ClassVar[str]
    uses_maps: ClassVar[bool]

    @property
    @abstractmethod
    def limit(self) -> float:
        """The background drove the prediction where its share is above this."""

    @property
    def measured(self) -> Rule:
        """The rule whose shares these are: a threshold changes none."""
        return type(self)(
            **{
                field.name: getattr(self, field.name)
                for field in dataclasses.fields(self)
                if field.name != "threshold"
            }
        )

    @property
    def needs_donors(self) -> bool:
        """Whether other images take part."""
        return False

    @abstractmethod
    def cost(self, n_donors: int) -> str:
        """Forward passes an image, in words."""

    @abstractmethod
    def shares(self, evidence: Evidence) -> Tensor:
        """(B,) float64 share of the background; NaN where the rule can say nothing."""

    def __str__(self) -> str:
        chosen = [
            f"{field.name}={getattr(self, field.name)}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"{self.name}({','.join(chosen)})" if chosen else self.name

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = _checked(getattr(self, field.name), hints[field.name], self.name, field.name)
            object.__setattr__(self, field.name, value)


@dataclass(frozen=True)
class _MapRule(Rule):
    """A rule that reads a method's map."""

    uses_maps: ClassVar[bool] = True
    threshold: float = 0.5

    @property
    def limit(self) -> float:
        """See `Rule`."""
        return self.threshold

    def cost(self, n_donors: int) -> str:
        """See `Rule`."""
        return "those of the map"


@dataclass(frozen=True)
class PaperIoU(_MapRule):
    """The paper's rule: whether the map overlaps more with the background than with the object.

    CCI (arXiv 2511.12978) overlaps the map for the predicted class with masks of foreground and
    background by IoU; the larger overlap wins. How the map is made binary is not said there; here
    it is what reaches half of the map's largest value, or what Otsu's threshold (1979) of its
    positive part leaves. The share is IoU_B / (IoU_F + IoU_B), and the limit half.

    Attributes:
        cut: "half" or "otsu".
        threshold: Of the share.
    """

    name: ClassVar[str] = "paper-iou"
    cut: Cut = "half"

    def shares(self, evidence: Evidence) -> Tensor:
        """See `Rule`; NaN where no value of the map is positive."""
        positive = evidence.maps.double().clamp(min=0).flatten(1)
        inside = evidence.object_shares.flatten(1)
        seen = evidence.seen_shares.flatten(1)
        largest = positive.amax(dim=1, keepdim=True)
        level = largest / 2 if self.cut == "half" else _otsu(positive)
        taken = ((positive >= level) & (positive > 0)).double()
        overlaps = [
            (taken * part).sum(dim=1)
            / (taken * seen + part - taken * part).sum(dim=1).clamp(min=1e-300)
            for part in (inside, seen - inside)
        ]
        return _share(overlaps[1], overlaps[0])


@dataclass(frozen=True)
class Energy(_MapRule):
    """The background's share of the map's positive part.

    One less the energy of Score-CAM (arXiv 1910.01279), with the object's mask in place of a box.

    Attributes:
        threshold: Of the share.
    """

    name: ClassVar[str] = "energy"

    def shares(self, evidence: Evidence) -> Tensor:
        """See `Rule`; NaN where no value of the map is positive."""
        positive = evidence.maps.double().clamp(min=0).flatten(1)
        positive = positive / positive.amax(dim=1, keepdim=True).clamp(min=1e-300)  # no overflow
        inside = (positive * evidence.object_shares.flatten(1)).sum(dim=1)
        whole = (positive * evidence.seen_shares.flatten(1)).sum(dim=1)
        return _share(whole - inside, inside)


@dataclass(frozen=True)
class ShapleyRegions(Rule):
    """The background's share of what object and background add to the class, as two players.

    phi_B = ((v(FB) - v(F)) + (v(B) - v(0))) / 2, phi_F likewise: what each adds to the other and
    to nothing (Shapley 1953). The share is phi_B / (abs(phi_F) + abs(phi_B)), from -1 (the
    background alone speaks, against the class) to 1. v(S) is the class's score when only S is of
    the image: all else is hidden inside attention, or replaced by other images of the same data, or
    the mean of both. It needs no map and no clusters.

    Attributes:
        score: "centred", the class's logit above the mean of all classes; "margin", above the best
            other; "log-probability"; or "logit".
        by: "both", "hidden" or "replaced".
        threshold: Of the share; None is `THRESHOLDS`: what one image in a hundred exceeds where no
            shortcut was planted.
    """

    name: ClassVar[str] = "shapley-regions"
    uses_maps: ClassVar[bool] = False
    score: Score = "centred"
    by: Intervention = "both"
    threshold: float | None = None

    @property
    def limit(self) -> float:
        """See `Rule`."""
        return THRESHOLDS[self.by, self.score] if self.threshold is None else self.threshold

    @property
    def needs_donors(self) -> bool:
        """See `Rule`."""
        return self.by != "hidden"

    def cost(self, n_donors: int) -> str:
        """See `Rule`."""
        passes = {"hidden": 3, "replaced": 1 + 2 * n_donors, "both": 3 + 2 * n_donors}
        return str(passes[self.by])

    def shares(self, evidence: Evidence) -> Tensor:
        """See `Rule`; NaN where neither adds anything."""
        values = evidence.effects.shapley_values(evidence.targets, by=self.by, score=self.score)
        own, rest = values[:, 0].double().unbind(dim=1)
        return _share(rest, own)


THRESHOLDS: dict[tuple[str, str], float] = {
    ("both", "centred"): 0.25,
    ("both", "margin"): 0.24,
    ("both", "log-probability"): 0.25,
    ("both", "logit"): 0.34,
    ("hidden", "centred"): 0.45,
    ("hidden", "margin"): 0.67,
    ("hidden", "log-probability"): 0.67,
    ("hidden", "logit"): 0.77,
    ("replaced", "centred"): 0.17,
    ("replaced", "margin"): 0.16,
    ("replaced", "log-probability"): 0.16,
    ("replaced", "logit"): 0.17,
}
"""By what is done, and score: what 1 % of the images that "tiny" names rightly exceed, a model in
which no shortcut was planted; scenes of seed 101."""

RULES: dict[str, type[Rule]] = {rule.name: rule for rule in (ShapleyRegions, Energy, PaperIoU)}
"""Name -> rule."""


def find_rule(text: str | Rule) -> Rule:
    """The rule of a text, such as "energy" or "shapley-regions(by=hidden,score=margin)".

    Args:
        text: A name of `RULES`, and in parentheses options that are not as usual; or a rule.

    Raises:
        TypeError: If it is neither.
        ValueError: If there is no such rule, option or value; lists those there are.

    Example:
        >>> from cci_captum.diagnosis import find_rule
        >>> rule = find_rule("shapley-regions(by=hidden)")
        >>> str(rule), rule.cost(n_donors=3)
        ('shapley-regions(by=hidden)', '3')
    """
    if isinstance(text, Rule):
        return text
    if not isinstance(text, str):
        raise TypeError(f"rules: expected names or rules, got {type(text).__name__}")
    name, options = split_spec(text, "rule")
    if name not in RULES:
        raise ValueError(f"rule: expected one of {', '.join(RULES)}, got {name!r}")
    hints = get_type_hints(RULES[name])
    known = [field.name for field in dataclasses.fields(RULES[name])]
    given: dict[str, Any] = {}
    for option, value in options.items():
        if option not in known:
            raise ValueError(
                f"rule: expected an option of {name} ({', '.join(known)}), got {option!r}"
            )
        given[option] = value if get_origin(hints[option]) is Literal else _number(value)
    return RULES[name](**given)


def find_rules(rules: Iterable[str | Rule]) -> tuple[Rule, ...]:
    """Rules by their texts, each once.

    Raises:
        TypeError: See `find_rule`; or if rules is one text.
        ValueError: See `find_rule`; or if there is none, or one comes twice.
    """
    if isinstance(rules, str | Rule):
        raise TypeError(f"rules: expected a sequence of them, got {str(rules)!r} alone")
    found = tuple(map(find_rule, rules))
    names = [str(rule) for rule in found]
    if not found or len(set(names)) < len(names):
        raise ValueError(f"rules: expected at least one, each once, got {names}")
    return found


def _share(background: Tensor, foreground: Tensor) -> Tensor:
    """Of b and f, b / (|f| + |b|); NaN where both are 0."""
    return background / (foreground.abs() + background.abs())


def _otsu(values: Tensor) -> Tensor:
    """The least value of each row's upper class, (B, 1), where the classes differ most.

    Otsu (1979): the cut that maximises the variance between what is below and what is not, over
    all cuts between distinct values, without bins.
    """
    ordered = values.sort(dim=1).values
    count = values.shape[1]
    below = torch.arange(1, count, device=values.device)
    sums = ordered.cumsum(dim=1)
    low, high = sums[:, :-1] / below, (sums[:, -1:] - sums[:, :-1]) / (count - below)
    between = below * (count - below) * (high - low) ** 2
    between = between.masked_fill(ordered[:, 1:] == ordered[:, :-1], -1.0)
    return ordered[:, 1:].gather(1, between.argmax(dim=1, keepdim=True))


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # refused as any other value of a wrong type


def _checked(value: Any, hint: Any, rule: str, option: str) -> Any:
    """The value of an option, or ValueError."""
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            wanted = ", ".join(get_args(hint))
            raise ValueError(f"{option} of {rule}: expected one of {wanted}, got {value!r}")
        return value
    if value is None and type(None) in get_args(hint):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1 <= value <= 1:
        raise ValueError(f"{option} of {rule}: expected a share from -1 to 1, got {value!r}")
    return float(value)
