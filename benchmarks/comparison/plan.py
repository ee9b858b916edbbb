"""What a run is: its blocks of images, the keys of its units, and all that decides its numbers."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from cci_captum.models.preprocessing import Preprocess
from cci_captum.vision_towers import find_vision_tower

from ..data import ImageData
from ..faithfulness import Protocol
from ..versions import PACKAGES, version_of

_DECIDE = tuple(name for name in PACKAGES if name != "matplotlib")


class Key(NamedTuple):
    """A unit of work: a method with its checks on a block of images, by a model.

    Attributes:
        model: The model's name.
        block: Number of the block.
        method: Name of the method; "" is what is known of the images without any.
        definition: What the name stands for, so that another method of that name is another unit.
    """

    model: str
    block: int
    method: str
    definition: str = ""


def blocks(count: int, size: int) -> list[range]:
    """The places of a data set's images, so many to a block."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def configuration(
    forward_func: nn.Module,
    data: ImageData,
    preprocess: Preprocess,
    protocols: Sequence[Protocol],
    **settings: Any,
) -> dict[str, Any]:
    """All that can change a number of a unit, by name: what two runs must share to be one.

    Not in it: methods and their order, which are in the keys, and the number of threads and kind
    of processor, which change rounding alone.

    Args:
        forward_func: The model.
        data: The images.
        preprocess: What makes inputs of them.
        protocols: How maps are judged.
        settings: Further numbers and names.

    Returns:
        Names -> values that JSON can hold.
    """
    device = next(find_vision_tower(forward_func).module.parameters()).device
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "python": platform.python_version(),
        **{name: version_of(name) for name in _DECIDE},
        "device": hardware,
        "model": type(forward_func).__name__,
        "weights": _digest_of_weights(forward_func),
        "preprocess": _described(preprocess),
        "data": data.name,
        "images": len(data),
        "listing": _digest(_listing(data)),
        "classes": _digest([*data.class_names, str(data.templates)]),
        "protocols": [_described(protocol) for protocol in protocols],
        **settings,
    }


def definition_of(factory: Any) -> str:
    """What makes a method, as a text that is the same in another process.

    Of a function its code, defaults and what it encloses, of a partial its arguments: what they
    call may still change without a trace.

    Example:
        >>> from functools import partial
        >>> definition_of(partial(dict, clusters=10))
        'builtins.dict; ; clusters=10'
    """
    if isinstance(factory, partial):
        options = ", ".join(f"{name}={_described(v)}" for name, v in factory.keywords.items())
        given = ", ".join(map(_described, factory.args))
        return f"{definition_of(factory.func)}; {given}; {options}"
    if isinstance(factory, type):
        return f"{factory.__module__}.{factory.__qualname__}"
    code = getattr(factory, "__code__", None)
    if code is None:
        return _described(factory)
    enclosed = [_described(cell.cell_contents) for cell in factory.__closure__ or ()]
    parts = [code.co_code.hex(), *map(_described, (code.co_consts, code.co_names))]
    parts += [_described((factory.__defaults__, factory.__kwdefaults__)), *enclosed]
    return f"{factory.__module__}.{factory.__qualname__} {_digest(parts)}"


def fingerprint(configured: Mapping[str, Any]) -> str:
    """A configuration in 64 hexadecimal digits."""
    return _digest([json.dumps(configured, sort_keys=True)])


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """What differs between two configurations, in words."""
    for name in dict.fromkeys([*stored, *wanted]):
        if stored.get(name) != wanted.get(name):
            yield f"{name} {stored.get(name)!r}, not {wanted.get(name)!r}"


def _listing(data: ImageData) -> list[str]:
    """Which images these are, as far as the data say so; at least how many of which class."""
    return [*map(str, getattr(data, "listing", ())), str(list(data.targets))]


def _digest(texts: Sequence[str]) -> str:
    content = "\0".join(texts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(content).hexdigest()


def _digest_of_weights(module: nn.Module) -> str:
    """Of every weight and buffer, by name, type and value."""
    whole = hashlib.sha256()
    for name, value in module.state_dict().items():
        if isinstance(value, torch.Tensor):
            whole.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            flat = value.detach().cpu().contiguous().reshape(-1)
            whole.update(flat.view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


def _described(thing: Any) -> str:
    """A text of an object that is the same in another process: without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(thing))
