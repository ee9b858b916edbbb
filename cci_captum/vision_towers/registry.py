"""Which adapter takes which image encoder.

An adapter of open_clip or timm imports its library, which takes longer than PyTorch does. So it
is imported only where the library is already, without which there is no model of it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from torch import nn

from .base import VisionTower
from .quantized import dynamically_quantized
from .transformers_vit import (
    TransformersCLIPTower,
    TransformersDinov2Tower,
    TransformersSiglip2Tower,
    TransformersSiglipTower,
    TransformersViTTower,
)

_SUPPORTED = (
    "open_clip's VisionTransformer, timm's VisionTransformer and Eva (also inside open_clip's "
    "TimmModel), and transformers' CLIP, MetaCLIP 2, SigLIP, SigLIP 2, ViT and DINOv2 models; "
    "register_vision_tower adds others"
)

_NO_GLOBAL_TOKENS = "has no patch tokens that attend to all others, so none can be hidden"
# Reasons, and the names of classes that they hold for, wherever those are defined.
_REFUSED = {
    f"a ResNet {_NO_GLOBAL_TOKENS}": ("ModifiedResNet", "ResNet", "ResNetModel"),
    f"a RegNet {_NO_GLOBAL_TOKENS}": ("RegNet", "RegNetModel"),
    f"a ConvNeXt {_NO_GLOBAL_TOKENS}": ("ConvNeXt", "ConvNextModel", "ConvNextV2Model"),
    f"a Swin transformer attends within windows: it {_NO_GLOBAL_TOKENS}": (
        *("SwinTransformer", "SwinTransformerV2", "SwinTransformerV2Cr"),
        *("SwinModel", "Swinv2Model"),
    ),
    f"attention within windows: it {_NO_GLOBAL_TOKENS}": ("MaxxVit", "VisionTransformerSAM"),
    f"a FastViT is convolutional in all but its last stage: it {_NO_GLOBAL_TOKENS}": ("FastVit",),
    f"a Hiera merges patches: it {_NO_GLOBAL_TOKENS}": ("Hiera",),
    "relative position biases between tokens are not supported": (
        *("VisionTransformerRelPos", "Beit", "BeitModel", "Data2VecVisionModel"),
    ),
}
# Classes of transformers around an image encoder that read its output alone: its image feature,
# or the mean of the patches, which `hide` keeps to those that are not hidden.
_OWNERS = (
    "CLIPForImageClassification",
    "MetaClip2ForImageClassification",
    "SiglipForImageClassification",
    "VisionTextDualEncoderModel",
    "TimmWrapperModel",
    "TimmWrapperForImageClassification",
)


class _Registration(NamedTuple):
    """An adapter, and which modules it takes."""

    predicate: Callable[[nn.Module], bool]
    adapter: Callable[..., VisionTower]


# Adapters that import a library: its name, and the module here that the adapter is in.
LAZY = {
    "OpenCLIPVisionTower": ("open_clip", "open_clip_vit"),
    "OpenCLIPTimmTower": ("open_clip", "open_clip_timm"),
    "TimmVisionTower": ("timm", "timm_vit"),
}
# Those that know their library's classes by name, and import nothing.
_BY_NAME = (
    TransformersCLIPTower,
    TransformersSiglipTower,
    TransformersSiglip2Tower,
    TransformersViTTower,
    TransformersDinov2Tower,
)
_REGISTERED: list[_Registration] = []


def load_adapter(name: str) -> Any:
    """The adapter of a name in `LAZY`, whose library is imported if it is not yet."""
    _, module = LAZY[name]
    return getattr(import_module(f".{module}", __package__), name)


def _built_in() -> list[_Registration]:
    """The adapters of the package that may take a module: those whose library is imported."""
    imported = [name for name, (library, _) in LAZY.items() if sys.modules.get(library)]
    adapters = (*map(load_adapter, imported), *_BY_NAME)
    return [_Registration(adapter.matches, adapter) for adapter in adapters]


class TowerRegistration:
    """What `register_vision_tower` returns."""

    def __init__(self, registration: _Registration) -> None:
        self._registration = registration

    def remove(self) -> None:
        """Take the adapter out again; a second call does nothing."""
        _REGISTERED[:] = [entry for entry in _REGISTERED if entry is not self._registration]


def register_vision_tower(
    predicate: Callable[[nn.Module], bool], adapter: Callable[..., VisionTower]
) -> TowerRegistration:
    """Make `find_vision_tower`, and with it every method, take image encoders of your own.

    Args:
        predicate: Whether a module is an image encoder that the adapter takes. Asked for every
            module inside a model, from the outside in, and before the adapters that come with
            the package are asked for any; of several registered ones the last is asked first.
        adapter: From the module to its `VisionTower`; usually a subclass. It raises TypeError,
            with the reason, for a module that it cannot take after all.

    Returns:
        A handle, whose `remove()` takes the adapter out again.

    Raises:
        TypeError: If predicate or adapter cannot be called.

    Example:
        >>> from cci_captum.vision_towers import OpenCLIPVisionTower, register_vision_tower
        >>> class MyTower(OpenCLIPVisionTower):
        ...     pass
        >>> handle = register_vision_tower(OpenCLIPVisionTower.matches, MyTower)
        >>> import cci_captum
        >>> cci_captum.find_vision_tower(cci_captum.load_clip("tiny").model)
        MyTower(VisionTransformer, num_blocks=5)
        >>> handle.remove()
    """
    for name, value in (("predicate", predicate), ("adapter", adapter)):
        if not callable(value):
            raise TypeError(f"{name}: expected a callable, got {type(value).__name__}")
    registration = _Registration(predicate, adapter)
    _REGISTERED.insert(0, registration)
    return TowerRegistration(registration)


def find_vision_tower(module: nn.Module | VisionTower) -> VisionTower:
    """Find the image encoder inside a model and wrap it in its adapter.

    Args:
        module: The image encoder itself, or any module that holds exactly one: an open_clip or
            transformers model, `ImageTextSimilarity`, a fine-tuned classifier. A `VisionTower`
            comes back as it is. Where image encoders are nested (a timm model in an open_clip
            one), the outermost is taken.

    Returns:
        The adapter; the module is not changed.

    Raises:
        TypeError: If module is no nn.Module, or its image encoder cannot be explained by
            hiding patches (ResNet, Swin, ...), with the reason.
        ValueError: If no supported image encoder is found, or several are.

    Warns:
        UserWarning: If layers of it are dynamically quantised; see `dynamically_quantized`.

    Example:
        >>> import cci_captum
        >>> tower = cci_captum.find_vision_tower(cci_captum.load_clip("tiny").model)
        >>> tower.num_prefix_tokens
        1
    """
    if isinstance(module, VisionTower):
        return module
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"module: expected a torch.nn.Module that holds an image encoder, got "
            f"{type(module).__name__}"
        )
    registered = _outermost(module, _REGISTERED)
    found = registered or _outermost(module, _built_in())
    if not found:
        _refuse_by_name(module)
        raise ValueError(
            f"vision_tower: no supported image encoder in {type(module).__module__}."
            f"{type(module).__name__}; supported: "
            f"{_SUPPORTED}"
        )
    if len(found) > 1:
        names = ", ".join(name for name, *_ in found)
        raise ValueError(
            f"vision_tower: {len(found)} image encoders in {type(module).__name__} ({names}); "
            "pass the one to explain"
        )
    name, tower_module, adapter = found[0]
    if not registered:
        _check_owners(module, name)
    tower = adapter(tower_module)
    _warn_of_quantized(tower)
    return tower


def _outermost(
    module: nn.Module, entries: Sequence[_Registration]
) -> list[tuple[str, nn.Module, Callable[..., VisionTower]]]:
    """Names, modules and adapters of image encoders that are in no other one."""
    found: list[tuple[str, nn.Module, Callable[..., VisionTower]]] = []
    for name, candidate in module.named_modules():
        if any(not outer or name.startswith(f"{outer}.") for outer, *_ in found):
            continue
        for predicate, adapter in entries:
            if predicate(candidate):
                found.append((name, candidate, adapter))
                break
    return found


def _check_owners(module: nn.Module, name: str) -> None:
    """Raise TypeError for an image encoder inside a model that may read its inner states."""
    for owner_name, owner in module.named_modules():
        is_owner = owner_name != name and (not owner_name or name.startswith(f"{owner_name}."))
        foreign = type(owner).__module__.startswith("transformers.models.")
        if is_owner and foreign and type(owner).__name__ not in _OWNERS:
            raise TypeError(
                f"vision_tower: {type(owner).__name__} may read inner states of its image encoder, "
                "in which hidden patches still have tokens; if it reads only what comes out at the "
                f"end, pass vision_tower=model.{name}"
            )


def _warn_of_quantized(tower: VisionTower) -> None:
    """Say that patches cannot be hidden exactly behind dynamically quantised layers."""
    names = dynamically_quantized(tower.module)
    if names:
        warnings.warn(
            f"vision_tower: {len(names)} layers are dynamically quantised ({names[0]}, ...): they "
            "round with one scale for the whole batch and all its tokens, so that hidden patches, "
            "and other images of the batch, still move outputs, by several percent; explain the "
            "model as it was before",
            UserWarning,
            stacklevel=3,
        )


def _refuse_by_name(module: nn.Module) -> None:
    """Raise TypeError for an image encoder that is known, and known to be of another kind."""
    for candidate in module.modules():
        bases = {base.__name__ for base in type(candidate).__mro__}
        for reason, names in _REFUSED.items():
            if not bases.isdisjoint(names):
                raise TypeError(
                    f"vision_tower: {type(candidate).__name__}: {reason}; supported: {_SUPPORTED}"
                )
