"""The command line `cci-captum`; each command lives in its own file in `commands`."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from cci_captum._extras import MissingExtraError
from cci_captum._version import __version__

from .commands import compare, demo, env, explain, methods, retrieval
from .commands._common import CommandError


class _Parser(argparse.ArgumentParser):
    """Reports a wrong usage as every other error is reported: in one line."""

    def error(self, message: str) -> NoReturn:
        named = message.removeprefix("argument ")  # "--n: ...", as all others
        raise CommandError(f"{named} (see {self.prog} --help)")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; `run` in its result is the command's function."""
    parser = _Parser(
        prog="cci-captum",
        description="Explain CLIP-like models with Cluster-based Concept Importance (CCI).",
    )
    parser.add_argument("--version", action="version", version=f"cci-captum {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (demo, explain, compare, retrieval, methods, env):
        command.add_to(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: The arguments; None is those of the process.

    Returns:
        The exit code: 0 on success, 2 for an error the user can put right (one line on
        stderr), 130 when interrupted.
    """
    try:
        arguments = build_parser().parse_args(argv)
        with warnings.catch_warnings():
            warnings.showwarning = _one_line(warnings.showwarning)
            arguments.run(arguments)
    except (CommandError, MissingExtraError) as error:
        message = " ".join(str(error).split())
        print(f"cci-captum: error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("cci-captum: interrupted", file=sys.stderr)
        return 130
    return 0


def _one_line(show: Callable[..., None]) -> Callable[..., None]:
    """Show a UserWarning as errors are shown, without its place in the code; others as before."""

    def show_warning(message: Warning, category: type[Warning], *place: Any) -> None:
        if category is UserWarning:
            text = " ".join(str(message).split())
            print(f"cci-captum: warning: {text}", file=sys.stderr)
        else:
            show(message, category, *place)

    return show_warning


if __name__ == "__main__":
    sys.exit(main())
