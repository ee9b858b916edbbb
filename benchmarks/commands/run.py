"""`cci-captum run`: long runs, by any number of workers that come and go, and how far they are."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from cci_captum.baselines.spec import MethodSpec
from cci_captum.names import readable

from . import _choices, _covar_evaluate, counteranimal, diagnose, spurious, study
from ._common import CommandError, Parse, Parser, StoppedError, at_least
from ._evaluating import SETTINGS
from ._restart import empty, refusal_to_restart
from ._working import PARTS, PLAN, WORKERS, Working, read_plan
from ._written import Written, line_of, name_of, words_of
from .variants import resolved

if TYPE_CHECKING:
    from ..comparison.plan import Plan
    from ..runner import Place

MEASURE = (
    "compare", "retrieval", "diagnose", "study", "counteranimal", "spurious", "covar", "variants",
)  # fmt: skip
"""Commands that workers can share."""

_REPORTS: dict[str, Callable[[Mapping[str, Any], Path], None]] = {
    "diagnose": diagnose.report_of,
    "study": study.report_of,
    "counteranimal": counteranimal.report_of,
    "spurious": spurious.report_of,
    "covar evaluate": _covar_evaluate.report_of,
}

_SIGNALS = ("SIGTERM", "SIGUSR1", "SIGUSR2")  # as runner.stopping, which takes seconds to import


def add_to(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], parse: Parse) -> None:
    """Add the command to the parser.

    Args:
        subparsers: Of all commands.
        parse: Reads the words of a whole command.
    """
    parser = subparsers.add_parser(
        "run",
        help="long runs: many workers, resumed, watched",
        description="Run a command that measures as one of many workers that "
        "share --out: started by --workers, torchrun, accelerate launch or srun, at any time, on "
        "any number of machines. Each measures what is missing, and ends after the unit in "
        "progress when it is sent SIGTERM or SIGUSR1 (exit code 75); the same command goes on. "
        f"Words: {'|'.join(MEASURE)} and their options; PLAN.json, such as the "
        "plan.json of a run; status DIR; compact DIR, which merges the files of units; report DIR, "
        "which writes tables and summary without a model.",
    )
    parser.add_argument("what", metavar=f"{'|'.join(MEASURE)}|PLAN.json|status|compact|report")
    parser.add_argument(
        "rest",
        nargs=argparse.REMAINDER,
        metavar="...",
        help="--workers N processes on this machine (1); --threads T of each, on the CPU (those "
        "the run began with, or its share of the cores); --readers N processes of each that read "
        "images (2 with a GPU, else none); and the options of what is run",
    )
    parser.set_defaults(run=lambda arguments: run(arguments, parse))


def run(arguments: argparse.Namespace, parse: Parse) -> None:
    """Work, or look at the work."""
    looks = {"status": _status, "compact": _compact, "report": _report}
    if arguments.what in looks:
        if len(arguments.rest) != 1:
            raise CommandError(
                f"{arguments.what}: expected one folder, got {len(arguments.rest)} words"
            )
        looks[arguments.what](Path(arguments.rest[0]))
        return
    with _heeding_signals():
        _work(arguments, parse)


@contextmanager
def _heeding_signals() -> Iterator[None]:
    """Until a worker heeds them by itself: a signal may come while packages are imported."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise StoppedError(signal.Signals(number).name)

    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _work(arguments: argparse.Namespace, parse: Parse) -> None:
    """Be one of the workers, or start them."""
    words = [arguments.what, *arguments.rest]
    if arguments.what not in MEASURE:
        if not arguments.what.endswith(".json"):
            raise CommandError(
                f"run: expected {', '.join(MEASURE)}, a PLAN.json, status, compact or report, got "
                f"{arguments.what!r}"
            )
        words = [*_words_of(Path(arguments.what)), *arguments.rest]
    own, rest = _own_options().parse_known_args(words)
    asked = resolved(parse(rest))
    from ..runner import Place

    try:
        place = Place.find()
    except ValueError as error:
        raise CommandError(str(error)) from error
    if own.workers > 1:
        _launch(own, rest, asked, place)
        return
    asked.working = Working(place, keep_records=True, threads=own.threads, readers=own.readers)
    asked.run(asked)


def _own_options() -> argparse.ArgumentParser:
    parser = Parser(prog="cci-captum run", add_help=False, allow_abbrev=False)
    parser.add_argument("--workers", type=at_least(1), default=1)
    parser.add_argument("--threads", type=at_least(1))
    parser.add_argument("--readers", type=at_least(0))
    return parser


def _words_of(path: Path) -> list[str]:
    """The command line that a plan stands for."""
    asked = read_plan(path)
    if path.name == PLAN and (path.parent / PARTS).is_dir():
        asked["out"] = str(path.parent)  # wherever the folder was moved, or this is run
    command = asked.pop("command").split() or [""]
    if command[0] not in MEASURE:
        raise CommandError(
            f"PLAN: expected one of {', '.join(MEASURE)} as command in {path}, got {command[0]!r}"
        )
    try:
        return words_of(" ".join(command), asked)
    except ValueError as error:
        raise CommandError(f"PLAN: {error} in {path}") from error


