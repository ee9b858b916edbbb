"""A diagnosis as a run: what rules say of a data set, unit by unit, kept in a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from torch import nn

from cci_captum._checks import check_batch_size, check_choice, check_positive_int
from cci_captum.baselines.spec import MethodSpec
from cci_captum.diagnosis import Diagnoser, Donors
from cci_captum.diagnosis.diagnoser import statuses_of
from cci_captum.diagnosis.diagnosing import USUAL_RULES, places_of_bank, with_names
from cci_captum.diagnosis.donors import N_DONORS
from cci_captum.diagnosis.rules import Rule, find_rules
from cci_captum.diagnosis.verdicts import Judge, share_column, with_verdicts
from cci_captum.memory import within_memory
from cci_captum.models.preprocessing import Preprocess

from ..comparison.plan import Key, Plan, configuration, definition_of
from ..comparison.store import MemoryStore, Store, fill
from ..comparison.tables import samples_of
from ..data import ImageData
from ..predictions import known_of
from ..tasks import Batch, Classification, Loaded

REGIONS = "regions"
"""Name of the unit of all rules that need no map."""

JUDGED = ("all", "wrong")
"""Which images rules are asked about."""

SEGMENTATION = "segmentation"
"""Fact of a sample whose object is not known: why."""


class DiagnosisRun:
    """Rules on the images of a data set by one model, unit by unit.

    A unit is a method's maps with the rules that read them, or all other rules, on a block of
    images; its rows are shares, from which verdicts follow: thresholds and judges change none.

    Args:
        data: Images of classes, with masks of their objects; see `ImageData`. Where a sample has
            the fact "segmentation", that says why there is no object, and its mask is empty.
        classifier: Module from inputs to (B, C) scores of the data's classes.
        preprocess: From a PIL image to an input (3, H, W) of the model.
        rules: Texts or rules; see `cci_captum.diagnosis.find_rule`.
        method: Whose maps are read: a `MethodSpec` or its text.
        judged: "all" images, or the "wrong" ones alone: a right one then has no share.
        n_donors: Other images for each image, where a rule replaces regions.
        seed: Of the donors.
        batch_size: Images at a time.
        internal_batch_size: Most images in one forward pass; None is batch_size.
        model: Its name.
        about: What else a report should know, for the plan's settings; it changes nothing.

    Attributes:
        task: What is read.
        plan: Its units, and all that decides their numbers.
        rules: The rules.
        method: Whose maps are read.

    Raises:
        TypeError: If classifier is no module, or data are no images.
        ValueError: If the data have no masks, there is no such rule or method, or a number is out
            of its range.

    Example:
        >>> import cci_captum
        >>> from cci_captum.benchmarks.data import Scenes
        >>> from cci_captum.benchmarks.diagnosis import DiagnosisRun
        >>> clip, scenes = cci_captum.load_clip("tiny"), Scenes(3)
        >>> classifier = cci_captum.ZeroShotClassifier(
        ...     clip.model, clip.tokenizer, scenes.class_names, scenes.templates
        ... )
        >>> run = DiagnosisRun(scenes, classifier, clip.preprocess, ["energy"], batch_size=2)
        >>> run.all().columns.tolist()[-3:]
        ['predicted_name', 'energy_verdict', 'agree']
    """

    def __init__(
        self,
        data: ImageData,
        classifier: nn.Module,
        preprocess: Preprocess,
        rules: Sequence[str | Rule] = USUAL_RULES,
        method: str | MethodSpec = "cci",
        *,
        judged: str = "all",
        n_donors: int = N_DONORS,
        seed: int = 0,
        batch_size: int = 32,
        internal_batch_size: int | None = None,
        model: str = "",
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.rules = find_rules(rules)
        check_positive_int("batch_size", batch_size)
        self._size = check_batch_size(internal_batch_size, batch_size)
        if not data.has_masks:
            raise ValueError(
                f"data: expected masks of the objects, {data.name} has none; a segmenter finds some"
            )
        check_choice("judged", judged, JUDGED)
        self.task = Classification(data, classifier, preprocess)
        self.method = MethodSpec.parse(str(method))
        self._n_donors, self._seed, self._judged = n_donors, seed, judged
        self._fits: dict[str, int] = {}
        self._diagnosers: dict[str, Diagnoser] = {}
        units = self._units()
        configured = configuration(
            self.task,
            [],
            seed=seed,
            batch_size=batch_size,
            internal_batch_size=self._size,
            judged=judged,
            n_donors=n_donors,
            donors=places_of_bank(len(self.task), seed),
        )
        settings = {
            **self.task.settings(),
            "model": model,
            "seed": seed,
            "rules": [str(rule) for rule in self.rules],
            "method": str(self.method),
            "judged": judged,
            "n_donors": n_donors,
            "class_names": list(data.class_names),
            "notes": list(getattr(data, "notes", ())),
            **(about or {}),
        }
        named = {"": "", **{unit: self._definition(unit) for unit in units}}
        self.plan = Plan(configured, model, len(self.task), batch_size, named, settings)

    def maps_of(self, key: Key) -> int:
        """How many maps of an image a unit has."""
        return int(bool(key.method))

    def measure(
        self, places: Sequence[int], keys: Iterable[Key], loaded: Loaded | None = None
    ) -> Iterator[tuple[Key, pd.DataFrame]]:
        """Units of a block, one after the other; see `cci_captum.benchmarks.comparison.Run`.

        Yields:
            Key and rows: of "" what is known of the images; of others the share of each rule.
        """
        batch, errors = self.task.batch(self.task.reader(places) if loaded is None else loaded)
        said: list[str] = []
        if batch is not None:
            assert batch.masks is not None
            facts = [str(known.get(SEGMENTATION, "")) for known in batch.facts]
            said = statuses_of(batch.masks, batch.predicted, facts)
        for key in keys:
            if not key.method:
                yield key, self._known(batch, errors, said)
            elif batch is None:
                yield key, pd.DataFrame()
            else:
                yield key, self._shares(key.method, batch, said)

    def all(self, store: Store | None = None, judge: Judge | None = None) -> pd.DataFrame:
        """Measure what a store lacks, and give the table; see `table_of`."""
        store = MemoryStore() if store is None else store
        store.begin(self.plan)
        fill(store, self)
        return table_of(self.plan, store, self.rules, judge)

    def _units(self) -> dict[str, list[Rule]]:
        """Name of a unit -> its rules, as they are measured."""
        measured = list(dict.fromkeys(rule.measured for rule in self.rules))
        units = {
            str(self.method): [rule for rule in measured if rule.uses_maps],
            REGIONS: [rule for rule in measured if not rule.uses_maps],
        }
        return {name: rules for name, rules in units.items() if rules}

    def _definition(self, unit: str) -> str:
        rules = " ".join(str(rule) for rule in self._units()[unit])
        return f"{rules}; {definition_of(self.method)}" if unit != REGIONS else rules

    def _known(
        self, batch: Batch | None, errors: Mapping[int, str], said: Sequence[str]
    ) -> pd.DataFrame:
        frame = samples_of(self.task, batch, errors)
        frame["object_share"] = float("nan")
        frame["status"] = frame["error"]
        if batch is not None:
            assert batch.masks is not None
            rows = range(len(said))  # samples come first, then errors
            frame.loc[rows, "status"] = list(said)
            frame.loc[rows, "object_share"] = batch.masks.double().mean(dim=(1, 2)).tolist()
        return frame

    def _shares(self, unit: str, batch: Batch, said: Sequence[str]) -> pd.DataFrame:
        judged = [
            self._judged == "all" or guess != true
            for guess, true in zip(batch.predicted, batch.targets, strict=True)
        ]
        asked = batch.only([row for row, status in enumerate(said) if not status and judged[row]])
        frame = pd.DataFrame({"index": asked.indices, "failed": ""})
        if not asked.names:
            return frame
        masks, diagnoser = asked.masks, self._diagnoser(unit)
        assert masks is not None

        def in_parts(size: int) -> tuple[dict[str, list[float]], dict[int, str]]:
            return diagnoser.shares(asked.inputs, masks, asked.targets, asked.predicted, size)

        size = min(self._fits.get(unit, self._size), self._size)
        (found, failed), self._fits[unit] = within_memory(in_parts, size)
        for name, values in found.items():
            frame[share_column(name)] = values
        for place, reason in failed.items():
            frame.loc[place, "failed"] = reason
        return frame

    def _diagnoser(self, unit: str) -> Diagnoser:
        if unit not in self._diagnosers:
            rules = self._units()[unit]
            replaces = any(rule.needs_donors for rule in rules)
            self._diagnosers[unit] = Diagnoser(
                self.task.forward_func,
                rules,
                self.method,
                donors=self._bank() if replaces else None,
                n_donors=self._n_donors,
                internal_batch_size=self._size,
                seed=self._seed,
            )
        return self._diagnosers[unit]

    def _bank(self) -> Donors:
        """Images of the data that others get their donors from."""
        loaded = self.task.reader(places_of_bank(len(self.task), self._seed))
        if loaded.inputs is None or loaded.masks is None:
            raise ValueError(
                f"data: expected images that can be read to take others from, got none of "
                f"{len(loaded.errors)} in {self.task.data.name}"
            )
        statuses = [str(known.get(SEGMENTATION, "")) for known in loaded.facts]
        device = self.task.device
        return Donors.of(
            loaded.inputs.to(device), loaded.masks.to(device), loaded.targets, statuses
        )


def table_of(
    plan: Plan, store: Store, rules: Sequence[Rule], judge: Judge | None = None
) -> pd.DataFrame:
    """All units of a plan as a table with verdicts, a row an image.

    Args:
        plan: Of a `DiagnosisRun`.
        store: That has all of its units.
        rules: Its rules; their thresholds may be others.
        judge: Says which classes look alike.

    Returns:
        As of `cci_captum.diagnosis.diagnose`, with what the data know of each image; in the order
        of the data.

    Raises:
        ValueError: If a unit is missing.
    """
    keys = plan.all_keys()
    table = known_of(store.load(key for key in keys if not key.method)).set_index("index")
    for method in plan.methods:
        parts = store.load(key for key in keys if key.method == method) if method else []
        parts = [part for part in parts if len(part)]
        if parts:
            shares = pd.concat(parts, ignore_index=True).set_index("index")
            failed = shares.pop("failed")
            table = table.join(shares)
            failed = failed[failed != ""]
            table.loc[failed.index, "status"] = failed
    table = table.reset_index()
    table.insert(table.columns.get_loc("predicted") + 1, "explained", table["predicted"])
    for rule in rules:
        measured = share_column(rule.measured)
        table[share_column(rule)] = table[measured] if measured in table else float("nan")
    return with_verdicts(with_names(table, plan.settings["class_names"]), rules, judge)
