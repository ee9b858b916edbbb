"""`cci-captum variants`: any comparison over many models, one in memory at a time."""

from __future__ import annotations

import argparse

from ._common import CommandError, Parse, Parser

TASKS = ("compare", "retrieval", "counteranimal", "spurious")
"""Commands that can be run over many models."""


def add_to(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], parse: Parse) -> None:
    """Add the command to the parser.

    Args:
        subparsers: Of all commands.
        parse: Reads the words of a whole command.
    """
    parser = subparsers.add_parser(
        "variants",
        help="a comparison or a benchmark, over many CLIP models",
        description="Run a command over a list of models, one in memory at a time; what is "
        "measured already is taken over, and a model that cannot be loaded or explained is a row "
        "with its error. Writes what the command writes; of a comparison variants.md and "
        "variants.parquet, too, with a row a model. As `cci-captum run variants ...` by many "
        "workers.",
    )
    parser.add_argument("task", metavar="|".join(TASKS))
    parser.add_argument(
        "rest",
        nargs=argparse.REMAINDER,
        metavar="...",
        help="--variants cci-paper, the CCI paper's 18 (as far as known), or counteranimal, "
        "CounterAnimal's 28 (cci-paper, unless there is --model, which adds its own); and the "
        "task's options",
    )
    parser.set_defaults(run=run, parse=parse)


def run(arguments: argparse.Namespace) -> None:
    """Compare over all of them."""
    asked = resolved(arguments)
    asked.run(asked)


def resolved(arguments: argparse.Namespace) -> argparse.Namespace:
    """What is asked for: the task's own arguments, with the models; others are as they are."""
    from ..clip_variants import VARIANT_LISTS

    if arguments.command != "variants":
        return arguments
    if arguments.task not in TASKS:
        raise CommandError(f"variants: expected one of {', '.join(TASKS)}, got {arguments.task!r}")
    parser = Parser(prog="cci-captum variants", add_help=False, allow_abbrev=False)
    parser.add_argument("--variants")
    own, rest = parser.parse_known_args(arguments.rest)
    asked: argparse.Namespace = arguments.parse([arguments.task, *rest])
    chosen = own.variants or ("" if asked.model else "cci-paper")
    if chosen and chosen not in VARIANT_LISTS:
        known = ", ".join(VARIANT_LISTS)
        raise CommandError(
            f"--variants: expected one of {known}, got {chosen!r}; --model adds single ones"
        )
    listed = [variant.model for variant in VARIANT_LISTS[chosen]] if chosen else []
    asked.model = list(dict.fromkeys([*listed, *(asked.model or [])]))
    asked.variants = True
    return asked
