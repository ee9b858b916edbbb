"""CLIP models and the two forward functions that explanations need.

`load_clip` loads the embedded tiny CLIP or any open_clip model; `ImageTextSimilarity` and
`ZeroShotClassifier` turn a model into a function of images with the outputs that Captum
methods expect: one score, or one row of logits, an image.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .tiny import MODEL_NAMES as TINY_MODELS
from .tiny import load_tiny

Precision = Literal["fp32", "fp16", "bf16"]

_TEXT_BATCH_SIZE = 256


class LoadedCLIP(NamedTuple):
    """What `load_clip` returns; unpacks as `model, preprocess, tokenizer, name`.

    Attributes:
        model: The model, in eval mode.
        preprocess: From a PIL image to a (3, H, W) float32 tensor, ready for the model.
        tokenizer: From a string or strings to a (B, L) int64 tensor of tokens.
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
            planted shortcuts), or any name that open_clip knows: "ViT-B-16",
            "hf-hub:org/repository", "local-dir:folder".
        pretrained: Tag of the pretrained weights, as open_clip lists them ("openai",
            "laion2b_s34b_b88k"); a checkpoint file; or "random" for untrained weights. Not for
            the embedded models and for names that include their weights. QuickGELU is set as
            the weights need it, whichever way the name says.
        device: Where the model goes; None is the CPU.
        precision: "fp32", or "fp16" / "bf16" for weights in half precision.

    Returns:
        A `LoadedCLIP`.

    Raises:
        ValueError: If the name, tag or precision is unknown, or a tag is missing; lists what
            there is.
        RuntimeError: If the weights cannot be downloaded or read.

    Example:
        >>> import cci_captum
        >>> model, preprocess, tokenizer, name = cci_captum.load_clip("tiny")
        >>> name
        'tiny'
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision: expected one of {get_args(Precision)}, got {precision!r}")
    if name in TINY_MODELS:
        if pretrained is not None:
            raise ValueError(
                f"pretrained: {name!r} comes with its weights; expected None, got {pretrained!r}"
            )
        return LoadedCLIP(*load_tiny(name, device=device, precision=precision), name)
    return _load_open_clip(name, pretrained, device or "cpu", precision)


def _load_open_clip(
    name: str, pretrained: str | None, device: str | torch.device, precision: Precision
) -> LoadedCLIP:
    options: dict[str, Any] = {}
    full_name = name
    if not name.startswith(("hf-hub:", "local-dir:")):
        name = name.replace("/", "-")
        full_name = f"{name} {pretrained}"
        tag = _check_weights(name, pretrained)
        if pretrained != "random":
            options["pretrained"] = tag
        quick_gelu = bool((open_clip.get_model_config(name) or {}).get("quick_gelu"))
        if not quick_gelu and open_clip.get_pretrained_cfg(name, tag).get("quick_gelu"):
            options["force_quick_gelu"] = True
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(
            name, device=device, precision=precision, **options
        )
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RuntimeError(f"could not load {full_name}: {reason}") from error
    return LoadedCLIP(model.eval(), preprocess, tokenizer, full_name)


