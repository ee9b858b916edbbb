"""The comparison itself: every method explains the same images, every protocol judges the maps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, get_args

import pandas as pd
from torch import nn
from tqdm.auto import tqdm

from cci_captum._checks import check_batch_size, check_choice, check_positive_int
from cci_captum.baselines.registry import METHODS, REFERENCES
from cci_captum.baselines.spec import MethodSpec
from cci_captum.models.clip import ZeroShotClassifier
from cci_captum.models.preprocessing import Preprocess, mean_and_std

from ..data import ImageData
from ..faithfulness import TIES, DeletionInsertion, Protocol
from ..faithfulness.protocols import Ties
from .loading import Batch, Explained, Loader
from .plan import Key, blocks, configuration, definition_of
from .randomization import CHECKS, random_labels, with_random_weights
from .results import Comparison
from .store import MemoryStore, Store
from .tables import comparison_of
from .unit import Block, Context, Row, measure

Factory = Callable[[nn.Module], Any]
"""From a forward_func to a Captum attribution of it: a class, or a function that sets options."""


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
    store: Store | None = None,
    model: str = "",
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
        store: Where finished blocks are kept, such as `FolderStore(folder)`: what is there is not
            measured again, so that a run that was interrupted goes on where it was, and another
            one may add methods. None keeps them in memory.
        model: Name of the model, for keys and reports.

    Returns:
        A `Comparison`. What fails is a row of its `failures`: an image for which a map has no
        finite values, a method that refuses the model or runs out of memory.

    Raises:
        TypeError: If forward_func is no module.
        ValueError: If a name is unknown, there are no images, the classes do not fit, it is
            not known what preprocess does, or the store is that of a run with other settings,
            versions, weights or images; raised before anything is explained. Also if no method
            gave any map, with the first reason.

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
    factories = _factories(methods, loader.has_masks)
    rows = _rows(factories, forward_func, checks, seed)
    store = MemoryStore() if store is None else store
    store.begin(
        configuration(
            forward_func,
            data,
            preprocess,
            [harness.protocol for harness in harnesses],
            masks=loader.has_masks,
            explained=explained,
            checks=[check for check in CHECKS if check in checks],
            ties=list(orders),
            seed=seed,
            batch_size=batch_size,
            internal_batch_size=internal_batch_size,
        )
    )
    context = Context(harnesses, orders, internal_batch_size)
    named = {"": "", **{name: definition_of(make) for name, make in factories.items()}}
    plan = [
        (places, [Key(model, number, *item) for item in named.items()])
        for number, places in enumerate(blocks(len(data), batch_size))
    ]
    with tqdm(
        total=len(data) * len(rows), desc="compare", unit="map", disable=not show_progress
    ) as progress:
        for places, keys in plan:
            missing = [key for key in keys if not store.has(key)]
            done = [key for key in keys if key.method and key not in missing]
            progress.update(len(places) * len(done))
            if not missing:
                continue
            batch, errors = loader.block(places)
            if keys[0] in missing:
                left_out = pd.DataFrame(sorted(errors.items()), columns=["index", "error"])
                store.add(keys[0], left_out)
            block = None
            if batch is not None:
                labels = _labels(batch, checks, len(data.class_names), seed)
                block = Block(batch, labels, {})
            for key in missing:
                if not key.method:
                    continue
                progress.set_postfix_str(key.method)
                nothing = pd.DataFrame()  # of a block that cannot be read
                store.add(
                    key, nothing if block is None else measure(context, block, rows[key.method])
                )
                progress.update(len(places))
    settings = {
        "data": data.name,
        "model": model,
        "classes": len(data.class_names),
        "masks": loader.has_masks,
        "explained": explained,
        "seed": seed,
        "methods": list(rows),
        "checks": [check for check in CHECKS if check in checks],
        "protocols": [harness.protocol.name for harness in harnesses],
        "fractions": {harness.protocol.name: _fractions(harness.protocol) for harness in harnesses},
        "ties": list(orders),
        "device": str(loader.device),
        **_about_texts(forward_func),
        "notes": list(getattr(data, "notes", ())),
    }
    units = {key: store.load(key) for _, keys in plan for key in keys}
    return comparison_of(units, len(data), settings)


def _labels(batch: Batch, checks: Collection[str], classes: int, seed: int) -> dict[str, list[int]]:
    """Check -> the classes that methods explain of a block."""
    labels = {"": batch.targets, "random-weights": batch.targets}
    if "random-label" in checks:
        labels["random-label"] = random_labels(batch.inputs, batch.targets, classes, seed)
    return labels


def _fractions(protocol: Protocol) -> dict[str, list[float]]:
    """Direction -> the perturbed share at each point."""
    inserted = protocol.insertion_fractions
    return {
        "deletion": list(protocol.fractions),
        "insertion": list(protocol.fractions if inserted is None else inserted),
    }


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
) -> dict[str, list[Row]]:
    """Method -> itself as it is, then under its checks."""
    unknown = [check for check in checks if check not in CHECKS]
    if unknown or isinstance(checks, str):
        raise ValueError(f"checks: expected some of {CHECKS}, got {checks!r}")
    models = {"": forward_func}
    for check in CHECKS:
        if check in checks:
            models[check] = (
                with_random_weights(forward_func, seed)
                if check == "random-weights"
                else forward_func
            )
    return {
        name: [
            Row(name, check, _made(make, model), model)
            for check, model in models.items()
            if not check or name not in REFERENCES
        ]
        for name, make in factories.items()
    }


def _made(make: Factory, model: nn.Module) -> Any:
    """The attribution, or why the method refuses the model."""
    try:
        return make(model)
    except Exception as error:
        return error
