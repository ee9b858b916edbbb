"""`cci-captum covar`: controlled variants of photos, made and measured."""

from __future__ import annotations

import argparse

from . import _covar_build, _covar_evaluate


def add_to(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "covar",
        help="controlled variants: the same objects on other backgrounds, moved",
        description="COVAR: the same objects on other backgrounds, at other scales, places and "
        "viewpoints. build makes the images, evaluate measures models on them.",
    )
    commands = parser.add_subparsers(dest="what", required=True, metavar="build|evaluate")
    _covar_build.add_to(commands)
    _covar_evaluate.add_to(commands)
