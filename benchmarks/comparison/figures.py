"""A comparison as pictures: mean curves, pairs of values, the images that set methods apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from cci_captum.baselines.registry import REFERENCES
from cci_captum.models.preprocessing import Preprocess, seen_box
from cci_captum.visualization import Band, attribution_grid, faithfulness_curves, paired_scatter

from ..data import ImageData
from ..statistics import interval, paired_interval
from .measures import MEASURES
from .results import Comparison, photos_of
from .titles import both_areas, title


def curves(comparison: Comparison, **options: Any) -> Figure:
    """Mean curves with bands of 95 % intervals, a panel a protocol and direction.

    A curve has no band where the images are too few for intervals.

    Args:
        comparison: What was measured.
        options: Of `cci_captum.visualization.faithfulness_curves`.
    """
    rows = comparison.curves[comparison.curves["check"] == ""]
    photos = photos_of(rows)
    panels: dict[str, dict[str, Band]] = {}
    fractions = {}
    for protocol in comparison.protocols:
        part = rows[rows["protocol"] == protocol]
        for direction in ("deletion", "insertion"):
            area = MEASURES[f"{direction}_top1"]
            panel = f"{direction}, {protocol}: {area.better} is better"
            fractions[panel] = np.array(comparison.settings["fractions"][protocol][direction])
            bands = {}
            for method in comparison.methods:
                own = part[part["method"] == method]
                values = np.stack(own[area.name].to_list())
                groups = None if photos is None else photos[own["index"]]
                low, high = interval(values, groups, bounds=area.bounds)
                known = not np.isnan(low).any()
                bands[title(method)] = Band(values.mean(axis=0), *((low, high) if known else ()))
            panels[panel] = bands
    return faithfulness_curves(
        fractions,
        panels,
        references=[title(name) for name in REFERENCES if name in comparison.methods],
        ylabel="top-1 accuracy",
        **options,
    )


def pairs(comparison: Comparison, reference: str | None = None) -> Figure:
    """Insertion minus deletion area (probability): a method against all others, image by image."""
    reference = comparison.methods[0] if reference is None else reference
    protocol = comparison.protocols[0]
    rows = _as_they_are(comparison)
    gain = rows["insertion_probability"] - rows["deletion_probability"]
    wide = rows.assign(gain=gain).pivot(index="index", columns="method", values="gain")
    wide = wide.dropna()  # images of which every method has a map
    values = {title(method): wide[method].to_numpy() for method in comparison.methods}
    own, photos = values[title(reference)], photos_of(rows)
    groups = None if photos is None else photos[wide.index]
    notes = {}
    for name, other in values.items():
        if name != title(reference):
            low, high = paired_interval(own, other, groups, bounds=(-1, 1))
            ends = "no interval" if np.isnan(low) else f"{low:+.3f} to {high:+.3f}"
            notes[name] = f"({ends})".replace("-", "\N{MINUS SIGN}")
    return paired_scatter(
        values,
        title(reference),
        title=f"insertion minus deletion area, {protocol}",
        notes=notes,
    )


def grid(
    comparison: Comparison,
    data: ImageData,
    preprocess: Preprocess,
    places: Sequence[int] | None = None,
    rows: int = 6,
) -> Figure:
    """Images with the maps that were kept; below each map what lies on the object, and its areas.

    Args:
        comparison: What was measured.
        data: The images that it was measured on.
        preprocess: Which was used; says what part of a photo to show.
        places: Of the images; None takes those on which methods disagree most.
        rows: How many of these.
    """
    results = _as_they_are(comparison)
    by_image = results.set_index(["method", "index"])
    methods = comparison.methods
    chosen = [name for name in methods if name not in REFERENCES] or methods
    whole = results[results["method"].isin(chosen)].groupby("index").size() == len(chosen)
    if places is None:
        places = [int(place) for place in comparison.disagreement().index if whole[place]][:rows]
    samples = [data[place] for place in places]
    targets = results.drop_duplicates("index").set_index("index")["target"]
    names = [data.class_names[targets[place]] for place in places]
    maps, scores = {}, {}
    for name in chosen:
        values = [torch.from_numpy(comparison.map_of(place, name)) for place in places]
        maps[title(name)] = torch.stack(values)
        scores[title(name)] = [
            _below(by_image.loc[(name, place)], explained)
            for place, explained in zip(places, names, strict=True)
        ]
    return attribution_grid(
        [sample.image.crop(seen_box(preprocess, sample.image.size)) for sample in samples],
        maps,
        row_titles=[sample.name for sample in samples],
        scores={"image": [f"explained: {name}" for name in names], **scores},
    )


def _below(row: pd.Series, explained: str) -> str:
    """What stands below a map."""
    areas = both_areas(row["deletion_probability"], row["insertion_probability"])
    return f"{row['energy']:.0%} on the {explained}\n{areas}" if "energy" in row else areas


def _as_they_are(comparison: Comparison) -> pd.DataFrame:
    """The results of the first protocol, without checks."""
    results = comparison.results
    return results[(results["check"] == "") & (results["protocol"] == comparison.protocols[0])]
