"""Small forward hooks that adapters are made of. Each returns its handle; nothing else is kept.

Hooks belong to a module, and so to every thread that runs it. These act in passes of the thread
that registered them alone.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .quantized import is_quantized


class _Eager:
    """Threads that want compiled modules run as they are written, and what undoes it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count = 0
        self.stance = ExitStack()


_EAGER = _Eager()


@contextmanager
def eager() -> Iterator[None]:
    """Run compiled modules as they are written: a compiled graph knows nothing of new hooks.

    The stance of torch.compile is the process's, not the thread's. The first to enter saves it and
    the last to leave, in whatever thread, restores it. Meanwhile compiled modules run as they are
    written in every thread. Nothing is imported for models that are not compiled.
    """
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with _EAGER.lock:
        if _EAGER.count == 0:
            _EAGER.stance.enter_context(torch.compiler.set_stance("force_eager"))
        _EAGER.count += 1
    try:
        yield
    finally:
        with _EAGER.lock:
            _EAGER.count -= 1
            if _EAGER.count == 0:
                _EAGER.stance.close()


def own(hook: Callable[..., Any]) -> Callable[..., Any]:
    """A hook that acts in the passes of the thread that calls this, and in no other's.

    What autograd's own threads run again, checkpointed blocks on a GPU, counts as that thread's.
    """
    thread = threading.get_ident()

    def own_hook(*args: Any) -> Any:
        if threading.get_ident() == thread or _is_autograds():
            return hook(*args)
        return None

    return own_hook


def _is_autograds() -> bool:
    """Whether this is a thread of autograd's, in the midst of a backward pass."""
    in_backward = torch._C._current_graph_task_id() != -1
    return in_backward and isinstance(threading.current_thread(), threading._DummyThread)


def before(
    module: nn.Module,
    hook: Callable[..., Any],
    *,
    prepend: bool = False,
    with_kwargs: bool = False,
) -> RemovableHandle:
    """`module.register_forward_pre_hook`, for passes of this thread alone."""
    return module.register_forward_pre_hook(own(hook), prepend=prepend, with_kwargs=with_kwargs)


def after(
    module: nn.Module,
    hook: Callable[..., Any],
    *,
    prepend: bool = False,
    with_kwargs: bool = False,
) -> RemovableHandle:
    """`module.register_forward_hook`, for passes of this thread alone."""
    return module.register_forward_hook(own(hook), prepend=prepend, with_kwargs=with_kwargs)


def first_argument(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a module was called with first, whether by position or by name."""
    return args[0] if args else next(iter(kwargs.values()))


def first_output(output: Any) -> Any:
    """The tokens that a block puts out, alone or first in a tuple."""
    return output[0] if isinstance(output, tuple) else output


def hook_input(
    module: nn.Module, function: Callable[[Tensor], Tensor], *, prepend: bool = False
) -> RemovableHandle:
    """Pass a module's first argument, given by position, through `function`.

    Args:
        module: The module.
        function: From the argument to what takes its place.
        prepend: Run before the hooks that are there already.
    """

    def pre_hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (function(args[0]), *args[1:])

    return before(module, pre_hook, prepend=prepend)


def hook_output(module: nn.Module, function: Callable[[Tensor], Tensor]) -> RemovableHandle:
    """Pass a module's tensor output through `function`."""
    return after(module, lambda module, args, output: function(output))


def skip(module: nn.Module) -> RemovableHandle:
    """Make a module put out what it was called with: patch dropout, for instance."""
    return after(module, lambda module, args, output: args[0])


def refuse_cut(layer: nn.Module, name: str) -> RemovableHandle:
    """Raise RuntimeError, naming the layer, in a pass in which it stops gradients."""

    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if not torch.is_grad_enabled() or not isinstance(output, Tensor):
            return
        # Behind a quantised layer is a node of the graph that passes nothing on.
        stops = is_quantized(module) or not output.requires_grad
        if stops and any(isinstance(value, Tensor) and value.requires_grad for value in args):
            raise RuntimeError(
                f"vision_tower: no gradient passes {name} ({type(module).__name__}), which is "
                "computed without autograd, as quantised layers are; explain the model as it was "
                "before, or take a method that needs no gradients"
            )

    return after(layer, hook)


def keeps_all(mask: Tensor | None) -> bool:
    """Whether an attention mask hides nothing: none, all True, or zeros to be added."""
    if mask is None:
        return True
    return bool(mask.all() if mask.dtype == torch.bool else (mask == 0).all())


def begin_graph(tokens: Tensor) -> Tensor:
    """The tokens as a leaf: from here on gradients flow, and to no further than this.

    Raises:
        RuntimeError: If gradients flow already, to something that they would then not reach.
    """
    if tokens.requires_grad:
        raise RuntimeError(
            "vision_tower: gradients of one pass begin at two places, gates or recordings with "
            "requires_grad=True; they would not reach the first: leave one of them out"
        )
    torch.set_grad_enabled(True)
    return tokens.detach().requires_grad_()


def key_bias(mask: Tensor, inputs: Tensor) -> Tensor:
    """What a mask of keys adds to the logits of attention, of the dtype and device of its inputs.

    Args:
        mask: (B, S) bool, True where a key is hidden, or floating point, the bias itself.
        inputs: What the attention computes with.

    Returns:
        (B, S), -inf where a key is hidden.
    """
    mask = mask.to(inputs.device)
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=inputs.dtype).masked_fill_(mask, -torch.inf)
    return mask.to(inputs.dtype)


def hide_keys(
    attention: nn.Module, mask: Callable[[], Tensor | None], argument: str, position: int = -1
) -> RemovableHandle:
    """Hand the keys to hide to an attention module, in the place of a mask that hides nothing.

    transformers passes such a mask on, as long as the sequence was before patches were dropped.
    With a mask of another kind the attention raises ValueError.

    Args:
        attention: The attention module.
        mask: Gives (B, S) bool, True where a key is hidden, or floating point numbers to add to
            the logits of each key, or None where all are kept.
        argument: The name of the attention's mask argument; "key_padding_mask" takes (B, S),
            any other (B, 1, 1, S), broadcast over heads and queries.
        position: Where that argument stands when it is given by position.
    """

    def pre_hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        hidden, logits = mask(), None
        given = args[position] if 0 <= position < len(args) else kwargs.get(argument)
        if kwargs.get("is_causal") or not keeps_all(given):
            raise ValueError(
                "forward_func: expected attention without a mask of its own while patches are "
                f"hidden, got one for {type(module).__name__}"
            )
        if hidden is not None:
            # Floating point, to be added to the logits: every attention takes that, and PyTorch's
            # MultiheadAttention would with a bool mask go its fast path, here the slower one.
            logits = key_bias(hidden, first_argument(args, kwargs))
            if argument != "key_padding_mask":
                logits = logits[:, None, None]
        if 0 <= position < len(args):
            return (*args[:position], logits, *args[position + 1 :]), kwargs
        return args, {**kwargs, argument: logits}

    return before(attention, pre_hook, with_kwargs=True)
