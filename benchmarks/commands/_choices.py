"""Names that the user gave to `compare` and `retrieval`, checked and in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cci_captum.baselines.spec import MethodSpec

from ._common import CommandError, check_model

if TYPE_CHECKING:
    from ..faithfulness.protocols import Ties

Model = tuple[str, str | None]
"""Name and tag, as `load_clip` takes them."""


def models(names: Sequence[str], pretrained: str | None, *, checked: bool = True) -> list[Model]:
    """The models that the user named, each once; checked: and each one that can be."""
    found: list[Model] = []
    for text in names:
        name, comma, tag = text.partition(",")
        if comma and (not name or not tag):
            raise CommandError(f"--model: expected NAME or NAME,TAG, got {text!r}")
        found.append((name, tag or None))
    if pretrained is not None:
        if len(found) > 1 or found[0][1] is not None:
            raise CommandError(
                "--pretrained: expected it beside one --model without a tag; of several, say "
                "--model NAME,TAG"
            )
        found = [(found[0][0], pretrained)]
    if twice := [model for place, model in enumerate(found) if model in found[:place]]:
        raise CommandError(f"--model: expected each once, got {twice[0][0]!r} again")
    for name, weights in found if checked else ():
        check_model(name, weights, "--pretrained" if weights in (None, pretrained) else "--model")
    return found


def reference(text: str | None, methods: Sequence[MethodSpec], masks: bool) -> str | None:
    """The key of the method that others are compared with; None is the first."""
    if text is None:
        return None
    known = [*map(str, methods), "random", *(["ground-truth"] if masks else [])]
    try:
        key = str(MethodSpec.parse(text))
    except ValueError:
        key = text
    if key not in known:
        raise CommandError(f"--reference: expected one of {', '.join(known)}, got {text!r}")
    return key


def protocols(names: str) -> list[str]:
    """Names of the protocols, each once; none for "none"."""
    from ..faithfulness.protocols import PROTOCOLS, find_protocol

    if names == "none":
        return []
    chosen = [*PROTOCOLS] if names == "all" else list(dict.fromkeys(names.split(",")))
    try:
        return [find_protocol(name).name for name in chosen]
    except ValueError as error:
        raise CommandError(f"--{error}") from error


def checks(names: str) -> list[str]:
    """The checks, each once."""
    from ..comparison.randomization import CHECKS

    chosen = list(dict.fromkeys(filter(None, names.split(","))))
    for name in chosen:
        if name not in CHECKS:
            raise CommandError(f"--checks: expected some of {', '.join(CHECKS)}, got {name!r}")
    return chosen


def ties(names: str) -> list[Ties]:
    """Orders of ties, in the order that tables have."""
    from ..faithfulness.protocols import TIES

    chosen = [] if names == "none" else list(dict.fromkeys(names.split(",")))
    for name in chosen:
        if name not in TIES:
            raise CommandError(f"--ties: expected some of {', '.join(TIES)}, or none, got {name!r}")
    return [order for order in TIES if order in chosen]
