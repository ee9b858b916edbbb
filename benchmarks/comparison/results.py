"""What a comparison measured, image by image, and what follows for the methods."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cci_captum.baselines.registry import REFERENCES

from ..statistics import holm, interval, paired_interval, paired_p_value
from .measures import MEASURES, RANKED

_OF_RUNS = ("seconds",)  # measured anew by every run
_KEYS = ["index", "method", "check"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Every measure of every image, method and protocol.

    Attributes:
        results: A row an image, method, check and protocol:

            - "image" its name, "index" its place in the data; "source", the photo that it was made
              from; "method"; "check", "" or one of `CHECKS`; "protocol";
            - "target", the explained class; "predicted", the predicted one;
            - the areas under the curves, as of `FaithfulnessCurves.auc`: "deletion_top1", ...;
            - "tied", the share of the ranked pixels (of "tokens": patches) whose value another has
              too, and the areas under several orders of these: "deletion_top1_raster",
              "insertion_probability_reversed", ...; checks have none;
            - "deletion_rank" and "insertion_rank", the method's place among the methods on this
              image, 1 is best, ties share the mean of their places; by the area under the
              target's probability, which has fewer ties than accuracy. References and checks
              have none;
            - where there are masks: "pointing_game", "energy", "iou" (at the best threshold) and
              "average_precision" of the map, the same for every protocol;
            - what the map took: "forward_passes" and "seconds", for this image;
            - "similarity", of checks: Spearman's rank correlation with the map without the check.
        curves: A row an image, method, check and protocol, with the curves as arrays (P,) float64:
            "deletion_score", "deletion_probability", "insertion_top1", ...; see `points`.
        errors: A row an image that could not be read: "index" and "error".
        settings: What was compared on what: names and numbers for the report.
        failures: A row an image, method and check without a map: "index", "image", "method",
            "check" and the reason, "error".
        maps: A row an image, method and check: "map", float32 values row by row, of "map_height" x
            "map_width" cells; maps on pixels are averaged over cells, at most 24 x 24.

    Example:
        >>> import tempfile
        >>> rows = {"index": [0, 1], "method": "cci", "check": "", "protocol": "tokens"}
        >>> frame = pd.DataFrame(rows | {"deletion_top1": [0.25, 0.75], "seconds": 1.0})
        >>> folder = tempfile.mkdtemp()
        >>> Comparison(frame, frame[["index"]], frame[:0], {}).save(folder)
        >>> Comparison.load(folder).results["deletion_top1"].tolist()
        [0.25, 0.75]
    """

    results: pd.DataFrame
    curves: pd.DataFrame
    errors: pd.DataFrame
    settings: dict[str, Any]
    failures: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=["index", "image", "method", "check", "error"])
    )
    maps: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_KEYS))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write all of it into a folder: Parquet tables, and settings as JSON.

        Two runs of the same configuration write the same bytes, whatever was interrupted and
        resumed, but for timings.parquet, which has how long each map took.

        Args:
            folder: Made where there is none; files of the same names are replaced.
        """
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        for name, frame in self.tables().items():
            frame.to_parquet(path / f"{name}.parquet", index=False)
        text = json.dumps(self.settings, indent=2) + "\n"
        (path / "settings.json").write_text(text, encoding="utf-8")

    def tables(self) -> dict[str, pd.DataFrame]:
        """Name -> table, as `save` writes them."""
        timed = [name for name in _OF_RUNS if name in self.results]
        return {
            "results": self.results.drop(columns=timed),
            "timings": self.results.drop_duplicates(_KEYS)[[*_KEYS, *timed]],
            "curves": self.curves,
            "failures": self.failures,
            "errors": self.errors,
            "maps": self.maps,
        }

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Comparison:
        """What `save` wrote.

        Args:
            folder: The folder.

        Raises:
            FileNotFoundError: If there is none, or a file of it is missing.
        """
        path = Path(folder)
        names = ("results", "timings", "curves", "failures", "errors", "maps")
        tables = {name: pd.read_parquet(path / f"{name}.parquet") for name in names}
        timings = tables.pop("timings")
        columns = [name for name in MEASURES if name in tables["results"] or name in timings]
        merged = tables["results"].merge(timings, on=_KEYS, how="left", sort=False)
        others = [name for name in tables["results"] if name not in MEASURES]
        tables["results"] = merged[[*others, *columns]]
        settings = json.loads((path / "settings.json").read_text(encoding="utf-8"))
        return cls(**tables, settings=settings)

    def points(self) -> pd.DataFrame:
        """The curves in long form: a row an image, method, check, protocol, direction and point.

        Returns:
            The columns of `curves` that are no arrays, "direction" ("deletion" or "insertion"),
            "fraction", and "score", "probability", "top1", "top5" as far as there are any.
        """
        arrays = [name for name in MEASURES if name in self.curves]
        keys = self.curves.columns.drop(arrays)
        parts = []
        for direction in ("deletion", "insertion"):
            own = [name for name in arrays if name.startswith(direction)]
            fractions = [
                np.array(self.settings["fractions"][protocol][direction])
                for protocol in self.curves["protocol"]
            ]
            wide = self.curves[[*keys, *own]].assign(direction=direction, fraction=fractions)
            wide = wide.rename(columns=lambda name: name.removeprefix(f"{direction}_"))  # noqa: B023
            listed = [name.removeprefix(f"{direction}_") for name in own]
            parts.append(wide.explode(["fraction", *listed], ignore_index=True))
        long = pd.concat(parts, ignore_index=True)
        numbers = long.columns.drop([*keys, "direction"])
        return long.astype(dict.fromkeys(numbers, np.float64))[
            [*keys, "direction", *(["fraction", *numbers.drop("fraction")])]
        ]

    def map_of(self, index: int, method: str, check: str = "") -> NDArray[Any]:
        """A map (h, w) float32, as coarse as it was kept; see `maps`.

        Args:
            index: The image's place in the data.
            method: One of `methods`.
            check: "" or one of `CHECKS`.

        Raises:
            ValueError: If there is no such map.
        """
        found = self.maps.query("index == @index and method == @method and check == @check")
        if found.empty:
            raise ValueError(f"index: expected an image with a map by {method}, got {index}")
        row = found.iloc[0]
        return np.asarray(row["map"], np.float32).reshape(row["map_height"], row["map_width"])

    @property
    def methods(self) -> list[str]:
        """Methods, in the order of the comparison, references last."""
        return list(self.results["method"].unique())

    @property
    def protocols(self) -> list[str]:
        """Protocols, in the order of the comparison."""
        return list(self.results["protocol"].unique())

    def summary(
        self, reference: str | None = None, measures: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Means over the images with 95 % intervals, and differences to a method.

        Means are of all images. How sure they are follows from how many photos these were made
        from: see "source" of `results`.

        Args:
            reference: The method that others are compared with, image by image; None is the
                first.
            measures: Columns of `results`; None is all that are measured.

        Returns:
            A row a protocol, check, method and measure: "mean", "low", "high"; "difference" to
            the reference (positive where the method has more of the measure) with
            "difference_low" and "difference_high", over the same images; "p_holm", how surprising
            such a difference would be without a true one, adjusted by Holm for the methods
            compared under this protocol, check and measure; "n" images. Ends and "p_holm" are NaN
            where images are too few or too much alike, see `cci_captum.benchmarks.statistics`.
            What a map is, whatever the protocol ("pointing_game", ..., "seconds"), has protocol
            "". Images with a value that is missing are left out of their column.

        Raises:
            ValueError: If the reference or a measure is unknown.
        """
        reference = self.methods[0] if reference is None else reference
        if reference not in self.methods:
            raise ValueError(
                f"reference: expected one of {', '.join(self.methods)}, got {reference!r}"
            )
        known = _measures(self.results)
        unknown = [name for name in measures or () if name not in known]
        if unknown:
            raise ValueError(f"measures: expected some of {', '.join(known)}, got {unknown}")
        parts = []
        for measure in known if measures is None else measures:
            of_maps = MEASURES[measure].grain == "map"
            for protocol in self.protocols[:1] if of_maps else self.protocols:
                rows = self.results[self.results["protocol"] == protocol]
                part = _summarised(rows, measure, reference)
                part.insert(0, "protocol", "" if of_maps else protocol)
                parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def disagreement(self, protocol: str | None = None) -> pd.Series:
        """How much methods differ on each image, most first.

        The range, over the methods, of insertion minus deletion area (of the target's
        probability): what the choice of a method decides on this image.

        Args:
            protocol: None is the first.

        Returns:
            Values indexed by the image's place in the data.

        Raises:
            ValueError: If the protocol was not compared.
        """
        protocol = self.protocols[0] if protocol is None else protocol
        if protocol not in self.protocols:
            known = ", ".join(self.protocols)
            raise ValueError(f"protocol: expected one of {known}, got {protocol!r}")
        rows = self.results[self.results["protocol"] == protocol]
        rows = rows[_is_method(rows)]
        gain = rows["insertion_probability"] - rows["deletion_probability"]
        by_image = gain.groupby(rows["index"])
        return (by_image.max() - by_image.min()).sort_values(ascending=False, kind="stable")


