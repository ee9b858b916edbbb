"""What `compare` and `retrieval` share: options, what they ask for, the run model by model."""

from __future__ import annotations

import argparse
import gc
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cci_captum.baselines.registry import REFERENCES

from . import _choices
from ._choices import Model
from ._common import (
    CommandError,
    StoppedError,
    add_method_option,
    add_shared_options,
    choose_device,
    choose_methods,
    load_model,
)
from ._restart import store_of
from ._working import Working, errors_of_run
from ._written import Written, line_of, name_of, options_of

if TYPE_CHECKING:
    import torch

    from cci_captum.models.clip import LoadedCLIP

    from ..comparison import Comparison, FolderStore, Run
    from ..comparison.plan import Plan
    from ..tasks import Task

METHODS = ("cci", "grad-eclip", "maskclip", "gradcam")
"""What is compared where the user names no method."""

_OPTION_OF = {"data": "--data", "store": "--out", "readers": "--readers"}


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
    add_shared_options(parser, "--restart")
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
    add_shared_options(parser, "--batch-size", "--seed", "--device")


def choose_models(arguments: argparse.Namespace) -> list[Model]:
    """The models that the user named; CommandError if there can be none of a name."""
    return _choices.models(
        arguments.model or ["tiny"], arguments.pretrained, checked=not arguments.variants
    )


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
        self._failed: dict[Model, str] = {}
        self._working: Working = arguments.working or Working()
        options = {**options_of(arguments), "method": [*map(str, self.methods)]}
        command = f"variants {command}" if arguments.variants else command
        line = line_of(command, options)
        self._asked = {"command": command, **options, "out": str(arguments.out)}
        self._written = Written(arguments.out, line, models, self.protocols, self.reference)

    def run(self, task_of: Callable[[LoadedCLIP], Task]) -> None:
        """Measure by one model after the other, and write tables, page and pictures.

        Where other workers measure what is left, the last of them writes.

        Args:
            task_of: What is compared, of a model; TypeError and ValueError are the user's to mend.

        Raises:
            CommandError: If a model cannot be loaded or explained; of `variants`, if none can.
            StoppedError: If the process was asked to end.
        """
        if self._working.only_checks:
            return
        device = choose_device(self._working.device(self.arguments.device))
        found: dict[Model, tuple[Plan, Comparison | None]] = {}
        with errors_of_run(self.arguments.out, _OPTION_OF):
            store = store_of(self.arguments.out, self.arguments.restart, self._working)
            with self._working.of(self.arguments.out, store.folder, device, self._asked):
                for model in self.models:
                    with self._noted(model):
                        found[model] = self._measured(model, task_of, device, store)
                    gc.collect()  # the model that was, before the next one is loaded
                    if self._working.stop:
                        break
                else:
                    self._write(store, found)
                    return
        raise StoppedError(self._working.stop.signal)

    def _measured(
        self,
        model: Model,
        task_of: Callable[[LoadedCLIP], Task],
        device: torch.device,
        store: FolderStore,
    ) -> tuple[Plan, Comparison | None]:
        """What there was to do by a model, and, where this worker drew its pictures, the result."""
        try:
            run = self._run(model, task_of, device)
        except Exception as error:
            raise _ModelError(error) from error
        store.begin(run.plan)
        complete = self._working.measure(run, store)
        if not complete or not self._working.first_to("draw", self._written.last_picture(model)):
            return run.plan, None
        comparison = _comparison(run.plan, store)
        self._written.draw(comparison, model, run.task)
        return run.plan, comparison

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
        self, store: FolderStore, found: Mapping[Model, tuple[Plan, Comparison | None]]
    ) -> None:
        """All models together, by the one worker that comes first once nothing is missing."""
        left = sum(len(store.missing(plan.all_keys())) for plan, _ in found.values())
        if left:
            print(f"cci-captum: other workers are measuring the last {left} units", file=sys.stderr)
            return
        if not self._working.first_to("write", self._written.last):
            return
        whole: dict[Model, Comparison] = {}
        for model, (plan, comparison) in found.items():
            with self._noted(model):
                whole[model] = comparison or _comparison(plan, store)
        if self.arguments.variants:
            self._written.write_models(self.models, whole, self._failed)
        if not whole:
            model, error = next(iter(self._failed.items()))
            raise CommandError(
                f"--model: expected one that can be measured, got none; {name_of(model)}: {error}"
            )
        self._written.write(list(whole.values()))

    @contextmanager
    def _noted(self, model: Model) -> Iterator[None]:
        """Why a model is left out, where the others go on; else raised."""
        from cci_captum.memory import is_of_device

        try:
            yield
        except _ModelError as error:
            reason = error.reason
            if not self.arguments.variants or is_of_device(reason):
                raise reason from None
            said = re.sub("^--model: ", "", str(reason))
            expected = isinstance(reason, CommandError)
            self._failed[model] = said if expected else f"{type(reason).__name__}: {said}"


class _ModelError(Exception):
    """A model cannot be loaded or explained."""

    def __init__(self, reason: Exception) -> None:
        self.reason = reason


def _comparison(plan: Plan, store: FolderStore) -> Comparison:
    from ..comparison.tables import stored_comparison

    try:
        return stored_comparison(plan, store)
    except ValueError as error:
        if str(error).startswith("store: "):
            raise
        raise _ModelError(error) from error  # no method gave a map
