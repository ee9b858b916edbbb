"""`cci-captum counteranimal`: how much worse models are on backgrounds seldom seen."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._common import CommandError, add_shared_options, one_of
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
from ._written import name_of

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from matplotlib.figure import Figure

    from cci_captum.models.preprocessing import Preprocess

    from ..counteranimal import Candidates
    from ..data import CounterAnimal
    from ..predictions import PredictionRun
    from ._choices import Model

_COMMAND = "counteranimal"
_SCHEME = "counteranimal:"
_FIXED = ("predictions.parquet", "accuracy.parquet", "classes.parquet", "candidates.json")
_TEMPLATES = {"paper": "A photo of {}.", "openai-imagenet": "openai-imagenet"}


def add_to(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        _COMMAND,
        help="CounterAnimal: animals on common and on counter backgrounds",
        description="Measure models on CounterAnimal as its paper does, 1 vs 1000 and 1 vs 20, and "
        "set them beside its results. Writes summary.md, robustness.png, a picture of the classes "
        "of each model, accuracy.parquet, classes.parquet, predictions.parquet, candidates.json "
        "and settings.json; and parts of these while it runs, so that the same command goes on "
        "where it was interrupted.",
    )
    parser.add_argument("where", metavar="DIR", help="LAION-final, or the folder that it is in")
    add_options(parser, out="cci-captum-counteranimal")
    parser.add_argument(
        "--templates",
        type=one_of(*_TEMPLATES),
        default="paper",
        metavar="{paper,openai-imagenet}",
        help="the paper's one prompt, or the 80 of its Table 10 (%(default)s)",
    )
    parser.add_argument(
        "--candidates",
        type=Path,
        metavar="FILE",
        help="the 20 names a class, as a run has written them (chosen by ViT-B-32,laion400m_e31 "
        "if it is one of the models, else by the first)",
    )
    parser.add_argument(
        "--partial", action="store_true", help="go on where classes or groups are missing"
    )
    add_shared_options(parser, "--n", "--seed")
    add_verdicts_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Check everything the user gave, then measure, and write."""
    models = choose_models(arguments)
    verdicts_in(arguments.verdicts)
    candidates = _candidates_in(arguments.candidates)
    from ..predictions.pages import class_pictures

    def find(preprocess: Preprocess | None = None) -> CounterAnimal:
        from ..data import CounterAnimal

        with data_errors("DIR", {"count": "--n", "partial": "--partial"}):
            return CounterAnimal(
                arguments.where.removeprefix(_SCHEME),
                templates=_TEMPLATES[arguments.templates],
                partial=arguments.partial,
                count=arguments.n,
                seed=arguments.seed,
            )

    data = find()  # before a model is loaded
    pairs = set(zip(data.targets, data.groups, strict=True))
    if len(pairs) == len(set(data.targets)):
        option = "DIR" if arguments.n is None else "--n"
        raise CommandError(
            f"{option}: expected photos of a class in both groups, got none of {data.name}"
        )
    try:
        if candidates is not None:
            for target in sorted(set(data.targets)):
                candidates.of(target)
    except ValueError as error:
        raise CommandError(f"--{error}") from error

    def load(model: Model, device: torch.device) -> PredictionRun:
        return predictions(model, device, find, arguments.batch_size, keep_scores=True)

    pictures = class_pictures(map(name_of, models)).values()
    files = (*_FIXED, "robustness.png", *pictures, PAGE)
    Evaluation(_COMMAND, arguments, models, load, _write, files).run()


def report_of(options: Mapping[str, Any], out: Path) -> None:
    """Write the files of a run that is done, without a model."""
    report_again(options, out, _write, (*_FIXED, "robustness.png", PAGE))


def _write(written: Written) -> None:
    """The files of runs that are done."""
    import pandas as pd

    from ..counteranimal import accuracies, class_accuracies, report, rules_of
    from ..counteranimal.figures import class_dumbbells, robustness_scatter
    from ..markdown import code
    from ..predictions.pages import class_pictures

    options = written.options
    tables = predictions_with_verdicts(written)
    settings = written.plans[0].settings
    chosen = _candidates_in(options.get("candidates")) or _chosen(tables, settings["data"])
    measured, classes = [], []
    points: dict[str, pd.Series] = {}
    pictures: dict[str, Callable[[], Figure]] = {}
    names = class_pictures(tables)
    for model, own in tables.items():
        for setup, candidates in (("1 vs 1000", None), ("1 vs 20", chosen)):
            for average in ("classes", "photos"):
                found = accuracies(own, candidates, average=average)
                said = {"model": model, "setup": setup, "average": average}
                measured.append(found.rename_axis("group").reset_index().assign(**said))
                points.setdefault(model, found["accuracy"])  # the first: 1 vs 1000, by class
            by_class = class_accuracies(own, candidates)
            pictures.setdefault(names[model], partial(class_dumbbells, by_class, title=model))
            classes.append(by_class.assign(model=model, setup=setup))
    pairs = {model: (float(own["common"]), float(own["counter"])) for model, own in points.items()}
    page = report.page(
        tables,
        chosen,
        data=settings["data"],
        templates=_TEMPLATES[options["templates"]],
        rules=list(dict.fromkeys(rule for own in tables.values() for rule in rules_of(own))),
        notes=settings["notes"],
        again=code(written.line),
    )
    written.save(
        {
            "predictions.parquet": together(tables).drop(columns="scores"),
            "accuracy.parquet": pd.concat(measured),
            "classes.parquet": pd.concat(classes),
        },
        {"robustness.png": partial(robustness_scatter, pairs), **pictures},
        page,
        _said(pairs),
        others={"candidates.json": chosen.save},
    )


def _chosen(tables: Mapping[str, pd.DataFrame], data: str) -> Candidates:
    """By the paper's model where it is one of them, else by the first."""
    from ..counteranimal import PAPER_MODEL, choose_candidates
    from ..counteranimal.published import plain_name

    papers = (model for model in tables if plain_name(model) == PAPER_MODEL)
    model = next(papers, next(iter(tables)))
    return choose_candidates(tables[model], model=model, data=data)


def _candidates_in(path: str | Path | None) -> Candidates | None:
    if path is None:
        return None
    from ..counteranimal import Candidates

    try:
        return Candidates.load(path)
    except (OSError, ValueError) as error:
        raise CommandError(f"--candidates: {error}") from error


def _said(points: Mapping[str, tuple[float, float]]) -> str:
    width = max(map(len, points))
    lines = [f"{'1 vs 1000, %':{width}}  common  counter    drop"]
    for model, (common, counter) in points.items():
        lines.append(f"{model:{width}}  {common:6.2f}  {counter:7.2f}  {common - counter:6.2f}")
    return "\n".join(lines)
