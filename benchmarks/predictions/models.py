"""Models that recognise images: zero-shot CLIPs, and classifiers of ImageNet, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from cci_captum.models.clip import ZeroShotClassifier, load_clip
from cci_captum.models.preprocessing import Preprocess

from ..data import ImageData

TORCHVISION, TIMM = OTHERS = "torchvision:", "timm:"
IMAGENET_CLASSES = 1000
_RANDOM = "random"


@dataclass(frozen=True)
class Recogniser:
    """A model, and how it becomes a classifier of any data.

    Attributes:
        name: As reports call it.
        family: "clip", which knows classes by their names, or "imagenet", which scores the 1000
            classes of ImageNet.
        preprocess: From a PIL image to an input (3, H, W) of the model.
        of: From C class names and templates, as `cci_captum.ZeroShotClassifier` takes them, to a
            module from inputs to (B, C) scores; ValueError if it cannot tell these classes.
    """

    name: str
    family: Literal["clip", "imagenet"]
    preprocess: Preprocess
    of: Callable[[Sequence[str], str | Sequence[str]], nn.Module]

    def classifier(self, data: ImageData) -> nn.Module:
        """Module from inputs to (B, C) scores of the data's classes.

        Raises:
            ValueError: If it cannot tell these.
        """
        return self.of(data.class_names, data.templates)


def check_recogniser(name: str, pretrained: str | None = None) -> None:
    """Raise ValueError if there can be no model of that name with these weights; loads nothing.

    Args:
        name: See `load_recogniser`.
        pretrained: The same.

    Example:
        >>> check_recogniser("torchvision:resnet50", "IMAGENET1K_V2")
        >>> check_recogniser("torchvision:resnet5")
        Traceback (most recent call last):
        ...
        ValueError: name: unknown model 'resnet5' of torchvision; close ones: resnet50, \
resnet152, resnet34
    """
    if name.startswith(TORCHVISION):
        _torchvision_weights(name.removeprefix(TORCHVISION), pretrained)
    elif name.startswith(TIMM):
        _check_timm(name.removeprefix(TIMM), pretrained)
    else:
        from cci_captum.models._names import check_name

        check_name(name, pretrained)


def load_recogniser(
    name: str, pretrained: str | None = None, device: torch.device | str = "cpu"
) -> Recogniser:
    """A model that recognises images.

    Args:
        name: As for `cci_captum.load_clip`; "torchvision:" and the name of a classifier, such as
            "torchvision:resnet50"; or "timm:" and the name of one of ImageNet's 1000 classes, with
            its tag of weights, such as "timm:vit_base_patch16_224.augreg_in1k".
        pretrained: As for `load_clip`; of torchvision's the name of weights (IMAGENET1K_V1);
            "random" for none.
        device: Where it computes.

    Returns:
        The model in eval mode, with its own preprocessing: open_clip's validation transform,
        torchvision's `weights.transforms()`, timm's `create_transform` of the model's data config.

    Raises:
        ValueError: If there is no such model, or it does not score 1000 classes.

    Example:
        >>> from cci_captum.benchmarks.data import Scenes
        >>> model = load_recogniser("tiny")
        >>> model.family, model.classifier(Scenes(1))(torch.zeros(1, 3, 96, 96)).shape
        ('clip', torch.Size([1, 33]))
        >>> load_recogniser("torchvision:resnet18", "random").classifier(Scenes(1))
        Traceback (most recent call last):
        ...
        ValueError: data: expected the 1000 classes of ImageNet, which torchvision:resnet18 random \
scores, got 33 others
    """
    check_recogniser(name, pretrained)
    if name.startswith(TORCHVISION):
        found = _torchvision(name.removeprefix(TORCHVISION), pretrained)
    elif name.startswith(TIMM):
        found = _timm(name.removeprefix(TIMM), pretrained)
    else:
        return _clip(name, pretrained, device)
    model, preprocess = found
    model = model.to(device).eval()
    called = " ".join(filter(None, (name, pretrained)))

    def of(class_names: Sequence[str], templates: str | Sequence[str]) -> nn.Module:
        if len(class_names) != IMAGENET_CLASSES:
            raise ValueError(
                f"data: expected the {IMAGENET_CLASSES} classes of ImageNet, which {called} "
                f"scores, got {len(class_names)} others"
            )
        return model

    return Recogniser(called, "imagenet", preprocess, of)


def _clip(name: str, pretrained: str | None, device: torch.device | str) -> Recogniser:
    clip = load_clip(name, pretrained, device)

    def of(class_names: Sequence[str], templates: str | Sequence[str]) -> nn.Module:
        return ZeroShotClassifier(clip.model, clip.tokenizer, class_names, templates)

    return Recogniser(clip.name, "clip", clip.preprocess, of)


@contextmanager
def _same_chance() -> Iterator[None]:
    """Random weights are the same in every process."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def _torchvision_weights(name: str, pretrained: str | None) -> Any:
    """The weights of a model of torchvision; those of "random" are only described, not loaded."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise ValueError(f"name: unknown model {name!r} of torchvision; {_close(name, known)}")
    weights = {each.name: each for each in models.get_model_weights(name)}
    wanted = "IMAGENET1K_V1" if pretrained in (None, _RANDOM) else pretrained
    if wanted not in weights:
        raise ValueError(
            f"pretrained: expected weights of torchvision's {name}: {', '.join(weights)}; or "
            f"random, got {wanted!r}"
        )
    return weights[wanted]


def _torchvision(name: str, pretrained: str | None) -> tuple[nn.Module, Preprocess]:
    from torchvision import models

    weights = _torchvision_weights(name, pretrained)
    with _same_chance():
        model = models.get_model(name, weights=None if pretrained == _RANDOM else weights)
    return model, weights.transforms()


def _check_timm(name: str, pretrained: str | None) -> None:
    import timm

    if pretrained not in (None, _RANDOM):
        raise ValueError(
            f"pretrained: expected the tag in timm's name, as vit_base_patch16_224.augreg_in1k; or "
            f"random, got {pretrained!r}"
        )
    if not timm.is_model(name):
        known = [*timm.list_models(), *timm.list_pretrained()]
        raise ValueError(f"name: unknown model {name!r} of timm; {_close(name, known)}")
    try:
        weights = timm.models.get_pretrained_cfg(name)
    except RuntimeError:  # no such tag
        known = timm.list_pretrained(f"{name.partition('.')[0]}.*")
        raise ValueError(f"name: unknown weights {name!r} of timm; {_close(name, known)}") from None
    if weights is not None:
        _check_scored(name, weights.num_classes)


def _timm(name: str, pretrained: str | None) -> tuple[nn.Module, Preprocess]:
    import timm

    with _same_chance():
        model = timm.create_model(name, pretrained=pretrained != _RANDOM)
    _check_scored(name, getattr(model, "num_classes", 0))
    config = timm.data.resolve_model_data_config(model)
    return model, timm.data.create_transform(**config, is_training=False)


def _check_scored(name: str, classes: int) -> None:
    if classes != IMAGENET_CLASSES:
        raise ValueError(
            f"name: expected a model of timm that scores the {IMAGENET_CLASSES} classes of "
            f"ImageNet, {name} scores {classes}"
        )


def _close(name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    found = get_close_matches(name, known, n=3, cutoff=0.5)
    return f"close ones: {', '.join(found)}" if found else f"there are {len(known)}"
