"""The comparison itself: every method explains the same images, every protocol judges the maps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, cast

import pandas as pd
from torch import nn

from cci_captum._checks import check_batch_size, check_positive_int
from cci_captum._progress import tqdm
from cci_captum.baselines.registry import METHODS, REFERENCES
from cci_captum.baselines.spec import MethodSpec
from cci_captum.models.preprocessing import Preprocess, mean_and_std

from ..data import ImageData
from ..faithfulness import TIES, DeletionInsertion, Protocol
from ..faithfulness.protocols import Ties
from ..tasks import Batch, Classification, Explained, Task
from .plan import Key, blocks, configuration, definition_of
from .randomization import CHECKS, with_random_weights
from .results import Comparison
from .store import MemoryStore, Store
from .tables import comparison_of, samples_of
from .unit import Block, Context, Row, measure

Factory = Callable[[nn.Module], Any]
"""From a forward_func to a Captum attribution of it: a class, or a function that sets options."""


def compare(
    methods: Iterable[str | MethodSpec] | Mapping[str, Factory],
    data: ImageData | Task,
    protocols: Iterable[str | Protocol] = ("grad-eclip",),
    *,
    forward_func: nn.Module | None = None,
    preprocess: Preprocess | None = None,
    explained: Explained | None = None,
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
        data: Images with their classes, such as `cci_captum.benchmarks.data.ImageFolders`; or a
            task, such as `cci_captum.benchmarks.tasks.Retrieval`, which has its own model.
        protocols: Names from `PROTOCOLS`, or `Protocol` objects. None at all measures the maps
            alone: where they lie, what they cost.
        forward_func: Module from images (B, 3, H, W) to (B, C) scores of the data's classes, such
            as a `ZeroShotClassifier`.
        preprocess: From a PIL image to an input (3, H, W) of the model, as `load_clip` returns it.
            Of a function of your own `cci_captum.models.preprocessing.Preprocessing` says how
            it normalises and which part of a photo it leaves.
        explained: The "true" class (None is that), or the "predicted" one, for which masks are not
            used.
        checks: Of `CHECKS`: "random-weights" explains a copy of the model with shuffled weights,
            "random-label" another target; the maps are then judged as all others. See
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
        TypeError: If forward_func is no module, or comes with a task, or not with images.
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
    task = _task(data, forward_func, preprocess, explained)
    check_positive_int("batch_size", batch_size)
    internal_batch_size = check_batch_size(internal_batch_size, batch_size)
    if isinstance(ties, str) or not set(ties) <= set(TIES):
        raise ValueError(f"ties: expected some of {', '.join(TIES)}, got {ties!r}")
    orders = tuple(order for order in TIES if order in ties)
    notes = list(getattr(task.data, "notes", ()))  # those of reading are kept with the items
    chosen_checks = _checks(checks)
    harnesses = _harnesses(protocols, task, seed, internal_batch_size)
    factories = _factories(methods, task.has_masks)
    rows = _rows(factories, task, chosen_checks, seed)
    store = MemoryStore() if store is None else store
    store.begin(
        configuration(
            task,
            [harness.protocol for harness in harnesses],
            checks=chosen_checks,
            ties=list(orders),
            seed=seed,
            batch_size=batch_size,
            internal_batch_size=internal_batch_size,
        ),
        model,
    )
    context = Context(task.kind, harnesses, orders, internal_batch_size)
    named = {"": "", **{name: definition_of(make) for name, make in factories.items()}}
    plan = [
        (places, [Key(model, number, *item) for item in named.items()])
        for number, places in enumerate(blocks(len(task), batch_size))
    ]
    with tqdm(
        total=len(task) * len(rows), desc="compare", unit="map", disable=not show_progress
    ) as progress:
        for places, keys in plan:
            missing = [key for key in keys if not store.has(key)]
            done = [key for key in keys if key.method and key not in missing]
            progress.update(len(places) * len(done))
            if not missing:
                continue
            batch, errors = task.block(places)
            if keys[0] in missing:
                store.add(keys[0], samples_of(task, batch, errors))
            block = None
            if batch is not None:
                block = Block(batch, _labels(task, batch, chosen_checks, seed), {})
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
        **task.settings(),
        "model": model,
        "seed": seed,
        "methods": list(rows),
        "checks": chosen_checks,
        "protocols": [harness.protocol.name for harness in harnesses],
        "fractions": {harness.protocol.name: _fractions(harness.protocol) for harness in harnesses},
        "ties": list(orders),
        "device": str(task.device),
        "notes": notes,
    }
    units = {key: store.load(key) for _, keys in plan for key in keys}
    return comparison_of(units, len(task), settings)


def _task(
    data: ImageData | Task,
    forward_func: nn.Module | None,
    preprocess: Preprocess | None,
    explained: Explained | None,
) -> Task:
    """What is compared: data with a model, or a task that has both."""
    given = {"forward_func": forward_func, "preprocess": preprocess, "explained": explained}
    if isinstance(data, Task):
        for name, value in given.items():
            if value is not None:
                raise TypeError(f"{name}: expected None beside a task, which has its own")
        return data
    if preprocess is None:
        raise TypeError("preprocess: expected a function from a PIL image to an input, got None")
    return Classification(data, cast(nn.Module, forward_func), preprocess, explained or "true")


def _checks(checks: Collection[str]) -> list[str]:
    """Of `CHECKS`, in their order."""
    unknown = [check for check in checks if check not in CHECKS]
    if unknown or isinstance(checks, str):
        raise ValueError(f"checks: expected some of {CHECKS}, got {checks!r}")
    return [check for check in CHECKS if check in checks]


def _labels(task: Task, batch: Batch, checks: Sequence[str], seed: int) -> dict[str, list[int]]:
    """Check -> the targets that methods explain of a block."""
    labels = {"": batch.targets, "random-weights": batch.targets}
    if "random-label" in checks:
        labels["random-label"] = task.other_targets(batch, seed)
    return labels


def _fractions(protocol: Protocol) -> dict[str, list[float]]:
    """Direction -> the perturbed share at each point."""
    inserted = protocol.insertion_fractions
    return {
        "deletion": list(protocol.fractions),
        "insertion": list(protocol.fractions if inserted is None else inserted),
    }


def _factories(
    methods: Iterable[str | MethodSpec] | Mapping[str, Factory], has_masks: bool
) -> dict[str, Factory]:
    """Name -> factory, the references last."""
    if isinstance(methods, str):
        raise ValueError(f"methods: expected a sequence of names, got the string {methods!r}")
    if isinstance(methods, Mapping):
        chosen: dict[str, Factory] = {
            name: MethodSpec.parse(method) if isinstance(method, str) else method
            for name, method in methods.items()
        }
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
        specs = [_spec(method) for method in methods]
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


def _spec(method: Any) -> MethodSpec:
    """The spec of an entry of a list of methods."""
    if not isinstance(method, (str, MethodSpec)):
        raise TypeError(
            "methods: expected names or specs in a list, got "
            f"{getattr(method, '__name__', type(method).__name__)}; with methods of one's own give "
            'name -> method: {"CCI": "cci", "mine": Mine}'
        )
    return MethodSpec.parse(str(method))


def _harnesses(
    protocols: Iterable[str | Protocol], task: Task, seed: int, internal_batch_size: int
) -> list[DeletionInsertion]:
    if isinstance(protocols, (str, Protocol)):
        raise ValueError(f"protocols: expected a sequence, got {protocols!r} alone")
    mean, std = mean_and_std(task.preprocess)
    harnesses = [
        DeletionInsertion(
            task.forward_func,
            protocol,
            seed=seed,
            mean=mean,
            std=std,
            preprocess=task.preprocess,
            internal_batch_size=internal_batch_size,
            score=task.score,
        )
        for protocol in protocols
    ]
    names = [harness.protocol.name for harness in harnesses]
    if len(set(names)) < len(names):
        raise ValueError(f"protocols: expected each with its own name, got {names}")
    if not names and not task.has_masks:
        raise ValueError("protocols: expected at least one where there are no masks, got none")
    return harnesses


def _rows(
    factories: Mapping[str, Factory], task: Task, checks: Sequence[str], seed: int
) -> dict[str, list[Row]]:
    """Method -> itself as it is, then under its checks."""
    shuffled: dict[nn.Module, nn.Module] = {}  # one copy of each module
    rows: dict[str, list[Row]] = {}
    for name, make in factories.items():
        own = task.question(make)
        rows[name] = [Row(name, "", _made(make, own.forward_func), own)]
        for check in checks if name not in REFERENCES else ():
            asked = own
            if check == "random-weights":
                if own.forward_func not in shuffled:
                    shuffled[own.forward_func] = with_random_weights(own.forward_func, seed)
                asked = own._replace(forward_func=shuffled[own.forward_func])
            rows[name].append(Row(name, check, _made(make, asked.forward_func), asked))
    return rows


def _made(make: Factory, model: nn.Module) -> Any:
    """The attribution, or why the method refuses the model."""
    try:
        return make(model)
    except Exception as error:
        return error
