"""CounterAnimal as a page: accuracies beside the published ones, classes, and verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from cci_captum.diagnosis import Rule

from ..data._counteranimal import GROUPS
from ..markdown import NO_INTERVAL, literal, table, with_interval
from ..predictions.pages import class_pictures, statuses
from .accuracy import accuracies, class_accuracies
from .beside import beside_published
from .candidates import PAPER_MODEL, Candidates
from .measured import SCORES, of_candidates_alone
from .published import TOLERANCES, plain_name
from .robustness import effective_robustness, published_fit
from .verdict_section import verdict_section

_EIGHTY = "openai-imagenet"
_SHOWN = 10  # classes of a model, those of the largest drops


class _Setup(NamedTuple):
    """A way to measure, as `SETUPS` calls it, and what it needs."""

    name: str
    candidates: Candidates | None
    average: str
    published: str  # "" where the paper has no table of it


def page(
    tables: Mapping[str, pd.DataFrame],
    candidates: Candidates | None = None,
    *,
    data: str = "",
    templates: str | Sequence[str] = "A photo of {}.",
    rules: Sequence[str | Rule] = (),
    notes: Sequence[str] = (),
    again: str = "",
) -> str:
    """A page of Markdown, beside the pictures robustness.png and those of `class_pictures`.

    Args:
        tables: Model, as `--model` takes it -> its table of predictions.
        candidates: For 1 vs 20; None leaves that out. Tables without scores are left out there.
        data: What the photos are called.
        templates: What names were put into: with "openai-imagenet" the paper's Table 10 is beside.
        rules: Whose verdicts tables have, where they have them.
        notes: Of the data.
        again: How to make the page again.

    Returns:
        The page.

    Raises:
        ValueError: If there is no model, or as `accuracies`.
    """
    if not tables:
        raise ValueError("tables: expected at least one model, got none")
    setups = _setups(candidates, templates == _EIGHTY)
    found = {
        (model, setup.name): accuracies(own, setup.candidates, average=setup.average)
        for model, own in tables.items()
        for setup in setups
        if _can(own, setup)
    }
    said = ["# Which models lean on backgrounds?"]
    said += [_what(data, templates), *([again] if again else [])]
    for setup in setups:
        said += _accuracies(tables, setup, found)
    whole = {model: own for model, own in tables.items() if _can(own, setups[0])}
    said += _robustness({model: found[model, setups[0].name] for model in whole}, setups[0])
    pictures = class_pictures(tables)
    for model, own in tables.items():
        said += _classes(model, own, None if model in whole else candidates, pictures[model])
    for rule in rules:
        said += verdict_section(whole, rule)
    if missing := statuses(tables):
        said += ["## Not measured", missing]
    said += [f"- {literal(note)}" for note in notes]
    return "\n\n".join(said) + "\n"


def _setups(candidates: Candidates | None, eighty: bool) -> list[_Setup]:
    all_names = "1 vs 1000, 80 prompts" if eighty else "1 vs 1000"
    found = [_Setup(all_names, None, "classes", all_names)]
    by_photo = "1 vs 1000, by photo"
    found.append(_Setup(by_photo, None, "photos", "" if eighty else by_photo))
    if candidates is not None:
        few = "1 vs 20"
        found.append(_Setup(few, candidates, "classes", "" if eighty else few))
        found.append(_Setup("1 vs 20, by photo", candidates, "photos", ""))
    return found


def _can(own: pd.DataFrame, setup: _Setup) -> bool:
    """Whether a table has what a setup needs: all names, or the scores of candidates."""
    if setup.candidates is None:
        return not of_candidates_alone(own)
    return SCORES in own and bool(own[SCORES].notna().any())


def _what(data: str, templates: str | Sequence[str]) -> str:
    said = "OpenAI's 80 templates" if templates == _EIGHTY else f'"{templates}"'
    if not isinstance(templates, str):
        said = f"{len(templates)} templates"
    return (
        f"{literal(data)}: photos of 45 animals, each on a background on which ViT-B/32 of "
        "LAION-400M is good at it (common) and on one on which it is bad (counter). "
        f"CLIPs read {literal(said)} with all synonyms of ImageNet's names. Accuracies in percent, "
        "drops in points, with 95 % intervals: of means of classes for other classes chosen so, by "
        f"photo for other photos of these classes. {NO_INTERVAL}"
    )


def _accuracies(
    tables: Mapping[str, pd.DataFrame],
    setup: _Setup,
    found: Mapping[tuple[str, str], pd.DataFrame],
) -> list[str]:
    rows, remarks = [], []
    for model in tables:
        if (own := found.get((model, setup.name))) is None:
            continue
        cells = [_cell(own.loc[name]) for name in (*GROUPS, "drop")]
        beside = beside_published(model, own, setup.published) if setup.published else None
        rows.append([model, *cells, *_published_cells(beside)])
        if beside is not None and beside["note"]:
            remarks.append(f"- {literal(model)}: {literal(beside['note'])}.{_other(beside)}")
    if not rows:
        return []
    said = [f"## {setup.name}"]
    if setup.candidates is not None:
        said.append(_of_candidates(setup.candidates))
    if setup.published in TOLERANCES:
        said.append(
            f"The paper's numbers are met within {TOLERANCES[setup.published]:g} points by nearly "
            "all of another evaluation: that is what within and outside say."
        )
    head = ["model", *GROUPS, "drop", "published", "differs by"]
    return [*said, table(head, rows), *remarks]


def _cell(row: pd.Series) -> str:
    return with_interval(row["accuracy"], row["low"], row["high"], 2)


def _published_cells(beside: dict[str, object] | None) -> list[str]:
    if beside is None:
        return ["-", "-"]
    printed = f"{beside['common']:.2f} / {beside['counter']:.2f}"
    by = f"{beside['common_difference']:+.2f} / {beside['counter_difference']:+.2f}"
    within = {True: ", within", False: ", outside", None: ""}[beside["within"]]  # type: ignore[index]
    return [printed, by + within]


def _other(beside: dict[str, object]) -> str:
    """What another evaluation found, and whether this one did."""
    if not isinstance(beside["reproduced"], tuple):
        return ""
    common, counter = beside["reproduced"]
    within = "within" if beside["within_reproduced"] else "outside"
    return f" Another evaluation found {common:.2f} / {counter:.2f}: this one is {within} of it."


def _of_candidates(candidates: Candidates) -> str:
    most = max(map(len, candidates.labels.values()))
    first = sum(labels[0] == index for index, labels in candidates.labels.items())
    among = sum(index in labels for index, labels in candidates.labels.items())
    said = (
        f"The {most} names of each class were chosen by {literal(candidates.model)} on "
        f"{literal(candidates.data)}, from {sum(candidates.photos.values())} photos. The class "
        f"itself is among them for {among} of {len(candidates.labels)} classes, the first for "
        f"{first}."
    )
    if plain_name(candidates.model) != PAPER_MODEL:
        said += f" The paper's were chosen by {PAPER_MODEL}: they may be others."
    return said


def _robustness(found: Mapping[str, pd.DataFrame], setup: _Setup) -> list[str]:
    line, clips = published_fit("imagenet"), published_fit("clip")
    rows = []
    for model, own in found.items():
        common, counter = (float(own.loc[group, "accuracy"]) for group in GROUPS)
        gaps = (effective_robustness(common, counter, each) for each in (line, clips))
        rows.append([model, *(f"{gap:+.1f}" for gap in gaps)])
    said = (
        "How many points a model is above the counter accuracy that its common accuracy tells, by "
        "lines in probits through the paper's ImageNet models (slope "
        f"{line.slope:.3f}, intercept {line.intercept:.3f}) and CLIPs ({clips.slope:.3f}, "
        f"{clips.intercept:.3f}). Below 0 it leans more on backgrounds than those do. By "
        f"{setup.name}."
    )
    head = ["model", "above ImageNet models", "above CLIPs"]
    picture = "![models on probit axes](robustness.png)"
    return ["## Effective robustness", said, table(head, rows), picture] if rows else []


def _classes(
    model: str, own: pd.DataFrame, candidates: Candidates | None, picture: str
) -> list[str]:
    classes = class_accuracies(own, candidates)
    known = classes[classes["drop"].notna()].sort_values("drop", ascending=False, kind="stable")
    rows = [
        [
            row["name"],
            f"{row['common_background']} to {row['counter_background']}",
            f"{row['common']:.1f} ({row['common_photos']})",
            f"{row['counter']:.1f} ({row['counter_photos']})",
            with_interval(row["drop"], row["drop_low"], row["drop_high"], 1),
        ]
        for row in known.head(_SHOWN).to_dict("records")
    ]
    head = ["class", "background", "common (photos)", "counter (photos)", "drop"]
    more = int((known["drop"] <= 0).sum())
    said = (
        f"The {len(rows)} largest drops of {len(known)} classes, "
        f"{'1 vs 1000' if candidates is None else '1 vs 20'}; {more} have none. All are in the "
        "picture."
    )
    one_sided = len(classes) - len(known)
    if one_sided:
        said += f" {one_sided} classes have photos in one group alone, and count by photo only."
    shown = f"![classes]({picture})"
    return [f"## Classes: {literal(model)}", said, table(head, rows), shown]
