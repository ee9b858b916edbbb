"""`cci-captum study`: which method leads, and what each choice of CCI changes, on many images."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cci_captum.baselines.registry import REFERENCES

from . import _choices
from ._common import (
    CommandError,
    add_models_option,
    add_shared_options,
    choose_methods,
    load_model,
)
from ._data import check_data, find_data
from ._evaluating import PAGE, Evaluation, Written, report_again

if TYPE_CHECKING:
    import torch

    from cci_captum.models.clip import ZeroShotClassifier
    from cci_captum.models.preprocessing import Preprocess

    from ..comparison import Comparison, Run
    from ..studies import Level
    from ._choices import Model

KINDS = ("leading", "choices")

_FILES = ("results.parquet", "differences.parquet", "differences.png", PAGE)
_SCENES = "scenes:objects=each,artwork=each"
_DRAWN_BY = ("objects", "artwork")
_MOST_BLOCKS = 200


def add_to(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "study",
        help="which method leads, and what each choice of CCI changes",
        description="Compare methods on many images by several models, and pool what was found: "
        "leading, every published method with those that lead at three costs; choices, CCI with "
        "one choice changed at a time. Writes summary.md, differences.png, differences.parquet, "
        "results.parquet and settings.json; and parts of these while it runs, so that the same "
        "command goes on where it was interrupted.",
    )
    parser.add_argument("where", choices=KINDS, metavar="|".join(KINDS))
    add_models_option(parser)
    add_shared_options(parser, "--pretrained", "--data", "--n", "--classes", "--masks")
    parser.add_argument(
        "--protocol",
        metavar="P,P",
        help='as of compare, or "all" (leading: all; choices: tokens,grad-eclip)',
    )
    parser.add_argument(
        "--checks", default="", metavar="C,C", help="of leading: sanity checks, as of compare"
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="of choices: a choice, such as clusters; of leading: a method's spec, beside those "
        "that lead; may be repeated (all)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("cci-captum-study"), help="folder (%(default)s)"
    )
    add_shared_options(parser, "--restart", "--batch-size", "--seed", "--device")
    parser.set_defaults(run=run, data=_SCENES, working=None, variants=False)


def run(arguments: argparse.Namespace) -> None:
    """Check everything the user gave, then measure, and write."""
    models = _choices.models(arguments.model or ["tiny"], arguments.pretrained)
    usual = "all" if arguments.where == "leading" else "tokens,grad-eclip"
    protocols = _choices.protocols(arguments.protocol or usual)
    if not protocols:
        raise CommandError("--protocol: expected at least one, got none")
    checks = _choices.checks(arguments.checks)
    if checks and arguments.where != "leading":
        raise CommandError(f"--checks: expected none of choices, got {arguments.checks}")
    check_data(arguments)
    _check_only(arguments.where, arguments.only)

    def load(model: Model, device: torch.device) -> Run:
        from cci_captum.models.clip import ZeroShotClassifier
        from cci_captum.vision_towers import find_vision_tower

        from ..comparison import Run
        from ..studies import LEADERS, RIVALS

        clip = load_model(*model, device)
        data = find_data(arguments, clip.preprocess)
        classifier = ZeroShotClassifier(
            clip.model, clip.tokenizer, data.class_names, data.templates
        )
        if arguments.where == "leading":
            methods: Any = [*dict.fromkeys([*LEADERS, *(arguments.only or RIVALS)])]
            compared = list(LEADERS)
        else:
            blocks = find_vision_tower(clip.model).num_blocks
            levels = _levels(arguments.only, blocks, clip.preprocess)
            methods = {level.base: level.base for level in levels}
            compared = list(methods)
            methods |= {level.name: level.method for level in levels}
        _check_taken(compared, classifier, clip.name)
        try:
            return Run(
                methods,
                data,
                protocols,
                forward_func=classifier,
                preprocess=clip.preprocess,
                checks=checks,
                ties=(),
                seed=arguments.seed,
                batch_size=arguments.batch_size,
                model=clip.name,
            )
        except (TypeError, ValueError) as error:
            raise CommandError(str(error)) from error

    write = partial(_write, arguments.where)
    Evaluation("study", arguments, models, load, write, _FILES).run()


def report_of(options: Mapping[str, Any], out: Path) -> None:
    """Write the files of a run that is done, without a model."""
    report_again(options, out, partial(_write, options["where"]), _FILES)


def _check_taken(methods: Iterable[str], classifier: ZeroShotClassifier, model: str) -> None:
    """Raise CommandError if what all others are compared with does not take a model."""
    from cci_captum.baselines.spec import MethodSpec

    for name in methods:
        try:
            MethodSpec.parse(name)(classifier)
        except (TypeError, ValueError) as error:
            raise CommandError(
                f"--model: {model}: {name}, which others are compared with, does not take it: "
                f"{error}"
            ) from error


def _check_only(kind: str, only: Sequence[str] | None) -> None:
    """Raise CommandError if `--only` names what there is not."""
    if not only:
        return  # without importing what takes seconds
    if kind == "leading":
        from ..studies import LEADERS

        try:
            specs = choose_methods(only, masks=True)
        except CommandError as error:
            raise CommandError(str(error).replace("--method", "--only", 1)) from error
        rivals = [spec for spec in specs if str(spec) not in LEADERS]
        if all(spec.name in REFERENCES for spec in rivals):
            said = ", ".join(only)
            raise CommandError(f"--only: expected a method beside those that lead, got {said}")
        return
    from ..studies import levels

    known = list(dict.fromkeys(level.choice for level in levels(0, (), ())))
    for name in only:
        if name not in known:
            raise CommandError(f"--only: expected one of {', '.join(known)}, got {name!r}")


def _levels(only: Sequence[str] | None, blocks: int, preprocess: Preprocess) -> list[Level]:
    """Of the choices asked for, all levels."""
    from cci_captum.models.preprocessing import mean_and_std

    from ..studies import levels

    found = levels(blocks, *mean_and_std(preprocess))
    return [level for level in found if only is None or level.choice in only]


def _write(kind: str, written: Written) -> None:
    """The files of runs that are done."""
    import pandas as pd

    from ..comparison.tables import stored_comparison
    from ..markdown import code
    from ..studies import LEADERS, figures, joined, levels, report, tables

    comparisons = [stored_comparison(plan, written.store) for plan in written.plans]
    rows, about = joined(comparisons), code(written.line)
    facts = ("model", *_facts(comparisons))
    conditions = tables.conditions_of(rows, facts)
    if kind == "leading":
        found = report.against_all(conditions, list(LEADERS))
        page = report.leading_page(rows, conditions, found, comparisons, about=about)
        differences = pd.concat(
            own.assign(condition=condition, leader=leader)
            for leader, by_condition in found.items()
            for condition, own in by_condition.items()
            if len(own)
        )
        picture = partial(figures.leading, {name: own["all"] for name, own in found.items()})
        said = report.verdicts(found)
    else:
        present, only = set(rows["method"]), written.options.get("only")
        known = [
            level
            for level in levels(_MOST_BLOCKS, (), ())
            if {level.base, level.name} <= present and (not only or level.choice in only)
        ]
        differences = report.changes(rows, known)
        alike = tables.alike(comparisons, [(level.base, level.name) for level in known])
        page = report.choices_page(
            rows, conditions, differences, alike, known, comparisons, about=about
        )
        picture = partial(figures.choices, differences, known)
        said = f"{len(known)} levels on {rows['index'].nunique()} items"
    written.save(
        {"results.parquet": rows, "differences.parquet": differences},
        {"differences.png": picture},
        page,
        said,
    )


def _facts(comparisons: Sequence[Comparison]) -> list[str]:
    """Facts by which images were drawn."""
    return [name for name in _DRAWN_BY if all(name in each.samples for each in comparisons)]
