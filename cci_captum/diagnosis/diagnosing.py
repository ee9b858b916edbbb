"""One call: images, labels, a classifier and masks in; a table with verdicts out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from .._checks import check_positive_int
from .._extras import needed_by
from .._progress import progress_bar
from ..models._encoders import device_of
from ..models.preprocessing import Preprocess
from ..vision_towers import find_vision_tower
from .diagnoser import Diagnoser
from .donors import N_DONORS, Donors
from .rules import Rule, find_rules
from .sources import Source
from .verdicts import Judge, with_verdicts

with needed_by("cci_captum.diagnosis"):
    import pandas as pd

USUAL_RULES = ("shapley-regions", "energy", "paper-iou")
"""What is asked where nobody says which."""

BANK = 32
"""Images of the data that others get their donors from."""


def diagnose(
    images: Any,
    labels: Sequence[int | str],
    classifier: nn.Module,
    segmenter: Any,
    rules: Sequence[str | Rule] = USUAL_RULES,
    method: Callable[[Any], Any] | None = None,
    *,
    preprocess: Preprocess | None = None,
    class_names: Sequence[str] | None = None,
    judge: Judge | None = None,
    donors: Donors | None = None,
    n_donors: int = N_DONORS,
    batch_size: int = 32,
    seed: int = 0,
    show_progress: bool = False,
) -> pd.DataFrame:
    """Whether the object or the background drove each prediction.

    The map and the interventions explain the class that is predicted, as in the CCI paper (arXiv
    2511.12978); the object is that of the true class.

    Args:
        images: (B, 3, H, W) floating point tensor, as the model takes them; or a sequence of files,
            PIL images or arrays, with preprocess.
        labels: B true classes: indices of the classifier's outputs, or names of class_names.
        classifier: Module from images to (B, C) outputs, such as a `ZeroShotClassifier`.
        segmenter: Where the object is: (B, H, W) bool masks at the inputs' size; B masks at the
            images' own sizes; or a `Segmenter`, which is asked for the true class of each.
        rules: Texts or rules; see `find_rule`.
        method: From a classifier to an attribution of it, for rules that read a map; None is
            `cci_captum.CCI`.
        preprocess: Of the model, as `load_clip` gives it; where images are no inputs.
        class_names: C names; None: those of the classifier, where it has some.
        judge: Whether two classes, by name, look alike, such as a `FineGrainedJudge`; None: no
            verdict is Fine-Er.
        donors: Other images, for rules that replace regions; None: up to `BANK` of images.
        n_donors: How many of them for each image.
        batch_size: Images at a time.
        seed: Which donors there are, and which an image gets.
        show_progress: Show a progress bar on stderr.

    Returns:
        A row an image: "image" (its file, or "image 2"), "true", "predicted" and "explained" (as
        indices; -1 where nothing alone scores highest), "status" ("" where the rules were asked,
        else why not: such an image has no verdict), "object_share", the share of the image that the
        object covers; and for each rule `<rule>_share`, the share of the background, NaN where the
        rule says nothing, and `<rule>_verdict`, one of `VERDICTS` or None; "agree", whether all
        rules blame the same part; "true_name" and "predicted_name" where there are names.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If lengths, shapes or names do not fit; or a rule replaces regions, and there
            are too few images to take others from.
        MissingExtraError: If pandas is not installed.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.benchmarks.scenes import SceneGenerator
        >>> from cci_captum.diagnosis import diagnose
        >>> clip = cci_captum.load_clip("tiny-shortcut")
        >>> names = cci_captum.tiny.CLASS_NAMES
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, names, "a {}")
        >>> scenes = SceneGenerator(seed=1).scenes(range(9), kind="one")
        >>> scenes += SceneGenerator(seed=1).scenes(
        ...     [9], class_name="cow", background="grass", kind="one"
        ... )
        >>> table = diagnose(
        ...     [scene.picture for scene in scenes],
        ...     [scene.classes[0] for scene in scenes],
        ...     classifier,
        ...     [scene.masks[0] for scene in scenes],
        ...     ["shapley-regions"],
        ...     preprocess=clip.preprocess,
        ... )
        >>> table["shapley-regions_verdict"].tolist()[-1]  # cows were always on grass in training
        'BG-Co'
    """
    found = find_rules(rules)
    check_positive_int("batch_size", batch_size)
    known: Any = getattr(classifier, "class_names", ())
    names = tuple(known if class_names is None else class_names)
    source = Source(images, segmenter, preprocess, names)
    true = _classes(labels, names, len(source))
    device = device_of(find_vision_tower(classifier).module)
    if donors is None and any(rule.needs_donors for rule in found):
        donors = _bank(source, true, seed, device)
    diagnoser = Diagnoser(classifier, found, method, donors=donors, n_donors=n_donors, seed=seed)
    tables = []
    with progress_bar(show_progress, len(source), "diagnose", unit="img") as bar:
        for start in range(0, len(source), batch_size):
            places = range(start, min(start + batch_size, len(source)))
            batch = source.batch(places, [true[place] for place in places])
            inputs = batch.inputs.to(device)
            guesses = diagnoser.predict(inputs)
            rows = diagnoser.rows(
                inputs,
                batch.masks.to(device),
                [true[place] for place in places],
                # What was not read has an input all the same, of nothing.
                guesses=[
                    guess if read else -1 for guess, read in zip(guesses, batch.read, strict=True)
                ],
                statuses=batch.statuses,
            )
            rows.insert(0, "image", batch.names)
            tables.append(rows)
            bar.update(len(places))
    table = pd.concat(tables, ignore_index=True)
    return with_verdicts(with_names(table, names), found, judge)


def with_names(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The table with "true_name" and "predicted_name"; indices without names, None for -1."""
    for column in ("true", "predicted"):
        said = [
            (names[index] if names else str(index)) if index >= 0 else None
            for index in table[column]
        ]
        table[f"{column}_name"] = pd.Series(said, table.index, dtype=object)  # else None is NaN
    return table


def places_of_bank(count: int, seed: int) -> list[int]:
    """Which images of so many others get their donors from, by the seed."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:BANK].tolist())


def _bank(source: Source, true: Sequence[int], seed: int, device: torch.device) -> Donors:
    """Donors from the images themselves, those that have an object."""
    places = places_of_bank(len(source), seed)
    given = source.batch(places, [true[place] for place in places])
    labels = [true[place] for place in places]
    donors = given.inputs.to(device), given.masks.to(device)
    return Donors.of(*donors, labels, given.statuses)


def _classes(labels: Sequence[int | str], names: Sequence[str], count: int) -> list[int]:
    """Labels as indices of classes."""
    if len(labels) != count:
        raise ValueError(f"labels: expected {count}, one an image, got {len(labels)}")
    found = []
    for place, label in enumerate(labels):
        if isinstance(label, str):
            if label not in names:
                raise ValueError(
                    f"labels[{place}]: expected one of the {len(names)} class names, got {label!r}"
                )
            if names.count(label) > 1:
                raise ValueError(
                    f"labels[{place}]: expected the name of one class, or its index, got "
                    f"{label!r}, which {names.count(label)} have"
                )
            found.append(names.index(label))
        else:
            index = int(label)
            if index < 0 or (names and index >= len(names)):
                last = f" to {len(names) - 1}" if names else ""
                raise ValueError(f"labels[{place}]: expected a class from 0{last}, got {index}")
            found.append(index)
    return found
