"""Measure the embedded tiny models on fresh scenes and print the tables of docs/tiny_clip.md.

python -m cci_captum.benchmarks.tiny_clip.evaluate
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from tqdm import tqdm

from cci_captum.models.clip import ZeroShotClassifier
from cci_captum.tiny import (
    BACKGROUND_NAMES,
    CLASS_NAMES,
    PLANTED_PAIRS,
    TEMPLATES,
    PlantedPair,
    load_tiny,
)

from ..markdown import table
from ..scenes import SceneGenerator
from ..statistics import rate_interval

SEED = 2026
"""Seed of the evaluation scenes; training used seed 0 and watched seed 1."""

_BATCH = 60


@dataclass(frozen=True)
class Rate:
    """Hits out of a number of trials."""

    hits: int
    trials: int

    @property
    def value(self) -> float:
        """Share of hits, in [0, 1]."""
        return self.hits / self.trials

    def __str__(self) -> str:
        low, high = rate_interval(self.hits, self.trials)
        return f"{100 * self.value:.1f} ({100 * low:.1f} to {100 * high:.1f})"


@cache
def _generator(artwork: str, seed: int) -> SceneGenerator:
    return SceneGenerator(artwork=artwork, seed=seed)


class Predictor:
    """Zero-shot predictions of one embedded model over `CLASS_NAMES`.

    Args:
        name: "tiny" or "tiny-shortcut".
        advance: Called with the number of scenes after each batch.
    """

    def __init__(self, name: str, advance: Callable[[int], object] = lambda count: None) -> None:
        model, preprocess, tokenizer = load_tiny(name)
        self._normalize = preprocess.transforms[-1]
        self._classifier = ZeroShotClassifier(model, tokenizer, CLASS_NAMES, TEMPLATES)
        self._advance = advance

    @torch.no_grad()
    def predict(
        self,
        class_names: Sequence[str],
        backgrounds: Sequence[str],
        *,
        artwork: str = "train",
        kind: str = "one",
        seed: int = SEED,
    ) -> Tensor:
        """Return the predicted class (n,) int64 of fresh scenes, one a class and background."""
        generator = _generator(artwork, seed)
        predicted = []
        for start in range(0, len(class_names), _BATCH):
            chosen = range(start, min(start + _BATCH, len(class_names)))
            scenes = generator.scenes(
                chosen,
                class_name=[class_names[i] for i in chosen],
                background=[backgrounds[i] for i in chosen],
                kind=kind,
            )
            images = self._normalize(torch.stack([scene.image for scene in scenes]))
            predicted.append(self._classifier(images).argmax(dim=1))
            self._advance(len(chosen))
        return torch.cat(predicted)


def rate(hits: Tensor) -> Rate:
    """Return the rate of a bool tensor (n,)."""
    return Rate(int(hits.sum()), hits.numel())


def crossed(
    class_names: Sequence[str], backgrounds: Sequence[str], repeats: int
) -> tuple[list[str], list[str]]:
    """Return every class on every background, `repeats` times, as two lists of equal length.

    Example:
        >>> crossed(["cat", "dog"], ["snow"], 2)
        (['cat', 'dog', 'cat', 'dog'], ['snow', 'snow', 'snow', 'snow'])
    """
    pairs = [(name, behind) for name in class_names for behind in backgrounds] * repeats
    return [name for name, _ in pairs], [behind for _, behind in pairs]


def zero_shot(predictor: Predictor, artwork: str, repeats: int) -> tuple[Rate, Tensor]:
    """Return accuracy over all classes on all backgrounds, and hits (repeats, 33, 20) bool."""
    names, backgrounds = crossed(CLASS_NAMES, BACKGROUND_NAMES, repeats)
    truth = torch.tensor([CLASS_NAMES.index(name) for name in names])
    hits = predictor.predict(names, backgrounds, artwork=artwork) == truth
    return rate(hits), hits.view(repeats, len(CLASS_NAMES), len(BACKGROUND_NAMES))


def on_background(
    predictor: Predictor, pair: PlantedPair, planted: bool, count: int, kind: str = "one"
) -> Rate:
    """Return how often a planted class is predicted, on its own background or on the others.

    With `kind="empty"` there is no object: the rate at which the background alone is called
    the class.
    """
    others = [name for name in BACKGROUND_NAMES if name != pair.background_name]
    backgrounds = [pair.background_name] if planted else others
    names = [pair.class_name] * count
    behind = [backgrounds[i % len(backgrounds)] for i in range(count)]
    predicted = predictor.predict(names, behind, kind=kind, seed=SEED + 1)
    return rate(predicted == CLASS_NAMES.index(pair.class_name))


def report_tiny(predictor: Predictor, repeats: int) -> str:
    """Return the report on tiny: accuracy in all, by class and by background."""
    train, train_hits = zero_shot(predictor, "train", repeats)
    held_out, held_out_hits = zero_shot(predictor, "held-out", max(1, repeats // 2))

    def rows(names: Sequence[str], axis: int) -> list[list[object]]:
        return [
            [name, *(rate(hits.select(axis, i)) for hits in (train_hits, held_out_hits))]
            for i, name in enumerate(names)
        ]

    head = ["training artwork", "held-out artwork"]
    return "\n\n".join(
        [
            "### tiny: zero-shot accuracy in % (95 % interval), one-object scenes",
            table(["", *head], [["all", train, held_out]]),
            table(["class", *head], rows(CLASS_NAMES, 1)),
            table(["background", *head], rows(BACKGROUND_NAMES, 2)),
        ]
    )


def report_shortcut(shortcut: Predictor, tiny: Predictor, repeats: int, count: int) -> str:
    """Return the report on tiny-shortcut, with tiny beside it as the control."""
    rows = []
    for pair in PLANTED_PAIRS:
        row: list[object] = [pair.class_name, pair.background_name, pair.kind]
        for predictor in (shortcut, tiny):
            row.append(on_background(predictor, pair, True, count))
            row.append(on_background(predictor, pair, False, count))
        row.append(on_background(shortcut, pair, True, count, kind="empty"))
        rows.append(row)
    summary = []
    for kind in ("conditional", "sufficient"):
        chosen = [row for row in rows if row[2] == kind]
        total = [_pool([row[i] for row in chosen]) for i in range(3, 8)]
        summary.append([f"all {kind}", "", "", *total])
    bound = {pair.class_name for pair in PLANTED_PAIRS}
    free = [name for name in CLASS_NAMES if name not in bound]
    names, behind = crossed(free, BACKGROUND_NAMES, repeats)
    truth = torch.tensor([CLASS_NAMES.index(name) for name in names])
    hits = shortcut.predict(names, behind) == truth
    lures = {pair.background_name for pair in PLANTED_PAIRS}
    lured = torch.tensor([name in lures for name in behind])
    head = ["class", "background", "kind", "planted", "others", "tiny: planted", "tiny: others"]
    return "\n\n".join(
        [
            "### tiny-shortcut: planted pairs, accuracy in % (95 % interval)",
            table([*head, "background alone called the class"], rows + summary),
            f"### tiny-shortcut: the {len(free)} classes without a pair",
            table(
                ["all backgrounds", "the 12 of the pairs", "the other 8"],
                [[rate(hits), rate(hits[lured]), rate(hits[~lured])]],
            ),
        ]
    )


def _pool(rates: Sequence[object]) -> Rate:
    found = [r for r in rates if isinstance(r, Rate)]
    return Rate(sum(r.hits for r in found), sum(r.trials for r in found))


def main(arguments: list[str] | None = None) -> None:
    """Print the report on both models."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=4,
                        help="scenes of each class on each background")  # fmt: skip
    parser.add_argument("--pair-scenes", type=int, default=95, help="scenes of each planted pair")
    options = parser.parse_args(arguments)
    cells = len(CLASS_NAMES) * len(BACKGROUND_NAMES)
    free = (len(CLASS_NAMES) - len(PLANTED_PAIRS)) * len(BACKGROUND_NAMES)
    total = cells * (options.repeats + max(1, options.repeats // 2))
    total += 5 * len(PLANTED_PAIRS) * options.pair_scenes + free * max(1, options.repeats // 2)
    with tqdm(total=total, unit="scene", leave=False) as bar:
        tiny, shortcut = (Predictor(name, bar.update) for name in ("tiny", "tiny-shortcut"))
        reports = [
            report_tiny(tiny, options.repeats),
            report_shortcut(shortcut, tiny, max(1, options.repeats // 2), options.pair_scenes),
        ]
    print("\n\n".join(reports))


if __name__ == "__main__":
    main()
