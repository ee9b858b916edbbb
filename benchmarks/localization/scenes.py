"""Do the maps of each method lie on the object? Measured on fresh scenes with exact masks.

The true class of the first object is explained, right or wrong as the model may be. Where it is
the only object, a map that is the same for every class can do well; beside another (--kind two)
it cannot. Prints a Markdown table: both measures and their paired differences to random maps,
with 95 % intervals over the scenes, and what a map costs. RISE has few masks by default (its
paper takes 4000), for a report within minutes. --variants adds the options that papers and released
code leave open.

    python -m cci_captum.benchmarks.localization.scenes --images 200 --seed 11 --out FILE.md
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from cci_captum.baselines.registry import METHODS, Method, find_method
from cci_captum.models.clip import ZeroShotClassifier
from cci_captum.tiny import CLASS_NAMES, MODEL_NAMES, TEMPLATES, load_tiny

from ..maps import raw_map
from ..markdown import NO_INTERVAL, table, with_interval
from ..ranking import predicted
from ..scenes import SceneGenerator
from ..speed.timing import median_seconds
from ..statistics import interval, paired_interval
from .metrics import energy, pointing_game

_MEASURES = {"pointing game": pointing_game, "energy": energy}
_RANDOM = find_method("random").title
_VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "grad-eclip": {
        "the model's heads": {"single_head": False},
        "without key similarity": {"key_similarity": False},
    },
    "maskclip": {"without key similarity": {"key_similarity": False}},
    "gradcam": {
        "one head": {"single_head": True},
        "averaged over patches": {"average": "patches"},
    },
    "self-attention": {"the model's heads": {"single_head": False}},
    "game": {"all layers": {"layers": "all"}},
    "clip-surgery": {"without feature surgery": {"feature_surgery": False}},
}
_BATCH = 20  # images in one forward pass
_PLAIN_PASSES = 10  # timed together: one is too short to time


class _Row(NamedTuple):
    """A row of the table: a method with some options."""

    title: str
    method: Method
    explainer: Any


class _Benchmark:
    """Scenes, their masks and true classes, and a classifier to explain."""

    def __init__(
        self, model_name: str, artwork: str, kind: str, seed: int, count: int, device: str
    ) -> None:
        model, preprocess, tokenizer = load_tiny(model_name, device)
        self.classifier = ZeroShotClassifier(model, tokenizer, CLASS_NAMES, TEMPLATES)
        scenes = SceneGenerator(artwork=artwork, seed=seed).scenes(range(count), kind=kind)
        normalize = preprocess.transforms[-1]
        self.inputs = normalize(torch.stack([scene.image for scene in scenes])).to(device)
        self.masks = torch.stack([scene.masks[0] for scene in scenes]).to(device)
        self.targets = [scene.classes[0] for scene in scenes]

    @torch.no_grad()
    def accuracy(self) -> float:
        """Share of scenes whose explained class is the predicted one."""
        parts = [predicted(self.classifier(part)) for part in self.inputs.split(_BATCH)]
        return float((torch.cat(parts).cpu() == torch.tensor(self.targets)).double().mean())

    def row(self, method: Method, title: str, options: dict[str, Any]) -> _Row:
        """A row of the table, its method made with these options."""
        return _Row(title, method, method(self.classifier, **options))

    def maps(self, row: _Row, first: int, last: int) -> Tensor:
        """A method's maps of the scenes from first to before last."""
        return raw_map(
            row.explainer,
            self.inputs[first:last],
            self.targets[first:last],
            masks=self.masks[first:last],
            internal_batch_size=_BATCH,
        )

    def measure(self, row: _Row, progress: tqdm) -> dict[str, Tensor]:
        """Every measure of a method's maps, and whether they are blank, (n,) each."""
        values: dict[str, list[Tensor]] = {name: [] for name in [*_MEASURES, "blank"]}
        for first in range(0, len(self.inputs), _BATCH):
            last = min(first + _BATCH, len(self.inputs))
            maps = self.maps(row, first, last)
            values["blank"].append((maps <= 0).all(dim=2).all(dim=1).double())
            for name, measure in _MEASURES.items():
                values[name].append(measure(maps, self.masks[first:last]))
            progress.update(last - first)
        return {name: torch.cat(parts).cpu() for name, parts in values.items()}

    def costs(self, rows: list[_Row], batch: int, repeats: int) -> list[float]:
        """Time of each method on a batch, in plain forward passes of that batch."""

        @torch.no_grad()
        def plain() -> None:
            for _ in range(_PLAIN_PASSES):
                self.classifier(self.inputs[:batch])

        functions: dict[str, Any] = {"plain": plain}
        for row in rows:
            functions[row.title] = partial(self.maps, row, 0, batch)
        seconds = median_seconds(functions, repeats, self.inputs.device)
        one_pass = seconds["plain"] / _PLAIN_PASSES
        return [seconds[row.title] / one_pass for row in rows]


def _mean(values: Tensor) -> str:
    """A mean of shares, with its interval."""
    return with_interval(float(values.mean()), *interval(values, bounds=(0, 1)), digits=2)


