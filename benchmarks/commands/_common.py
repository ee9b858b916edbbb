"""What several commands need: errors for the user, options, devices, models, methods."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from cci_captum.baselines.registry import METHODS
from cci_captum.baselines.spec import MethodSpec

if TYPE_CHECKING:
    import torch

    from cci_captum.models.clip import LoadedCLIP


Parse = Callable[[Sequence[str]], argparse.Namespace]
"""Reads the words of a whole command."""


class CommandError(Exception):
    """Something the user can put right; shown as one line, without a traceback."""


class StoppedError(Exception):
    """The process was asked to end, and did so between two units."""


class Parser(argparse.ArgumentParser):
    """Reports a wrong usage as every other error is reported: in one line."""

    def error(self, message: str) -> NoReturn:
        named = message.removeprefix("argument ")  # "--n: ...", as all others
        raise CommandError(f"{named} (see {self.prog} --help)")


def at_least(least: int) -> Callable[[str], int]:
    """A type of argparse's: an int that is not less."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"expected an int of at least {least}, got {text!r}")
        return value

    return read


def one_of(*names: str) -> Callable[[str], str]:
    """A type of argparse's: one of some names."""

    def read(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"expected one of {', '.join(names)}, got {text!r}")
        return text

    return read


# Options that mean the same in every command that has them; "default" may differ.
_SHARED: dict[str, dict[str, Any]] = {
    "--data": {
        "default": "scenes",
        "metavar": "D",
        "help": '"scenes", or with options, "scenes:n=500,objects=two"; a folder that has a '
        'folder of images for each class, also as "folder:DIR"; or "imagenet:DIR", whose folders '
        'are named n01440764, ...; a set on backgrounds, "counteranimal:DIR", "covar:DIR", '
        '"imagenet9:DIR", "imagenet9-challenge:DIR", "waterbirds:DIR", "hardimagenet:DIR"; '
        '"webdataset:DIR", tar files; with captions "coco:DIR" or "flickr30k:DIR" (%(default)s)',
    },
    "--n": {
        "type": at_least(1),
        "metavar": "N",
        "help": "images (100 scenes; all of a folder)",
    },
    "--classes": {
        "type": Path,
        "metavar": "FILE",
        "help": "class names, one a line, or a folder, a tab and its name; or .json with a list, "
        "or an object from folders to names (the folders' names)",
    },
    "--masks": {
        "type": Path,
        "metavar": "DIR",
        "help": "masks of a folder's images: the same tree, .png",
    },
    "--objects": {
        "type": one_of("one", "two", "each"),
        "default": "one",
        "metavar": "{one,two,each}",
        "help": "in a scene, or each in turn (%(default)s)",
    },
    "--artwork": {
        "type": one_of("train", "held-out", "each"),
        "default": "train",
        "metavar": "{train,held-out,each}",
        "help": "of the scenes, or each in turn (%(default)s)",
    },
    "--model": {
        "default": "tiny",
        "metavar": "NAME",
        "help": '"tiny", an open_clip name, or "hf:" and a Hugging Face repository or folder '
        "(%(default)s)",
    },
    "--pretrained": {"metavar": "TAG", "help": "open_clip tag or checkpoint file"},
    "--restart": {
        "action": "store_true",
        "help": "measure anew what an earlier run left in the folder; else it is taken over",
    },
    "--batch-size": {
        "type": at_least(1),
        "default": 32,
        "metavar": "B",
        "help": "explained at a time (%(default)s)",
    },
    "--device": {"default": "auto", "metavar": "D", "help": '"cpu", "cuda", ... (%(default)s)'},
    "--seed": {
        "type": at_least(0),
        "default": 0,
        "metavar": "S",
        "help": "of what is drawn: scenes, choice of images, ties (%(default)s)",
    },
}


def add_shared_options(parser: argparse.ArgumentParser, *options: str) -> None:
    """Add options that mean the same in every command, each with the same help and checks.

    Args:
        parser: A command's.
        options: As the command line calls them: "--data", "--n", "--classes", "--masks",
            "--objects", "--artwork", "--model", "--pretrained", "--restart", "--batch-size",
            "--device", "--seed".
    """
    for option in options:
        parser.add_argument(option, **_SHARED[option])


