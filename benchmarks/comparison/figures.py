"""A comparison as pictures: mean curves, pairs of values, the images that set methods apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import nn

from cci_captum.baselines.registry import REFERENCES
from cci_captum.models.preprocessing import Preprocess
from cci_captum.visualization import Band, attribution_grid, faithfulness_curves, paired_scatter

from ..data import ImageData
from ..maps import raw_map
from ..statistics import interval, paired_interval
from .compare import Factory
from .loading import Loader
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
    for (protocol, direction), part in rows.groupby(["protocol", "direction"], sort=False):
        better = "lower" if direction == "deletion" else "higher"
        panel = f"{direction}, {protocol}: {better} is better"
        fractions[panel] = np.sort(part["fraction"].unique())
        bands = {}
        for method in comparison.methods:
            wide = part[part["method"] == method].pivot(
                index="index", columns="fraction", values="top1"
            )
            values = wide.to_numpy(dtype=np.float64)
            groups = None if photos is None else photos[wide.index]
            low, high = interval(values, groups, bounds=(0, 1))
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
    factories: Mapping[str, Factory],
    data: ImageData,
    forward_func: nn.Module,
    preprocess: Preprocess,
    rows: int = 6,
) -> Figure:
    """The images on which methods disagree most, explained again; below each map its areas."""
    places = [int(index) for index in comparison.disagreement().index[:rows]]
    loader = Loader(data, preprocess, forward_func, comparison.settings["explained"])
    batch = loader.batch([(place, data[place]) for place in places])
    by_image = _as_they_are(comparison).set_index(["method", "index"])
    chosen = [name for name in comparison.methods if name not in REFERENCES]
    maps, scores = {}, {}
    for name in chosen:
        maps[title(name)] = raw_map(factories[name](forward_func), batch.inputs, batch.targets)
        found = [by_image.loc[(name, place)] for place in places]
        scores[title(name)] = [
            both_areas(row["deletion_probability"], row["insertion_probability"]) for row in found
        ]
    explained = [data.class_names[target] for target in batch.targets]
    return attribution_grid(
        batch.photos,
        maps,
        row_titles=batch.names,
        scores={"image": explained, **scores},
    )


def _as_they_are(comparison: Comparison) -> pd.DataFrame:
    """The results of the first protocol, without checks."""
    results = comparison.results
    return results[(results["check"] == "") & (results["protocol"] == comparison.protocols[0])]
