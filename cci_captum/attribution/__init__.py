"""What attribution methods share, and what one needs to write one's own.

Base classes with Captum's interface (`PatchAttribution` for maps on patches), checked arguments,
targets, resizing, and `check_method`, which asks of any method what all methods here promise. Names
are imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import GridAttribution, ImageAttribution, PatchAttribution
    from .checking import MethodError, MethodReport, check_method
    from .clusters import ClusterAttribution
    from .derivatives import gradients
    from .field_of_view import FieldOfView
    from .finite import NotFiniteError, check_finite
    from .forward import run_forward
    from .forward_checks import check_forward_func
    from .inputs import Inputs
    from .resizing import enlarge
    from .seeds import generator_of
    from .targets import select_target

_MODULES = {
    "ClusterAttribution": "clusters",
    "FieldOfView": "field_of_view",
    "GridAttribution": "base",
    "ImageAttribution": "base",
    "Inputs": "inputs",
    "MethodError": "checking",
    "MethodReport": "checking",
    "NotFiniteError": "finite",
    "PatchAttribution": "base",
    "check_finite": "finite",
    "check_forward_func": "forward_checks",
    "check_method": "checking",
    "enlarge": "resizing",
    "generator_of": "seeds",
    "gradients": "derivatives",
    "run_forward": "forward",
    "select_target": "targets",
}

__all__ = [
    "ClusterAttribution",
    "FieldOfView",
    "GridAttribution",
    "ImageAttribution",
    "Inputs",
    "MethodError",
    "MethodReport",
    "NotFiniteError",
    "PatchAttribution",
    "check_finite",
    "check_forward_func",
    "check_method",
    "enlarge",
    "generator_of",
    "gradients",
    "run_forward",
    "select_target",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