def _check_weights(name: str, pretrained: str | None) -> str:
    """The tag or checkpoint path, or a ValueError that lists what there is."""
    names = [*TINY_MODELS, *open_clip.list_models()]
    if name not in names:
        close = difflib.get_close_matches(name, names, n=5, cutoff=0.4) or list(TINY_MODELS)
        raise ValueError(
            f"name: unknown model {name!r}; close ones: {', '.join(close)} "
            "(open_clip.list_models() lists all)"
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained == "random" or (pretrained and Path(pretrained).is_file()):
        return pretrained
    if pretrained and open_clip.is_pretrained_cfg(name, pretrained):
        return pretrained
    if pretrained is None:
        choice = ", ".join([*tags, "random"])
        raise ValueError(f"pretrained: {name} needs a tag of pretrained weights: {choice}")
    close = difflib.get_close_matches(pretrained, tags, n=5, cutoff=0.4) or tags
    raise ValueError(
        f"pretrained: expected a tag of {name} or a checkpoint file, got {pretrained!r}; close "
        f"tags: {', '.join(close)} (open_clip.list_pretrained_tags_by_model({name!r}) lists all)"
    )


class ImageTextSimilarity(nn.Module):
    """Cosine similarity of each image with its text: (images, text) -> (B,).

    Cosines are computed in float32 at least, also for half-precision models and under
    autocast: explanations live on small differences of them.

    Args:
        model: A CLIP-like model with `encode_image` and `encode_text`, such as open_clip's.

    Raises:
        TypeError: If the model lacks one of the two.

    Example:
        >>> import torch, cci_captum
        >>> clip = cci_captum.load_clip("tiny")
        >>> similarity = cci_captum.ImageTextSimilarity(clip.model)
        >>> similarity(torch.zeros(2, 3, 96, 96), clip.tokenizer(["a cat", "a dog"])).shape
        torch.Size([2])
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = _check_clip(model)

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        """Similarities of images with texts.

        Args:
            images: (B, 3, H, W) preprocessed images.
            text: (B, L) int64 tokens, the text of each image. Equal rows are encoded once.

        Returns:
            (B,) cosines in [-1, 1].

        Raises:
            ValueError: If images and text have different numbers of rows.
        """
        if len(images) != len(text):
            raise ValueError(
                f"text: expected {len(images)} rows of tokens, one an image, got {len(text)}"
            )
        return (self.encode_images(images) * self.encode_texts(text)).sum(dim=-1)

    def encode_images(self, images: Tensor) -> Tensor:
        """Normalised image features, (B, E), at least float32, of images (B, 3, H, W)."""
        return _unit(_encode_image(self.model, images))

    def encode_texts(self, text: Tensor) -> Tensor:
        """Normalised text features, (B, E), at least float32, of tokens (B, L)."""
        unique, index = torch.unique(text, dim=0, return_inverse=True)
        return _unit(self.model.encode_text(unique))[index]


class ZeroShotClassifier(nn.Module):
    """Zero-shot classification by a CLIP-like model: images -> (B, C) logits.

    A class's text embedding is the normalised mean of the normalised embeddings of its name in
    every template (Radford et al. 2021, section 3.1.4), computed once. Logits are the cosines
    times the model's own logit scale, plus its logit bias where it has one (SigLIP).

    Args:
        model: A CLIP-like model with `encode_image`, `encode_text` and `logit_scale`.
        tokenizer: From strings to (B, L) tokens.
        class_names: C names, in the order of the logits.
        templates: One format string with "{}" for the name, several of them, or
            "openai-imagenet" for OpenAI's 80 ImageNet templates.
        logit_scale: What the cosines are multiplied by. None is the model's own scale, and its
            bias where it has one (SigLIP); 1.0 gives plain cosines.

    Attributes:
        class_names: Tuple of the C names.
        text_features: (C, D) normalised text embeddings, a buffer.

    Raises:
        TypeError: If the model lacks a method.
        ValueError: If there is no class name, or a template has no "{}".

    Example:
        >>> import torch, cci_captum
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> classifier(torch.zeros(4, 3, 96, 96)).shape
        torch.Size([4, 2])
    """

    text_features: Tensor

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Callable[..., Tensor],
        class_names: Sequence[str],
        templates: str | Sequence[str] = "a photo of a {}.",
        *,
        logit_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.model: Any = _check_clip(model)
        if isinstance(class_names, str) or not class_names:
            raise ValueError(
                f"class_names: expected a sequence of at least one name, got {class_names!r}"
            )
        self.class_names = tuple(class_names)
        features = _class_features(
            model, tokenizer, self.class_names, _resolve_templates(templates)
        )
        self.register_buffer("text_features", features, persistent=False)
        self.logit_scale = logit_scale

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every class.

        Args:
            images: (B, 3, H, W) preprocessed images.

        Returns:
            (B, C) logits, at least float32.
        """
        features = self.encode_images(images)
        with torch.autocast(images.device.type, enabled=False):
            cosines = features @ self.text_features.to(features.dtype).T
            if self.logit_scale is not None:
                return self.logit_scale * cosines
            logits = self.model.logit_scale.exp() * cosines
            bias = getattr(self.model, "logit_bias", None)
            return logits if bias is None else logits + bias

    def encode_images(self, images: Tensor) -> Tensor:
        """Normalised image features, (B, E), at least float32, of images (B, 3, H, W)."""
        return _unit(_encode_image(self.model, images))


def _check_clip(model: nn.Module) -> Any:
    """The model, once it is known to have the methods of a CLIP."""
    for method in ("encode_image", "encode_text"):
        if not hasattr(model, method):
            raise TypeError(
                "model: expected a CLIP-like model with encode_image and encode_text, got "
                f"{type(model).__name__}, which has no {method}"
            )
    return model


def _resolve_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    if templates == "openai-imagenet":
        return tuple(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES)
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


@torch.no_grad()
def _class_features(
    model: Any,
    tokenizer: Callable[..., Tensor],
    class_names: tuple[str, ...],
    templates: tuple[str, ...],
) -> Tensor:
    """(C, D) normalised mean embedding of each class over the templates."""
    device = next(model.parameters()).device
    tokens = tokenizer([t.replace("{}", name) for name in class_names for t in templates])
    features = torch.cat(
        [_unit(model.encode_text(part.to(device))) for part in tokens.split(_TEXT_BATCH_SIZE)]
    )
    return F.normalize(features.view(len(class_names), len(templates), -1).mean(dim=1), dim=-1)


def _encode_image(model: Any, images: Tensor) -> Tensor:
    """Image features, with the images cast to the precision of the image encoder."""
    encoder = getattr(model, "visual", model)
    weights = (m.weight for m in encoder.modules() if isinstance(m, (nn.Conv2d, nn.Linear)))
    return model.encode_image(images.to(next(weights, images).dtype))


def _unit(features: Tensor) -> Tensor:
    """L2-normalised features, at least float32."""
    return F.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=-1)
