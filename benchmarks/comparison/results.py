"""What a comparison measured, image by image, and what follows for the methods."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cci_captum._files import check_folder

from ..tasks import KINDS, Kind
from .measures import MEASURES
from .summary import gain_of, is_method, long_form, summarised

_OF_RUNS = ("seconds",)  # measured anew by every run
_KEYS = ["model", "index", "method", "check"]
_FAILURE = ["model", "index", "image", "method", "check", "error"]
_SHARED = [
    "task",
    "data",
    "masks",
    "explained",
    "seed",
    "methods",
    "checks",
    "protocols",
    "fractions",
    "ties",
]
TABLES = ("results", "timings", "curves", "maps", "failures", "errors", "samples")
"""Names of the tables that `Comparison.save` writes."""

_FRAMES = tuple(name for name in TABLES if name != "timings")  # attributes


@dataclass(frozen=True, eq=False)
class Comparison:
    """Every measure of every item, method and protocol, by one model or several.

    An item is an image; where the task is retrieval, a caption of one. Every table has a column
    "model".

    Attributes:
        results: A row an item, method, check and protocol:

            - "image" its name, "index" its place in the task; "source", the photo that it was made
              from; "method"; "check", "" or one of `CHECKS`; "protocol", "" if there is none;
            - "target", the explained class or caption; "predicted", the predicted one;
            - the areas under the curves, as of `FaithfulnessCurves.auc`: "deletion_top1", ...; of
              retrieval "deletion_ir5", "insertion_tr1", ...;
            - "tied", the share of the ranked pixels (of "tokens": patches) whose value another has
              too, and the areas under several orders of these: "deletion_top1_raster",
              "insertion_probability_reversed", ...; checks have none;
            - "deletion_rank" and "insertion_rank", the method's place among the methods on this
              item, 1 is best, ties share the mean of their places; by the area under the
              target's probability, of retrieval its cosine, which have fewer ties than accuracy.
              References and checks have none;
            - where there are masks: "pointing_game", "energy", "iou" (at the best threshold) and
              "average_precision" of the map, the same for every protocol;
            - what the map took: "forward_passes" and "seconds", for this item;
            - "similarity", of checks: Spearman's rank correlation with the map without the check.
        curves: A row an item, method, check and protocol, with the curves as arrays (P,) float64:
            "deletion_score", "deletion_probability", "insertion_top1", ...; see `points`.
        errors: A row an item that could not be read: "index", "reason", what is wrong, and "error",
            what is wrong and with which image.
        settings: What was compared on what: names and numbers for the report. Of several models
            "models" has their names and "by_model" the settings of each.
        failures: A row an item, method and check without a map: "index", "image", "method",
            "check" and the reason, "error".
        maps: A row an item, method and check: "map", float32 values row by row, of "map_height" x
            "map_width" cells; maps on pixels are averaged over cells, at most 24 x 24.
        samples: A row an item: "index", "image", "source", "target", "label" (the class's name, or
            the caption), "predicted", and a column for each fact that the data know of it; see
            `cci_captum.benchmarks.data.Sample`.

    Example:
        >>> import tempfile
        >>> rows = {"model": "tiny", "index": [0, 1], "method": "cci", "check": ""}
        >>> rows = rows | {"protocol": "tokens", "deletion_top1": [0.25, 0.75], "seconds": 1.0}
        >>> frame = pd.DataFrame(rows)
        >>> folder = tempfile.mkdtemp()
        >>> Comparison(frame, frame[["index"]], frame[:0], {}).save(folder)
        >>> Comparison.load(folder).results["deletion_top1"].tolist()
        [0.25, 0.75]
    """

    results: pd.DataFrame
    curves: pd.DataFrame
    errors: pd.DataFrame
    settings: dict[str, Any]
    failures: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_FAILURE))
    maps: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_KEYS))
    samples: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_KEYS[:2]))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write all of it into a folder: Parquet tables, and settings as JSON.

        Two runs of the same configuration write the same bytes, whatever was interrupted and
        resumed, but for timings.parquet, which has how long each map took.

        Args:
            folder: Made where there is none; files of the same names are replaced.

        Raises:
            NotADirectoryError: If something else is there.
        """
        path = Path(folder)
        check_folder(path, "folder")
        path.mkdir(parents=True, exist_ok=True)
        for name, frame in self.tables().items():
            frame.to_parquet(path / f"{name}.parquet", index=False)
        text = json.dumps(self.settings, indent=2) + "\n"
        (path / "settings.json").write_text(text, encoding="utf-8")

    def tables(self) -> dict[str, pd.DataFrame]:
        """Name -> table, as `save` writes them."""
        timed = [name for name in _OF_RUNS if name in self.results]
        split = {
            "results": self.results.drop(columns=timed),
            "timings": self.results.drop_duplicates(_KEYS)[[*_KEYS, *timed]],
        }
        return {name: split[name] if name in split else getattr(self, name) for name in TABLES}

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Comparison:
        """What `save` wrote.

        Args:
            folder: The folder.

        Raises:
            FileNotFoundError: If there is none, or a file of it is missing.
        """
        path = Path(folder)
        tables = {name: pd.read_parquet(path / f"{name}.parquet") for name in TABLES}
        timings = tables.pop("timings")
        columns = [name for name in MEASURES if name in tables["results"] or name in timings]
        merged = tables["results"].merge(timings, on=_KEYS, how="left", sort=False)
        others = [name for name in tables["results"] if name not in MEASURES]
        tables["results"] = merged[[*others, *columns]]
        settings = json.loads((path / "settings.json").read_text(encoding="utf-8"))
        return cls(**tables, settings=settings)

    @classmethod
    def join(cls, comparisons: Sequence[Comparison]) -> Comparison:
        """One comparison of several models.

        Args:
            comparisons: At least one, each of one model; of the same items, methods, checks and
                protocols.

        Returns:
            All of their rows, model by model.

        Raises:
            ValueError: If there are none, two are of the same model, or what is to be the same is
                not, naming it.

        Example:
            >>> rows = {"index": [0], "method": "cci", "check": "", "protocol": "tokens"}
            >>> parts = []
            >>> for model, area in (("small", 0.5), ("large", 0.25)):
            ...     frame = pd.DataFrame({"model": model, **rows, "deletion_top1": area})
            ...     parts.append(Comparison(frame, frame, frame[:0], {"model": model}))
            >>> both = Comparison.join(parts)
            >>> both.models, both.of("large").results["deletion_top1"].tolist()
            (['small', 'large'], [0.25])
        """
        if not comparisons:
            raise ValueError("comparisons: expected at least one, got none")
        by_model = {each.settings["model"]: each.settings for each in comparisons}
        if len(by_model) < len(comparisons):
            names = [each.settings["model"] for each in comparisons]
            raise ValueError(f"comparisons: expected one of each model, got {', '.join(names)}")
        first = comparisons[0].settings
        shared = {name: first[name] for name in _SHARED if name in first}
        for model, settings in by_model.items():
            for name, value in shared.items():
                if settings.get(name) != value:
                    raise ValueError(
                        f"comparisons: expected the same {name} of every model, got {value!r} and, "
                        f"of {model}, {settings.get(name)!r}"
                    )
        tables = {
            name: pd.concat([getattr(each, name) for each in comparisons], ignore_index=True)
            for name in _FRAMES
        }
        return cls(**tables, settings={**shared, "models": list(by_model), "by_model": by_model})

    def of(self, model: str) -> Comparison:
        """What one of several models did.

        Args:
            model: One of `models`.

        Raises:
            ValueError: If it is none of them.
        """
        if model not in self.models:
            raise ValueError(f"model: expected one of {', '.join(self.models)}, got {model!r}")
        by_model = self.settings.get("by_model")
        if by_model is None:
            return self
        tables = {}
        for name in _FRAMES:
            frame = getattr(self, name)
            tables[name] = frame[frame["model"] == model].reset_index(drop=True)
        return Comparison(**tables, settings=by_model[model])

    def points(self) -> pd.DataFrame:
        """The curves in long form: a row an image, method, check, protocol, direction and point.

        Returns:
            The columns of `curves` that are no arrays, "direction" ("deletion" or "insertion"),
            "fraction", and "score", "probability", "top1", "top5" as far as there are any.
        """
        return long_form(self.curves, self.settings["fractions"])

    def map_of(self, index: int, method: str, check: str = "") -> NDArray[Any]:
        """A map (h, w) float32, as coarse as it was kept; see `maps`.

        Args:
            index: The image's place in the data.
            method: One of `methods`.
            check: "" or one of `CHECKS`.

        Raises:
            ValueError: If there is no such map, or several models have it.
        """
        found = self.maps.query("index == @index and method == @method and check == @check")
        check_one_model(self)
        if found.empty:
            raise ValueError(f"index: expected an image with a map by {method}, got {index}")
        row = found.iloc[0]
        return np.array(row["map"], np.float32).reshape(row["map_height"], row["map_width"])

    @property
    def models(self) -> list[str]:
        """Models, in the order of the comparison."""
        return list(self.results["model"].unique())

    @property
    def kind(self) -> Kind:
        """Which task it is."""
        return KINDS[self.settings.get("task", "classification")]

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
            A row a model, protocol, check, method and measure: "mean", "low", "high"; "difference"
            to the reference (positive where the method has more of the measure) with
            "difference_low" and "difference_high", over the same images; "p_holm", how surprising
            such a difference would be without a true one, adjusted by Holm for the methods
            compared under this protocol, check and measure; "n" images. Ends and "p_holm" are NaN
            where images are too few or too much alike, see `cci_captum.benchmarks.statistics`.
            What a map is, whatever the protocol ("pointing_game", ..., "seconds"), has protocol
            "". Images with a value that is missing are left out of their column.

        Raises:
            ValueError: If the reference or a measure is unknown.
        """
        reference = reference_of(self, reference)
        known = [name for name in self.results if name in MEASURES]
        unknown = [name for name in measures or () if name not in known]
        if unknown:
            raise ValueError(f"measures: expected some of {', '.join(known)}, got {unknown}")
        parts = []
        for model, results in self.results.groupby("model", sort=False):
            for measure in known if measures is None else measures:
                of_maps = MEASURES[measure].grain == "map"
                for protocol in self.protocols[:1] if of_maps else self.protocols:
                    rows = results[results["protocol"] == protocol]
                    part = summarised(rows, measure, reference)
                    part.insert(0, "protocol", "" if of_maps else protocol)
                    part.insert(0, "model", model)
                    parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def disagreement(self, protocol: str | None = None) -> pd.Series:
        """How much methods differ on each item, most first.

        The range, over the methods, of insertion minus deletion area (of the target's probability;
        of retrieval its cosine): what the choice of a method decides on this item. Without
        protocols, of the energy on the object.

        Args:
            protocol: None is the first.

        Returns:
            Values indexed by the item's place in the data.

        Raises:
            ValueError: If the protocol was not compared, or several models were.
        """
        protocol = self.protocols[0] if protocol is None else protocol
        if protocol not in self.protocols:
            known = ", ".join(self.protocols)
            raise ValueError(f"protocol: expected one of {known}, got {protocol!r}")
        check_one_model(self)
        rows = self.results[self.results["protocol"] == protocol]
        rows = rows[is_method(rows)]
        gain = gain_of(rows, self.kind, self.kind.ranked) if protocol else rows["energy"]
        by_item = gain.groupby(rows["index"])
        return (by_item.max() - by_item.min()).sort_values(ascending=False, kind="stable")


def reference_of(comparison: Comparison, reference: str | None) -> str:
    """The method that others are compared with, the first for None; ValueError if unknown."""
    methods = comparison.methods
    reference = methods[0] if reference is None else reference
    if reference not in methods:
        raise ValueError(f"reference: expected one of {', '.join(methods)}, got {reference!r}")
    return reference


def check_one_model(comparison: Comparison) -> None:
    """Raise ValueError if a comparison is of several models."""
    if len(comparison.models) > 1:
        raise ValueError("comparison: expected that of one model; comparison.of(model) gives it")
