"""What a run is: its blocks of items, the keys of its units, and all that decides its numbers."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from ..faithfulness import Protocol
from ..tasks import Task
from ..versions import PACKAGES, revision, version_of

_DECIDE = tuple(name for name in PACKAGES if name != "matplotlib")


OF_MODEL = "model"
"""Where a configuration has what belongs to the model."""


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


@dataclass(frozen=True)
class Plan:
    """What a run measures by a model, and all that decides its numbers.

    Attributes:
        configuration: See `configuration`.
        model: The model's name.
        items: How many there are.
        block_size: Of these explained together.
        methods: Name -> definition, as in `Key`; the first is "", what is known without any.
        settings: Names and numbers for the report, which change nothing.

    Example:
        >>> plan = Plan({"seed": 0}, "tiny", 5, 2, {"": "", "cci": "CCI"})
        >>> plan.blocks
        [range(0, 2), range(2, 4), range(4, 5)]
        >>> plan.keys(1)[1]
        Key(model='tiny', block=1, method='cci', definition='CCI')
    """

    configuration: Mapping[str, Any]
    model: str
    items: int
    block_size: int
    methods: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def blocks(self) -> list[range]:
        """The places of the items of each block."""
        starts = range(0, self.items, self.block_size)
        return [range(start, min(start + self.block_size, self.items)) for start in starts]

    def keys(self, block: int) -> list[Key]:
        """The units of a block."""
        return [Key(self.model, block, *method) for method in self.methods.items()]

    def all_keys(self) -> list[Key]:
        """The units of all blocks, block by block."""
        return [key for block in range(len(self.blocks)) for key in self.keys(block)]


def configuration(task: Task, protocols: Sequence[Protocol], **settings: Any) -> dict[str, Any]:
    """All that can change a number of a unit, by name: what two runs must share to be one.

    Not in it: methods and their order, which are in the keys, and the number of threads and kind
    of processor, which change rounding alone.

    Args:
        task: The items and the model.
        protocols: How maps are judged.
        settings: Further numbers and names.

    Returns:
        Names -> values that JSON can hold. `OF_MODEL` has what the model alone decides, in which
        units of one store may differ where their models do.
    """
    hardware = task.device.type
    if hardware == "cuda":
        hardware = torch.cuda.get_device_name(task.device)
    of_task = {
        name: _digest(value) if name in ("listing", "classes") else value
        for name, value in task.configuration().items()
    }
    # Of the model, since drawn scenes are as large as it sees them.
    listing = of_task.pop("listing")
    return {
        "python": platform.python_version(),
        **{name: version_of(name) for name in _DECIDE},
        "revision": revision(),
        "device": hardware,
        **of_task,
        "protocols": [_described(protocol) for protocol in protocols],
        **settings,
        OF_MODEL: {
            "class": type(task.forward_func).__name__,
            "weights": _digest_of_weights(task.forward_func),
            "preprocess": _described(task.preprocess),
            "listing": listing,
        },
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
