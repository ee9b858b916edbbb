"""What a map of each method costs, in plain forward passes of the same images.

Times, in one process and in turn, ten plain forward passes of a batch of drawn scenes and each
method on that batch, as the embedded model sees them. Prints a Markdown table of ratios: absolute
times differ between machines, ratios less so.

    python -m cci_captum.benchmarks.speed.methods --method cci --method "rise(masks=200)"
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from cci_captum.baselines.registry import METHODS
from cci_captum.baselines.spec import MethodSpec
from cci_captum.models.clip import ZeroShotClassifier, load_clip
from cci_captum.tiny import MODEL_NAMES

from ..data import Scenes
from ..maps import raw_map
from ..markdown import table
from ..tasks import Classification
from .timing import describe, median_seconds

_PLAIN = 10  # passes timed together: one is too short to time


def main(argv: list[str] | None = None) -> None:
    """Print the table; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--method", action="append", type=_spec, help="may be repeated (all)")
    parser.add_argument("--model", choices=MODEL_NAMES, default="tiny", help="(%(default)s)")
    parser.add_argument("--batch-size", type=int, default=4, help="images (%(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="timed calls (%(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2, help="(%(default)s)")
    parser.set_defaults(dtype="float32")  # of the embedded models
    args = parser.parse_args(argv)
    for option in ("batch_size", "repeats", "threads"):
        if getattr(args, option) < 1:
            parser.error(f"--{option.replace('_', '-')}: expected at least 1")
    torch.set_num_threads(args.threads)
    clip = load_clip(args.model, device=args.device)
    scenes = Scenes(args.batch_size)
    classifier = ZeroShotClassifier(
        clip.model, clip.tokenizer, scenes.class_names, scenes.templates
    )
    batch, _ = Classification(scenes, classifier, clip.preprocess).block(range(len(scenes)))
    assert batch is not None  # scenes can be read

    @torch.no_grad()
    def plain() -> None:
        for _ in range(_PLAIN):
            classifier(batch.inputs)

    functions: dict[str, Callable[[], Any]] = {"plain": plain}
    for spec in args.method or map(MethodSpec, METHODS):
        functions[spec.title] = partial(
            raw_map, spec(classifier), batch.inputs, batch.targets, masks=batch.masks
        )
    seconds = median_seconds(functions, args.repeats, batch.inputs.device)
    one_pass = seconds.pop("plain") / _PLAIN
    rows = [[title, f"{median / one_pass:.1f}"] for title, median in seconds.items()]
    print(f"{describe(args)}\n\n{table(['method', 'plain passes'], rows)}")


def _spec(text: str) -> MethodSpec:
    try:
        return MethodSpec.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    main()
