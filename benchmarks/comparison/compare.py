"""The comparison itself: every method explains the same images, every protocol judges the maps."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, get_args

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from cci_captum._checks import check_batch_size, check_choice, check_positive_int
from cci_captum.attribution.field_of_view import FieldOfView
from cci_captum.attribution.finite import NotFiniteError
from cci_captum.attribution.forward_checks import known_field_of_view
from cci_captum.baselines.registry import METHODS, REFERENCES
from cci_captum.baselines.spec import MethodSpec
from cci_captum.models.clip import ZeroShotClassifier
from cci_captum.models.preprocessing import Preprocess, mean_and_std
from cci_captum.vision_towers import find_vision_tower

from ..data import ImageData
from ..faithfulness import TIES, DeletionInsertion, FaithfulnessCurves, Protocol
from ..faithfulness.protocols import Ties
from ..localization import average_precision, best_iou, energy, pointing_game
from ..maps import raw_map
from .loading import Batch, Explained, Loader
from .randomization import CHECKS, random_labels, rank_correlation, with_random_weights
from .results import UNDER_TIES, Comparison, add_ranks

Factory = Callable[[nn.Module], Any]
"""From a forward_func to a Captum attribution of it: a class, or a function that sets options."""

_LOCALIZATION = {
    "pointing_game": pointing_game,
    "energy": energy,
    "iou": best_iou,
    "average_precision": average_precision,
}


class _Row(NamedTuple):
    """A method, as it is or under a check."""

    method: str
    check: str
    explainer: Any
    forward_func: nn.Module  # the one that it explains


class _Map(NamedTuple):
    """What a method says about a batch, and what that took."""

    maps: Tensor  # (B, h, w)
    passes: float  # an image
    seconds: float  # an image


def compare(
    methods: Iterable[str | MethodSpec] | Mapping[str, Factory],
    data: ImageData,
    protocols: Iterable[str | Protocol] = ("grad-eclip",),
    *,
    forward_func: nn.Module,
    preprocess: Preprocess,
    explained: Explained = "true",
    checks: Collection[str] = (),
    ties: Collection[Ties] = TIES,
    seed: int = 0,
    batch_size: int = 32,
    internal_batch_size: int | None = None,
    show_progress: bool = False,
) -> Comparison:
    """Compare attribution methods on the same images, by deletion, insertion and localisation.

    Random maps are always compared too, and where there are masks the masks themselves: a table
    without them cannot be read. Everything that is random depends on the seed and the image, and is
    the same for every method. Photos are cut to what the model's preprocessing leaves of them, for
    every protocol, so that no pixel is counted that the model never sees.

    Args:
        methods: `MethodSpec` objects or their texts, such as "cci" or "cci(clusters=10)"; or
            name -> a function from forward_func to any Captum attribution, such as `CCI` or
            `lambda f: CCI(f, clustering=KMeans(10))`.
        data: Images with their classes, such as `cci_captum.benchmarks.data.ImageFolders`.
        protocols: Names from `PROTOCOLS`, or `Protocol` objects.
        forward_func: Module from images (B, 3, H, W) to (B, C) scores of the data's classes, such
            as a `ZeroShotClassifier`.
        preprocess: From a PIL image to an input (3, H, W) of the model, as `load_clip` returns it.
            Of a function of your own `cci_captum.models.preprocessing.Preprocessing` says how
            it normalises and which part of a photo it leaves.
        explained: The "true" class, or the "predicted" one, for which masks are not used.
        checks: Of `CHECKS`: "random-weights" explains a copy of the model with shuffled weights,
            "random-label" another class; the maps are then judged as all others. See
            `randomization`.
        ties: Orders of pixels of the same importance under which the areas of methods as they are
            (not of checks) are measured beside those of the protocol's own order, so that a
            table shows what that order decides; () measures none. An order costs the passes of
            those points where it decides which pixels are among the first; maps whose values
            all differ cost nothing more.
        seed: Of everything that is random here; methods have their own.
        batch_size: Images that are explained together.
        internal_batch_size: Most images in one forward pass; None is batch_size.
        show_progress: Show a progress bar on stderr.

    Returns:
        A `Comparison`.

    Raises:
        TypeError: If forward_func is no module or cannot be explained by a method.
        ValueError: If a name is unknown, there are no images, the classes do not fit, or it is
            not known what preprocess does; raised before anything is explained.

    Example:
        >>> import cci_captum
        >>> from cci_captum.benchmarks.comparison import compare
        >>> from cci_captum.benchmarks.data import Scenes
        >>> clip, scenes = cci_captum.load_clip("tiny"), Scenes(2)
        >>> classifier = cci_captum.ZeroShotClassifier(
        ...     clip.model, clip.tokenizer, scenes.class_names, scenes.templates
        ... )
        >>> comparison = compare(
        ...     ["cci"], scenes, forward_func=classifier, preprocess=clip.preprocess, ties=()
        ... )
        >>> comparison.results[["image", "method", "protocol"]]
             image        method    protocol
        0  scene 0           cci  grad-eclip
        1  scene 1           cci  grad-eclip
        2  scene 0        random  grad-eclip
        3  scene 1        random  grad-eclip
        4  scene 0  ground-truth  grad-eclip
        5  scene 1  ground-truth  grad-eclip
    """
    if not isinstance(forward_func, nn.Module):
        raise TypeError(f"forward_func: expected a module, got {type(forward_func).__name__}")
    check_choice("explained", explained, get_args(Explained))
    check_positive_int("batch_size", batch_size)
    internal_batch_size = check_batch_size(internal_batch_size, batch_size)
    if not len(data):
        raise ValueError(f"data: expected at least one image, {data.name} has none")
    if isinstance(ties, str) or not set(ties) <= set(TIES):
        raise ValueError(f"ties: expected some of {', '.join(TIES)}, got {ties!r}")
    orders = tuple(order for order in TIES if order in ties)
    harnesses = _harnesses(protocols, forward_func, preprocess, seed, internal_batch_size)
    loader = Loader(data, preprocess, forward_func, explained)
    rows = _rows(_factories(methods, loader.has_masks), forward_func, checks, seed)
    steps = len(data) * len(rows) * (1 + len(harnesses))
    with tqdm(total=steps, desc="compare", unit="map", disable=not show_progress) as progress:
        parts = []
        for batch in loader.batches(batch_size):
            labels = {"": batch.targets, "random-weights": batch.targets}
            if "random-label" in checks:
                classes = len(data.class_names)
                labels["random-label"] = random_labels(batch.inputs, batch.targets, classes, seed)
            parts.append(
                _measure(batch, rows, labels, harnesses, orders, internal_batch_size, progress)
            )
    if not parts:
        raise ValueError(
            f"data: none of the {len(data)} images of {data.name} could be read; the first: "
            f"{loader.errors[0]['error']}"
        )
    results, curves = (pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True))
    order = {(row.method, row.check): place for place, row in enumerate(rows)}
    return Comparison(
        results=add_ranks(_sorted(results, order)),
        curves=_sorted(curves, order),
        errors=pd.DataFrame(loader.errors, columns=["index", "error"]),
        settings={
            "data": data.name,
            "images": len(data) - len(loader.errors),
            "classes": len(data.class_names),
            "masks": loader.has_masks,
            "explained": explained,
            "seed": seed,
            "protocols": [harness.protocol.name for harness in harnesses],
            "ties": list(orders),
            "device": str(loader.device),
            **_about_texts(forward_func),
            "notes": list(getattr(data, "notes", ())),
        },
    )


def _about_texts(forward_func: nn.Module) -> dict[str, Any]:
    """What a zero-shot classifier in a module knows of its texts."""
    for module in forward_func.modules():
        if isinstance(module, ZeroShotClassifier):
            return {
                "indistinguishable": [list(names) for names in module.indistinguishable],
                "cut_texts": [text._asdict() for text in module.cut_texts],
            }
    return {}


def _factories(
    methods: Iterable[str | MethodSpec] | Mapping[str, Factory], has_masks: bool
) -> dict[str, Factory]:
    """Name -> factory, the references last."""
    if isinstance(methods, str):
        raise ValueError(f"methods: expected a sequence of names, got the string {methods!r}")
    if isinstance(methods, Mapping):
        chosen: dict[str, Factory] = dict(methods)
        for name, factory in chosen.items():
            if name in REFERENCES and factory not in (METHODS[name], METHODS[name].cls):
                raise ValueError(
                    f"methods[{name!r}]: expected another name, this is that of a reference"
                )
            if not callable(factory):
                raise TypeError(
                    f"methods[{name!r}]: expected a function from forward_func to an attribution, "
                    f"got {type(factory).__name__}"
                )
    else:
        specs = [MethodSpec.parse(str(method)) for method in methods]
        chosen = {str(spec): spec for spec in specs}
    references: dict[str, Factory] = {name: METHODS[name] for name in REFERENCES}
    if not has_masks:
        del references["ground-truth"]
        if "ground-truth" in chosen:
            raise ValueError(
                "methods: ground-truth needs masks of the true class, which there are none of"
            )
    if not chosen:
        raise ValueError("methods: expected at least one, got none")
    return {name: make for name, make in chosen.items() if name not in references} | references


def _harnesses(
    protocols: Iterable[str | Protocol],
    forward_func: nn.Module,
    preprocess: Preprocess,
    seed: int,
    internal_batch_size: int,
) -> list[DeletionInsertion]:
    if isinstance(protocols, (str, Protocol)):
        raise ValueError(f"protocols: expected a sequence, got {protocols!r} alone")
    mean, std = mean_and_std(preprocess)
    harnesses = [
        DeletionInsertion(
            forward_func,
            protocol,
            seed=seed,
            mean=mean,
            std=std,
            preprocess=preprocess,
            internal_batch_size=internal_batch_size,
        )
        for protocol in protocols
    ]
    names = [harness.protocol.name for harness in harnesses]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"protocols: expected at least one, each with its own name, got {names}")
    return harnesses


def _rows(
    factories: Mapping[str, Factory], forward_func: nn.Module, checks: Collection[str], seed: int
) -> list[_Row]:
    unknown = [check for check in checks if check not in CHECKS]
    if unknown or isinstance(checks, str):
        raise ValueError(f"checks: expected some of {CHECKS}, got {checks!r}")
    rows = [_Row(name, "", make(forward_func), forward_func) for name, make in factories.items()]
    for check in dict.fromkeys(checks):
        model = (
            with_random_weights(forward_func, seed) if check == "random-weights" else forward_func
        )
        rows += [
            _Row(name, check, make(model), model)
            for name, make in factories.items()
            if name not in REFERENCES
        ]
    return rows


def _measure(
    batch: Batch,
    rows: Sequence[_Row],
    labels: Mapping[str, list[int]],
    harnesses: Sequence[DeletionInsertion],
    ties: Sequence[Ties],
    internal_batch_size: int,
    progress: tqdm,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Results and curves of one batch; labels: check -> the classes that methods explain."""
    results, curves = [], []
    as_is: dict[str, Tensor] = {}
    for row in rows:
        progress.set_postfix_str(" ".join(filter(None, [row.method, row.check])))
        found = _explain(row, batch, labels[row.check], internal_batch_size)
        progress.update(len(batch.names))
        measured: dict[str, Any] = {"forward_passes": found.passes, "seconds": found.seconds}
        if batch.masks is not None:
            measured |= {
                name: measure(found.maps, batch.masks).tolist()
                for name, measure in _LOCALIZATION.items()
            }
        if row.check:
            measured["similarity"] = rank_correlation(as_is[row.method], found.maps)
        else:
            as_is[row.method] = found.maps
        for harness in harnesses:
            photos = harness.protocol.resolution == "original"
            own = harness.protocol.ties
            others = [] if row.check else [order for order in ties if order != own]
            by_order = harness.under_ties(
                batch.photos if photos else batch.inputs,
                found.maps,
                batch.targets,
                ties=(own, *others),
            )
            found_curves = by_order[own]
            keys = pd.DataFrame(
                {
                    "image": batch.names,
                    "index": batch.indices,
                    "source": batch.sources,
                    "method": row.method,
                    "check": row.check,
                    "protocol": harness.protocol.name,
                }
            )
            areas = {name: values.tolist() for name, values in found_curves.auc().items()}
            if not row.check:
                areas |= _under_ties(by_order, ties)
            assert found_curves.tied is not None  # the harness knows it
            areas["tied"] = found_curves.tied.tolist()
            classes = {"target": batch.targets, "predicted": batch.predicted}
            results.append(keys.assign(**classes, **areas, **measured))
            frame = found_curves.to_frame()
            repeated = keys.iloc[frame.pop("row")].reset_index(drop=True)
            curves.append(pd.concat([repeated, frame], axis="columns"))
            progress.update(len(batch.names))
    return pd.concat(results, ignore_index=True), pd.concat(curves, ignore_index=True)


