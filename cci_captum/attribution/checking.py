"""Whether an attribution method of anybody's keeps the promises of the methods here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ._examination import Examination
from ._left_behind import random_states_kept
from .inputs import Inputs
from .method_report import MethodError, MethodReport

__all__ = ["MethodError", "MethodReport", "check_method"]


def check_method(
    method: Callable[[Callable[..., Tensor]], Any],
    forward_func: Callable[..., Tensor],
    images: Tensor,
    target: Any = None,
    additional_forward_args: Any = None,
    *,
    tolerance: float | None = None,
) -> MethodReport:
    """Check an attribution method of your own: what `attribute` must do, and must not do.

    By about twenty calls of `attribute`, in this order, by the names of the report:

    - "shape", "dtype", "detached", "finite": attributions of the inputs' shape, at least float32,
      without a graph, of numbers; "not zero": they say something.
    - "channels": an `ImageAttribution` repeats one map over the channels.
    - "inputs": images and arguments keep their values, and attributions have their own memory.
    - "grad mode", "random state": those of torch, numpy and Python are as before, after each call.
    - "model": weights, buffers, gradients, `requires_grad`, hooks and train modes are as before.
    - "again": a second call, one under another seed and a new object of the method give the same.
    - "additional_forward_args": each row stays with its image.
    - "one by one": a batch equals its images alone.
    - "internal_batch_size": 1 and 2 change nothing but rounding.
    - "target": an int or tuple, a list and a tensor mean the same.
    - "tuple": a tuple of one for a tuple of one.
    - "no_grad", "inference_mode": callers may be there. Methods that are no `ImageAttribution` may
      refuse inference mode by a RuntimeError, as Captum's gradients do.
    - "error": an error of the model comes through and leaves nothing behind either.

    Whether the map is right is left to you: compare it with a computation of your own.

    Args:
        method: The class, or a function from forward_func to an object with `attribute`, such as
            `lambda f: MyMethod(f, layer=3)`. Arguments of `attribute` are given by Captum's names.
        forward_func: Module or function from images (B, 3, H, W) and any further arguments to
            (B,) scores or (B, C) outputs. Its weights are copied meanwhile.
        images: (B, 3, H, W), at least three, different ones.
        target: As `attribute` takes it; one of its own for each image tells most.
        additional_forward_args: Further arguments of forward_func; tensors have one row an image.
        tolerance: What rounding may change, relative to the largest value of the batch. None goes
            by the lowest precision among weights, images and autocast: 1e-3 in float32, 1e-8 in
            float64, 1e-2 where a GPU uses TF32, 5e-2 in half precision.

    Returns:
        A `MethodReport` of the checks that were run, and of those that do not apply.

    Raises:
        MethodError: A ValueError that names the first check that failed, with what was expected
            and what came.
        TypeError: If an argument has the wrong type, or the method has no `attribute`.
        ValueError: If there are fewer than three different images, or shapes do not fit. What
            the first call of `attribute` itself raises comes through as it is.

    Example:
        >>> import torch, cci_captum
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> images = torch.rand(3, 3, 96, 96, generator=torch.Generator().manual_seed(0))
        >>> method = lambda f: cci_captum.CCI(f, clustering=cci_captum.KMeans(2))
        >>> report = cci_captum.check_method(method, classifier, images, target=[0, 1, 1])
        >>> len(report.passed), report.skipped
        (18, {'additional_forward_args': 'no tensor among them'})
        >>> class Brightness:
        ...     def __init__(self, forward_func):
        ...         pass
        ...     def attribute(self, inputs, target=None):
        ...         return inputs - inputs.mean()
        >>> cci_captum.check_method(Brightness, classifier, images, target=1)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        cci_captum.attribution.method_report.MethodError: Brightness: one by one: expected ...
    """
    for name, value in (("method", method), ("forward_func", forward_func)):
        if not callable(value):
            raise TypeError(
                f"{name}: expected a class or function, got an object of {type(value).__name__}"
            )
    given = Inputs.of(images, target, additional_forward_args)
    given = replace(given, images=given.images.detach())
    if len(given) < 3 or len(given.images.flatten(1).unique(dim=0)) < len(given):
        raise ValueError(
            "images: expected at least three different ones, so that they can be told apart, got "
            f"{len(given)}"
        )
    with torch.inference_mode(False), torch.enable_grad(), random_states_kept():
        return Examination(method, forward_func, given.outside_inference(), tolerance).report()
