"""A comparison that is checked, and not yet measured: what there is to do, and how."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import pandas as pd
from torch import nn

from cci_captum._checks import check_batch_size, check_positive_int
from cci_captum.baselines.registry import METHODS, REFERENCES
from cci_captum.baselines.spec import MethodSpec
from cci_captum.models.preprocessing import Preprocess, mean_and_std

from ..data import ImageData
from ..faithfulness import TIES, DeletionInsertion, Protocol
from ..faithfulness.protocols import Ties
from ..tasks import Batch, Classification, Explained, Loaded, Task
from .plan import Key, Plan, configuration, definition_of
from .randomization import CHECKS, with_random_weights
from .results import Comparison
from .store import Store
from .tables import samples_of, stored_comparison
from .unit import Block, Context, Row, measure

Factory = Callable[[nn.Module], Any]
"""From a forward_func to a Captum attribution of it: a class, or a function that sets options."""


class Run:
    """Methods on the items of a task by one model, as `compare` measures them, unit by unit.

    Args:
        methods: See `compare`.
        data: See `compare`.
        protocols: See `compare`.
        forward_func: See `compare`.
        preprocess: See `compare`.
        explained: See `compare`.
        checks: See `compare`.
        ties: See `compare`.
        seed: See `compare`.
        batch_size: See `compare`.
        internal_batch_size: See `compare`.
        model: See `compare`.

    Attributes:
        task: What is compared.
        plan: Its units, and all that decides their numbers.

    Raises:
        TypeError: See `compare`.
        ValueError: See `compare`, but for what concerns a store.

    Example:
        >>> import cci_captum
        >>> from cci_captum.benchmarks.comparison import MemoryStore
        >>> from cci_captum.benchmarks.data import Scenes
        >>> clip, scenes = cci_captum.load_clip("tiny"), Scenes(3)
        >>> classifier = cci_captum.ZeroShotClassifier(
        ...     clip.model, clip.tokenizer, scenes.class_names, scenes.templates
        ... )
        >>> options = {"forward_func": classifier, "preprocess": clip.preprocess, "ties": ()}
        >>> run, store = Run(["cci"], scenes, batch_size=2, **options), MemoryStore()
        >>> store.begin(run.plan)
        >>> for block, places in enumerate(run.plan.blocks):
        ...     for key, unit in run.measure(places, store.missing(run.plan.keys(block))):
        ...         store.add(key, unit)
        >>> len(run.comparison(store).results)
        9
    """

    def __init__(
        self,
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
        model: str = "",
    ) -> None:
        self.task = task = _task(data, forward_func, preprocess, explained)
        check_positive_int("batch_size", batch_size)
        internal_batch_size = check_batch_size(internal_batch_size, batch_size)
        if isinstance(ties, str) or not set(ties) <= set(TIES):
            raise ValueError(f"ties: expected some of {', '.join(TIES)}, got {ties!r}")
        orders = tuple(order for order in TIES if order in ties)
        self._checks, self._seed = _checks(checks), seed
        harnesses = _harnesses(protocols, task, seed, internal_batch_size)
        factories = _factories(methods, task.has_masks)
        self._rows = _rows(factories, task, self._checks, seed)
        self._context = Context(task.kind, harnesses, orders, internal_batch_size)
        configured = configuration(
            task,
            [harness.protocol for harness in harnesses],
            checks=self._checks,
            ties=list(orders),
            seed=seed,
            batch_size=batch_size,
            internal_batch_size=internal_batch_size,
        )
        named = {"": "", **{name: definition_of(make) for name, make in factories.items()}}
        settings = {
            **task.settings(),
            "model": model,
            "seed": seed,
            "methods": list(self._rows),
            "checks": self._checks,
            "protocols": [harness.protocol.name for harness in harnesses],
            "fractions": {h.protocol.name: _fractions(h.protocol) for h in harnesses},
            "ties": list(orders),
            "device": str(task.device),
            "notes": list(getattr(task.data, "notes", ())),  # those of reading are with the items
        }
        self.plan = Plan(configured, model, len(task), batch_size, named, settings)

    def maps_of(self, key: Key) -> int:
        """How many maps of an item a unit has: of the method as it is, and under its checks."""
        return len(self._rows.get(key.method, ()))

    def measure(
        self, places: Sequence[int], keys: Iterable[Key], loaded: Loaded | None = None
    ) -> Iterator[tuple[Key, pd.DataFrame]]:
        """Units of a block, one after the other, as the caller asks for the next.

        Args:
            places: Of the block's items.
            keys: Of these units; each is asked for when the one before it was taken.
            loaded: The items, as `task.reader` reads them; None reads them here.

        Yields:
            Key and rows; see `cci_captum.benchmarks.comparison.unit.measure`.
        """
        batch, errors = self.task.batch(self.task.reader(places) if loaded is None else loaded)
        block = None
        if batch is not None:
            block = Block(batch, _labels(self.task, batch, self._checks, self._seed), {})
        for key in keys:
            if not key.method:
                yield key, samples_of(self.task, batch, errors)
            elif block is None:  # that cannot be read
                yield key, pd.DataFrame()
            else:
                yield key, measure(self._context, block, self._rows[key.method])

    def comparison(self, store: Store) -> Comparison:
        """All units as a comparison.

        Raises:
            ValueError: If one is missing, no item was read, or no method gave any map.
        """
        return stored_comparison(self.plan, store)


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