def _under_ties(
    curves: Mapping[Ties, FaithfulnessCurves], ties: Sequence[Ties]
) -> dict[str, list[float]]:
    """The areas that say most, under each order of ties: "deletion_top1_raster", ..."""
    areas = {order: curves[order].auc() for order in ties}
    return {f"{name}_{order}": areas[order][name].tolist() for name in UNDER_TIES for order in ties}


def _explain(row: _Row, batch: Batch, labels: list[int], internal_batch_size: int) -> _Map:
    """A method's maps of a batch, timed, its forward passes counted; without its one-off checks."""
    if hasattr(row.explainer, "check_forward_func"):
        row.explainer.check_forward_func(batch.inputs)
        view = known_field_of_view(row.explainer.forward_func, batch.inputs, None)
        if view not in (None, FieldOfView(0, 0, *batch.inputs.shape[2:])):
            raise ValueError(
                "forward_func: expected it to show the image encoder all of its inputs, since "
                "masks and photos are cut as preprocess cuts them; crop, pad or resize there "
                f"instead (got {view})"
            )
    with _counted_images(row.forward_func) as count:
        start = time.perf_counter()
        try:
            maps = raw_map(
                row.explainer,
                batch.inputs,
                labels,
                masks=batch.masks,
                internal_batch_size=internal_batch_size,
            )
        except NotFiniteError as error:
            names = ", ".join(batch.names[index] for index in error.images)
            raise ValueError(
                f"methods: {row.method} needs finite {error.what}, got NaN or infinity for {names}"
            ) from error
        if maps.device.type == "cuda":
            torch.cuda.synchronize(maps.device)
        seconds = time.perf_counter() - start
    for name, one in zip(batch.names, maps, strict=True):
        if not bool(one.isfinite().all()):
            raise ValueError(
                f"methods: expected finite maps, {row.method} has NaN or infinity for {name}"
            )
    size = len(batch.names)
    return _Map(maps, count[0] / size, seconds / size)


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


def _sorted(frame: pd.DataFrame, order: Mapping[tuple[str, str], int]) -> pd.DataFrame:
    """The rows method by method, protocol by protocol, image by image."""
    places = [order[key] for key in zip(frame["method"], frame["check"], strict=True)]
    protocols = {name: place for place, name in enumerate(frame["protocol"].unique())}
    keyed = frame.assign(_method=places, _protocol=frame["protocol"].map(protocols))
    keyed = keyed.sort_values(["_protocol", "_method", "index"], kind="stable", ignore_index=True)
    return keyed.drop(columns=["_method", "_protocol"])
