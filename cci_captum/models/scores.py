"""What of a classifier's outputs is explained: the logit, or the class among the others.

A logit says how well an image fits a class, whatever it says of the others. A region that lifts all
classes alike is then important and tells none apart. A centred logit, a log probability and a
margin ask for the class among the others: against their mean, all of them, or the best.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._checks import check_choice


def _centred(outputs: Tensor) -> Tensor:
    ruled_out = outputs.isneginf()
    total = outputs.masked_fill(ruled_out, 0.0).sum(dim=-1, keepdim=True)
    return outputs - total / (~ruled_out).sum(dim=-1, keepdim=True)


def _log_probability(outputs: Tensor) -> Tensor:
    """Exact, with exact derivatives, also for a class whose probability rounds to 1.

    Of the first class -softplus(log sum_(j != c) exp(z_j) - z_c); 1 - p, the derivative, does not
    cancel there.
    """
    values = outputs.log_softmax(dim=-1)
    best, first = outputs.max(dim=-1, keepdim=True)
    is_first = _is_class(outputs, first)
    # Where all others are ruled out, a number in place of -inf: whose log-sum-exp has slopes.
    others = outputs.masked_fill(is_first, -torch.inf).clamp(min=torch.finfo(outputs.dtype).min)
    sure = -F.softplus(others.logsumexp(dim=-1, keepdim=True) - best)
    return torch.where(is_first & best.isfinite(), sure, values)


def _is_class(outputs: Tensor, classes: Tensor) -> Tensor:
    """(..., C) bool of outputs (..., C): whether the output is of the class, (..., 1)."""
    return torch.arange(outputs.shape[-1], device=outputs.device) == classes


def _margin(outputs: Tensor) -> Tensor:
    values, classes = outputs.topk(2, dim=-1)
    # By its index: of two equal best classes, each is compared with the other, and so are their
    # gradients.
    is_first = _is_class(outputs, classes[..., :1])
    return outputs - torch.where(is_first, values[..., 1:], values[..., :1])


class _ScoreOverClasses(nn.Module):
    """A module whose outputs (B, C) are those of another one, each class seen among the others.

    Subclasses write `_score`.
    """

    def __init__(self, forward_func: nn.Module) -> None:
        super().__init__()
        if not isinstance(forward_func, nn.Module):
            raise TypeError(
                f"forward_func: expected a module, got {type(forward_func).__name__}; put a "
                "function into the forward of a torch.nn.Module that holds the model it runs"
            )
        self.forward_func = forward_func

    def forward(self, images: Tensor, *args: Any) -> Tensor:
        """The score of every class.

        Args:
            images: (B, 3, H, W), as forward_func takes them.
            args: Further arguments of forward_func, passed on as they are.

        Returns:
            (B, C) scores, at least float32.

        Raises:
            TypeError: If forward_func returns no tensor of floating point numbers.
            ValueError: If it returns no (B, C) of at least two classes.
        """
        outputs = self.forward_func(images, *args)
        if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
            got = outputs.dtype if isinstance(outputs, Tensor) else type(outputs).__name__
            raise TypeError(
                f"forward_func: {type(self).__name__} expected floating point outputs (B, C), got "
                f"{got}"
            )
        if outputs.ndim != 2 or outputs.shape[1] < 2:
            raise ValueError(
                f"forward_func: {type(self).__name__} compares each class with the others; "
                "expected outputs of shape (B, C) with at least 2 classes, got "
                f"{tuple(outputs.shape)} (texts that are the classes of all images are marked: "
                "cci_captum.Shared(tensor))"
            )
        return self._score(outputs.to(torch.promote_types(outputs.dtype, torch.float32)))

    def _score(self, outputs: Tensor) -> Tensor:
        """(..., C) scores of outputs (..., C), C at least 2, at least float32."""
        raise NotImplementedError(f"{type(self).__name__} has no _score")


class Centred(_ScoreOverClasses):
    """Each class's output above the mean of all classes, `(images, *args) -> (B, C)`.

    z_c - mean over j of z_j, of the classes whose output is not minus infinity. Linear in the
    outputs, so that drops and averages are those of the outputs less their mean. Whatever lifts all
    classes alike changes nothing. Its unit is that of the outputs.

    Methods that compare with a text's embedding (LeGrad, MaskCLIP, CLIP Surgery, M2IB) read no
    score: their maps are those of forward_func itself.

    Args:
        forward_func: Module from images and any further arguments to (B, C) outputs, C at least 2,
            such as a `ZeroShotClassifier`.

    Attributes:
        forward_func: The same module.

    Raises:
        TypeError: If forward_func is no module.

    Example:
        >>> import torch, cci_captum
        >>> class Logits(torch.nn.Module):
        ...     def forward(self, images):
        ...         return torch.tensor([[1.0, 4.0, 2.5], [3.0, -1.0, 4.0]])
        >>> cci_captum.Centred(Logits())(torch.zeros(2, 3, 8, 8))
        tensor([[-1.5000,  1.5000,  0.0000],
                [ 1.0000, -3.0000,  2.0000]])
    """

    def _score(self, outputs: Tensor) -> Tensor:
        return _centred(outputs)


class LogProbability(_ScoreOverClasses):
    """The log of the softmax over the classes, `(images, *args) -> (B, C)`.

    Its drop is by how much less likely the class becomes, in nats: z_c - log sum_j exp(z_j) of the
    outputs z, which should be logits (cosines times the logit scale). Whatever lifts all classes
    alike changes nothing.

    Methods that compare with a text's embedding (LeGrad, MaskCLIP, CLIP Surgery, M2IB) read no
    score: their maps are those of forward_func itself.

    Args:
        forward_func: Module from images and any further arguments to (B, C) logits, C at least 2,
            such as a `ZeroShotClassifier`.

    Attributes:
        forward_func: The same module.

    Raises:
        TypeError: If forward_func is no module.

    Example:
        >>> import torch, cci_captum
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> score = cci_captum.LogProbability(classifier)
        >>> score(torch.zeros(3, 3, 96, 96)).exp().sum(dim=1).allclose(torch.ones(3))
        True
        >>> cci_captum.CCI(score).attribute(torch.zeros(3, 3, 96, 96), target=1).shape
        torch.Size([3, 3, 96, 96])
    """

    def _score(self, outputs: Tensor) -> Tensor:
        return _log_probability(outputs)


class Margin(_ScoreOverClasses):
    """Each class's output less the best of the others, `(images, *args) -> (B, C)`.

    z_c - max of z_j over j other than c: above 0 where the class comes first, 0 for each of
    several best. Its unit is that of the outputs, which may be logits or cosines.

    Methods that compare with a text's embedding (LeGrad, MaskCLIP, CLIP Surgery, M2IB) read no
    score: their maps are those of forward_func itself.

    Args:
        forward_func: Module from images and any further arguments to (B, C) outputs, C at least 2,
            such as a `ZeroShotClassifier`.

    Attributes:
        forward_func: The same module.

    Raises:
        TypeError: If forward_func is no module.

    Example:
        >>> import torch, cci_captum
        >>> class Logits(torch.nn.Module):
        ...     def forward(self, images):
        ...         return torch.tensor([[1.0, 4.0, 2.5], [3.0, -1.0, 3.0]])
        >>> cci_captum.Margin(Logits())(torch.zeros(2, 3, 8, 8))
        tensor([[-3.0000,  1.5000, -1.5000],
                [ 0.0000, -4.0000,  0.0000]])
    """

    def _score(self, outputs: Tensor) -> Tensor:
        return _margin(outputs)


def without_score(forward_func: Any) -> Any:
    """What a `LogProbability` or a `Margin` wraps, or what those in it wrap; else the same object.

    For methods that read embeddings and no score.

    Example:
        >>> import torch
        >>> from cci_captum.models.scores import LogProbability, Margin, without_score
        >>> classifier = torch.nn.Linear(2, 3)
        >>> without_score(Margin(LogProbability(classifier))) is classifier
        True
    """
    while isinstance(forward_func, _ScoreOverClasses):
        forward_func = forward_func.forward_func
    return forward_func


def _logit(forward_func: nn.Module) -> nn.Module:
    """The outputs as they are."""
    return forward_func


SCORES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "logit": _logit,
    "centred": Centred,
    "log-probability": LogProbability,
    "margin": Margin,
}
"""Name -> from a module with (B, C) outputs to one whose outputs are to be explained."""

OF_OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "logit": lambda outputs: outputs,
    "centred": _centred,
    "log-probability": _log_probability,
    "margin": _margin,
}
"""Name -> from outputs (..., C) that were measured already to their scores (..., C)."""


def find_score(name: str) -> Callable[[nn.Module], nn.Module]:
    """The score of that name.

    Args:
        name: A key of `SCORES`: "logit" (forward_func itself), "centred", "log-probability" or
            "margin".

    Returns:
        A function from a module with (B, C) outputs to the module to explain.

    Raises:
        ValueError: If there is none; lists all.

    Example:
        >>> from cci_captum.models.scores import find_score
        >>> find_score("margin").__name__
        'Margin'
    """
    check_choice("score", name, tuple(SCORES))
    return SCORES[name]
