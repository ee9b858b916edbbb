"""A comparison as pictures: mean curves, pairs of values, the images that set methods apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image

from cci_captum._checks import check_choice
from cci_captum.baselines.registry import REFERENCES
from cci_captum.images import size_within
from cci_captum.visualization import Band, attribution_grid, faithfulness_curves, paired_scatter

from ..statistics import interval, paired_interval
from ..tasks import Task
from .measures import MEASURES
from .results import Comparison, check_one_model, reference_of
from .summary import gain_of, photos_of
from .titles import ARROWS, both_areas, title

_LONGEST = 1024  # of a photo's sides in pixels, in a picture


def curves(comparison: Comparison, **options: Any) -> Figure:
    """Mean curves with bands of 95 % intervals, a panel a protocol and direction.

    A curve has no band where the images are too few for intervals.

    Args:
        comparison: What was measured.
        options: Of `cci_captum.visualization.faithfulness_curves`.
    """
    check_one_model(comparison)
    rows = comparison.curves[comparison.curves["check"] == ""]
    photos = photos_of(rows)
    panels: dict[str, dict[str, Band]] = {}
    fractions = {}
    for protocol in comparison.protocols:
        part = rows[rows["protocol"] == protocol]
        for area in (MEASURES[name] for name in comparison.kind.areas(*comparison.kind.main)):
            direction = area.name.split("_")[0]
            value = area.title if len(comparison.kind.main) > 1 else direction
            panel = f"{value}, {protocol}: {area.better} is better"
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
        ylabel=comparison.kind.axis,
        **options,
    )


def pairs(comparison: Comparison, reference: str | None = None, value: str | None = None) -> Figure:
    """Insertion minus deletion area: a method against all others, item by item.

    Args:
        comparison: What was measured, by one model.
        reference: The method; None is the first.
        value: Of which of the values of its kind of task, such as "probability". None is the one
            that the first table of a report shows, top-1 or, of retrieval, IR@5: there, methods'
            differences in insertion less those in deletion are the means of this picture.

    Raises:
        ValueError: If the value is none of the kind of task, or several models were compared.
    """
    check_one_model(comparison)
    reference = reference_of(comparison, reference)
    protocol = comparison.protocols[0]
    rows = _as_they_are(comparison)
    kind = comparison.kind
    value = value or kind.main[0]
    check_choice("value", value, tuple(kind.values))
    deletion, insertion = (MEASURES[name] for name in kind.areas(value))
    bounds = (insertion.lowest - deletion.highest, insertion.highest - deletion.lowest)
    wide = rows.assign(gain=gain_of(rows, kind, value)).pivot(
        index="index", columns="method", values="gain"
    )
    wide = wide.dropna()  # images of which every method has a map
    values = {title(method): wide[method].to_numpy() for method in comparison.methods}
    own, photos = values[title(reference)], photos_of(rows)
    groups = None if photos is None else photos[wide.index]
    notes = {}
    for name, other in values.items():
        if name != title(reference):
            low, high = paired_interval(own, other, groups, bounds=bounds)
            ends = "no interval" if np.isnan(low) else f"{low:+.3f} to {high:+.3f}"
            notes[name] = f"({ends})".replace("-", "\N{MINUS SIGN}")
    return paired_scatter(
        values,
        title(reference),
        title=f"{insertion.title} minus {deletion.title}, areas under the curves, {protocol}",
        notes=notes,
    )


def grid(
    comparison: Comparison,
    task: Task,
    places: Sequence[int] | None = None,
    rows: int = 6,
) -> Figure:
    """Photos with the maps that were kept; below each map what lies on the object, and its areas.

    Args:
        comparison: What was measured, by one model.
        task: Which was compared; says what the model sees of a photo.
        places: Of the items; None takes those on which methods disagree most, one a photo.
        rows: How many of these.
    """
    check_one_model(comparison)
    results = _as_they_are(comparison)
    by_item = results.set_index(["method", "index"])
    methods = comparison.methods
    chosen = [name for name in methods if name not in REFERENCES] or methods
    if places is None:
        whole = results[results["method"].isin(chosen)].groupby("index").size() == len(chosen)
        sources = results.drop_duplicates("index").set_index("index")["source"]
        ordered = [int(place) for place in comparison.disagreement().index if whole[place]]
        places = list({sources[place]: place for place in reversed(ordered)}.values())[::-1][:rows]
    known = results.drop_duplicates("index").set_index("index")
    labels = [task.label(int(known.loc[place, "target"])) for place in places]
    maps, scores = {}, {}
    for name in chosen:
        values = [torch.from_numpy(comparison.map_of(place, name)) for place in places]
        maps[title(name)] = torch.stack(values)
        scores[title(name)] = [
            _below(by_item.loc[(name, place)], comparison, label)
            for place, label in zip(places, labels, strict=True)
        ]
    photos = [_as_drawn(task.photo(place)) for place in places]
    captions = [f"explained: {label}" for label in labels]
    if comparison.protocols[0] and captions:  # once: what the numbers of all are
        ends = ", ".join(f"{direction} {arrow}" for direction, arrow in ARROWS.items())
        captions[0] += f"\nareas of the {comparison.kind.ranked_title}: {ends}"
    return attribution_grid(
        photos,
        maps,
        fields_of_view=[(0, 0, *photo.size) for photo in photos],  # cut to what the model saw
        row_titles=[str(known.loc[place, "image"]) for place in places],
        scores={"image": captions, **scores},
    )


def _as_drawn(photo: Image.Image) -> Image.Image:
    """No larger than a picture shows it: matplotlib takes 100 bytes a pixel of what it is given."""
    return photo.resize(size_within(photo.size, _LONGEST))


def _below(row: pd.Series, comparison: Comparison, explained: str) -> str:
    """What stands below a map."""
    on_object = f"{row['energy']:.0%} on the {explained}" if "energy" in row else ""
    if not comparison.protocols[0]:
        return on_object
    areas = both_areas(*(row[name] for name in comparison.kind.areas(comparison.kind.ranked)))
    return "\n".join(filter(None, [on_object, areas]))


def _as_they_are(comparison: Comparison) -> pd.DataFrame:
    """The results of the first protocol, without checks."""
    results = comparison.results
    return results[(results["check"] == "") & (results["protocol"] == comparison.protocols[0])]
