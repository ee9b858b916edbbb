"""What a call must leave as it was: the model, the random states, the modes of autograd."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class ModelState:
    """Weights, buffers, gradients, hooks and modes of modules, as they are now.

    Args:
        roots: Name -> module; what they hold is looked at too. Weights are copied.
    """

    def __init__(self, roots: Mapping[str, nn.Module]) -> None:
        self._roots: dict[str, nn.Module] = {}
        for name, root in roots.items():
            if not any(root is part for outer in self._roots.values() for part in outer.modules()):
                self._roots[name] = root
        self._facts = self._look()
        self._tensors = {
            place: (tensor, _copy(tensor), tensor.requires_grad, _copy(tensor.grad))
            for place, tensor in self._named_tensors()
        }

    def change(self) -> str:
        """What is no longer as it was, and where; empty if nothing."""
        now = self._look()
        for place, facts in self._facts.items():
            for what, value in facts.items():
                if now.get(place, {}).get(what) != value:
                    return f"other {what} in {place}"
        if now.keys() != self._facts.keys():
            return f"another module, {next(iter(now.keys() - self._facts.keys()))}"
        tensors = dict(self._named_tensors())
        if tensors.keys() != self._tensors.keys():
            return f"another tensor, {next(iter(tensors.keys() ^ self._tensors.keys()))}"
        for place, (tensor, value, requires_grad, grad) in self._tensors.items():
            if tensors[place] is not tensor or not _same(tensor, value):
                return f"other values in {place}"
            if tensor.requires_grad != requires_grad:
                return f"another requires_grad in {place}"
            if not _same(tensor.grad, grad):
                return f"another grad in {place}"
        return ""

    def _look(self) -> dict[str, dict[str, Any]]:
        """Name of a module -> fact -> value that compares."""
        found: dict[str, dict[str, Any]] = {}
        found["all modules"] = {"global hooks": _hooks(vars(nn.modules.module))}
        for root, module in self._roots.items():
            for name, part in module.named_modules():
                found[f"{root}.{name}".rstrip(".")] = {
                    "hooks": _hooks(vars(part)),
                    "train mode": part.training,
                    "class": type(part),
                    "forward": id(vars(part).get("forward")),
                    "submodules": [(key, id(child)) for key, child in part.named_children()],
                }
        return found

    def _named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        for root, module in self._roots.items():
            for named in (module.named_parameters(), module.named_buffers()):
                for name, tensor in named:
                    if tensor.device.type != "meta":  # offloaded
                        yield f"{root}.{name}", tensor


def process_state() -> dict[str, Any]:
    """Name -> value that compares, of what belongs to the whole process or thread."""
    kind, keys, *rest = np.random.get_state()
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "random state of torch": [_bytes(s) for s in (torch.get_rng_state(), *on_gpus)],
        "random state of numpy": (kind, np.asarray(keys).tobytes(), *rest),
        "random state of Python": random.getstate(),
    }


@contextmanager
def random_states_kept(seed: int | None = None) -> Iterator[None]:
    """Random states of the process are put back at the end; with `seed`, begun from it."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if gpus is not None:
            torch.cuda.set_rng_state_all(gpus)


def _hooks(attributes: Mapping[str, Any]) -> list[tuple[str, list[int]]]:
    """Which functions hang in each dict of hooks."""
    return [
        (name, [id(hook) for hook in hooks.values()])
        for name, hooks in attributes.items()
        if name.endswith("hooks") and isinstance(hooks, dict) and hooks
    ]


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two tensors hold the same values, NaN in the same places."""
    if one is None or other is None:
        return one is other
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    one = one.detach()
    return torch.equal(one, other) or bool(((one == other) | (one.isnan() & other.isnan())).all())


def _bytes(state: Tensor) -> bytes:
    return state.cpu().numpy().tobytes()
