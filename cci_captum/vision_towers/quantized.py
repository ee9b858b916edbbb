"""Layers that PyTorch quantised: without weights of their own, without gradients."""

from __future__ import annotations

from torch import nn

_DYNAMIC = "quantized.dynamic"


def is_quantized(module: nn.Module) -> bool:
    """Whether a module itself is one of PyTorch's quantised layers (`torch.ao.nn.quantized`...).

    Such a layer keeps packed weights that are no parameters, and autograd knows no derivative of
    it.
    """
    return _comes_from(module, "quantized")


def dynamically_quantized(module: nn.Module) -> list[str]:
    """Names of the dynamically quantised layers inside a module.

    They round their inputs with one scale for the whole tensor, the batch with all its tokens, so
    that hidden patches, and the other images of a batch, still move every token's rounding. No mask
    prevents that: explain the model as it was before it was quantised.

    Example:
        >>> from cci_captum.vision_towers import dynamically_quantized
        >>> from torch import nn
        >>> dynamically_quantized(nn.Sequential(nn.Linear(4, 4)))
        []
    """
    return [name for name, part in module.named_modules() if _comes_from(part, _DYNAMIC)]


def _comes_from(module: nn.Module, package: str) -> bool:
    bases = (f"{base.__module__}." for base in type(module).__mro__)
    return any(base.startswith("torch.") and f".{package}." in base for base in bases)
