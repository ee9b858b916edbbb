"""What several commands need: errors for the user, devices, models, methods."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

from cci_captum.baselines.registry import METHODS, Method, find_method

if TYPE_CHECKING:
    import torch

    from cci_captum.models.clip import LoadedCLIP


class CommandError(Exception):
    """Something the user can put right; shown as one line, without a traceback."""


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `load_model` takes."""
    parser.add_argument(
        "--model",
        default="tiny",
        help='"tiny", an open_clip name, or "hf:" and a Hugging Face repository or folder '
        "(%(default)s)",
    )
    parser.add_argument("--pretrained", metavar="TAG", help="open_clip tag or checkpoint file")


def add_method_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `make_explainer` takes."""
    parser.add_argument(
        "--clusters",
        type=int,
        default=7,
        metavar="K",
        help="for methods that cluster (%(default)s)",
    )
    parser.add_argument(
        "--rise-masks", type=int, default=4000, metavar="N", help="masks of RISE (%(default)s)"
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


def load_model(name: str, pretrained: str | None, device: torch.device) -> LoadedCLIP:
    """The model of that name, or the reason why it cannot be explained."""
    from cci_captum.models.clip import load_clip
    from cci_captum.vision_towers import find_vision_tower

    try:
        clip = load_clip(name, pretrained, device)
        find_vision_tower(clip.model)
        return clip
    except (RuntimeError, TypeError, ValueError) as error:
        raise CommandError(str(error)) from error


def warn_about_unknown_words(model: str, texts: list[str]) -> None:
    """Say on stderr which words a tiny model cannot understand."""
    from cci_captum.tiny import MODEL_NAMES, unknown_words

    if model not in MODEL_NAMES:
        return
    unknown = list(dict.fromkeys(word for text in texts for word in unknown_words(text)))
    if unknown:
        print(
            f"cci-captum: warning: the tiny model never learnt {', '.join(unknown)}; it knows "
            "the 33 classes in cci_captum.tiny.CLASS_NAMES; --model takes any open_clip name",
            file=sys.stderr,
        )


def make_explainer(method: Method, forward_func: Any, clusters: int, rise_masks: int) -> Any:
    """What the method makes of forward_func, with those of the options that it has."""
    from cci_captum.clustering import KMeans

    chosen: dict[str, Any] = {"clustering": KMeans(clusters), "n_masks": rise_masks}
    known = signature(method.cls).parameters
    options = {name: value for name, value in chosen.items() if name in known}
    try:
        return method(forward_func, **options)
    except (TypeError, ValueError) as error:
        raise CommandError(f"--method: {method.name}: {error}") from error


def choose_methods(names: Sequence[str], *, masks: bool, option: str = "--method") -> list[Method]:
    """The methods of these names, each once; "all" is every method that can be used.

    Args:
        names: What the user gave as the option.
        masks: Whether the command has masks for the methods that need them.
        option: As the command line calls it.
    """
    chosen: dict[str, Method] = {}
    for name in names:
        try:
            methods = METHODS.values() if name == "all" else [find_method(name)]
        except ValueError as error:
            raise CommandError(str(error).replace("method", option, 1)) from error
        for method in methods:
            if masks or not method.needs_masks:
                chosen[method.name] = method
            elif name != "all":
                raise CommandError(
                    f"{option}: {name} needs masks of the objects, which this command does not have"
                )
    return list(chosen.values())


def check_options(arguments: argparse.Namespace, *names: str) -> None:
    """Raise CommandError unless the options of these names are at least 1."""
    for name in names:
        value = getattr(arguments, name)
        if value < 1:
            raise CommandError(f"--{name.replace('_', '-')}: expected at least 1, got {value}")
