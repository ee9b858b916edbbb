"""Loading CLIP models, each with its preprocessing and its tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import shorten
from typing import Any, Literal, NamedTuple, get_args

import open_clip
import torch
from torch import Tensor, nn

from .._checks import check_choice
from .._extras import missing_for_tokenizer
from ..tiny import load_tiny
from ._cut_texts import checked
from ._names import HUGGING_FACE, TINY_MODELS, check_name
from ._transformers import UnsupportedCheckpointError, load_transformers

Precision = Literal["fp32", "fp16", "bf16"]

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class LoadedCLIP(NamedTuple):
    """What `load_clip` returns; unpacks as `model, preprocess, tokenizer, name`.

    Attributes:
        model: The model, in eval mode.
        preprocess: From a PIL image to a (3, H, W) float32 tensor, ready for the model.
        tokenizer: From a string or strings to a (B, L) int64 tensor of tokens, prepared as the
            texts of the model's training were. Warns of texts that are longer than the model
            reads.
        name: The model's name, with its tag of pretrained weights where there is one.
    """

    model: nn.Module
    preprocess: Callable[[Any], Tensor]
    tokenizer: Callable[..., Tensor]
    name: str


def load_clip(
    name: str = "tiny",
    pretrained: str | None = None,
    device: str | torch.device | None = None,
    precision: Precision = "fp32",
) -> LoadedCLIP:
    """Load a CLIP model together with its preprocessing and tokenizer.

    Args:
        name: "tiny" (the embedded model, no download), "tiny-shortcut" (the same, trained with
            planted shortcuts); any name that open_clip knows: "ViT-B-16",
            "hf-hub:org/repository", "local-dir:folder"; or "hf:" with the repository or local
            folder of a CLIP, MetaCLIP 2, SigLIP or SigLIP 2 checkpoint of transformers:
            "hf:openai/clip-vit-base-patch16".
        pretrained: Tag of the pretrained weights, as open_clip lists them ("openai",
            "laion2b_s34b_b88k"); a checkpoint file; or "random" for untrained weights. Not for
            the embedded models and for names that include their weights, but "random" also for
            "hf:" ones. QuickGELU is set as the weights need it, whichever way the name says.
        device: Where the model goes; None is the CPU.
        precision: "fp32", or "fp16" / "bf16" for weights in half precision.

    Returns:
        A `LoadedCLIP`. Its preprocess resizes the images of SigLIP 2 checkpoints with flexible
        resolution (NaFlex) to the square of their position embeddings, whatever their shape.

    Raises:
        ValueError: If the name, tag or precision is unknown, or a tag is missing, with what there
            is; if a checkpoint is of another kind of model.
        RuntimeError: If the weights cannot be downloaded or read.
        ImportError: If the tokenizer needs sentencepiece or protobuf, of the extra
            `cci-captum[hf]`, and they are not installed.

    Example:
        >>> import cci_captum
        >>> model, preprocess, tokenizer, name = cci_captum.load_clip("tiny")
        >>> name
        'tiny'
    """
    check_choice("precision", precision, get_args(Precision))
    check_name(name, pretrained)
    if name in TINY_MODELS:
        loaded = LoadedCLIP(*load_tiny(name, device=device, precision=precision), name)
    elif name.startswith(HUGGING_FACE):
        loaded = _load_hugging_face(name, pretrained, device or "cpu", precision)
    else:
        loaded = _load_open_clip(name, pretrained, device or "cpu", precision)
    return loaded._replace(tokenizer=checked(loaded.tokenizer))


def _load_hugging_face(
    name: str, pretrained: str | None, device: str | torch.device, precision: Precision
) -> LoadedCLIP:
    source = name.removeprefix(HUGGING_FACE)
    full_name = name if pretrained is None else f"{name} {pretrained}"
    try:
        model, preprocess, tokenizer = load_transformers(
            source, device, _DTYPES[precision], random_weights=pretrained == "random"
        )
    except UnsupportedCheckpointError:
        raise
    except Exception as error:
        raise _not_loaded(full_name, error) from error
    return LoadedCLIP(model, preprocess, tokenizer, full_name)


def _load_open_clip(
    name: str, pretrained: str | None, device: str | torch.device, precision: Precision
) -> LoadedCLIP:
    options: dict[str, Any] = {}
    full_name = name
    if not name.startswith(("hf-hub:", "local-dir:")):
        name = name.replace("/", "-")
        full_name = f"{name} {pretrained}"
        if pretrained != "random":
            options["pretrained"] = pretrained
        quick_gelu = bool((open_clip.get_model_config(name) or {}).get("quick_gelu"))
        if not quick_gelu and open_clip.get_pretrained_cfg(name, pretrained).get("quick_gelu"):
            options["force_quick_gelu"] = True
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(
            name, device=device, precision=precision, **options
        )
        tokenizer = open_clip.get_tokenizer(name)
        if hasattr(tokenizer, "tokenizer"):  # one of transformers, whose files may not say it
            tokenizer.tokenizer.padding_side = "right"
    except Exception as error:
        raise _not_loaded(full_name, error) from error
    return LoadedCLIP(model.eval(), preprocess, tokenizer, full_name)


def _not_loaded(name: str, error: Exception) -> RuntimeError | ImportError:
    """One line for what a library says in many."""
    missing = missing_for_tokenizer(name, error)
    if missing is not None:
        return missing
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return RuntimeError(f"could not load {name}: {shorten(reason, 300, placeholder=' ...')}")
