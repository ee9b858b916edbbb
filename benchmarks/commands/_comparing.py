"""What `compare` and `retrieval` share: options, the run model by model, and what they write."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cci_captum.baselines.registry import REFERENCES
from cci_captum.names import is_text, readable

from . import _choices
from ._choices import Model
from ._common import (
    CommandError,
    add_method_option,
    add_shared_options,
    at_least,
    choose_device,
    choose_methods,
    load_model,
)
from ._outputs import DPI, Outputs

if TYPE_CHECKING:
    from cci_captum.models.clip import LoadedCLIP

    from ..comparison import Comparison, FolderStore
    from ..tasks import Task

METHODS = ("cci", "grad-eclip", "maskclip", "gradcam")
"""What is compared where the user names no method."""

_PARTS = "parts"
_PAGES = ("settings.json", "summary.md")


def add_options(parser: argparse.ArgumentParser, *, out: str) -> None:
    """Add all options that do not say which items are explained.

    Args:
        parser: A command's.
        out: Where it writes by default.
    """
    parser.add_argument(
        "--model",
        action="append",
        metavar="NAME[,TAG]",
        help='"tiny", an open_clip name with its tag of pretrained weights ("ViT-B-16,openai"), or '
        '"hf:" and a Hugging Face repository or folder; may be repeated (tiny)',
    )
    add_shared_options(parser, "--pretrained")
    add_method_option(parser, METHODS)
    parser.add_argument(
        "--protocol",
        default="grad-eclip",
        metavar="P,P",
        help="of grad-eclip-original, grad-eclip, grad-eclip-released, rise, tokens; "
        '"all"; or "none", for where maps lie and what they cost alone (%(default)s)',
    )
    parser.add_argument(
        "--reference",
        metavar="SPEC",
        help='which of the methods all others are compared with; also "random" (the first)',
    )
    parser.add_argument("--out", type=Path, default=Path(out), help="folder (%(default)s)")
    parser.add_argument(
        "--restart",
        action="store_true",
        help="measure anew what an earlier run left in the folder; else it is taken over",
    )
    parser.add_argument(
        "--checks",
        default="",
        metavar="C,C",
        help='sanity checks: "random-weights", "random-label" or both (none)',
    )
    parser.add_argument(
        "--ties",
        default="random,raster,reversed",
        metavar="T,T",
        help="orders of equal values under which areas are shown beside the protocol's own; "
        '"none" (%(default)s)',
    )
    parser.add_argument(
        "--batch-size",
        type=at_least(1),
        default=32,
        metavar="B",
        help="explained at a time (%(default)s)",
    )
    add_shared_options(parser, "--seed", "--device")


def choose_models(arguments: argparse.Namespace) -> list[Model]:
    """The models that the user named; CommandError if there can be none of a name."""
    return _choices.models(arguments.model or ["tiny"], arguments.pretrained)


class Plan:
    """What the user asked for, checked before any model is loaded.

    Args:
        arguments: With the options of `add_options`.
        models: As `choose_models` gives them.
        masks: Whether there are masks for the methods that need them.

    Raises:
        CommandError: If an option is wrong, or a file cannot be written.
    """

    def __init__(
        self, arguments: argparse.Namespace, models: Sequence[Model], *, masks: bool
    ) -> None:
        self.arguments = arguments
        self.methods = [
            spec
            for spec in choose_methods(arguments.method or METHODS, masks=masks)
            if str(spec) not in REFERENCES  # always compared
        ]
        if not self.methods:
            raise CommandError(f"--method: expected at least one beside {' and '.join(REFERENCES)}")
        self.reference = _choices.reference(arguments.reference, self.methods, masks)
        self.protocols = _choices.protocols(arguments.protocol)
        if not self.protocols and not masks:
            raise CommandError("--protocol: none needs data with masks, which say where maps lie")
        self.checks = _choices.checks(arguments.checks)
        self.ties = _choices.ties(arguments.ties)
        self.models = models
        self.pictures = _pictures(self.models, self.protocols)
        self.outputs = Outputs()
        self.outputs.expect_in(arguments.out, "--out", [*_tables(), *_PAGES, *self._drawn()])

    def run(self, command: str, task_of: Callable[[LoadedCLIP], Task]) -> None:
        """Compare by one model after the other, and write tables, page and pictures.

        Args:
            command: Its name.
            task_of: What is compared, of a model; TypeError and ValueError are the user's to mend.
        """
        from ..comparison import Comparison

        device = choose_device(self.arguments.device)
        store = _store(self.arguments)

        def of(model: Model) -> Comparison:  # which is let go before the next one is loaded
            clip = load_model(*model, device)
            try:
                task = task_of(clip)
            except (TypeError, ValueError) as error:
                raise CommandError(str(error)) from error
            comparison = self._compared(task, clip.name, store)
            self._draw(comparison, task, model)
            return comparison

        found = [of(model) for model in self.models]
        self._write(found[0] if len(found) == 1 else Comparison.join(found), command)

    def _reference(self, comparison: Comparison) -> str | None:
        """What others are compared with; None, the first, where that has no map at all."""
        return self.reference if self.reference in comparison.methods else None

    def _drawn(self) -> list[str]:
        """Files of all pictures."""
        return [file for own in self.pictures.values() for file in own.values()]

    def _compared(self, task: Task, model: str, store: FolderStore) -> Comparison:
        from ..comparison import compare

        try:
            return compare(
                self.methods,
                task,
                self.protocols,
                checks=self.checks,
                ties=self.ties,
                seed=self.arguments.seed,
                batch_size=self.arguments.batch_size,
                show_progress=True,
                store=store,
                model=model,
            )
        except (TypeError, ValueError) as error:
            known = str(error).startswith("store: ")
            remedy = "; take another folder, or --restart" if known else ""
            text = re.sub("^store: ", "--out: ", str(error))
            raise CommandError(f"{text}{remedy}") from error
        except KeyboardInterrupt:
            parts = readable(self.arguments.out / _PARTS)
            print(
                f"\ncci-captum: what was measured is in {parts}; the same command goes on from "
                "there",
                file=sys.stderr,
            )
            raise

    def _draw(self, comparison: Comparison, task: Task, model: Model) -> None:
        """The pictures of one model."""
        from ..comparison import figures

        drawn: dict[str, Callable[[], Any]] = {
            "curves": lambda: figures.curves(comparison),
            "scatter": lambda: figures.pairs(comparison, self._reference(comparison)),
            "grid": lambda: figures.grid(comparison, task),
        }
        for kind, file in self.pictures[model].items():
            self.outputs.write(self.arguments.out / file, partial(_save_figure, draw=drawn[kind]))

    def _write(self, comparison: Comparison, command: str) -> None:
        """The tables and the page, and a few lines for the terminal."""
        from ..comparison import report
        from ..markdown import code

        settings = self._settings(command)
        reference, note = self._reference(comparison), code(settings["command"])
        saved: dict[str, Callable[[Path], object]] = {
            **{
                f"{name}.parquet": partial(frame.to_parquet, index=False)
                for name, frame in comparison.tables().items()
            },
            "settings.json": lambda path: _write_settings(path, comparison, settings),
            "summary.md": lambda path: path.write_text(
                report.page(comparison, reference, note), encoding="utf-8"
            ),
        }
        for name, save in saved.items():
            self.outputs.write(self.arguments.out / name, save)
        print(report.text(comparison))
        if len(comparison.failures):
            count = len(comparison.failures)
            print(f"\n{count} maps are missing: summary.md says which, and why")
        self.outputs.finish()
        pictures = ", ".join(self._drawn())
        print(f"\nwrote summary.md, {pictures} and tables to {readable(self.arguments.out)}")

    def _settings(self, command: str) -> dict[str, Any]:
        """What makes the run again: the command, and what it ran with."""
        import torch

        from cci_captum._version import __version__

        options = {
            name: value
            for name, value in vars(self.arguments).items()
            if name not in ("command", "run", "out", "restart") and value not in (None, "")
        }
        words = []
        for name, value in (options | {"method": self.methods}).items():
            for one in value if isinstance(value, list) else [value]:
                words += [f"--{name.replace('_', '-')}", _word(one)]
        return {
            "command": shlex.join(["cci-captum", command, *words]),
            "cci_captum": __version__,
            "torch": torch.__version__,
        }


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


def _store(arguments: argparse.Namespace) -> FolderStore:
    """Where units are kept; emptied where the user says so."""
    from ..comparison import FolderStore

    parts = arguments.out / _PARTS
    if arguments.restart and parts.is_dir():
        for path in [*parts.glob("*.parquet"), *parts.glob("*.json")]:
            path.unlink()
    return FolderStore(parts)


def _word(value: Any) -> str:
    """A value as the command line takes it; escaped where no text file can hold it."""
    text = str(value)
    return text if is_text(text) else readable(text)


def _write_settings(path: Path, comparison: Comparison, settings: Mapping[str, Any]) -> None:
    errors = comparison.errors.to_dict("records")
    whole = {**settings, **comparison.settings, "errors": errors}
    path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
