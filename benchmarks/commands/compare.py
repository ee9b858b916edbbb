"""`cci-captum compare`: methods on the same images, judged by deletion and insertion."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from . import _comparing
from ._common import add_shared_options, one_of, warn_about_unknown_words
from ._data import check_data, find_data, has_masks

if TYPE_CHECKING:
    from cci_captum.models.clip import LoadedCLIP

    from ..tasks import Task


def add_to(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "compare",
        help="compare methods by deletion and insertion",
        description="Explain the same images by several methods, and measure by deletion and "
        "insertion whether the model follows each map; all others are compared with the first "
        "method. Random maps are always compared too, and masks where there are any. Writes "
        "summary.md, curves.png, scatter.png, grid.png, settings.json and tables; and parts of "
        "these while it runs, so that the same command goes on where it was interrupted.",
    )
    add_shared_options(parser, "--data", "--n", "--objects", "--artwork", "--classes", "--masks")
    parser.add_argument(
        "--explained",
        type=one_of("true", "predicted"),
        default="true",
        metavar="{true,predicted}",
        help="which class (%(default)s)",
    )
    _comparing.add_options(parser, out="cci-captum-compare")
    parser.set_defaults(run=run, working=None, variants=False)


def run(arguments: argparse.Namespace) -> None:
    """Check everything the user gave, then compare, and write tables and pictures."""
    models = _comparing.choose_models(arguments)
    masks = arguments.explained == "true" and has_masks(arguments)

    def task_of(clip: LoadedCLIP) -> Task:
        from cci_captum.models.clip import ZeroShotClassifier

        from ..tasks import Classification

        data = find_data(arguments, clip.preprocess)
        warn_about_unknown_words(clip.name, list(data.class_names))
        classifier = ZeroShotClassifier(
            clip.model, clip.tokenizer, data.class_names, data.templates
        )
        return Classification(data, classifier, clip.preprocess, arguments.explained)

    request = _comparing.Request("compare", arguments, models, task_of, masks=masks)
    check_data(arguments)
    request.run()
