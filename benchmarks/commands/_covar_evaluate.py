"""`cci-captum covar evaluate`: what models lose on the variants that were built, and why."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._common import CommandError, add_shared_options, at_least, load_model, one_of
from ._diagnosing import JUDGES, choose_judge, choose_rules
from ._evaluating import (
    PAGE,
    Evaluation,
    Written,
    add_options,
    choose_models,
    data_errors,
    predictions,
    report_again,
)
from ._outputs import DPI
from ._written import name_of

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from cci_captum.diagnosis import Rule
    from cci_captum.models.preprocessing import Preprocess

    from ..comparison.plan import Plan
    from ..data import COVAR, ImageData
    from ..runner import Measurable
    from ._choices import Model

_FIXED = ("predictions.parquet", "measures.parquet", "factors.png", "levels.png")
_COMMAND = "covar evaluate"
_NONE = "none"
_BY = ("factor", "level", "class", "background", "control")


def add_to(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `evaluate` to the parser of `covar`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="what models lose on these variants, and whether the background is to blame",
        description="Measure models on a folder that covar build has filled: accuracy, what is "
        "lost to the photos as they are, and errors that the background drove (BG-Er) or that are "
        "for a class that looks alike (Fine-Er), by factor and level, class and background. Writes "
        "summary.md, pictures, measures.parquet, predictions.parquet and settings.json; and parts "
        "of these while it runs, so that the same command goes on where it was interrupted.",
    )
    parser.add_argument("where", metavar="DIR")
    add_options(parser, out="cci-captum-covar")
    parser.add_argument(
        "--rule",
        default="shapley-regions",
        metavar="RULE",
        help='what says whether the background drove a prediction, as of diagnose; or "none", for '
        "accuracies alone, of any classifier (%(default)s)",
    )
    parser.add_argument(
        "--alike",
        default="wordnet",
        metavar="J",
        help=f"look-alike classes, for Fine-Er: {JUDGES} (%(default)s)",
    )
    parser.add_argument(
        "--judged",
        type=one_of("all", "wrong"),
        default="all",
        metavar="{all,wrong}",
        help="which images the rule is asked about: wrong saves the passes of all others, whose "
        "shares are then missing (%(default)s)",
    )
    parser.add_argument(
        "--labels",
        type=one_of("all", "own"),
        default="all",
        metavar="{all,own}",
        help="names to tell apart: all of the data that the photos are of, or those of their "
        "classes (%(default)s)",
    )
    parser.add_argument(
        "--photos", type=at_least(1), metavar="N", help="of each class, the first (all)"
    )
    parser.add_argument(
        "--factor", metavar="F,F", help='such as "original,scale"; photos always stay (all)'
    )
    add_shared_options(parser, "--seed")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Check everything the user gave, then measure, and write."""
    models = choose_models(arguments)
    from ..predictions.models import OTHERS

    rules = _rules(arguments.rule)
    if rules and (others := [name for name, _ in models if name.startswith(OTHERS)]):
        raise CommandError(
            f"--model: expected CLIPs, whose patches a rule can hide, got {others[0]}; --rule none "
            "measures any classifier"
        )
    judge = choose_judge(arguments.alike)
    options = {"labels": arguments.labels}
    for name in ("photos", "factor"):
        if getattr(arguments, name) is not None:
            options[name] = getattr(arguments, name)

    def find(preprocess: Preprocess | None = None) -> COVAR:
        from ..data import COVAR

        with data_errors("DIR", {name: f"--{name}" for name in options}):
            return COVAR(_folder(arguments.where), **options)

    def about(data: ImageData) -> dict[str, Any]:
        return {"covar": getattr(data, "about", {})}

    find()  # before a model is loaded

    def load(model: Model, device: torch.device) -> Measurable:
        if not rules:
            return predictions(model, device, find, arguments.batch_size, about=about)
        from cci_captum.models.clip import ZeroShotClassifier

        from ..diagnosis import DiagnosisRun

        clip, data = load_model(*model, device), find()
        classifier = ZeroShotClassifier(
            clip.model, clip.tokenizer, data.class_names, data.templates
        )
        judge(data.class_names)  # that it knows these
        return DiagnosisRun(
            data,
            classifier,
            clip.preprocess,
            rules,
            judged=arguments.judged,
            seed=arguments.seed,
            batch_size=arguments.batch_size,
            model=clip.name,
            about=about(data),
        )

    write = partial(_write, rules=rules, judge=judge)
    files = (*_FIXED, *_class_maps(map(name_of, models)).values(), PAGE)
    Evaluation(_COMMAND, arguments, models, load, write, files).run()


