"""Image classifiers as functions from images to logits."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ._encoders import size_option, to_precision


class ImageClassifier(nn.Module):
    """Logits of an image classifier: images -> (B, C).

    For transformers' classifiers (`ViTForImageClassification`, `Dinov2ForImageClassification`),
    which return an output object. Images of another size than the model's own have positions
    interpolated. timm's and torchvision's models return logits and can be explained as they are;
    they may be wrapped, too.

    Args:
        model: A module whose output is a tensor of logits, or has them as `logits`.

    Example:
        >>> import torch, transformers
        >>> from cci_captum import ImageClassifier
        >>> config = transformers.ViTConfig(
        ...     hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        ...     image_size=32, patch_size=8, num_labels=5,
        ... )
        >>> classifier = ImageClassifier(transformers.ViTForImageClassification(config))
        >>> classifier(torch.zeros(2, 3, 32, 48)).shape
        torch.Size([2, 5])
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every class.

        Args:
            images: (B, 3, H, W) preprocessed images, cast to the precision of the model.

        Returns:
            (B, C) logits.

        Raises:
            TypeError: If the model returns no logits.
        """
        config = getattr(self.model, "config", None)
        config = getattr(config, "vision_config", config)
        known = hasattr(config, "image_size")
        options = size_option(self.model.forward, config, images) if known else {}
        output = self.model(to_precision(self.model, images), **options)
        logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
        if logits is None:
            raise TypeError(
                "model: expected one that returns a tensor or an output with logits, got "
                f"{type(output).__name__} from {type(self.model).__name__}"
            )
        return logits
