"""Published attribution methods with CCI's interface, one a file, to compare it with.

`registry` lists them all, with what a comparison has to know about each; `MethodSpec` is one with
options, as a line of text. Imports cci_captum,
never benchmarks. Names are imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .atman import AtMan
    from .attention_rollout import AttentionRollout
    from .clip_surgery import CLIPSurgery
    from .cluster_ablation import ClusterAblation
    from .cluster_kernel_shap import ClusterKernelShap
    from .cluster_lime import ClusterLime
    from .game import GAME
    from .gated_cci import GatedCCI
    from .grad_cam import GradCAM
    from .grad_eclip import GradECLIP
    from .ground_truth import GroundTruth
    from .layer_grad_cam import LayerGradCAM
    from .legrad import LeGrad
    from .m2ib import M2IB
    from .mask_clip import MaskCLIP
    from .random import Random
    from .registry import METHODS, Method, find_method
    from .rise import RISE
    from .self_attention import SelfAttention
    from .spec import MethodSpec

_MODULES = {
    "GAME": "game",
    "GatedCCI": "gated_cci",
    "M2IB": "m2ib",
    "METHODS": "registry",
    "RISE": "rise",
    "AtMan": "atman",
    "AttentionRollout": "attention_rollout",
    "CLIPSurgery": "clip_surgery",
    "ClusterAblation": "cluster_ablation",
    "ClusterKernelShap": "cluster_kernel_shap",
    "ClusterLime": "cluster_lime",
    "GradCAM": "grad_cam",
    "GradECLIP": "grad_eclip",
    "GroundTruth": "ground_truth",
    "LayerGradCAM": "layer_grad_cam",
    "LeGrad": "legrad",
    "MaskCLIP": "mask_clip",
    "Method": "registry",
    "MethodSpec": "spec",
    "Random": "random",
    "SelfAttention": "self_attention",
    "find_method": "registry",
}

__all__ = [
    "GAME",
    "M2IB",
    "METHODS",
    "RISE",
    "AtMan",
    "AttentionRollout",
    "CLIPSurgery",
    "ClusterAblation",
    "ClusterKernelShap",
    "ClusterLime",
    "GatedCCI",
    "GradCAM",
    "GradECLIP",
    "GroundTruth",
    "LayerGradCAM",
    "LeGrad",
    "MaskCLIP",
    "Method",
    "MethodSpec",
    "Random",
    "SelfAttention",
    "find_method",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