def add_ranks(results: pd.DataFrame) -> pd.DataFrame:
    """The table with "deletion_rank" and "insertion_rank"; see `Comparison`."""
    ranked = results[_is_method(results)]
    for rank, area in RANKED.items():
        groups = ranked.groupby(["index", "protocol"])[area]
        results = results.assign(**{rank: groups.rank(ascending=MEASURES[area].better == "lower")})
    return results


def _is_method(results: pd.DataFrame) -> pd.Series:
    """Rows of methods as they are: neither references nor checks."""
    return ~results["method"].isin(REFERENCES) & (results["check"] == "")


def _measures(results: pd.DataFrame) -> list[str]:
    """Columns that hold measures."""
    return [name for name in results.columns if name in MEASURES]


def photos_of(rows: pd.DataFrame) -> pd.Series | None:
    """What is independent: a number for the source photo of each image, by the image's place.

    None where no two images come from one photo, or where nothing is known about that.
    """
    if "source" not in rows:
        return None
    sources = rows.drop_duplicates("index").set_index("index")["source"]
    return None if sources.is_unique else pd.Series(pd.factorize(sources)[0], sources.index)


def _bounds(measure: str, rows: pd.DataFrame) -> tuple[float, float]:
    """The least and the greatest value that a measure can have."""
    if measure in RANKED:
        return 1, max(2, rows.loc[_is_method(rows), "method"].nunique())
    return MEASURES[measure].bounds


