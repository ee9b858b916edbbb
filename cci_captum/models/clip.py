"""The two forward functions of a CLIP-like model that explanations need.

`ImageTextSimilarity` and `ZeroShotClassifier` turn a model into a function of images with the
outputs that Captum methods expect: one score, or one row of logits, an image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..calls import call_memory
from ._cut_texts import checked, warn_about_cuts
from ._encoders import check_clip, encode_image, encode_text, text_device, weights_at_hand
from ._equal_names import equal_rows, warn_about_equal_names
from ._hidden_tokens import hide_tokens
from ._tokens import tokenizer_for, tokens_of

if TYPE_CHECKING:
    from .loading import LoadedCLIP, load_clip

__all__ = ["ImageTextSimilarity", "LoadedCLIP", "ZeroShotClassifier", "load_clip"]

_TEXT_BATCH_SIZE = 256


def __getattr__(name: str) -> Any:
    """What loads models imports open_clip, which the models of other libraries do without."""
    if name not in ("LoadedCLIP", "load_clip"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import loading

    return getattr(loading, name)


class _Embeddings(nn.Module):
    """A model's normalised features of images and of texts, at least float32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        check_clip(model)
        self.model: Any = model

    def encode_images(self, images: Tensor) -> Tensor:
        """Normalised image features, (B, E), at least float32, of images (B, 3, H, W)."""
        return _unit(encode_image(self.model, images))

    def encode_texts(self, text: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Normalised text features, (B, E), at least float32, of tokens (B, L).

        Equal rows are encoded once, and once a call of a method; see `call_memory`.

        Args:
            text: Tokens, or a BatchEncoding of a tokenizer of transformers, of which input_ids are
                read.

        Raises:
            TypeError: If it is neither.
            ValueError: If a BatchEncoding is padded on the left, or SigLIP's not to full length.
        """
        text = tokens_of(text, self.model)
        memory = None if self.model.training else call_memory(self, text.device.type)
        if memory is None:
            memory = {}
        rows = [row.tobytes() for row in text.cpu().numpy()]
        new = {row: place for place, row in enumerate(rows) if row not in memory}
        if new:
            features = _unit(encode_text(self.model, text[list(new.values())]))
            memory.update(zip(new, features, strict=True))
        return torch.stack([memory[row] for row in rows])


class ImageTextSimilarity(_Embeddings):
    """Cosine similarity of each image with its text: (images, text) -> (B,).

    Cosines are computed in float32 at least, also for half-precision models and under
    autocast: explanations live on small differences of them.

    Args:
        model: A CLIP-like model with `encode_image` and `encode_text`, such as open_clip's, or
            transformers' `CLIPModel`, `SiglipModel` or `Siglip2Model`. SigLIP 2's flat patches
            are cut from the images.

    Raises:
        TypeError: If the model lacks the methods.

    Example:
        >>> import torch, cci_captum
        >>> clip = cci_captum.load_clip("tiny")
        >>> similarity = cci_captum.ImageTextSimilarity(clip.model)
        >>> similarity(torch.zeros(2, 3, 96, 96), clip.tokenizer(["a cat", "a dog"])).shape
        torch.Size([2])
    """

    def forward(self, images: Tensor, text: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Similarities of images with texts.

        Args:
            images: (B, 3, H, W) preprocessed images.
            text: (B, L) int64 tokens, the text of each image, or (1, L), the text of all; or a
                BatchEncoding of a tokenizer of transformers. Equal rows are encoded once.

        Returns:
            (B,) cosines in [-1, 1].

        Raises:
            TypeError: If text is neither.
            ValueError: If images and text have different numbers of rows; see also `encode_texts`.
        """
        tokens = tokens_of(text, self.model)
        if len(tokens) not in (1, len(images)):
            raise ValueError(
                f"text: expected {len(images)} rows of tokens, one an image, or one row for all, "
                f"got {len(tokens)}"
            )
        return (self.encode_images(images) * self.encode_texts(tokens)).sum(dim=-1)


class TextScores(_Embeddings):
    """Products of image features with directions that come from texts: images -> (B, C).

    Args:
        model: A CLIP-like model, as for `ImageTextSimilarity`.
        names: C names of the directions.
        text_features: (C, D), at least float32.
        logit_scale: See `ZeroShotClassifier`.
    """

    text_features: Tensor

    def __init__(
        self,
        model: nn.Module,
        names: Sequence[str],
        text_features: Tensor,
        logit_scale: float | None = None,
    ) -> None:
        super().__init__(model)
        self.class_names = tuple(names)
        self.register_buffer("text_features", text_features, persistent=False)
        self.logit_scale = logit_scale

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every name.

        Args:
            images: (B, 3, H, W) preprocessed images.

        Returns:
            (B, C) logits, at least float32.
        """
        features = self.encode_images(images)
        with torch.autocast(images.device.type, enabled=False):
            cosines = features @ self.text_features.to(features).T
            if self.logit_scale is not None:
                return self.logit_scale * cosines
            with weights_at_hand(self.model):
                logits = self.model.logit_scale.exp().to(cosines.device) * cosines
                bias = getattr(self.model, "logit_bias", None)
                return logits if bias is None else logits + bias.to(cosines.device)


class ZeroShotClassifier(TextScores):
    """Zero-shot classification by a CLIP-like model: images -> (B, C) logits.

    A class's text embedding is the normalised mean of the normalised embeddings of its name in
    every template (Radford et al. 2021, section 3.1.4), computed once. Logits are the cosines
    times the model's own logit scale, plus its logit bias where it has one (SigLIP).

    Args:
        model: A CLIP-like model, as for `ImageTextSimilarity`, with a `logit_scale`.
        tokenizer: From strings to (B, L) tokens; or a tokenizer of transformers, or a processor
            that holds one: texts are prepared as the model's training had them (docs/texts.md).
        class_names: C names, in the order of the logits.
        templates: One format string with "{}" for the name, several of them, or
            "openai-imagenet" for OpenAI's 80 ImageNet templates.
        logit_scale: What the cosines are multiplied by. None is the model's own scale, and its
            bias where it has one (SigLIP); 1.0 gives plain cosines.

    Attributes:
        class_names: Tuple of the C names.
        text_features: (C, D) normalised text embeddings, a buffer.
        cut_texts: The texts, of all names and templates, that are longer than the model reads:
            `text` and what is `lost` of each. They are also warned about; how a tokenizer that is
            not of `load_clip` or open_clip is asked is said in docs/texts.md.
        indistinguishable: Names with the same embedding, which no image can tell apart, a tuple
            for each embedding. They are also warned about.

    Raises:
        TypeError: If the model lacks the methods.
        ValueError: If there is no class name, or a template has no "{}".

    Example:
        >>> import torch, cci_captum
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> classifier(torch.zeros(4, 3, 96, 96)).shape
        torch.Size([4, 2])
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Callable[..., Tensor],
        class_names: Sequence[str],
        templates: str | Sequence[str] = "a photo of a {}.",
        *,
        logit_scale: float | None = None,
    ) -> None:
        check_clip(model)
        if isinstance(class_names, str) or not class_names:
            raise ValueError(
                f"class_names: expected a sequence of at least one name, got {class_names!r}"
            )
        names = tuple(class_names)
        resolved = _resolve_templates(templates)
        prompts = [t.replace("{}", name) for name in names for t in resolved]
        own = tokenizer_for(model, tokenizer)
        tokens, cut_texts = checked(own).tokenize(prompts)
        warn_about_cuts(cut_texts, stacklevel=3)
        features, rounding = _class_features(model, tokens, len(names))
        super().__init__(model, names, features, logit_scale)
        self.cut_texts = cut_texts
        self.indistinguishable = tuple(
            tuple(names[index] for index in group) for group in equal_rows(features, rounding)
        )
        warn_about_equal_names(self.indistinguishable, len(names), stacklevel=3)


