"""From finished units to the tables of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..tasks import KINDS, Batch, Task
from .left_out import reason_of
from .measures import MEASURES
from .plan import Plan
from .results import Comparison
from .store import Store
from .summary import add_ranks
from .unit import CURVES, MAP, SMALLER

_KEYS = ["image", "index", "source", "method", "check", "protocol"]
_RESULTS = [*_KEYS, "target", "predicted"]
_SAMPLES = ["index", "image", "source", "target", "label", "predicted"]
_OF_BATCH = ("indices", "names", "sources", "targets", "predicted")
_OF_READING = ("note", "error")


def samples_of(task: Task, batch: Batch | None, errors: Mapping[int, str]) -> pd.DataFrame:
    """What is known of a block's items without any method.

    Args:
        task: Whose items they are.
        batch: Those that can be explained; None if there are none.
        errors: Place of each of the others -> why not.

    Returns:
        A row an item: "index", "image", "source", "target", "label" (what the target is called),
        "predicted", a column for each fact, "note" and "error", "" if there is none.

    Raises:
        ValueError: If a fact has the name of another column.
    """
    rows: list[dict[str, Any]] = []
    if batch is not None:
        known = zip(*(getattr(batch, name) for name in _OF_BATCH), strict=True)
        others = zip(batch.facts, batch.notes, strict=True)
        for (index, image, source, target, guess), (facts, note) in zip(known, others, strict=True):
            taken = [name for name in facts if name in (*_SAMPLES, *_OF_READING, "model")]
            if taken:
                raise ValueError(
                    f"facts: expected names other than {', '.join(_SAMPLES)}, note, error and "
                    f"model, got {taken[0]!r} of {image}"
                )
            values = (index, image, source, target, task.label(target), guess)
            reading = {"note": note, "error": ""}
            rows.append({**dict(zip(_SAMPLES, values, strict=True)), **facts, **reading})
    rows += [{"index": place, "note": "", "error": error} for place, error in errors.items()]
    frame = pd.DataFrame(rows)
    return _plain(frame.reindex(columns=list(dict.fromkeys([*_SAMPLES, *frame, *_OF_READING]))))


def stored_comparison(plan: Plan, store: Store) -> Comparison:
    """All units of a plan, as a comparison.

    Raises:
        ValueError: If one is missing, no item was read, or no method gave any map; with the first
            reason.
    """
    keys = plan.all_keys()
    items = store.load(key for key in keys if not key.method)
    maps = store.load(key for key in keys if key.method)
    return comparison_of(items, maps, plan.items, plan.settings)


def comparison_of(
    known: Sequence[pd.DataFrame],
    measured: Sequence[pd.DataFrame],
    count: int,
    settings: Mapping[str, Any],
) -> Comparison:
    """All units of a run as a comparison.

    Args:
        known: Of the items, as of `samples_of`.
        measured: Of methods, as of `cci_captum.benchmarks.comparison.unit.measure`.
        count: How many items there are.
        settings: Names and numbers for the report, with the "notes" that the data had before.

    Raises:
        ValueError: If no item was read, or no method gave any map; with the first reason.
    """
    kind = KINDS[settings["task"]]
    items = pd.concat(known, ignore_index=True).sort_values("index", ignore_index=True)
    readable = items["error"] == ""
    errors = items.loc[~readable, ["index", "error"]].reset_index(drop=True)
    errors.insert(1, "reason", errors["error"].map(reason_of))
    parts = [unit for unit in measured if len(unit)]
    if not parts:
        raise ValueError(
            f"data: none of the {count} {kind.items} of {settings['data']} "
            f"could be read; the first: {errors['error'].iloc[0]}"
        )
    whole = pd.concat(parts, ignore_index=True)
    failed = whole["error"] != ""
    if failed.all():
        first = whole.iloc[0]
        raise ValueError(
            f"methods: expected a map of at least one, got none; {first['method']}, the first, has "
            f"{first['error']}"
        )
    maps = _sorted(whole[~failed], settings)
    results = add_ranks(maps, kind)
    results = results[_RESULTS + [name for name in MEASURES if name in results]]
    lists = [name for name in CURVES if name in maps]
    curves = maps[_KEYS + lists].rename(columns=lambda name: name.removesuffix("_curve"))
    maps = maps.loc[maps["map_height"].notna(), ["index", "method", "check", *MAP]]
    failures = whole.loc[failed, ["index", "image", "method", "check", "error"]]
    samples = items.loc[readable].drop(columns=[*_OF_READING]).reset_index(drop=True)
    tables = {
        "results": results,
        "curves": curves,
        "errors": errors,
        "failures": failures.reset_index(drop=True),
        "maps": maps.astype({"map_height": int, "map_width": int}).reset_index(drop=True),
        "samples": _plain(samples.astype({"target": int, "predicted": int})),
    }
    for frame in tables.values():
        frame.insert(0, "model", settings["model"])
    of_reading = items.loc[items["note"] != "", "note"].tolist()
    # Of images that were read before the run, data have notes already, of whichever was first.
    notes = [note for note in settings["notes"] if note not in of_reading] + of_reading[:1]
    notes += _notes_of_memory(whole)
    return Comparison(**tables, settings={**settings, "notes": notes, kind.items: len(samples)})


def _notes_of_memory(rows: pd.DataFrame) -> list[str]:
    """Which methods went on in smaller forward passes."""
    if SMALLER not in rows:
        return []
    smaller = rows[rows[SMALLER].notna()].drop_duplicates(["index", "method", "check"])
    return [
        f"memory ran out for {len(own)} maps of {method}{' under ' + check if check else ''}: they "
        f"took forward passes of at most {int(own[SMALLER].min())} images"
        for (method, check), own in smaller.groupby(["method", "check"], sort=False)
    ]


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of one type each: numbers, or texts where there is a text."""
    for name, column in frame.items():
        if any(isinstance(value, str) for value in column):
            frame[name] = [None if pd.isna(value) else str(value) for value in column]
    return frame


def _sorted(rows: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Protocol by protocol, check by check, method by method, image by image."""
    order = {
        "protocol": settings["protocols"] or [""],
        "check": ["", *settings["checks"]],
        "method": settings["methods"],
    }
    places = {
        f"_{name}": rows[name].map({value: place for place, value in enumerate(values)})
        for name, values in order.items()
    }
    keyed = rows.assign(**places).sort_values([*places, "index"], kind="stable", ignore_index=True)
    return keyed.drop(columns=[*places])