def shared_default(option: str) -> Any:
    """The value of one of these options where a command gives it no other default.

    Args:
        option: As the command line calls it, such as "--objects".
    """
    return _SHARED[option].get("default")


def add_models_option(parser: argparse.ArgumentParser, others: str = "") -> None:
    """Add `--model` of a command that takes several.

    Args:
        parser: A command's.
        others: What else it may name.
    """
    parser.add_argument(
        "--model",
        action="append",
        metavar="NAME[,TAG]",
        help='"tiny", an open_clip name with its tag of pretrained weights ("ViT-B-16,openai"), '
        f'"hf:" and a Hugging Face repository or folder;{others} may be repeated (tiny)',
    )


def add_method_option(parser: argparse.ArgumentParser, usual: Sequence[str]) -> None:
    """Add `--method`, whose values `choose_methods` takes.

    Args:
        parser: A command's.
        usual: What the command takes where the user names no method.
    """
    parser.add_argument(
        "--method",
        action="append",
        metavar="SPEC",
        help='a method, as "cci-captum methods" lists them, with options in parentheses: "cci", '
        '"rise(masks=200)"; or "all", every method not named beside it; may be repeated '
        f"({', '.join(usual)})",
    )


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is the first GPU where there is one, else the CPU."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise CommandError(f"--device: {name!r} is not available on this machine") from error
    return device


def check_model(name: str, pretrained: str | None, tag: str = "--pretrained") -> None:
    """Raise CommandError if there can be no such model, at once: before anything is read.

    Args:
        name: Of the model.
        pretrained: Of its weights.
        tag: As the command line calls what chooses these.
    """
    from cci_captum.models._names import check_name

    with model_errors(tag):
        check_name(name, pretrained)


def load_model(name: str, pretrained: str | None, device: torch.device) -> LoadedCLIP:
    """The model of that name, or the reason why it cannot be explained."""
    from cci_captum.models.clip import load_clip
    from cci_captum.vision_towers import find_vision_tower

    with model_errors("--pretrained"):
        clip = load_clip(name, pretrained, device)
        find_vision_tower(clip.model)
    return clip


@contextmanager
def model_errors(tag: str) -> Iterator[None]:
    """What is wrong with an argument of `load_clip`, as an error of the option that chose it.

    Args:
        tag: As the command line calls what chooses the weights.
    """
    try:
        yield
    except (RuntimeError, TypeError, ValueError) as error:
        argument, _, rest = str(error).partition(": ")
        options = {"name": "--model", "pretrained": tag}
        said = f"{options[argument]}: {rest}" if argument in options else f"--model: {error}"
        raise CommandError(said) from error


def warn_about_unknown_words(model: str, texts: list[str]) -> None:
    """Say on stderr which words a tiny model cannot understand."""
    from cci_captum.tiny import never_learnt

    if unknown := never_learnt(model, texts):
        print(f"cci-captum: warning: {unknown}; --model takes any open_clip name", file=sys.stderr)


def choose_methods(texts: Sequence[str], *, masks: bool) -> list[MethodSpec]:
    """The methods that the user named, each once.

    Args:
        texts: Values of `--method`: texts of specs; "all" is every method, with its usual options,
            that can be used and is not among the others.
        masks: Whether the command has masks for the methods that need them.
    """
    try:
        given = {text: MethodSpec.parse(text) for text in texts if text != "all"}
    except ValueError as error:
        raise CommandError(f"--{error}") from error
    for spec in given.values():
        if spec.method.needs_masks and not masks:
            raise CommandError(
                f"--method: {spec} needs masks of the objects, which this command does not have"
            )
    named = {spec.name for spec in given.values()}
    rest = [
        MethodSpec(name)
        for name, method in METHODS.items()
        if name not in named and (masks or not method.needs_masks)
    ]
    chosen = [spec for text in texts for spec in (rest if text == "all" else [given[text]])]
    return list(dict.fromkeys(chosen))


@contextmanager
def method_errors(spec: MethodSpec) -> Iterator[None]:
    """What a method refuses, as an error of the option that chose it."""
    try:
        yield
    except (ImportError, TypeError, ValueError) as error:
        raise CommandError(f"--method: {spec}: {error}") from error
