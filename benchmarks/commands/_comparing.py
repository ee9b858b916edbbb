"""What `compare` and `retrieval` share: options, what they ask for, the run model by model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cci_captum.baselines.registry import REFERENCES
from cci_captum.names import readable

from . import _choices
from ._choices import Model
from ._common import (
    CommandError,
    StoppedError,
    add_method_option,
    add_shared_options,
    at_least,
    choose_device,
    choose_methods,
    load_model,
)
from ._working import Working
from ._written import Written, line_of, options_of

if TYPE_CHECKING:
    import torch

    from cci_captum.models.clip import LoadedCLIP

    from ..comparison import Comparison, FolderStore, Run
    from ..comparison.plan import Plan
    from ..tasks import Task

METHODS = ("cci", "grad-eclip", "maskclip", "gradcam")
"""What is compared where the user names no method."""

_OPTION_OF = {"data": "--data", "store": "--out", "readers": "--readers"}

PARTS = "parts"
"""Where units are, in the folder of a run."""


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


class Request:
    """What the user asked for, checked before any model is loaded.

    Args:
        command: Its name.
        arguments: With the options of `add_options`.
        models: As `choose_models` gives them.
        masks: Whether there are masks for the methods that need them.

    Raises:
        CommandError: If an option is wrong, or a file cannot be written.
    """

    def __init__(
        self, command: str, arguments: argparse.Namespace, models: Sequence[Model], *, masks: bool
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
        self.failed: dict[Model, str] = {}
        self._working: Working = arguments.working or Working()
        options = {**options_of(arguments), "method": [*map(str, self.methods)]}
        line = line_of(command, options)
        self._asked = {"command": command, **options, "out": str(arguments.out)}
        self._written = Written(arguments.out, line, models, self.protocols, self.reference)

    def run(
        self, task_of: Callable[[LoadedCLIP], Task], *, tolerant: bool = False
    ) -> list[Comparison]:
        """Measure by one model after the other, and write tables, page and pictures.

        Where other workers measure what is left, the last of them writes.

        Args:
            task_of: What is compared, of a model; TypeError and ValueError are the user's to mend.
            tolerant: Whether a model that cannot be loaded or explained is noted in `failed`, and
                the others go on.

        Returns:
            What was measured, of each model; nothing where it was not written.

        Raises:
            StoppedError: If the process was asked to end.
        """
        working = self._working
        device = choose_device(working.device(self.arguments.device))
        store = self._store()
        plans: list[Plan] = []
        found: dict[str, Comparison] = {}
        out = self.arguments.out
        with self._errors(), working.of(out, store.folder, device, self._asked):
            for model in self.models:
                try:
                    run = self._run(model, task_of, device)
                except CommandError as error:
                    if not tolerant:
                        raise
                    self.failed[model] = str(error)
                    continue
                store.begin(run.plan)
                plans.append(run.plan)
                last = self._written.last_picture(model)
                if working.measure(run, store) and working.first_to("draw", last):
                    found[run.plan.model] = run.comparison(store)
                    self._written.draw(found[run.plan.model], model, run.task)
                if working.stop:
                    raise StoppedError(working.stop.signal)
            return self._write(store, plans, found)

    def _run(
        self, model: Model, task_of: Callable[[LoadedCLIP], Task], device: torch.device
    ) -> Run:
        from ..comparison import Run

        clip = load_model(*model, device)
        try:
            return Run(
                self.methods,
                task_of(clip),
                self.protocols,
                checks=self.checks,
                ties=self.ties,
                seed=self.arguments.seed,
                batch_size=self.arguments.batch_size,
                model=clip.name,
            )
        except (TypeError, ValueError) as error:
            raise CommandError(str(error)) from error

    def _write(
        self, store: FolderStore, plans: list[Plan], found: dict[str, Comparison]
    ) -> list[Comparison]:
        """All models together, by the one worker that comes first once nothing is missing."""
        from ..comparison import Comparison
        from ..comparison.tables import loaded

        left = sum(len(store.missing(plan.all_keys())) for plan in plans)
        if left:
            print(f"cci-captum: other workers are measuring the last {left} units", file=sys.stderr)
        if left or not plans or not self._working.first_to("write", self._written.last):
            return []
        whole = [found.get(plan.model) or loaded(plan, store) for plan in plans]
        joined = whole[0] if len(whole) == 1 else Comparison.join(whole)
        self._written.write(joined)
        return whole

    def _store(self) -> FolderStore:
        """Where units are kept; emptied where the user says so."""
        from ..comparison import FolderStore

        parts = self.arguments.out / PARTS
        if self.arguments.restart:
            if not self._working.alone:
                raise CommandError(
                    "--restart: expected it of one worker, which would throw away what others "
                    f"measure; remove {readable(parts)} before they start"
                )
            empty(parts)
        return FolderStore(parts)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What a run refuses or cannot write, as errors of `--out`; what is kept when it ends."""
        try:
            yield
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            text = str(error.args[-1]) if error.args else str(error)
            argument, _, rest = text.partition(": ")
            if argument in _OPTION_OF:
                text = f"{_OPTION_OF[argument]}: {rest}"
            elif isinstance(error, (OSError, RuntimeError)):
                raise
            other = "results of the same run" in text
            remedy = "; take another folder, or --restart" if other else ""
            raise CommandError(f"{text}{remedy}") from error
        except KeyboardInterrupt:
            parts = readable(self.arguments.out / PARTS)
            print(
                f"\ncci-captum: what was measured is in {parts}; the same command goes on from "
                "there",
                file=sys.stderr,
            )
            raise


def empty(parts: Path) -> None:
    """Throw units away."""
    if parts.is_dir():
        for path in [*parts.glob("*.parquet"), *parts.glob("*.json")]:
            path.unlink()
