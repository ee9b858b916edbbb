"""What commands share that measure models on a data set made for it: options, run, verdicts."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cci_captum.names import readable

from . import _choices
from ._by_model import ByModel
from ._choices import Model
from ._common import CommandError, add_models_option, add_shared_options, model_errors
from ._outputs import DPI, Outputs
from ._working import PARTS, PLAN, read_plan
from ._written import line_of, name_of, options_of

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from matplotlib.figure import Figure
    from torch import nn

    from cci_captum.models.preprocessing import Preprocess

    from ..comparison import FolderStore
    from ..comparison.plan import Plan
    from ..data import ImageData
    from ..predictions import PredictionRun, Recogniser
    from ..runner import Measurable

SETTINGS = "settings.json"
"""Written with the rest: the command, and what plans say of each model."""

PAGE = "summary.md"
"""Written last."""

_OPTION_OF = {"data": "DATA", "store": "--out", "readers": "--readers"}

Load = Callable[[Model, "torch.device"], "Measurable"]
"""From a model to its run."""


def add_options(parser: argparse.ArgumentParser, *, out: str) -> None:
    """Add the options of an evaluation, but for what says which images.

    Args:
        parser: A command's.
        out: Where it writes by default.
    """
    add_models_option(
        parser,
        ' or a classifier of ImageNet: "torchvision:resnet50,IMAGENET1K_V1", '
        '"timm:vit_base_patch16_224.augreg_in1k";',
    )
    add_shared_options(parser, "--pretrained")
    parser.add_argument("--out", type=Path, default=Path(out), help="folder (%(default)s)")
    add_shared_options(parser, "--restart", "--batch-size", "--device")
    parser.set_defaults(working=None, variants=False)


def choose_models(arguments: argparse.Namespace) -> list[Model]:
    """The models that the user named; CommandError if there can be none of a name."""
    from ..predictions import check_recogniser

    found = _choices.models(arguments.model or ["tiny"], arguments.pretrained, checked=False)
    for name, tag in found if not arguments.variants else ():
        with model_errors("--pretrained" if tag in (None, arguments.pretrained) else "--model"):
            check_recogniser(name, tag)
    return found


def predictions(
    model: Model,
    device: torch.device,
    find: Callable[[Preprocess], ImageData],
    batch_size: int,
    *,
    classifier: Callable[[Recogniser, ImageData], nn.Module] | None = None,
    preprocessing: Callable[[Preprocess], Preprocess] = lambda preprocess: preprocess,
    about: Callable[[ImageData], Mapping[str, Any]] = lambda data: {},
    keep_scores: bool = False,
) -> PredictionRun:
    """The predictions of a model as a run.

    Args:
        model: Its name and tag.
        device: Where it computes.
        find: From the model's preprocessing to the images.
        batch_size: Images at a time.
        classifier: What the model is made for these images; None is what tells their classes.
        preprocessing: From the model's to that of these images.
        about: From the images to what a report should know of them.
        keep_scores: Whether the scores of all classes are kept.

    Raises:
        CommandError: If there is no such model, or it cannot tell the classes.
    """
    from ..predictions import PredictionRun, load_recogniser

    with model_errors("--pretrained"):
        recogniser = load_recogniser(*model, device)
    data = find(recogniser.preprocess)
    try:
        return PredictionRun(
            data,
            classifier(recogniser, data) if classifier else recogniser.classifier(data),
            preprocessing(recogniser.preprocess),
            keep_scores=keep_scores,
            batch_size=batch_size,
            model=recogniser.name,
            about={"family": recogniser.family, **about(data)},
        )
    except ValueError as error:
        raise CommandError(f"--model: {recogniser.name}: {error}") from error


@contextmanager
def data_errors(where: str, options: Mapping[str, str]) -> Iterator[None]:
    """What is wrong with data, as an error of what chose it.

    Args:
        where: What the folder is called.
        options: Argument of the data -> the option that sets it.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        argument, _, rest = str(error).partition(": ")
        named = {"root": where, "data": where, **options}
        said = f"{named[argument]}: {rest}" if argument in named else f"{where}: {error}"
        raise CommandError(said) from error


class Evaluation(ByModel[None]):
    """Models on the same images, and the files that are made of what they predict.

    Args:
        command: Its name.
        arguments: With the options of `add_options`.
        models: As `choose_models` gives them.
        load: From a model to its run; its errors are the user's to mend.
        write: Makes the files of plans that are done.
        files: Those that it makes, the last one last.

    Raises:
        CommandError: If a file cannot be written.
    """

    def __init__(
        self,
        command: str,
        arguments: argparse.Namespace,
        models: Sequence[Model],
        load: Load,
        write: Callable[[Written], None],
        files: Sequence[str],
    ) -> None:
        command = f"variants {command}" if arguments.variants else command
        options = options_of(arguments)
        self._load, self._write_files = load, write
        self._made = (command, options, arguments.out)
        self._outputs = expected(arguments.out, files)
        asked = {"command": command, **options, "out": str(arguments.out)}
        super().__init__(asked, arguments, models, _OPTION_OF, arguments.out / files[-1])

    def _run(self, model: Model, device: torch.device) -> Measurable:
        return self._load(model, device)

    def _write(self, store: FolderStore, found: Mapping[Model, tuple[Plan, None]]) -> None:
        self._check_some(found)
        plans = [plan for plan, _ in found.values()]
        failed = {name_of(model): error for model, error in self.failed.items()}
        self._write_files(Written(*self._made, plans, store, self._outputs, failed))