def _resolve_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    if templates == "openai-imagenet":
        from open_clip import OPENAI_IMAGENET_TEMPLATES

        return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
    resolved = (templates,) if isinstance(templates, str) else tuple(templates)
    for template in resolved:
        if "{}" not in template:
            raise ValueError(
                "templates: expected 'openai-imagenet' or strings with {} for the class name, "
                f"got {template!r}"
            )
    if not resolved:
        raise ValueError("templates: expected at least one template, got none")
    return resolved


@torch.inference_mode(False)  # where the caller may be: gradients never pass what is made there
def _class_features(model: Any, tokens: Tensor, classes: int) -> tuple[Tensor, float]:
    """(C, D) normalised mean embedding of each class over the templates, and its rounding.

    Args:
        model: The model.
        tokens: (C T, L) of T prompts a class.
        classes: C.
    """
    features, rounding = text_features(model, tokens)
    each = features.view(classes, len(tokens) // classes, -1)
    return F.normalize(each.mean(dim=1), dim=-1), rounding


@torch.no_grad()
def text_features(model: Any, tokens: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, float]:
    """Normalised features (B, D) of tokens (B, L), at least float32, and their rounding.

    Args:
        model: The model.
        tokens: Of B texts.
        hidden: (B, L) bool, tokens that no other attends to; None hides none.

    Raises:
        TypeError: If some are hidden, and the text encoder is not one of those that this knows.
    """
    device = text_device(model)
    parts: list[Tensor] = []
    for start in range(0, len(tokens), _TEXT_BATCH_SIZE):
        rows = slice(start, start + _TEXT_BATCH_SIZE)
        hiding = nullcontext() if hidden is None else hide_tokens(model, hidden[rows])
        with hiding:
            parts.append(encode_text(model, tokens[rows].to(device)))
    return torch.cat([_unit(part) for part in parts]), torch.finfo(parts[0].dtype).eps


def _unit(features: Tensor) -> Tensor:
    """L2-normalised features, at least float32."""
    return F.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=-1)
