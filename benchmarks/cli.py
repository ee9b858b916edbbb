"""The command line `cci-captum`; each command lives in its own file in `commands`."""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from typing import Any, TextIO

from cci_captum._extras import MissingExtraError
from cci_captum._version import __version__

from .commands import (
    compare,
    counteranimal,
    covar,
    demo,
    diagnose,
    env,
    explain,
    methods,
    retrieval,
    run,
    spurious,
    study,
    variants,
)
from .commands._common import CommandError, Parser, StoppedError

_STOPPED = 75  # as runner.STOPPED, which takes seconds to import


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; `run` in its result is the command's function."""
    parser = Parser(
        prog="cci-captum",
        description="Explain CLIP-like models with Cluster-based Concept Importance (CCI).",
    )
    parser.add_argument("--version", action="version", version=f"cci-captum {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (demo, explain, compare, retrieval, diagnose, study):
        command.add_to(subparsers)
    for benchmark in (counteranimal, covar, spurious):
        benchmark.add_to(subparsers)
    for command in (methods, env):
        command.add_to(subparsers)
    for command in (run, variants):
        command.add_to(subparsers, parser.parse_args)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: The arguments; None is those of the process.

    Returns:
        The exit code: 0 on success, 2 for an error the user can put right (one line on
        stderr), 75 when a signal asked it to end and the same command goes on, 130 when
        interrupted.
    """
    try:
        with redirect_stdout(_Printed(sys.stdout)), warnings.catch_warnings():
            warnings.showwarning = _one_line(warnings.showwarning)
            try:
                arguments = build_parser().parse_args(argv)
                arguments.run(arguments)
            finally:
                sys.stdout.flush()  # while a full disk can still be said
    except (CommandError, MissingExtraError) as error:
        message = " ".join(str(error).split())
        print(f"cci-captum: error: {message}", file=sys.stderr)
        return 2
    except StoppedError as error:
        print(f"cci-captum: stopped by {error}; the same command goes on", file=sys.stderr)
        return _STOPPED
    except KeyboardInterrupt:
        print("cci-captum: interrupted", file=sys.stderr)
        return 130
    return 0


class _Printed(io.TextIOBase):
    """Standard output; that it takes no more is the user's to mend, as a full disk is."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            raise self._refusal(error) from error

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            raise self._refusal(error) from error

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def isatty(self) -> bool:
        return self._stream.isatty()

    def _refusal(self, error: OSError) -> CommandError:
        with suppress(OSError, ValueError):  # else Python itself tries again at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        return CommandError(f"cannot print: {error.strerror}")


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
