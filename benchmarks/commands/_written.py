"""What a comparison leaves in its folder: tables, a page, pictures."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cci_captum.names import is_text, readable

from ._choices import Model
from ._outputs import DPI, Outputs

if TYPE_CHECKING:
    from ..comparison import Comparison
    from ..tasks import Task

_PAGES = ("settings.json", "summary.md")
_MODELS = ("variants.parquet", "variants.md")
POSITIONAL = ("where",)
"""What a command takes without the name of an option."""

_NOT_OPTIONS = ("command", "what", "run", "out", "restart", "variants", "working")


class Written:
    """The files of a run, expected before the work, and written after it.

    Args:
        out: Their folder.
        command: The line that writes them again.
        models: As the user named them.
        protocols: Names; without any there are fewer pictures.
        reference: What others are compared with; None is the first.

    Raises:
        CommandError: If a file cannot be written.
    """

    def __init__(
        self,
        out: Path,
        command: str,
        models: Sequence[Model],
        protocols: Sequence[str],
        reference: str | None = None,
    ) -> None:
        self._out, self._command, self._wanted = out, command, reference
        self._pictures = _pictures(models, protocols)
        self._outputs = Outputs()
        self._outputs.expect_in(out, "--out", [*_tables(), *_PAGES, *self._drawn()])

    @property
    def last(self) -> Path:
        """What `write` writes last."""
        return self._out / _PAGES[-1]

    def last_picture(self, model: Model) -> Path:
        """What `draw` draws last."""
        return self._out / list(self._pictures[model].values())[-1]

    def draw(self, comparison: Comparison, model: Model, task: Task | None = None) -> None:
        """The pictures of one model; without a task those that show no images."""
        from ..comparison import figures

        drawn: dict[str, Callable[[], Any]] = {
            "curves": lambda: figures.curves(comparison),
            "scatter": lambda: figures.pairs(comparison, self._reference(comparison)),
        }
        if task is not None:
            drawn["grid"] = lambda: figures.grid(comparison, task)
        for kind, file in self._pictures[model].items():
            if kind in drawn:
                self._outputs.write(self._out / file, partial(_save_figure, draw=drawn[kind]))

    def write_models(
        self,
        models: Sequence[Model],
        comparisons: Mapping[Model, Comparison],
        failed: Mapping[Model, str],
    ) -> None:
        """A row a model, of those that failed too."""
        from ..comparison.by_model import by_model, page
        from ..markdown import code

        names = {model: name_of(model) for model in models}
        names |= {model: each.settings["model"] for model, each in comparisons.items()}
        errors = {names[model]: error for model, error in failed.items()}
        frame = by_model(list(comparisons.values()), errors, list(names.values()))
        one = next(iter(comparisons.values()), None)
        method = (self._reference(one) or one.methods[0]) if one is not None else ""
        text = page(frame, method, one.protocols[0] if one is not None else "", code(self._command))
        table, last = (self._out / name for name in _MODELS)
        self._outputs.write(table, partial(frame.to_parquet, index=False))
        self._outputs.write(last, lambda path: path.write_text(text, encoding="utf-8"))

    def write(self, comparisons: Sequence[Comparison]) -> None:
        """The tables and the page of all models, and a few lines for the terminal."""
        from ..comparison import Comparison, report
        from ..markdown import code

        single = len(comparisons) == 1
        comparison = comparisons[0] if single else Comparison.join(comparisons)

        reference, note = self._reference(comparison), code(self._command)
        saved: dict[str, Callable[[Path], object]] = {
            **{
                f"{name}.parquet": partial(frame.to_parquet, index=False)
                for name, frame in comparison.tables().items()
            },
            "settings.json": lambda path: _write_settings(path, comparison, self._command),
            "summary.md": lambda path: path.write_text(
                report.page(comparison, reference, note), encoding="utf-8"
            ),
        }
        for name, save in saved.items():
            self._outputs.write(self._out / name, save)
        print(report.text(comparison))
        if len(comparison.failures):
            count = len(comparison.failures)
            print(f"\n{count} maps are missing: summary.md says which, and why")
        self._outputs.finish()
        pictures = [name for name in self._drawn() if (self._out / name) in self._outputs.written]
        pages = [path.name for path in self._outputs.written if path.suffix == ".md"]
        names = ", ".join([*pages, *pictures])
        print(f"\nwrote {names} and tables to {readable(self._out)}")

    def _reference(self, comparison: Comparison) -> str | None:
        """What others are compared with; None, the first, where that has no map at all."""
        return self._wanted if self._wanted in comparison.methods else None

    def _drawn(self) -> list[str]:
        """Files of all pictures."""
        return [file for own in self._pictures.values() for file in own.values()]


def options_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the user chose, and what commands choose for them, but for where it is written."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(arguments).items()
        if name not in _NOT_OPTIONS and value not in (None, "")
    }


def name_of(model: Model) -> str:
    """A model as it is called where it was not loaded."""
    return " ".join(filter(None, model))


def line_of(command: str, options: Mapping[str, Any]) -> str:
    """What the user would type for a command and its options."""
    return shlex.join(["cci-captum", *map(_word, words_of(command, options))])


def words_of(command: str, options: Mapping[str, Any]) -> list[str]:
    """The words of a command line, without the program's name.

    Args:
        command: Such as "compare" or "covar evaluate".
        options: By their names, with what has no option's name (`POSITIONAL`).

    Raises:
        ValueError: If a value is no text, number or bool, or a list of such.
    """
    words = [*command.split(), *(str(options[name]) for name in POSITIONAL if name in options)]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            option = f"--{name.rstrip('_').replace('_', '-')}"
            if isinstance(one, bool):
                words += [option] if one else []
            elif not isinstance(one, (str, int, float)):
                raise ValueError(f"expected a text or number as {name}, got {one!r}")
            elif name not in POSITIONAL:
                words += [option, str(one)]
    return words


def _tables() -> list[str]:
    from ..comparison.results import TABLES

    return [f"{name}.parquet" for name in TABLES]


def _pictures(models: Sequence[Model], protocols: Sequence[str]) -> dict[Model, dict[str, str]]:
    """Model -> what a picture shows -> its file."""
    kinds = ("curves", "scatter", "grid") if protocols else ("grid",)
    ends = dict.fromkeys(models, "")
    if len(models) > 1:
        for place, model in enumerate(models, 1):
            ends[model] = f"-{place}-{re.sub('[^A-Za-z0-9.]+', '-', model[0]).strip('-')}"
    return {model: {kind: f"{kind}{end}.png" for kind in kinds} for model, end in ends.items()}


def _save_figure(path: Path, draw: Callable[[], Any]) -> None:
    draw().savefig(path, dpi=DPI)


def _word(value: Any) -> str:
    """A value as the command line takes it; escaped where no text file can hold it."""
    text = str(value)
    return text if is_text(text) else readable(text)


def _write_settings(path: Path, comparison: Comparison, command: str) -> None:
    import torch

    from cci_captum._version import __version__

    with_what = {"command": command, "cci_captum": __version__, "torch": torch.__version__}
    errors = comparison.errors.to_dict("records")
    whole = {**with_what, **comparison.settings, "errors": errors}
    path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