def report_of(options: Mapping[str, Any], out: Path) -> None:
    """Write the files of a run that is done, without a model."""
    write = partial(_write, rules=_rules(options["rule"]), judge=choose_judge(options["alike"]))
    report_again(options, out, write, (*_FIXED, PAGE))


def _write(written: Written, rules: tuple[Rule, ...], judge: Callable[[Any], Any]) -> None:
    """The files of runs that are done."""
    import pandas as pd

    from ..covar import figures, report
    from ..covar.evaluation import summary
    from ..markdown import code

    settings = written.plans[0].settings
    names = settings["class_names"]
    alike = judge(names) if rules else None
    tables = {plan.model: _table(plan, written, rules, alike) for plan in written.plans}
    measured = [
        summary(table, by, class_names=names)
        .rename(columns={by: "value"})
        .assign(by=by, model=model)
        for model, table in tables.items()
        for by in ("factor", "level", "class", "background", "control")
    ]
    every = pd.concat([own.assign(model=model) for model, own in tables.items()])
    value, costs = ("bg_er_of_images", "errors that the background drove") if rules else (
        "drop", "what is lost"
    )  # fmt: skip
    maps = _class_maps(tables)
    drawn = {
        "factors.png": partial(figures.bars, tables),
        "levels.png": partial(figures.heat_map, tables),
        **{
            file: partial(figures.class_map, tables[model], names, value)
            for model, file in maps.items()
        },
    }
    images = {
        "what each factor costs": "factors.png",
        "what each level costs": "levels.png",
        **{
            f"{costs}, class by class on each background: {model}": file
            for model, file in maps.items()
        },
    }
    text = report.page(tables, names, settings["covar"], code(written.line), images=images)

    def saved(draw: Callable[[], Any]) -> Callable[[Path], object]:
        return lambda path: draw().savefig(path, dpi=DPI)

    written.save(
        {
            "predictions.parquet": partial(every.to_parquet, index=False),
            "measures.parquet": partial(pd.concat(measured).to_parquet, index=False),
            **{name: saved(draw) for name, draw in drawn.items()},
            PAGE: lambda path: path.write_text(written.page(text), encoding="utf-8"),
        },
        report.text(tables),
    )


def _class_maps(models: Iterable[str]) -> dict[str, str]:
    """Model -> its picture of classes on backgrounds."""
    names = [*models]
    if len(names) == 1:
        return {names[0]: "classes.png"}
    return {name: f"classes_{place}.png" for place, name in enumerate(names, 1)}


def _table(plan: Plan, written: Written, rules: tuple[Rule, ...], alike: Any) -> pd.DataFrame:
    from ..diagnosis import table_of
    from ..predictions import predictions_of

    if not rules:
        return predictions_of(plan, written.store)
    return table_of(plan, written.store, rules, alike)


def _rules(text: str) -> tuple[Rule, ...]:
    return () if text == _NONE else choose_rules([text])


def _folder(where: str) -> str:
    """The folder, also where it is called as `--data` calls it."""
    folder = where.removeprefix("covar:")
    if not folder:
        raise CommandError("DIR: expected a folder that covar build has filled, got nothing")
    return folder