def _summarised(rows: pd.DataFrame, measure: str, reference: str) -> pd.DataFrame:
    """Means, intervals and differences of one measure under one protocol."""
    keys = list(zip(rows["check"], rows["method"], strict=True))
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    images, indices = pd.factorize(rows["index"], sort=True)
    wide = np.full((len(indices), len(places)), np.nan)  # an image a row, a key a column
    wide[images, [places[key] for key in keys]] = rows[measure].to_numpy(np.float64)
    photos, bounds = photos_of(rows), _bounds(measure, rows)
    groups = None if photos is None else photos[indices].to_numpy()
    found = np.full((len(places), 7), np.nan)
    for columns, known in _tables(wide):
        values = wide[np.ix_(known, columns)]
        ends = interval(values, None if groups is None else groups[known], bounds=bounds)
        found[columns, :3] = np.stack([values.mean(axis=0), *ends], axis=1)
    own = places.get(("", reference))
    if own is not None:
        differences = wide - wide[:, [own]]
        differences[:, own] = np.nan
        for columns, known in _tables(differences):
            values = wide[np.ix_(known, columns)]
            others = np.broadcast_to(wide[known][:, [own]], values.shape)
            pairs = (values, others, None if groups is None else groups[known])
            ends = paired_interval(*pairs, bounds=bounds)
            p_values = paired_p_value(*pairs, bounds=bounds)
            mean = differences[np.ix_(known, columns)].mean(axis=0)
            found[columns, 3:] = np.stack([mean, *ends, p_values], axis=1)
    summary = pd.DataFrame(list(places), columns=["check", "method"])
    names = ["mean", "low", "high", "difference", "difference_low", "difference_high", "p_holm"]
    summary[names] = found
    summary["p_holm"] = summary.groupby("check")["p_holm"].transform(holm)
    summary["n"] = (~np.isnan(wide)).sum(axis=0)
    return summary[summary["n"] > 0].assign(measure=measure)


def _tables(wide: NDArray[Any]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Columns without a missing value together, others alone, with the rows that they have."""
    missing = np.isnan(wide)
    whole = ~missing.any(axis=0)
    if whole.any():
        yield whole.nonzero()[0], np.arange(len(wide))
    for column in (~whole & ~missing.all(axis=0)).nonzero()[0]:
        yield np.array([column]), (~missing[:, column]).nonzero()[0]
