"""`cci-captum retrieval`: methods on captions and their images, judged by image and text recall."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from . import _comparing
from ._common import add_shared_options, at_least, warn_about_unknown_words
from ._data import check_data, find_captions

if TYPE_CHECKING:
    from cci_captum.models.clip import LoadedCLIP

    from ..tasks import Task


def add_to(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "retrieval",
        help="compare methods by image and text retrieval",
        description="Explain each caption on its own image by several methods, and measure by "
        "deletion and insertion whether the two still find each other in the gallery: image recall "
        "(IR) and text recall (TR) at 1, 5 and 10, as CLIP_benchmark counts them. Random maps are "
        "always compared too. Writes what compare writes, and goes on where it was interrupted.",
    )
    add_shared_options(parser, "--data", "--n", "--objects", "--artwork")
    parser.add_argument(
        "--captions",
        type=at_least(1),
        metavar="K",
        help="of each image at most, the first ones (all)",
    )
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="test, val, train or restval of Karpathy and Fei-Fei; a folder of webdataset (test)",
    )
    _comparing.add_options(parser, out="cci-captum-retrieval")
    parser.set_defaults(run=run, working=None, variants=False, classes=None, masks=None)


def run(arguments: argparse.Namespace) -> None:
    """Check everything the user gave, then compare, and write tables and pictures."""
    models = _comparing.choose_models(arguments)

    def task_of(clip: LoadedCLIP) -> Task:
        from ..tasks import Retrieval

        data = find_captions(arguments, clip.preprocess)
        warn_about_unknown_words(clip.name, [text for own in data.captions for text in own])
        return Retrieval(
            data,
            clip.model,
            clip.tokenizer,
            clip.preprocess,
            batch_size=arguments.batch_size,
            show_progress=True,
        )

    request = _comparing.Request("retrieval", arguments, models, task_of, masks=False)
    check_data(arguments)
    request.run()
