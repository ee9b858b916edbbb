"""How far a run is, by its folder alone: from any machine that sees it, during the run or after."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..comparison.folder_store import read_plans
from ..comparison.parts import Listing, family_of, read_footer
from ..comparison.plan import Key, Plan

_WINDOW = 600.0  # seconds before the last unit, of which the rate is
_SILENT = 300.0  # seconds without a unit after which workers may be gone


@dataclass(frozen=True)
class MethodProgress:
    """How far a method is, by a model.

    Attributes:
        model: The model's name.
        method: Name of the method; "" is what is known of the items without any.
        done: Blocks that are there.
        blocks: Blocks that there will be.
    """

    model: str
    method: str
    done: int
    blocks: int


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        methods: Model by model, method by method.
        items: How many each model explains.
        images_a_second: With all of their methods, of all workers together, over the last minutes;
            None where too few units say.
        seconds_left: At this rate; None where it is not known.
        silent: Seconds since the last unit was stored; None without one.
        workers: How each ended: "" of one that did not, or was killed.
        unreadable: Files that were set aside.
    """

    methods: Sequence[MethodProgress]
    items: Mapping[str, int]
    images_a_second: float | None
    seconds_left: float | None
    silent: float | None
    workers: Sequence[str]
    unreadable: int

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return all(method.done == method.blocks for method in self.methods)

    @property
    def blocks(self) -> tuple[int, int]:
        """Blocks, by each model, of which every unit is there; and of how many."""
        models = {model: [m for m in self.methods if m.model == model] for model in self.items}
        done = sum(min(m.done for m in own) for own in models.values())
        return done, sum(own[0].blocks for own in models.values())

    @classmethod
    def of(cls, parts: Path, workers: Path | None = None) -> Progress:
        """Of a folder of units.

        Files are counted by their names: one that is damaged counts until a worker meets it.

        Args:
            parts: As of `FolderStore`.
            workers: Where workers keep their records; None is nowhere.

        Raises:
            FileNotFoundError: If there is no run.

        Example:
            >>> import tempfile
            >>> from cci_captum.benchmarks.comparison import FolderStore
            >>> plan = Plan({"seed": 0}, "tiny", 64, 32, {"": ""})
            >>> store = FolderStore(tempfile.mkdtemp())
            >>> store.begin(plan)
            >>> Progress.of(store.folder).blocks
            (0, 2)
        """
        plans = read_plans(parts)
        listing, blocks = _listed(parts, plans)
        methods: list[MethodProgress] = []
        times: list[tuple[float, float]] = []  # of a unit: when it was stored, its share of images
        left = 0.0
        for plan in plans:
            for key in plan.keys(0):
                missing = set(range(len(plan.blocks))) - blocks[key]
                methods.append(
                    MethodProgress(
                        plan.model, key.method, len(plan.blocks) - len(missing), len(plan.blocks)
                    )
                )
                if key.method or len(plan.methods) == 1:  # a plan of "" alone has nothing else
                    left += sum(_images(plan, block) for block in missing)
                    times += _times(plan, listing.units.get(family_of(key), {}))
        rate, silent = _rate(times)
        return cls(
            methods,
            {plan.model: plan.items for plan in plans},
            rate,
            left / rate if rate else None,
            silent,
            _ends(workers),
            len(list(parts.glob("*.unreadable"))),
        )

    def text(self) -> str:
        """For the terminal."""
        width = max(len(method.model) for method in self.methods)
        names = max(len(method.method or "(images)") for method in self.methods)
        lines = [
            f"{m.model:{width}}  {m.method or '(images)':{names}}  {m.done} of {m.blocks} blocks"
            for m in self.methods
        ]
        return "\n".join([*lines, "", self.line(), *self._of_workers()])

    def line(self) -> str:
        """The whole in one line."""
        done, blocks = self.blocks
        units = sum(m.done for m in self.methods) / max(sum(m.blocks for m in self.methods), 1)
        share = "done" if self.complete else f"{100 * units:.1f} %"
        said = [f"{done} of {blocks} blocks ({share})"]
        if not self.complete:
            if self.images_a_second:
                said.append(f"{self.images_a_second:.3g} images a second")
            if self.seconds_left:
                said.append(f"{_duration(self.seconds_left)} left")
        return ", ".join(said)

    def _of_workers(self) -> list[str]:
        lines = []
        if self.workers:
            ends: dict[str, int] = {}
            for how in self.workers:
                ends[how or "running, or killed"] = ends.get(how or "running, or killed", 0) + 1
            lines.append("workers: " + "; ".join(f"{n} {how}" for how, n in ends.items()))
        if not self.complete and self.silent is not None and self.silent > _SILENT:
            lines.append(f"nothing was stored for {_duration(self.silent)}: does a worker run?")
        if self.unreadable:
            lines.append(f"{self.unreadable} damaged files were set aside, and measured again")
        return lines


def _blocks_of(listing: Listing, key: Key) -> set[int]:
    family = family_of(key)
    found = set(listing.units.get(family, ()))
    for path in listing.merged.get(family, ()):
        found.update(read_footer(path).blocks)
    return found


def _listed(parts: Path, plans: Sequence[Plan]) -> tuple[Listing, dict[Key, set[int]]]:
    """Files that are there, and the blocks that they hold; again where some were just merged."""
    for last in (False, False, True):
        listing = Listing.of(parts)
        try:
            blocks = {key: _blocks_of(listing, key) for plan in plans for key in plan.keys(0)}
        except FileNotFoundError:
            if last:
                raise
        else:
            break
    return listing, blocks


def _images(plan: Plan, block: int) -> float:
    """A unit's share of the images of its block: of all methods together it is their number."""
    return len(plan.blocks[block]) / max(len(plan.methods) - 1, 1)


def _times(plan: Plan, units: Mapping[int, Path]) -> list[tuple[float, float]]:
    found = []
    for block, path in units.items():
        try:
            found.append((path.stat().st_mtime, _images(plan, block)))
        except FileNotFoundError:  # merged meanwhile
            continue
    return found


def _rate(times: list[tuple[float, float]]) -> tuple[float | None, float | None]:
    """Images a second, and seconds since the last unit, by the clock that stamps files."""
    if not times:
        return None, None
    times.sort()
    last = times[-1][0]
    recent = [time for time in times if time[0] >= last - _WINDOW]
    span = last - recent[0][0]
    # The first unit of the window began before it: it counts for the time alone.
    rate = sum(images for _, images in recent[1:]) / span if span > 0 else None
    return rate, max(time.time() - last, 0.0)


def _ends(folder: Path | None) -> list[str]:
    found = []
    for path in sorted(folder.glob("*.json")) if folder is not None else ():
        try:
            found.append(str(json.loads(path.read_text(encoding="utf-8")).get("how", "")))
        except (OSError, ValueError):
            continue
    return found


def _duration(seconds: float) -> str:
    """In the two largest units."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h"
