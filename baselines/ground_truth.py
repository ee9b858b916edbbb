"""The true mask as a map: the upper reference of every comparison that has masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cci_captum.attribution.base import ImageAttribution, TensorOrTuple, repeat_over_channels
from cci_captum.attribution.finite import check_finite
from cci_captum.attribution.forward import check_tower
from cci_captum.attribution.inputs import check_images
from cci_captum.attribution.resizing import Upsample, check_upsample
from cci_captum.vision_towers import VisionTower


class GroundTruth(ImageAttribution):
    """1 on the object, 0 elsewhere. Runs nothing.

    Args:
        forward_func: Not run; here, as vision_tower, so that all methods are made alike.
        vision_tower: Not used.

    Raises:
        TypeError: If forward_func is not callable.

    Example:
        >>> import torch
        >>> from cci_captum.baselines import GroundTruth
        >>> masks = torch.zeros(2, 96, 96, dtype=torch.bool)
        >>> GroundTruth(print).attribute(torch.zeros(2, 3, 96, 96), masks=masks).shape
        torch.Size([2, 3, 96, 96])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
    ) -> None:
        super().__init__(forward_func)
        check_tower(vision_tower)

    def attribute(
        self,
        inputs: TensorOrTuple,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        masks: Tensor,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
        upsample: Upsample = "nearest",
    ) -> TensorOrTuple:
        """The masks as attributions.

        Args:
            inputs: See `ImageAttribution.attribute`.
            target: Not used.
            additional_forward_args: Not used.
            masks: (B, H, W) bool, True on what the target names.
            internal_batch_size: Not used.
            show_progress: Not used.
            upsample: Not used.

        Returns:
            Attributions of the inputs' shape, 1 where the mask is True and 0 elsewhere.

        Raises:
            TypeError: If masks is no bool tensor.
            ValueError: If masks has not the images' size.
        """
        check_upsample(upsample)
        images: Tensor = check_images(inputs)
        check_finite(images, "inputs", self.get_name())
        if not isinstance(masks, Tensor) or masks.dtype != torch.bool:
            got = masks.dtype if isinstance(masks, Tensor) else type(masks).__name__
            raise TypeError(f"masks: expected a bool tensor (True on the object), got {got}")
        expected = (len(images), *images.shape[2:])
        if masks.shape != expected:
            raise ValueError(f"masks: expected shape {expected}, got {tuple(masks.shape)}")
        return repeat_over_channels(masks.to(images.device, torch.float32), inputs)
