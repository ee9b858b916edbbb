"""`cci-captum spurious`: public sets that tell how much models lean on backgrounds."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._common import CommandError, add_shared_options
from ._evaluating import (
    PAGE,
    Evaluation,
    Written,
    add_options,
    choose_models,
    data_errors,
    predictions,
    report_again,
    together,
)
from ._verdicts import add_verdicts_option, predictions_with_verdicts, verdicts_in

if TYPE_CHECKING:
    import torch
    from torch import nn

    from cci_captum.models.preprocessing import Preprocess

    from ..data import ImageData, SourceOption
    from ..predictions import PredictionRun, Recogniser
    from ..spurious import Benchmark
    from ._choices import Model

SETS = ("imagenet9", "imagenet9-challenge", "waterbirds", "hardimagenet")
"""Schemes of `cci_captum.benchmarks.spurious.BENCHMARKS`."""

FILES = ("predictions.parquet", "measures.parquet", "backgrounds.png", PAGE)


def add_to(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "spurious",
        help="public sets on backgrounds: ImageNet-9, Waterbirds, Hard ImageNet",
        description="Measure how much models lean on backgrounds: BG-Gap on ImageNet-9 and its "
        "challenge, the worst group of Waterbirds, relative foreground sensitivity on Hard "
        "ImageNet. Writes summary.md, backgrounds.png, measures.parquet, predictions.parquet and "
        "settings.json; and parts of these while it runs, so that the same command goes on where "
        "it was interrupted.",
    )
    parser.add_argument("where", metavar="|".join(f"{scheme}:DIR" for scheme in SETS))
    add_options(parser, out="cci-captum-spurious")
    add_shared_options(parser, "--n", "--seed")
    parser.add_argument(
        "--option",
        action="append",
        metavar="NAME=VALUE",
        help='of the data, as docs/data.md lists them: "masks=DIR"; may be repeated (none)',
    )
    add_verdicts_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Check everything the user gave, then measure, and write."""
    scheme, colon, folder = arguments.where.partition(":")
    if scheme not in SETS or not colon or not folder:
        sets = ", ".join(f"{name}:DIR" for name in SETS)
        raise CommandError(f"DATA: expected one of {sets}, got {arguments.where!r}")
    models = choose_models(arguments)
    verdicts_in(arguments.verdicts)
    from PIL import Image

    from ..data import SOURCES, open_data
    from ..spurious import BENCHMARKS

    benchmark = BENCHMARKS[scheme]
    known = {option.name: option for option in SOURCES[scheme].options}
    options = {**benchmark.options, "seed": arguments.seed, **_options(arguments, known)}

    def find(preprocess: Preprocess | None = None) -> ImageData:
        sized: dict[str, Any] = {}
        if preprocess is not None and "size" in known and "size" not in options:
            sized["size"] = preprocess(Image.new("RGB", (8, 8))).shape[-1]
        with data_errors("DATA", {name: f"--option {name}" for name in known} | {"n": "--n"}):
            return open_data(arguments.where, **options, **sized)

    with data_errors("DATA", {"variants": "--option variants"}):
        benchmark.check(find())  # before a model is loaded

    def classifier(recogniser: Recogniser, data: ImageData) -> nn.Module:
        texts = benchmark.texts_of(data)
        module = recogniser.of(texts.class_names, texts.templates)
        return benchmark.adapt(module, len(texts.class_names), data)

    def load(model: Model, device: torch.device) -> PredictionRun:
        return predictions(
            model,
            device,
            find,
            arguments.batch_size,
            classifier=classifier,
            preprocessing=benchmark.preprocessing,
            about=lambda data: {"known": benchmark.known(data)},
        )

    Evaluation("spurious", arguments, models, load, partial(write, benchmark), FILES).run()


def _options(arguments: argparse.Namespace, known: Mapping[str, SourceOption]) -> dict[str, Any]:
    """What `--n` and `--option` say of the data."""
    found: dict[str, Any] = {} if arguments.n is None else {"n": arguments.n}
    for text in arguments.option or ():
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise CommandError(
                f"--option: expected one of {', '.join(known)} as NAME=VALUE, got {text!r}"
            )
        try:
            found[name] = known[name].kind.read(value)
        except ValueError as error:
            raise CommandError(f"--option: {name}: {error}") from error
    return found


def write(benchmark: Benchmark, written: Written) -> None:
    """The files of runs that are done."""
    import pandas as pd

    from ..markdown import code
    from ..spurious import report
    from ..spurious.figures import picture

    tables = predictions_with_verdicts(written)
    settings = written.plans[0].settings
    known = settings["known"]
    measured = [
        own.assign(model=model, table=name)
        for model, found in report.measures(tables, benchmark, known).items()
        for name, own in found.items()
    ]
    page = report.page(
        tables,
        benchmark,
        known,
        data=settings["data"],
        notes=settings["notes"],
        how=code(written.line),
    )
    written.save(
        {"predictions.parquet": together(tables), "measures.parquet": pd.concat(measured)},
        {"backgrounds.png": lambda: picture(tables, benchmark, known)},
        page,
        report.text(tables, benchmark, known),
    )


def report_of(options: Mapping[str, Any], out: Path) -> None:
    """Write the files of a run that is done, without a model."""
    from ..spurious import BENCHMARKS

    benchmark = BENCHMARKS[options["where"].partition(":")[0]]
    report_again(options, out, partial(write, benchmark), FILES)