def _difference(values: Tensor, others: Tensor) -> str:
    """The mean difference of pairs of shares, with its interval."""
    ends = paired_interval(values, others, bounds=(0, 1))
    return with_interval(float((values - others).mean()), *ends, digits=2, signed=True)


def _cells(
    rows: list[_Row], measured: list[dict[str, Tensor]], costs: list[float]
) -> list[list[object]]:
    (random,) = (values for row, values in zip(rows, measured, strict=True) if row.title == _RANDOM)
    lines = []
    for row, values, cost in zip(rows, measured, costs, strict=True):
        line: list[object] = [row.title]
        for name in _MEASURES:
            line.append(_mean(values[name]))
            line.append("" if values is random else _difference(values[name], random[name]))
        lines.append([*line, f"{cost:.1f}"])
    return lines


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=200, help="scenes (%(default)s)")
    parser.add_argument("--seed", type=int, default=11, help="of the scenes (%(default)s)")
    parser.add_argument("--model", choices=MODEL_NAMES, default="tiny", help="(%(default)s)")
    parser.add_argument("--artwork", choices=("train", "held-out"), default="train")
    parser.add_argument("--kind", choices=("one", "two"), default="one", help="objects (one)")
    parser.add_argument(
        "--method", action="append", choices=METHODS, help="may be repeated (all); random is added"
    )
    parser.add_argument(
        "--variants", action="store_true", help="add rows for other options of the methods"
    )
    parser.add_argument("--rise-masks", type=int, default=200, help="masks of RISE (%(default)s)")
    parser.add_argument("--cost-batch", type=int, default=4, help="images timed (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="timed calls (%(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    args = parser.parse_args(argv)
    for option in ("images", "rise_masks", "cost_batch", "repeats", "threads"):
        if getattr(args, option) < 1:
            parser.error(f"--{option.replace('_', '-')}: expected at least 1")
    if args.out and (args.out.is_dir() or not args.out.absolute().parent.is_dir()):
        parser.error(f"--out: expected a file in an existing folder, got {args.out}")
    args.cost_batch = min(args.cost_batch, args.images)
    return args


def _report(
    args: argparse.Namespace,
    benchmark: _Benchmark,
    rows: list[_Row],
    measured: list[dict[str, Tensor]],
    costs: list[float],
) -> str:
    methods = [row.method for row in rows]
    rise = f"; RISE with {args.rise_masks} masks" if find_method("rise") in methods else ""
    blank = [
        f"{row.title} {float(values['blank'].mean()):.1%}"
        for row, values in zip(rows, measured, strict=True)
        if values["blank"].any()
    ]
    head = ["method", *(h for name in _MEASURES for h in (name, "minus random")), "cost"]
    measures = table(head, _cells(rows, measured, costs))
    lines = [
        f"{args.images} {args.kind}-object scenes (seed {args.seed}, {args.artwork} artwork), "
        f"{args.model}. Explained: the true class of the first object, which covers "
        f"{float(benchmark.masks.double().mean()):.1%} of the picture and is the predicted class "
        f"in {benchmark.accuracy():.1%}.",
        "Means and 95 % intervals over the scenes. Cost: in plain forward passes of the "
        f"same {args.cost_batch} images, median of {args.repeats}{rise}; "
        f"torch {torch.__version__.split('+')[0]}, {args.device}, "
        f"{args.threads} thread{'s' * (args.threads > 1)}.",
        *([f"Maps without any positive value: {', '.join(blank)}."] if blank else []),
        *([NO_INTERVAL] if "(-)" in measures else []),
        "",
        measures,
    ]
    return "\n".join(lines)


def _chosen(args: argparse.Namespace, benchmark: _Benchmark) -> list[_Row]:
    """The rows of the table, in the order of the methods given."""
    rows = []
    for method in map(find_method, dict.fromkeys([*(args.method or METHODS), "random"])):
        options = {"n_masks": args.rise_masks} if method.name == "rise" else {}
        rows.append(benchmark.row(method, method.title, options))
        for words, options in _VARIANTS.get(method.name, {}).items() if args.variants else ():
            rows.append(benchmark.row(method, f"{method.title}, {words}", options))
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table; see the module's docstring."""
    args = _parse(argv)
    torch.set_num_threads(args.threads)
    benchmark = _Benchmark(args.model, args.artwork, args.kind, args.seed, args.images, args.device)
    rows = _chosen(args, benchmark)
    measured = []
    with tqdm(total=len(rows) * args.images, unit="map", leave=False) as progress:
        for row in rows:
            progress.set_description(row.title)
            measured.append(benchmark.measure(row, progress))
    costs = benchmark.costs(rows, args.cost_batch, args.repeats)
    report = _report(args, benchmark, rows, measured, costs)
    print(report)
    if args.out:
        part = args.out.with_name(f".{args.out.name}.part")
        part.write_text(report + "\n", encoding="utf-8")
        os.replace(part, args.out)


if __name__ == "__main__":
    main()
