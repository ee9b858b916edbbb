"""From finished units to the tables of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from .measures import MEASURES
from .plan import Key
from .results import Comparison, add_ranks
from .unit import CURVES, MAP

_KEYS = ["image", "index", "source", "method", "check", "protocol"]
_RESULTS = [*_KEYS, "target", "predicted"]


def comparison_of(
    units: Mapping[Key, pd.DataFrame], images: int, settings: Mapping[str, Any]
) -> Comparison:
    """All units of a run as a comparison.

    Args:
        units: As of `cci_captum.benchmarks.comparison.unit.measure`; those without a method say
            which images were left out, "index" and "error".
        images: How many images there are.
        settings: Names and numbers for the report.

    Raises:
        ValueError: If no image was read, or no method gave any map; with the first reason.
    """
    left_out = [unit for key, unit in units.items() if not key.method]
    errors = pd.concat(left_out, ignore_index=True) if left_out else pd.DataFrame()
    errors = errors.reindex(columns=["index", "error"])
    parts = [unit for key, unit in units.items() if key.method and len(unit)]
    if not parts:
        raise ValueError(
            f"data: none of the {images} images of {settings['data']} could be read; the first: "
            f"{errors['error'].iloc[0]}"
        )
    whole = pd.concat(parts, ignore_index=True)
    failed = whole["error"] != ""
    if failed.all():
        first = whole.iloc[0]
        raise ValueError(
            f"methods: expected a map of at least one, got none; {first['method']}, the first, has "
            f"{first['error']}"
        )
    measured = _sorted(whole[~failed], settings)
    results = add_ranks(measured)
    results = results[_RESULTS + [name for name in MEASURES if name in results]]
    lists = [name for name in CURVES if name in measured]
    curves = measured[_KEYS + lists].rename(columns=lambda name: name.removesuffix("_curve"))
    maps = measured.loc[measured["map_height"].notna(), ["index", "method", "check", *MAP]]
    failures = whole.loc[failed, ["index", "image", "method", "check", "error"]]
    return Comparison(
        results=results,
        curves=curves,
        errors=errors.sort_values("index", ignore_index=True),
        settings={**settings, "images": images - len(errors)},
        failures=failures.reset_index(drop=True),
        maps=maps.astype({"map_height": int, "map_width": int}).reset_index(drop=True),
    )


def _sorted(rows: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Protocol by protocol, check by check, method by method, image by image."""
    order = {
        "protocol": settings["protocols"],
        "check": ["", *settings["checks"]],
        "method": settings["methods"],
    }
    places = {
        f"_{name}": rows[name].map({value: place for place, value in enumerate(values)})
        for name, values in order.items()
    }
    keyed = rows.assign(**places).sort_values([*places, "index"], kind="stable", ignore_index=True)
    return keyed.drop(columns=[*places])
