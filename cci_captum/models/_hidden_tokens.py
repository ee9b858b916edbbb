"""Text tokens that no other token attends to, as patches are hidden in an image encoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..vision_towers.hooks import before, eager, first_argument

_SUPPORTED = (
    "expected the text encoder of a CLIP or SigLIP of open_clip (its own, not one of transformers "
    "inside) or of transformers"
)
# Of transformers, known by name, so that it is not imported here.
_ENCODERS = tuple(
    f"{family}Text{part}"
    for family in ("CLIP", "MetaClip2", "Siglip", "Siglip2")
    for part in ("Model", "Transformer")
)
_ATTENTIONS = ("CLIPAttention", "MetaClip2Attention", "SiglipAttention", "Siglip2Attention")


@contextmanager
def hide_tokens(model: nn.Module, hidden: Tensor) -> Iterator[None]:
    """Inside, no token of a text attends to a hidden one, in any layer.

    Every token keeps its place. A hidden token attends to itself and to those that are not hidden;
    what comes of it is read by none. The token that the feature is read from must not be hidden.

    Args:
        model: A CLIP-like model, which encodes B texts inside; as it was on any exit.
        hidden: (B, L) bool, True where a token is hidden. Tokens that the encoder appends to the
            L (CoCa's class token) are not.

    Raises:
        TypeError: If the text encoder is of another kind.
    """
    attentions = _attentions(model)
    with ExitStack() as stack:
        stack.enter_context(eager())
        for module in attentions:
            stack.callback(before(module, _Mask(hidden), with_kwargs=True).remove)
        yield


class _Mask:
    """A hook that adds -inf to the logits of hidden keys, whatever mask there is already."""

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tokens = first_argument(args, kwargs)
        batch, length = tokens.shape[:2]
        hidden = self.hidden.new_zeros(batch, length)
        hidden[:, : self.hidden.shape[1]] = self.hidden
        others = ~torch.eye(length, dtype=torch.bool, device=hidden.device)
        mask = _logits((hidden[:, None] & others)[:, None].to(tokens.device), tokens)
        argument = "attn_mask"
        if type(module).__name__ in _ATTENTIONS:
            argument = "attention_mask"
            if kwargs.get("is_causal") and kwargs.get(argument) is None:
                later = torch.ones(length, length, dtype=torch.bool, device=tokens.device).triu(1)
                mask = mask + _logits(later, tokens)
        given = kwargs.get(argument)
        if given is not None and not isinstance(given, Tensor):
            raise TypeError(
                f"model: expected attention that takes masks as tensors, got {type(given).__name__}"
                "; load the model with attn_implementation='sdpa'"
            )
        if given is not None:
            if given.dtype == torch.bool:
                # transformers' says where a token may look, open_clip's where it may not.
                given = _logits(given ^ (argument == "attention_mask"), tokens)
            if given.ndim == 3:  # open_clip's (B heads, L, L)
                given = given.unflatten(0, (batch, -1))
            mask = mask + given.to(tokens)
        if argument == "attn_mask":  # which takes one for all heads, or one each
            mask = mask.expand(-1, module.num_heads, -1, -1).flatten(0, 1)
        return args, kwargs | {argument: mask}


def _logits(blocked: Tensor, like: Tensor) -> Tensor:
    """What is added to logits: -inf where blocked."""
    zeros = torch.zeros(blocked.shape, dtype=like.dtype, device=like.device)
    return zeros.masked_fill_(blocked, -torch.inf)


def _attentions(model: Any) -> list[nn.Module]:
    """The attention modules of a text encoder, each called once with all tokens.

    Raises:
        TypeError: If the text encoder is of another kind.
    """
    # open_clip's CLIP has no module of its own for texts: its transformer is theirs.
    parts = (getattr(model, name, None) for name in ("text_model", "text"))
    encoder: Any = next((part for part in parts if part is not None), None)
    if encoder is None and hasattr(model, "token_embedding"):
        encoder = model.transformer
    encoder = getattr(encoder, "_orig_mod", encoder)  # compiled
    names = {_origin(base) for base in type(encoder).__mro__}
    if names & {("open_clip", "TextTransformer"), ("open_clip", "Transformer")}:
        found = [m for m in encoder.modules() if _is_open_clips(m)]
    elif names & {("transformers", name) for name in _ENCODERS}:
        found = [m for m in encoder.modules() if type(m).__name__ in _ATTENTIONS]
    else:
        found = []
    if not found:
        got = model if encoder is None else encoder
        raise TypeError(f"model: {_SUPPORTED}, to hide words in, got {type(got).__name__}")
    return found


def _origin(kind: type) -> tuple[str, str]:
    """The library of a class, and its name."""
    return kind.__module__.split(".")[0], kind.__name__


def _is_open_clips(module: nn.Module) -> bool:
    return isinstance(module, nn.MultiheadAttention) or _origin(type(module)) == (
        "open_clip",
        "Attention",
    )