def _launch(
    own: argparse.Namespace, rest: Sequence[str], asked: argparse.Namespace, place: Place
) -> None:
    """Start workers with the same words, and wait for them."""
    from ..runner import STOPPED, exit_code, launch

    asked.working = Working(place, only_checks=True)
    asked.run(asked)  # what is wrong is said once, and before anything is thrown away
    if asked.restart:
        if place.world > 1:
            raise refusal_to_restart(asked.out / PARTS)
        empty(asked.out)
    words = ["run", *(word for word in rest if not _is_restart(word))]
    for option, value in (("--threads", own.threads), ("--readers", own.readers)):
        words += [option, str(value)] if value is not None else []
    codes = launch(words, own.workers)
    for rank, code in enumerate(codes):
        if code not in (0, STOPPED):
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            print(f"cci-captum: worker {rank} ended with {how}", file=sys.stderr)
    if exit_code(codes) == STOPPED:
        raise StoppedError("a signal")
    if exit_code(codes):
        try:
            complete = _progress(asked.out).complete
        except CommandError:  # none came so far as to begin
            complete = False
        if not complete:
            raise CommandError(
                "run: not all workers ended well; the same command goes on from there"
            )
        _report(asked.out)


def _is_restart(word: str) -> bool:
    """Whether a word is --restart, or what argparse takes for it."""
    return word.startswith("--res") and "--restart".startswith(word)


def _progress(folder: Path) -> Any:
    from ..runner import Progress

    if not folder.is_dir():
        raise CommandError(f"status: no such folder: {readable(folder)}")
    try:
        return Progress.of(folder / PARTS, folder / WORKERS)
    except (OSError, ValueError) as error:
        raise CommandError(f"status: expected the folder of a run: {error}") from error


def _status(folder: Path) -> None:
    print(_progress(folder).text())


def _asked(folder: Path) -> dict[str, Any]:
    """What was run there; without a plan, a comparison whose page says so, or says nothing."""
    if (folder / PLAN).exists():
        return read_plan(folder / PLAN)
    try:
        line = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))["command"]
    except (OSError, ValueError, KeyError, TypeError):
        line = ""
    if line and not str(line).startswith("cci-captum compare"):
        raise _without_plan(folder)
    return {"command": "compare"}


def _without_plan(folder: Path) -> CommandError:
    return CommandError(
        f"report: expected {PLAN} in {readable(folder)}, which says what was run; the same "
        "command once more writes its files"
    )


def _report(folder: Path) -> None:
    from ..comparison import FolderStore
    from ..comparison.folder_store import read_plans
    from ..comparison.tables import stored_comparison

    progress = _progress(folder)
    if not progress.complete:
        raise CommandError(f"report: expected a run that is done, got {progress.line()}")
    store = FolderStore(folder / PARTS)
    plans = read_plans(store.folder)
    asked = _asked(folder)
    not_options = ("command", "out", "threads")
    options = {name: value for name, value in asked.items() if name not in not_options}
    command = asked["command"].removeprefix("variants ")
    if command == "covar build":
        raise CommandError(
            f"report: expected a run of measurements, {readable(folder)} is of covar build; the "
            "same command once more writes its manifest"
        )
    if command in _REPORTS:
        try:
            _REPORTS[command](options, folder)
        except (OSError, ValueError) as error:
            raise CommandError(f"report: {error}") from error
        return
    if "protocols" not in plans[0].settings:
        raise _without_plan(folder)
    models, plans = _as_named(options, plans)
    line = line_of(asked["command"], options)
    reference = options.get("reference")
    if reference is not None:
        specs = [MethodSpec.parse(text) for text in options["method"]]
        reference = _choices.reference(reference, specs, masks=True)
    written = Written(folder, line, models, plans[0].settings["protocols"], reference)
    found = []
    try:
        for plan in plans:
            store.begin(plan)
            if left := store.missing(plan.all_keys()):  # damaged; what is of other runs is refused
                raise CommandError(
                    f"report: expected a run that is done, got {len(left)} units that are missing"
                )
            found.append(stored_comparison(plan, store))
    except (OSError, ValueError) as error:
        raise CommandError(f"report: {error}") from error
    for model, comparison in zip(models, found, strict=True):
        written.draw(comparison, model)
    written.write(found)


def _as_named(
    options: Mapping[str, Any], plans: Sequence[Plan]
) -> tuple[list[_choices.Model], list[Plan]]:
    """Models as the user named them, in their order, which names their pictures; their plans."""
    named = _choices.models(
        options.get("model", ["tiny"]), options.get("pretrained"), checked=False
    )
    plan_of = {plan.model: plan for plan in plans}
    models = [model for model in named if name_of(model) in plan_of]
    if len(models) != len(plans):  # not those of the folder's plan alone
        return [(plan.model, None) for plan in plans], [*plans]
    return models, [plan_of[name_of(model)] for model in models]


def _compact(folder: Path) -> None:
    from ..comparison import FolderStore

    _progress(folder)  # that there is a run
    try:
        done = FolderStore(folder / PARTS).compact()
    except FileNotFoundError as error:
        raise CommandError(
            f"compact: files were merged or taken away meanwhile; nothing is lost, run it again "
            f"({error})"
        ) from error
    except (OSError, ValueError) as error:
        raise CommandError(f"compact: {error}") from error
    print(f"{done.before} files became {done.after}")
