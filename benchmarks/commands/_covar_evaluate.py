"""`cci-captum covar evaluate`: what models lose on the variants that were built, and why."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
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
    together,
)
from ._written import name_of

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from cci_captum.diagnosis import Rule

    from ..comparison.plan import Plan
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
    from ..data import COVAR
    from ..predictions.models import OTHERS
    from ..predictions.pages import class_pictures

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

    with data_errors("DIR", {name: f"--{name}" for name in options}):
        data = COVAR(_folder(arguments.where), **options)
    about = {"covar": data.about}
    if rules:
        judge(data.class_names)  # that it knows these, before a model is loaded

    def load(model: Model, device: torch.device) -> Measurable:
        if not rules:
            size = arguments.batch_size
            return predictions(model, device, lambda _: data, size, about=lambda _: about)
        from cci_captum.models.clip import ZeroShotClassifier

        from ..diagnosis import DiagnosisRun

        clip = load_model(*model, device)
        classifier = ZeroShotClassifier(
            clip.model, clip.tokenizer, data.class_names, data.templates
        )
        return DiagnosisRun(
            data,
            classifier,
            clip.preprocess,
            rules,
            judged=arguments.judged,
            seed=arguments.seed,
            batch_size=arguments.batch_size,
            model=clip.name,
            about=about,
        )

    write = partial(_write, rules=rules, judge=judge)
    files = (*_FIXED, *class_pictures(map(name_of, models)).values(), PAGE)
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
    from ..predictions.pages import class_pictures

    settings = written.plans[0].settings
    names = settings["class_names"]
    alike = judge(names) if rules else None
    tables = {plan.model: _table(plan, written, rules, alike) for plan in written.plans}
    measured = [
        summary(table, by, class_names=names)
        .rename(columns={by: "value"})
        .assign(by=by, model=model)
        for model, table in tables.items()
        for by in _BY
    ]
    maps = class_pictures(tables)
    value, costs = "drop", "what is lost"
    if rules:
        value, costs = "bg_er_of_images", "errors that the background drove"
    shown = {"what each factor costs": "factors.png", "what each level costs": "levels.png"}
    shown |= {f"{costs}, class by class on each background: {m}": maps[m] for m in maps}
    written.save(
        {"predictions.parquet": together(tables), "measures.parquet": pd.concat(measured)},
        {
            "factors.png": partial(figures.bars, tables),
            "levels.png": partial(figures.heat_map, tables),
            **{maps[m]: partial(figures.class_map, tables[m], names, value) for m in maps},
        },
        report.page(tables, names, settings["covar"], code(written.line), images=shown),
        report.text(tables),
    )


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
