"""What lives as long as one call of a method, which runs forward_func many times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch


class _Call:
    """One running call of a method."""

    def __init__(self) -> None:
        self.memories: dict[tuple[Any, ...], dict[Any, Any]] = {}
        self.asked: Counter[tuple[Any, ...]] = Counter()  # in the pass that runs
        self.columns_known = False  # or a check of them put off
        self.put_off: Callable[[], None] = lambda: None  # a check for the end


_CALL: ContextVar[_Call | None] = ContextVar("cci_captum_call", default=None)


@contextmanager
def one_call() -> Iterator[None]:
    """A call of a method, or part of the one that is running.

    Raises:
        ValueError: If a check fails that was put off to the end, where no pass is under way.
    """
    if _CALL.get() is not None:
        yield
        return
    call = _Call()
    token = _CALL.set(call)
    try:
        try:
            yield
        except Exception as error:
            try:  # it may have stumbled over what was to be checked
                call.put_off()
            except ValueError as cause:
                raise cause from error
            raise
        call.put_off()
    finally:
        _CALL.reset(token)


def new_pass() -> None:
    """Note that forward_func is run once more."""
    call = _CALL.get()
    if call is not None:
        call.asked.clear()


def running_call() -> _Call | None:
    """The call that runs in this thread."""
    return _CALL.get()


def call_memory(owner: Any, device: str = "cpu") -> dict[Any, Any] | None:
    """Memory for what a forward_func computes anew in every pass of one call, though it need not.

    A method runs forward_func many times in one call: weights stay as they are, and so does all
    that depends on neither images nor what is hidden in them, such as the embeddings of texts.
    The memory is empty when a call of `attribute`, `patch_map`, `effects` or of the harness
    begins, and gone when it ends: no value outlives it, nothing is left on a module, and threads
    have memories of their own.

    A forward_func may ask more than once in a pass, for instance with an adapter switched on and
    off: the first request of every pass gets the same memory, the second another. Where gradients
    are recorded, in inference mode and under autocast there are memories of their own too.

    Args:
        owner: Whose memory, usually the module that asks; hashable.
        device: Type of the device whose autocast state matters.

    Returns:
        A dict, or None where no call is running: compute then.

    Example:
        >>> import torch, cci_captum
        >>> class Similarity(torch.nn.Module):
        ...     def __init__(self, clip, tokens):
        ...         super().__init__()
        ...         self.clip, self.tokens = clip, tokens
        ...     def forward(self, images):
        ...         memory = cci_captum.call_memory(self)
        ...         if memory is None or "text" not in memory:
        ...             print("encodes its text")
        ...             text = self.clip.encode_text(self.tokens)
        ...             if memory is not None:
        ...                 memory["text"] = text
        ...         else:
        ...             text = memory["text"]
        ...         return torch.cosine_similarity(self.clip.encode_image(images), text)
        >>> clip = cci_captum.load_clip("tiny")
        >>> cci = cci_captum.CCI(Similarity(clip.model, clip.tokenizer("a cat")))
        >>> cci.attribute(torch.zeros(2, 3, 96, 96)).shape
        encodes its text
        torch.Size([2, 3, 96, 96])
    """
    call = _CALL.get()
    if call is None:
        return None
    autocast = torch.is_autocast_enabled(device)
    mode = (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_autocast_dtype(device) if autocast else None,
    )
    asking = (owner, *mode)
    place = call.asked[asking]
    call.asked[asking] += 1
    return call.memories.setdefault((asking, place), {})
