"""The public sets, each with how it is opened, measured and read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from open_clip import IMAGENET_CLASSNAMES
from torch import nn

from cci_captum._checks import check_choice
from cci_captum.models.preprocessing import Preprocess

from ..data import ImageData
from ..data.object_variants import NOISES
from .as_made import as_made
from .background_gap import GAP, PASSED, RANDOM, SAME, background_gap, challenge
from .foreground_sensitivity import RFS, ablation_drops, relative_foreground_sensitivity
from .super_classes import NineClasses, SuperClasses
from .worst_group import TRAINING_GROUPS, WORST, worst_group

_IMAGENET = len(IMAGENET_CLASSNAMES)

Measures = Callable[[pd.DataFrame, Mapping[str, Any]], dict[str, pd.DataFrame]]
"""From predictions, and what is known of the data, to tables of measures by name."""


@dataclass(frozen=True)
class Texts:
    """What a zero-shot classifier chooses among: see `cci_captum.ZeroShotClassifier`."""

    class_names: tuple[str, ...]
    templates: str | tuple[str, ...]


def _nothing(data: ImageData) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Benchmark:
    """A public set of images, and what is asked of predictions on them.

    Attributes:
        name: Its title.
        scheme: Of `cci_captum.benchmarks.data.open_data`: its text is "scheme:DIR".
        measures: From predictions and `known` to tables of measures by name, each with "part",
            "images", "value", "low" and "high".
        headline: The table and the part that is the one number of a model.
        axis: What that number is, in a few words, for a picture's axis.
        better: Whether a "higher" or a "lower" one leans less on backgrounds.
        panel: The table whose parts are shown beside the headline, and the title over them.
        by: The fact by which background-driven errors are counted.
        question: What the set asks, one line.
        says: What it measures, sentences of Markdown.
        limits: What it does not.
        options: Of `open_data`, always given.
        texts: What zero-shot classifiers choose among; None is the data's own names.
        adapters: Number of a classifier's classes -> what makes it one of the data's; the data's
            own number needs none.
        known: From the data to what `measures` needs to know of them, as JSON holds it.
        published: Rows of model and numbers as published, by the parts of tables.
        labels: What a picture calls parts of the panel, where not as they are.
        percent: Whether the headline is a share, shown in percent.
        needs: Variants without which there is no headline.
        made_to_size: Whether images are as large as a model sees them, so that none is cut; see
            `as_made`.
    """

    name: str
    scheme: str
    measures: Measures
    headline: tuple[str, str]
    axis: str
    better: str
    panel: tuple[str, str]
    by: str
    question: str
    says: str
    limits: str
    options: Mapping[str, Any] = field(default_factory=dict)
    texts: Texts | None = None
    adapters: Mapping[int, Callable[[nn.Module], nn.Module]] = field(default_factory=dict)
    known: Callable[[ImageData], dict[str, Any]] = _nothing
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    percent: bool = True
    needs: tuple[str, ...] = ()
    made_to_size: bool = False

    def texts_of(self, data: ImageData) -> Texts:
        """What a zero-shot classifier chooses among, before `adapt`."""
        return self.texts or Texts(tuple(data.class_names), data.templates)

    def check(self, data: ImageData) -> None:
        """Raise ValueError if data lack what the headline is made of; nothing is read."""
        there = getattr(data, "variants", ())
        if missing := [name for name in self.needs if name not in there]:
            raise ValueError(
                f"variants: expected {' and '.join(self.needs)}, which {self.headline[1]} is made "
                f"of, got {', '.join(there)} without {' and '.join(missing)}"
            )

    def preprocessing(self, preprocess: Preprocess) -> Preprocess:
        """A model's preprocessing as it is, or without its crop.

        Raises:
            ValueError: See `as_made`.
        """
        return as_made(preprocess) if self.made_to_size else preprocess

    def adapt(self, classifier: nn.Module, classes: int, data: ImageData) -> nn.Module:
        """A classifier whose scores are of the data's classes.

        Args:
            classifier: From inputs to (B, classes) scores.
            classes: How many it has.
            data: Opened with `options`.

        Raises:
            ValueError: If it has another number of classes than the benchmark knows.

        Example:
            >>> from cci_captum.benchmarks.data import Scenes
            >>> import torch
            >>> data = Scenes(1)
            >>> BENCHMARKS["imagenet9"].adapt(torch.nn.Identity(), 33, data)
            Identity()
            >>> type(BENCHMARKS["imagenet9"].adapt(torch.nn.Identity(), 1000, data)).__name__
            'SuperClasses'
        """
        if classes == len(data.class_names):
            return classifier
        if classes in self.adapters:
            return self.adapters[classes](classifier)
        known = sorted({len(data.class_names), *self.adapters})
        raise ValueError(
            f"classifier: expected one of {' or '.join(map(str, known))} classes for {self.name}, "
            f"got one of {classes}"
        )

    def value(self, tables: Mapping[str, pd.DataFrame]) -> pd.Series:
        """The row of the headline among the tables of `measures`.

        Raises:
            ValueError: If it was not measured, as when variants that it needs are missing.
        """
        table, part = self.headline
        own = tables[table]
        found = own[own["part"] == part]
        if found.empty:
            raise ValueError(f"tables: expected {part} of {self.name}, got {own['part'].tolist()}")
        return found.iloc[0]


def _imagenet9(table: pd.DataFrame, known: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    return {"variants": background_gap(table)}


def _challenge(table: pd.DataFrame, known: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    return {"objects": challenge(table)}


def _waterbirds(table: pd.DataFrame, known: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    return {"groups": worst_group(table, known.get("training_groups", TRAINING_GROUPS))}


def _training_groups(data: ImageData) -> dict[str, Any]:
    counts = dict(getattr(data, "training_groups", {}))
    return {"training_groups": counts} if sum(counts.values()) else {}


def _hard_imagenet(table: pd.DataFrame, known: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    noise = relative_foreground_sensitivity(table)
    return {"noise": noise, "ablations": ablation_drops(table)}


_NINE = {_IMAGENET: SuperClasses, 9: NineClasses}
_IMAGENET_TEXTS = Texts(tuple(IMAGENET_CLASSNAMES), "openai-imagenet")

_ALL = (
    Benchmark(
        "ImageNet-9",
        "imagenet9",
        _imagenet9,
        ("variants", GAP),
        "BG-Gap: accuracy lost to another background",
        "lower",
        ("variants", "Accuracy on each variant"),
        "variant",
        "What does it cost a model when an object stands before another background?",
        "Each photo's object is pasted on a background of its own class (mixed_same) and of a "
        "random one (mixed_rand): **BG-Gap** is the accuracy of the first less that of the second. "
        "A prediction is right if it is of the photo's class among nine; of ImageNet's 1000 "
        "classes, those of none of the nine are wrong.",
        "Composites have edges and tiled backgrounds that no photo has: both variants have them, "
        "so that BG-Gap is free of most of this, and accuracies are not. Nine classes are far "
        "apart: that a background turns a class into one that looks like it is not seen.",
        options={"others": True},
        texts=_IMAGENET_TEXTS,
        adapters=_NINE,
        needs=(SAME, RANDOM),
        made_to_size=True,
        published={
            "VGG16-BN": {"original": 0.943, "mixed_same": 0.836, "mixed_rand": 0.734, GAP: 0.102},
            "ResNet-50": {"original": 0.956, "mixed_same": 0.862, "mixed_rand": 0.789, GAP: 0.073},
            "ResNet-152": {"original": 0.967, "mixed_same": 0.893, "mixed_rand": 0.835, GAP: 0.058},
        },
        labels={
            "original": "photo as it is",
            "mixed_same": "background of its class",
            "mixed_rand": "background of any class",
            "mixed_next": "background of the next class",
            "only_fg": "object on black",
            "no_fg": "object blacked out",
            "only_bg_b": "no object, black box",
            "only_bg_t": "no object, tiles",
        },
    ),
    Benchmark(
        "Backgrounds Challenge",
        "imagenet9-challenge",
        _challenge,
        ("objects", PASSED),
        "Challenge: objects right\non every background",
        "higher",
        ("objects", "Objects that pass, by class;\nimages that are right"),
        "background_class",
        "Is there a background that makes a model miss the object?",
        "Each object of ImageNet-9 is pasted on many tiled backgrounds: it passes if the model is "
        "right on every one, of its own class's backgrounds too.",
        "An object fails by its worst background, so that fewer backgrounds than all 4,050 let "
        "more objects pass: compare numbers of as many backgrounds.",
        options={"others": True},
        texts=_IMAGENET_TEXTS,
        adapters=_NINE,
        made_to_size=True,
        published={"ResNet-50, 4,050 backgrounds": {PASSED: 0.223}},
    ),
    Benchmark(
        "Waterbirds",
        "waterbirds",
        _waterbirds,
        ("groups", WORST),
        "Worst group: accuracy",
        "higher",
        ("groups", "Accuracy of each group\n(ring: the worst)"),
        "group",
        "Does a model know a land bird on water and a water bird on land?",
        "Birds of two kinds on two kinds of places are four groups: the accuracy of the **worst "
        "group** is what counts. The average that is reported weights groups as the training split "
        "has them, where birds are nearly always on their own kind of place.",
        "Birds are pasted, and three species of land birds are labelled waterbird. Groups that "
        "disagree are hard for two reasons, the place and the bird: a low worst group alone does "
        "not say that the place is to blame, verdicts do.",
        known=_training_groups,
    ),
    Benchmark(
        "Hard ImageNet",
        "hardimagenet",
        _hard_imagenet,
        ("noise", RFS),
        "RFS: object against background",
        "higher",
        ("ablations", "Accuracy without the object\n(high: it is not looked at)"),
        "variant",
        "Does a model look at the object where the background gives the class away?",
        "**RFS** compares the accuracy with noise on the background to that with noise on the "
        "object: above 0, the object counts more. Ablations take the object away: a model that "
        "loses little was not looking at it.",
        "Where objects are small, noise on them changes few pixels and noise behind them many: a "
        "model that does look at objects may have an RFS below 0, so that it compares models "
        "better than it judges one. `l2` adds as much noise to both. A grey outline still has the "
        "object's shape; boxes and tiles have not.",
        labels={
            "clean": "photo as it is",
            "grey": "object in grey",
            "box": "box around it in grey",
            "mean": "box in its mean colour",
            "tile": "box tiled with what is beside",
        },
        percent=False,
        needs=NOISES,
        made_to_size=True,
    ),
)

BENCHMARKS: dict[str, Benchmark] = {benchmark.scheme: benchmark for benchmark in _ALL}
"""Scheme -> benchmark."""


def find_benchmark(scheme: str) -> Benchmark:
    """The benchmark of a scheme.

    Raises:
        ValueError: If there is none, listing those there are.

    Example:
        >>> find_benchmark("waterbirds").headline
        ('groups', 'worst group')
    """
    check_choice("scheme", scheme, tuple(BENCHMARKS))
    return BENCHMARKS[scheme]