class Written:
    """What an evaluation writes into its folder.

    Args:
        command: Its name.
        options: Of the command.
        out: Its folder.
        plans: Of the models.
        store: That has all units.
        outputs: That expect the files.
        failed: Name of a model -> why it is missing.
    """

    def __init__(
        self,
        command: str,
        options: Mapping[str, Any],
        out: Path,
        plans: Sequence[Plan],
        store: FolderStore,
        outputs: Outputs,
        failed: Mapping[str, str] | None = None,
    ) -> None:
        self.options, self.plans, self.store, self.out = options, plans, store, out
        self.failed = failed or {}
        self.line = line_of(command, options)
        self._outputs = outputs

    def save(
        self,
        tables: Mapping[str, pd.DataFrame],
        pictures: Mapping[str, Callable[[], Figure]],
        page: str,
        said: str,
        *,
        others: Mapping[str, Callable[[Path], object]] | None = None,
    ) -> None:
        """Write files, and settings and page; print what there is to say.

        Args:
            tables: Name of a file -> what is in it.
            pictures: Name of a file -> draws it.
            page: Of Markdown; models that are missing are said after it.
            said: For the terminal.
            others: Name of a file -> makes it at a path.
        """
        settings = {
            "command": self.line,
            "models": {plan.model: dict(plan.settings) for plan in self.plans},
            "failed": dict(self.failed),
        }
        files: dict[str, Callable[[Path], object]] = {
            SETTINGS: partial(_write_text, json.dumps(settings, indent=2) + "\n"),
            **{name: partial(frame.to_parquet, index=False) for name, frame in tables.items()},
            **(others or {}),
            **{name: partial(_draw, draw) for name, draw in pictures.items()},
            PAGE: partial(_write_text, self._whole(page)),
        }
        for name, save in files.items():
            self._outputs.write(self.out / name, save)
        print(said)
        for model, error in self.failed.items():
            print(f"{model}: left out: {error}")
        self._outputs.finish()
        print(f"\nwrote {', '.join(files)} to {readable(self.out)}")

    def _whole(self, page: str) -> str:
        """A page, and after it the models that are missing, each with its error."""
        if not self.failed:
            return page
        from ..markdown import table

        rows = table(["model", "error"], list(self.failed.items()))
        return f"{page}\n## Models that were not measured\n\n{rows}\n"


def _write_text(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")


def _draw(draw: Callable[[], Figure], path: Path) -> None:
    draw().savefig(path, dpi=DPI)


def together(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The tables of all models as one, with a column "model"."""
    import pandas as pd

    return pd.concat([own.assign(model=model) for model, own in tables.items()])


def expected(out: Path, files: Sequence[str]) -> Outputs:
    """Files that can be written, before the work."""
    outputs = Outputs()
    outputs.expect_in(out, "--out", [SETTINGS, *files])
    return outputs


def report_again(
    options: Mapping[str, Any],
    out: Path,
    write: Callable[[Written], None],
    files: Sequence[str],
) -> None:
    """Write the files of a run that is done, without a model.

    Args:
        options: Of the command.
        out: Its folder, with the plan of the run.
        write: See `Evaluation`.
        files: The same.

    Raises:
        CommandError: If units are missing.
        OSError: If there is no run.
    """
    from ..comparison import FolderStore
    from ..comparison.folder_store import read_plans

    store = FolderStore(out / PARTS)
    plans = read_plans(store.folder)
    named = [name_of(model).replace("/", "-") for model in _named(options)]
    places = {name: place for place, name in enumerate(named)}
    plans.sort(key=lambda plan: places.get(plan.model.replace("/", "-"), len(places)))
    for plan in plans:
        store.begin(plan)
        if left := store.missing(plan.all_keys()):
            raise CommandError(
                f"report: expected a run that is done, got {len(left)} units that are missing"
            )
    command, failed = read_plan(out / PLAN)["command"], _failed_before(out)
    write(Written(command, options, out, plans, store, expected(out, files), failed))


def _named(options: Mapping[str, Any]) -> list[Model]:
    """The models as the user named them, in their order."""
    named = options.get("model") or ["tiny"]
    return _choices.models(named, options.get("pretrained"), checked=False)


def _failed_before(out: Path) -> dict[str, str]:
    """Models that could not be measured when the files were written, and why; {} if unknown."""
    try:
        found = json.loads((out / SETTINGS).read_text(encoding="utf-8"))["failed"]
        return {str(model): str(error) for model, error in found.items()}
    except (AttributeError, OSError, KeyError, TypeError, ValueError):
        return {}
