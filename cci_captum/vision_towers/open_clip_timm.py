"""Adapter for timm's VisionTransformer and Eva inside open_clip's TimmModel.

Apart from timm's own adapter, so that explaining a model of timm does not import open_clip.
"""

from __future__ import annotations

from typing import Any

from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from .timm_vit import TimmVisionTower


class OpenCLIPTimmTower(TimmVisionTower):
    """`open_clip.timm_model.TimmModel` around one of timm's image encoders."""

    module: TimmModel

    @staticmethod
    def matches(module: nn.Module) -> bool:
        """Whether `module` is a TimmModel whose trunk `TimmVisionTower` takes."""
        return isinstance(module, TimmModel) and TimmVisionTower.matches(module.trunk)

    @staticmethod
    def _trunk(module: Any) -> Any:
        return module.trunk

    def _head(self, features: Tensor) -> Tensor:
        return self.module.head(super()._head(features))

    def read_out(self, tokens: Tensor) -> Tensor:
        """The image feature; see `TowerLayout.read_out`."""
        return self.module.head(super().read_out(tokens))
