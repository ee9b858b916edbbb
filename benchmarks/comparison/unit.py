"""The unit of work: one method, with its checks, on one block of images.

Nothing that a method or a model does wrong leaves it as an exception: it is a row that says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cci_captum.attribution.field_of_view import FieldOfView
from cci_captum.attribution.finite import NotFiniteError
from cci_captum.attribution.forward_checks import known_field_of_view
from cci_captum.memory import is_of_device, within_memory
from cci_captum.vision_towers import find_vision_tower

from ..faithfulness import DeletionInsertion, FaithfulnessCurves, PreparedImages
from ..faithfulness.curves import DIRECTIONS
from ..faithfulness.protocols import Ties
from ..maps import raw_map
from ..tasks import Batch, Kind, Question
from .measures import AREAS, LOCALIZATION
from .randomization import rank_correlation

KEPT = 24
"""Rows and columns of a kept map, at most: maps on pixels are averaged over cells."""

CURVES = tuple(f"{area.name}_curve" for area in AREAS)
"""Columns of lists, a number a point of the protocol."""

MAP = ("map", "map_height", "map_width")
"""Columns of a kept map."""

SMALLER = "smaller_batch"
"""Column of the most images in one forward pass, where memory ran out for more; else NaN."""


@dataclass(frozen=True)
class Row:
    """A method as it is, or under a check.

    Attributes:
        method: Its name.
        check: "" or one of `CHECKS`.
        explainer: The attribution; or why there is none, for this model.
        question: What it explains.
    """

    method: str
    check: str
    explainer: Any
    question: Question


@dataclass(frozen=True)
class Context:
    """What all units of a run share.

    Attributes:
        kind: What the task measures.
        harnesses: One a protocol.
        ties: Orders of ties under which areas are measured beside the protocol's own.
        internal_batch_size: Most images in one forward pass.
        fits: Row -> the most that memory had room for, once it ran out.
    """

    kind: Kind
    harnesses: Sequence[DeletionInsertion]
    ties: Sequence[Ties]
    internal_batch_size: int
    fits: dict[tuple[str, str], int] = field(default_factory=dict)

    def size_of(self, row: Row) -> int:
        """Most images in one forward pass of a row."""
        return self.fits.get((row.method, row.check), self.internal_batch_size)

    def note_size(self, row: Row, size: int) -> None:
        """Go on with what memory had room for."""
        if size < self.size_of(row):
            self.fits[row.method, row.check] = size


class Block(NamedTuple):
    """A block of images, as all methods meet it.

    Attributes:
        batch: The images.
        labels: Check -> the targets that methods explain.
        held: Protocol -> the images prepared for it: what is random is drawn for the first method.
    """

    batch: Batch
    labels: Mapping[str, list[int]]
    held: dict[str, PreparedImages]


class _Maps(NamedTuple):
    """What a method says about some images, and what that took."""

    maps: Tensor  # (b, h, w)
    passes: float  # an image
    seconds: float  # an image


def measure(context: Context, block: Block, rows: Sequence[Row]) -> pd.DataFrame:
    """Everything that is measured of a method on a block of images.

    Where memory runs out, a row goes on with half the images in a forward pass, which `SMALLER`
    says; with one alone it is an error like others.

    Args:
        context: What all units share.
        block: The images.
        rows: The method as it is, then under its checks.

    Returns:
        A row an item, check and protocol: its keys, what `Comparison.results` has of it (without
        ranks), the lists of `CURVES`, and of the first protocol the map, "map" with "map_height"
        and "map_width", at most `KEPT` of each. Without protocols there is one row, with protocol
        "", for what is measured of the map alone. An item without a map has one row for the check,
        with protocol "" and the reason in "error".

    Raises:
        RuntimeError: If the device fails: of what follows nothing could be right.
    """
    parts, as_is = [], dict[int, Tensor]()
    for row in rows:
        try:
            labels = block.labels[row.check]
            pieces = list(_explained(row, block.batch, labels, context))
        except Exception as error:
            if is_of_device(error):
                raise
            pieces = [(block.batch, error)]
        for images, found in pieces:
            if not isinstance(found, Exception):
                try:
                    held = block.held if images is block.batch else {}
                    judged = _judged(context, images, held, row, found, as_is)
                    if (row.method, row.check) in context.fits:
                        judged[SMALLER] = context.size_of(row)
                    parts.append(judged)
                    continue
                except Exception as error:
                    if is_of_device(error):
                        raise
                    found = error
            parts.append(_keys(images, row, "").assign(error=f"{type(found).__name__}: {found}"))
    return pd.concat(parts, ignore_index=True)


def _keys(batch: Batch, row: Row, protocol: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image": batch.names,
            "index": batch.indices,
            "source": batch.sources,
            "method": row.method,
            "check": row.check,
            "protocol": protocol,
            "target": batch.targets,
            "predicted": batch.predicted,
            "error": "",
        }
    )


def _explained(
    row: Row, batch: Batch, labels: list[int], context: Context
) -> Iterator[tuple[Batch, _Maps | Exception]]:
    """Maps of the images that have finite ones, and the error of each of the others."""
    if isinstance(row.explainer, Exception):
        raise row.explainer
    left = list(range(len(batch.names)))
    while left:
        images = batch.only(left)
        try:
            own = [labels[place] for place in left]
            explain = partial(_explain, row, images, own)
            found, size = within_memory(explain, context.size_of(row))
            context.note_size(row, size)
        except NotFiniteError as error:
            reason = ValueError(f"expected finite {error.what}, got NaN or infinity")
            yield images.only(error.images), reason
            left = [place for at, place in enumerate(left) if at not in error.images]
            continue
        yield images, found
        return


def _explain(row: Row, batch: Batch, labels: list[int], internal_batch_size: int) -> _Maps:
    """A method's maps, timed, its forward passes counted; without its one-off checks."""
    target, args = row.question.arguments(labels)
    if hasattr(row.explainer, "check_forward_func"):
        row.explainer.check_forward_func(batch.inputs, args)
        view = known_field_of_view(row.explainer.forward_func, batch.inputs, None)
        if view not in (None, FieldOfView(0, 0, *batch.inputs.shape[2:])):
            raise ValueError(
                "forward_func: expected it to show the image encoder all of its inputs, since "
                "masks and photos are cut as preprocess cuts them; crop, pad or resize there "
                f"instead (got {view})"
            )
    with _counted_images(row.question.forward_func) as count:
        start = time.perf_counter()
        maps = raw_map(
            row.explainer,
            batch.inputs,
            target,
            args,
            masks=batch.masks,
            internal_batch_size=internal_batch_size,
        )
        if maps.device.type == "cuda":
            torch.cuda.synchronize(maps.device)
        seconds = time.perf_counter() - start
    bad = (~maps.isfinite()).flatten(1).any(dim=1).nonzero().flatten().tolist()
    if bad:
        raise NotFiniteError("maps", bad, row.method)
    size = len(batch.names)
    return _Maps(maps, count[0] / size, seconds / size)


