"""`cci-captum diagnose`: was it the object, or what is behind it?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cci_captum.names import readable

from . import _choices
from ._common import (
    CommandError,
    StoppedError,
    add_shared_options,
    choose_device,
    choose_methods,
    load_model,
    warn_about_unknown_words,
)
from ._data import check_data, find_data, has_masks
from ._diagnosing import JUDGES, add_segmenter_option, choose_judge, choose_rules, segmented
from ._outputs import DPI, Outputs
from ._restart import store_of
from ._working import PARTS, Working, errors_of_run
from ._written import line_of, options_of

if TYPE_CHECKING:
    from cci_captum.diagnosis import Rule
    from cci_captum.models.clip import LoadedCLIP

    from ..comparison import FolderStore
    from ..comparison.plan import Plan
    from ..data import ImageData
    from ..diagnosis import DiagnosisRun

_FILES = (
    "verdicts.parquet", "shortcuts.parquet", "settings.json", "verdicts.png", "extremes.png",
    "summary.md",
)  # fmt: skip
_OPTIONS = {"data": "--data", "store": "--out", "table": "--by", "donors": "--rule"}


def add_to(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "diagnose",
        help="was it the object, or the background?",
        description="Say of every prediction whether the object or the background drove it, by "
        "rules that read a method's map (energy, paper-iou) or leave regions out "
        "(shapley-regions). Writes verdicts.parquet, shortcuts.parquet, summary.md, verdicts.png, "
        "extremes.png and settings.json; and parts of these while it runs, so that the same "
        "command goes on where it was interrupted.",
    )
    add_shared_options(parser, "--data", "--n", "--objects", "--artwork", "--classes", "--masks")
    add_segmenter_option(parser)
    add_shared_options(parser, "--model", "--pretrained")
    parser.add_argument(
        "--rule",
        action="append",
        metavar="RULE",
        help='with options in parentheses, "shapley-regions(by=hidden)"; may be repeated '
        "(shapley-regions, energy, paper-iou)",
    )
    parser.add_argument(
        "--method", default="cci", metavar="SPEC", help="whose maps rules read (%(default)s)"
    )
    parser.add_argument(
        "--alike", default="none", metavar="J", help=f"look-alike classes: {JUDGES} (%(default)s)"
    )
    parser.add_argument(
        "--by",
        metavar="COLUMN",
        help="what shortcuts are looked for in: a fact of the images (background, or group)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("cci-captum-diagnose"), help="folder (%(default)s)"
    )
    add_shared_options(parser, "--restart", "--batch-size", "--seed", "--device")
    parser.set_defaults(run=run, working=None)


def run(arguments: argparse.Namespace) -> None:
    """Check everything the user gave, then diagnose, and write tables and pictures."""
    (model,) = _choices.models([arguments.model], arguments.pretrained)
    rules = choose_rules(arguments.rule)
    if len(found := choose_methods([arguments.method], masks=False)) != 1:
        raise CommandError(f"--method: expected one method, got {len(found)}")
    judge = choose_judge(arguments.alike)
    masks = has_masks(arguments)
    segment = segmented(arguments.segmenter, masks=masks)
    check_data(arguments)
    outputs = Outputs()
    outputs.expect_in(arguments.out, "--out", _FILES)
    working: Working = arguments.working or Working()
    if working.only_checks:
        return
    device = choose_device(working.device(arguments.device))
    options = {**options_of(arguments), "rule": [*map(str, rules)]}
    asked = {"command": "diagnose", **options, "out": str(arguments.out)}
    with errors_of_run(arguments.out, _OPTIONS):
        store = store_of(arguments.out, arguments.restart, working)
        with working.of(arguments.out, store.folder, device, asked):
            clip = load_model(*model, device)
            data = segment(find_data(arguments, clip.preprocess), clip, device)
            warn_about_unknown_words(clip.name, list(data.class_names))
            alike = judge(data.class_names)
            made = _run(arguments, clip, data, rules)
            store.begin(made.plan)
            done = working.measure(made, store)
            if done and working.first_to("write", arguments.out / _FILES[-1]):
                write(outputs, arguments.out, made.plan, store, rules, alike, options, made)
            if working.stop:
                raise StoppedError(working.stop.signal)


def write(
    outputs: Outputs,
    out: Path,
    plan: Plan,
    store: FolderStore,
    rules: tuple[Rule, ...],
    judge: Any,
    options: Mapping[str, Any],
    made: DiagnosisRun | None = None,
) -> None:
    """The files of a run that is done; without the run those that show no images."""
    from ..diagnosis import report, shortcuts, table_of
    from ..diagnosis.figures import extremes, verdict_bars
    from ..markdown import code

    table = table_of(plan, store, rules, judge)
    line = line_of("diagnose", options)
    pairs = None
    by = options.get("by") or next((name for name in ("background", "group") if name in table), "")
    if by and table["status"].eq("").any():
        pairs = shortcuts(table, rules[0], by)
    saved: dict[str, Callable[[Path], object]] = {
        "verdicts.parquet": partial(table.to_parquet, index=False),
        "settings.json": lambda path: path.write_text(
            json.dumps({"command": line, **plan.settings}, indent=2) + "\n", encoding="utf-8"
        ),
        "verdicts.png": lambda path: verdict_bars(table, rules).savefig(path, dpi=DPI),
        "summary.md": lambda path: path.write_text(
            report.page(table, rules, dict(plan.settings), pairs, code(line)), encoding="utf-8"
        ),
    }
    if pairs is not None:
        saved["shortcuts.parquet"] = partial(pairs.to_parquet, index=False)
    if made is not None and table["status"].eq("").any():
        saved["extremes.png"] = lambda path: extremes(
            table, made.task, rules[0], made.method
        ).savefig(path, dpi=DPI)
    for name in _FILES:
        if name in saved:
            outputs.write(out / name, saved[name])
    print(report.text(table, rules))
    outputs.finish()
    print(f"\nwrote {', '.join(name for name in _FILES if name in saved)} to {readable(out)}")


def report_of(options: Mapping[str, Any], out: Path) -> None:
    """Write tables and page of a run that is done, without a model."""
    from ..comparison import FolderStore
    from ..comparison.folder_store import read_plans

    store = FolderStore(out / PARTS)
    (plan,) = read_plans(store.folder)
    store.begin(plan)
    rules = choose_rules(options["rule"])
    judge = choose_judge(options.get("alike", "none"))(plan.settings["class_names"])
    outputs = Outputs()
    outputs.expect_in(out, "--out", _FILES)
    write(outputs, out, plan, store, rules, judge, options)


def _run(
    arguments: argparse.Namespace, clip: LoadedCLIP, data: ImageData, rules: tuple[Rule, ...]
) -> DiagnosisRun:
    from cci_captum.models.clip import ZeroShotClassifier

    from ..diagnosis import DiagnosisRun

    classifier = ZeroShotClassifier(clip.model, clip.tokenizer, data.class_names, data.templates)
    return DiagnosisRun(
        data,
        classifier,
        clip.preprocess,
        rules,
        arguments.method,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        model=clip.name,
    )
