"""Where finished units are kept while a run goes on; `FolderStore` outlives the process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import pandas as pd

from .plan import OF_MODEL, Key, Plan, differences


class Store(Protocol):
    """Units of one run, by their keys."""

    def begin(self, plan: Plan) -> None:
        """Take units of this plan from now on.

        Raises:
            ValueError: If those there have another configuration, but for what belongs to other
                models.
        """
        ...

    def missing(self, keys: Iterable[Key]) -> list[Key]:
        """Those of some units of a plan that are not there, whole."""
        ...

    def add(self, key: Key, unit: pd.DataFrame) -> None:
        """Keep a unit."""
        ...

    def load(self, keys: Iterable[Key]) -> list[pd.DataFrame]:
        """Rows of units that are there, each once, in any number of tables."""
        ...


class MemoryStore:
    """Units of this process."""

    def __init__(self) -> None:
        self._units: dict[Key, pd.DataFrame] = {}
        self._begun: dict[str, Mapping[str, Any]] = {}

    def begin(self, plan: Plan) -> None:
        """See `Store`."""
        shared, own = configured(plan)
        for name, part in {"": shared, f"model {plan.model}": own}.items():
            check_same(self._begun.setdefault(name, part), part, "memory")

    def missing(self, keys: Iterable[Key]) -> list[Key]:
        """See `Store`."""
        return [key for key in keys if key not in self._units]

    def add(self, key: Key, unit: pd.DataFrame) -> None:
        """See `Store`."""
        self._units[key] = unit

    def load(self, keys: Iterable[Key]) -> list[pd.DataFrame]:
        """See `Store`."""
        return [self._units[key] for key in keys]


class _Fills(Protocol):
    """A run, as far as `fill` asks it."""

    @property
    def plan(self) -> Plan:
        """Its units."""
        ...

    def measure(
        self, places: Sequence[int], keys: Iterable[Key]
    ) -> Iterable[tuple[Key, pd.DataFrame]]:
        """Units of a block, one after the other."""
        ...


def fill(store: Store, run: _Fills) -> None:
    """Measure what a store lacks of a run, block by block.

    Args:
        store: Begun with the run's plan.
        run: What is measured.
    """
    for block, places in enumerate(run.plan.blocks):
        for key, unit in run.measure(places, store.missing(run.plan.keys(block))):
            store.add(key, unit)


def configured(plan: Plan) -> tuple[dict[str, Any], dict[str, Any]]:
    """What all models of a store share of a configuration, and what is this model's."""
    whole = plan.configuration
    shared = {name: value for name, value in whole.items() if name != OF_MODEL}
    return shared, {"model": plan.model, **whole.get(OF_MODEL, {})}


def check_same(stored: Mapping[str, Any] | None, wanted: Mapping[str, Any], where: str) -> None:
    """Raise ValueError, naming what differs, unless two configurations are the same."""
    if stored is not None and stored != wanted:
        found = "; ".join(differences(stored, wanted))
        raise ValueError(
            f"store: expected results of the same run in {where}, found those of another: {found}"
        )