def _judged(
    context: Context,
    batch: Batch,
    held: dict[str, PreparedImages],
    row: Row,
    found: _Maps,
    as_is: dict[int, Tensor],
) -> pd.DataFrame:
    """All that is measured of some maps; as_is: place of an image -> its map without a check."""
    measured: dict[str, Any] = {"forward_passes": found.passes, "seconds": found.seconds}
    if batch.masks is not None:
        for each in LOCALIZATION:
            assert each.function is not None  # all of these have one
            measured[each.name] = each.function(found.maps, batch.masks).tolist()
    if row.check:
        measured["similarity"] = _similarities(batch.indices, found.maps, as_is)
    else:
        as_is.update(zip(batch.indices, found.maps, strict=True))
    parts: list[pd.DataFrame] = []
    for harness in context.harnesses:
        own, name = harness.protocol.ties, harness.protocol.name
        if name not in held:
            original = harness.protocol.resolution == "original"
            held[name] = harness.prepare(batch.photos if original else batch.inputs)
        others = [] if row.check else [order for order in context.ties if order != own]
        orders = (own, *others)
        by_order, size = within_memory(
            partial(_curves, harness, held[name], found.maps, batch.targets, orders),
            context.size_of(row),
        )
        context.note_size(row, size)
        curves = by_order[own]
        assert curves.tied is not None  # the harness knows it
        columns = _areas(curves) | {"tied": curves.tied.tolist()}
        if not row.check:
            for area in context.kind.areas(*context.kind.under_ties):
                for order in context.ties:
                    columns[f"{area}_{order}"] = _areas(by_order[order])[area]
        parts.append(
            _keys(batch, row, harness.protocol.name).assign(
                **columns, **measured, **_lists(curves), **_kept(found.maps, not parts)
            )
        )
    if not parts:
        parts.append(_keys(batch, row, "").assign(**measured, **_kept(found.maps, True)))
    return pd.concat(parts, ignore_index=True)


def _curves(
    harness: DeletionInsertion,
    images: PreparedImages,
    maps: Tensor,
    targets: list[int],
    ties: Sequence[Ties],
    internal_batch_size: int,
) -> dict[Ties, FaithfulnessCurves]:
    """See `DeletionInsertion.under_ties`."""
    if internal_batch_size != harness.internal_batch_size:
        harness = copy(harness)
        harness.internal_batch_size = internal_batch_size
    return harness.under_ties(images, maps, targets, ties=ties)


def _similarities(indices: list[int], maps: Tensor, as_is: Mapping[int, Tensor]) -> list[float]:
    """With each image's map as it was; NaN where that has none."""
    known = [place for place, index in enumerate(indices) if index in as_is]
    found = np.full(len(indices), np.nan)
    if known:
        before = torch.stack([as_is[indices[place]] for place in known])
        found[known] = rank_correlation(before, maps[known])
    return found.tolist()


def _areas(curves: FaithfulnessCurves) -> dict[str, list[float]]:
    return {name: values.double().tolist() for name, values in curves.auc().items()}


def _lists(curves: FaithfulnessCurves) -> dict[str, list[Any]]:
    """`CURVES`: name -> a row of numbers an image."""
    found = {}
    for direction in DIRECTIONS:
        curve = getattr(curves, direction)
        for each in fields(curve):
            values = getattr(curve, each.name)
            if values is not None:
                found[f"{direction}_{each.name}_curve"] = list(values.double().cpu().numpy())
    return found


def _kept(maps: Tensor, first: bool) -> dict[str, list[Any]]:
    """Columns of the maps themselves, as coarse as a figure may be; blank but for the first."""
    if not first:
        return {}
    size = (min(maps.shape[1], KEPT), min(maps.shape[2], KEPT))
    if size != maps.shape[1:]:
        maps = F.adaptive_avg_pool2d(maps[:, None], size)[:, 0]
    return {
        "map": list(maps.float().flatten(1).cpu().numpy()),
        "map_height": [size[0]] * len(maps),
        "map_width": [size[1]] * len(maps),
    }


@contextmanager
def _counted_images(forward_func: nn.Module) -> Iterator[list[int]]:
    """A list of one number: images that the image encoder has run on inside the context."""
    entry = find_vision_tower(forward_func).entry
    count = [0]

    def add(module: nn.Module, args: tuple[Any, ...]) -> None:
        count[0] += len(args[0])

    handle = entry.register_forward_pre_hook(add)
    try:
        yield count
    finally:
        handle.remove()
