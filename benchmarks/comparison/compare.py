"""The comparison itself: every method explains the same images, every protocol judges the maps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from torch import nn

from cci_captum._progress import progress_bar
from cci_captum.baselines.spec import MethodSpec
from cci_captum.models.preprocessing import Preprocess

from ..data import ImageData
from ..faithfulness import TIES, Protocol
from ..faithfulness.protocols import Ties
from ..tasks import Explained, Task
from .results import Comparison
from .run import Factory, Run
from .store import MemoryStore, Store


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
    run = Run(
        methods,
        data,
        protocols,
        forward_func=forward_func,
        preprocess=preprocess,
        explained=explained,
        checks=checks,
        ties=ties,
        seed=seed,
        batch_size=batch_size,
        internal_batch_size=internal_batch_size,
        model=model,
    )
    store = MemoryStore() if store is None else store
    store.begin(run.plan)
    maps = run.plan.items * sum(map(run.maps_of, run.plan.keys(0)))
    with progress_bar(show_progress, maps, "compare", unit="map") as progress:
        for number, places in enumerate(run.plan.blocks):
            keys = run.plan.keys(number)
            missing = store.missing(keys)
            done = [key for key in keys if key not in missing]
            progress.update(len(places) * sum(map(run.maps_of, done)))
            for key, unit in run.measure(places, missing) if missing else ():
                progress.set_postfix_str(key.method)
                store.add(key, unit)
                progress.update(len(places) * run.maps_of(key))
    return run.comparison(store)
