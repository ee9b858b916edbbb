"""Models of transformers by name, or as the user has them in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import _detector, _sam
from ._transformers_versions import check_transformers, detects_in_half_precision

Source = str | tuple[nn.Module, Any]

_SAM_OF = {"sam": "Sam", "sam2": "Sam2", "sam2_video": "Sam2"}  # video checkpoints hold both


def load_detector(
    source: Source, device: torch.device | str | None, dtype: torch.dtype
) -> tuple[nn.Module, Any]:
    """Grounding DINO and its processor.

    Args:
        source: A name, or both of them in memory, which stay as they are.
        device: Of a model by name.
        dtype: The same; float32 instead where the installed transformers cannot do less.

    Raises:
        ImportError: If the installed transformers would find wrong boxes.
        TypeError: If source is neither a name nor a pair.
        ValueError: If it is of another kind of model, in training mode, or in half precision
            where the installed transformers cannot run it.
    """
    import transformers

    check_transformers()
    if not isinstance(source, str):
        model, processor = _pair("detector", source, _detector.KINDS)
        found = next(model.parameters()).dtype
        if found != torch.float32 and not detects_in_half_precision():
            raise ValueError(
                f"detector: expected weights in float32, got {found}, with which Grounding DINO "
                f"runs from transformers 5.17 on, not in {transformers.__version__}"
            )
        return model, processor
    source, options = _local(source)
    _check_kind("detector", _kind_of(source, options), _detector.KINDS)
    model = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(
        source, dtype=torch.float32, **options
    )
    processor = transformers.AutoProcessor.from_pretrained(source, **options)
    if not detects_in_half_precision():
        dtype = torch.float32
    return model.to(device=device, dtype=dtype).eval(), processor


def load_segmenter(
    source: Source, device: torch.device | str | None, dtype: torch.dtype
) -> tuple[nn.Module, Any]:
    """SAM or SAM 2 and its processor.

    Args:
        source: See `load_detector`.
        device: The same.
        dtype: Of a model by name.

    Raises:
        TypeError: If source is neither a name nor a pair.
        ValueError: If it is of another kind of model, or in training mode.
    """
    import transformers

    if not isinstance(source, str):
        return _pair("segmenter", source, _sam.KINDS)
    source, options = _local(source)
    kind = _kind_of(source, options)
    _check_kind("segmenter", kind, tuple(_SAM_OF))
    # By class: the processor that a SAM 2 checkpoint names is that of videos.
    model = getattr(transformers, f"{_SAM_OF[kind]}Model").from_pretrained(
        source, dtype=torch.float32, **options
    )
    processor = getattr(transformers, f"{_SAM_OF[kind]}Processor").from_pretrained(
        source, **options
    )
    return model.to(device=device, dtype=dtype).eval(), processor


def _local(source: str) -> tuple[str, dict[str, Any]]:
    """The name, or path of a folder, to load from, and the options to do so with."""
    folder = Path(source).expanduser()
    # Refused, instead of asking on the terminal.
    return str(folder) if folder.is_dir() else source, {"trust_remote_code": False}


def _kind_of(source: str, options: dict[str, Any]) -> str:
    import transformers

    return str(transformers.AutoConfig.from_pretrained(source, **options).model_type)


def _pair(argument: str, source: Any, kinds: tuple[str, ...]) -> tuple[nn.Module, Any]:
    if not isinstance(source, tuple) or len(source) != 2 or not isinstance(source[0], nn.Module):
        raise TypeError(
            f"{argument}: expected a name, or a model and its processor, got "
            f"{type(source).__name__}"
        )
    model, processor = source
    _check_kind(argument, getattr(getattr(model, "config", None), "model_type", None), kinds)
    if model.training:
        raise ValueError(f"{argument}: expected a model in eval mode, got one in training mode")
    return model, processor


def _check_kind(argument: str, kind: str | None, kinds: tuple[str, ...]) -> None:
    if kind not in kinds:
        raise ValueError(f"{argument}: expected a model of type {' or '.join(kinds)}, got {kind!r}")
