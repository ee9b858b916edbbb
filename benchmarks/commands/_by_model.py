"""A run over models, one in memory at a time, in one folder: alone, or as one of many workers."""

from __future__ import annotations

import argparse
import gc
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._choices import Model
from ._common import CommandError, StoppedError, choose_device
from ._restart import store_of
from ._working import Working, errors_of_run
from ._written import name_of

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from ..comparison import FolderStore
    from ..comparison.plan import Plan

Found = TypeVar("Found")


class ByModel(ABC, Generic[Found]):
    """What is done by model after model, and written when nothing is missing.

    Args:
        asked: The command and its options, for the folder's plan.
        arguments: With --out, --restart, --device, `working` and `variants`.
        models: As the user named them.
        options: Argument, as errors begin with it -> the option that chose it.
        last: What `_write` writes last.

    Attributes:
        models: As the user named them.
        failed: Those that cannot be loaded or measured, and why; of `variants` alone, which go on.
    """

    def __init__(
        self,
        asked: Mapping[str, Any],
        arguments: argparse.Namespace,
        models: Sequence[Model],
        options: Mapping[str, str],
        last: Path,
    ) -> None:
        self.models, self.failed = models, dict[Model, str]()
        self._asked, self._arguments, self._options = dict(asked), arguments, options
        self._last = last
        self._working: Working = arguments.working or Working()

    def run(self) -> None:
        """Measure by one model after the other, and write.

        Where other workers measure what is left, the last of them writes.

        Raises:
            CommandError: If a model cannot be loaded or measured; of `variants`, if none can.
            StoppedError: If the process was asked to end.
        """
        if self._working.only_checks:
            return
        arguments = self._arguments
        device = choose_device(self._working.device(arguments.device))
        found: dict[Model, tuple[Plan, Found | None]] = {}
        with errors_of_run(arguments.out, self._options):
            store = store_of(arguments.out, arguments.restart, self._working)
            with self._working.of(arguments.out, store.folder, device, self._asked):
                for model in self.models:
                    with self._noted(model):
                        found[model] = self._measured(model, device, store)
                    gc.collect()  # the model that was, before the next one is loaded
                    if self._working.stop:
                        break
                else:
                    self._finish(store, found)
                    return
        raise StoppedError(self._working.stop.signal)

    def _measured(
        self, model: Model, device: torch.device, store: FolderStore
    ) -> tuple[Plan, Found | None]:
        """Measure what is missing of a model's units; what there was to do, and what came of it.

        Raises:
            ModelError: If the model cannot be loaded or measured.
        """
        try:
            run = self._run(model, device)
        except Exception as error:
            raise ModelError(error) from error
        store.begin(run.plan)
        complete = self._working.measure(run, store)
        return run.plan, self._of_model(model, run, store) if complete else None

    @abstractmethod
    def _run(self, model: Model, device: torch.device) -> Any:
        """What workers can share; its errors are the user's to mend."""

    def _of_model(self, model: Model, run: Any, store: FolderStore) -> Found | None:
        """What is made of a model as soon as nothing of it is missing."""
        return None

    @abstractmethod
    def _write(self, store: FolderStore, found: Mapping[Model, tuple[Plan, Found | None]]) -> None:
        """All models together, once nothing is missing, by the one worker that comes first."""

    def _finish(self, store: FolderStore, found: Mapping[Model, tuple[Plan, Found | None]]) -> None:
        left = sum(len(store.missing(plan.all_keys())) for plan, _ in found.values())
        if left:
            print(f"cci-captum: other workers are measuring the last {left} units", file=sys.stderr)
        elif self._working.first_to("write", self._last):
            self._write(store, found)

    def _check_some(self, found: Mapping[Model, Any]) -> None:
        """Raise CommandError if there is nothing to write."""
        if not found:
            model, error = next(iter(self.failed.items()))
            raise CommandError(
                f"--model: expected one that can be measured, got none; {name_of(model)}: {error}"
            )

    @contextmanager
    def _noted(self, model: Model) -> Iterator[None]:
        """Why a model is left out, where the others go on; else raised."""
        from cci_captum.memory import is_of_device

        try:
            yield
        except ModelError as error:
            reason = error.reason
            if not self._arguments.variants or is_of_device(reason):
                raise reason from None
            said = re.sub("^--model: ", "", str(reason))
            expected = isinstance(reason, CommandError)
            self.failed[model] = said if expected else f"{type(reason).__name__}: {said}"


class ModelError(Exception):
    """A model cannot be loaded or measured."""

    def __init__(self, reason: Exception) -> None:
        self.reason = reason
