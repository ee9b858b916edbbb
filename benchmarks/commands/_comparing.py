"""What `compare` and `retrieval` share: options, what they ask for, the run model by model."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cci_captum.baselines.registry import REFERENCES

from . import _choices
from ._by_model import ByModel, ModelError
from ._choices import Model
from ._common import (
    CommandError,
    add_method_option,
    add_models_option,
    add_shared_options,
    choose_methods,
    load_model,
)
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


def add_options(parser: argparse.ArgumentParser, *, out: str) -> None:
    """Add all options that do not say which items are explained.

    Args:
        parser: A command's.
        out: Where it writes by default.
    """
    add_models_option(parser)
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


class Request(ByModel["Comparison"]):
    """What the user asked for, checked before any model is loaded.

    Args:
        command: Its name.
        arguments: With the options of `add_options`.
        models: As `choose_models` gives them.
        task_of: What is compared, of a model; TypeError and ValueError are the user's to mend.
        masks: Whether there are masks for the methods that need them.

    Raises:
        CommandError: If an option is wrong, or a file cannot be written.
    """

    def __init__(
        self,
        command: str,
        arguments: argparse.Namespace,
        models: Sequence[Model],
        task_of: Callable[[LoadedCLIP], Task],
        *,
        masks: bool,
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
        self._task_of = task_of
        options = {**options_of(arguments), "method": [*map(str, self.methods)]}
        command = f"variants {command}" if arguments.variants else command
        line = line_of(command, options)
        self._written = Written(arguments.out, line, models, self.protocols, self.reference)
        asked = {"command": command, **options, "out": str(arguments.out)}
        super().__init__(asked, arguments, models, _OPTION_OF, self._written.last)

    def _of_model(self, model: Model, run: Run, store: FolderStore) -> Comparison | None:
        """The result, where this worker drew its pictures."""
        if not self._working.first_to("draw", self._written.last_picture(model)):
            return None
        comparison = _comparison(run.plan, store)
        self._written.draw(comparison, model, run.task)
        return comparison

    def _run(self, model: Model, device: torch.device) -> Run:
        from ..comparison import Run

        clip = load_model(*model, device)
        try:
            return Run(
                self.methods,
                self._task_of(clip),
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
        whole: dict[Model, Comparison] = {}
        for model, (plan, comparison) in found.items():
            with self._noted(model):
                whole[model] = comparison or _comparison(plan, store)
        if self.arguments.variants:
            self._written.write_models(self.models, whole, self.failed)
        self._check_some(whole)
        self._written.write(list(whole.values()))


def _comparison(plan: Plan, store: FolderStore) -> Comparison:
    from ..comparison.tables import stored_comparison

    try:
        return stored_comparison(plan, store)
    except ValueError as error:
        if str(error).startswith("store: "):
            raise
        raise ModelError(error) from error  # no method gave a map
