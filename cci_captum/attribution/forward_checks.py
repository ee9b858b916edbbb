"""Whether a forward_func is what explanations take it for: at most four passes of two images.

Nothing in a map says that the model dropped other units in every pass, that its attention never
saw a mask, or that the image encoder was shown a crop. Two pairs of images and, where patches are
to be hidden, two more passes tell.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from ..vision_towers import VisionTower
from ._probes import modules_of
from ._trial import Trial
from .field_of_view import FieldOfView
from .forward import tower_of
from .inputs import check_additional_forward_args, check_images, outside_inference, rows_of_args


def check_forward_func(
    forward_func: Callable[..., Tensor],
    images: Tensor,
    additional_forward_args: Any = None,
    vision_tower: nn.Module | VisionTower | None = None,
    *,
    hiding: bool = True,
) -> FieldOfView | None:
    """Check what explanations take for granted of a forward_func, on two images.

    - Two calls with the same image give the same output: no dropout, no other chance.
    - An image's output depends neither on the other images of its batch nor on its place there.
    - The image encoder is shown an upright rectangle of the inputs, all of it or less or more:
      resized, cropped or padded, not turned, flipped or warped. (Encoders that are handed no
      images but features cannot be checked.)
    - Of hidden patches nothing is left: noise in their pixels and tokens changes no output, so
      that attention heeds masks and nothing reads inner states.
    - Where patches are averaged outside the image encoder, no step before that bends them
      apart: the output is the same whether hidden places hold the mean of the kept tokens or
      copies of them.

    Attribution methods call it once for each forward_func, image encoder, shapes of inputs and
    further numbers and strings; their `check=False` skips it. What it cannot see: a step outside
    the encoder that treats patches by their place, what happens for other inputs, targets or
    batch sizes, and chance that happened to give the same outputs again.

    Args:
        forward_func: Module or function from images (B, 3, H, W) and any further arguments to
            (B,) scores or (B, C) outputs.
        images: (B, 3, H, W), of which the first two are used; the first and its mirror image
            where there is one.
        additional_forward_args: Further arguments of forward_func; tensors have one row an image.
        vision_tower: The image encoder that forward_func runs: a module, or its adapter; None
            finds it in forward_func.
        hiding: Check hidden patches, by two further passes. False for methods that hide none.

    Returns:
        The part of the inputs under the patch grid, where forward_func resizes, crops or pads
        them; None where their size alone says it, or where it cannot be told.

    Raises:
        TypeError: If an argument or the output of forward_func has the wrong type.
        ValueError: If images or arguments do not fit, or a check of the output or of the geometry
            fails.
        RuntimeError: If a check of hidden patches fails, with the reason as far as it is known.

    Example:
        >>> import torch, cci_captum
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> images = torch.rand(2, 3, 128, 128)
        >>> cropped = lambda images: classifier(images[:, :, 16:112, 16:112])
        >>> view = cci_captum.check_forward_func(cropped, images, vision_tower=clip.model)
        >>> [round(edge) for edge in (view.top, view.left, view.height, view.width)]
        [16, 16, 96, 96]
    """
    images = check_images(images)
    args = check_additional_forward_args(additional_forward_args, len(images))
    tower = tower_of(forward_func, vision_tower)
    return _check(forward_func, images, args, tower, hiding)


class _Seen:
    """What was found out of a forward_func.

    Attributes:
        passed: Keys of the inputs and modes that it was checked for: whether hiding was, too, and
            where the image encoder's grid lies.
        views: Where it lay when last asked, by encoder and size of the inputs.
    """

    def __init__(self) -> None:
        self.passed: dict[Any, tuple[bool, FieldOfView | None]] = {}
        self.views: dict[Any, FieldOfView | None] = {}


_SEEN: WeakKeyDictionary[Any, _Seen] = WeakKeyDictionary()


class _Last(threading.local):
    """The last forward_func of a thread that is no key of `_SEEN`."""

    reference: Callable[[], Any] = staticmethod(lambda: None)
    seen = _Seen()


_LAST = _Last()


def _seen_of(forward_func: Callable[..., Tensor]) -> _Seen:
    """What was found out of a forward_func so far.

    One that has no hash, as data classes, or takes no weak reference is remembered until the next
    of them.
    """
    try:
        return _SEEN.setdefault(forward_func, _Seen())
    except TypeError:
        pass
    if _LAST.reference() is not forward_func:
        try:
            _LAST.reference = ref(forward_func)
        except TypeError:  # with __slots__
            _LAST.reference = lambda: forward_func
        _LAST.seen = _Seen()
    return _LAST.seen


def check_once(
    forward_func: Callable[..., Tensor],
    images: Tensor,
    args: tuple[Any, ...],
    tower: VisionTower | None,
    *,
    hiding: bool,
) -> None:
    """`check_forward_func`, once for each forward_func, image encoder, shapes and modes.

    Args:
        forward_func: As for `check_forward_func`.
        images: Checked images.
        args: Checked arguments.
        tower: The adapter; None for methods that look at no patches, which skips what needs one.
        hiding: Whether patches will be hidden.
    """
    key = (
        _view_key(images, tower),
        images.dtype,
        images.device,
        tuple(_arg_key(arg) for arg in args),
        _modes(forward_func, tower),
    )
    if tower is not None and tower.hides:
        return  # by the caller, who is told by the method
    seen = _seen_of(forward_func)
    hid, view = seen.passed.get(key, (None, None))
    if hid is None or (hiding and not hid):
        view = _check(forward_func, images, args, tower, hiding)
        seen.passed[key] = (hiding, view)
    if tower is not None:
        seen.views[_view_key(images, tower)] = view


def known_field_of_view(
    forward_func: Callable[..., Tensor], images: Tensor, tower: VisionTower | None
) -> FieldOfView | None:
    """What `check_once` found of the geometry; None where it was not asked or found nothing.

    Without a tower: what it found for the one image encoder that was asked about.
    """
    seen = _seen_of(forward_func)
    if tower is not None:
        return seen.views.get(_view_key(images, tower))
    views = {view for key, view in list(seen.views.items()) if key[1] == images.shape[1:]}
    return views.pop() if len(views) == 1 else None


def _view_key(images: Tensor, tower: VisionTower | None) -> Any:
    # A reference to what is gone equals no other, as its id might.
    return (ref(tower.entry) if tower else None, images.shape[1:])


def _arg_key(arg: Any) -> Any:
    """What of a further argument may decide how forward_func treats images."""
    if isinstance(arg, Tensor):
        return arg.shape[1:] if arg.ndim else (arg.dtype, arg.item())
    return (type(arg), arg) if isinstance(arg, (bool, int, float, str)) else type(arg)


def _modes(forward_func: Any, tower: VisionTower | None) -> int:
    """A number that changes when a module changes between train and eval mode."""
    modules = [m.training for m in modules_of(forward_func, tower)]
    return hash(tuple(modules)) if any(modules) else 0


@contextmanager
def buffers_kept(forward_func: Any, tower: VisionTower | None = None) -> Iterator[None]:
    """Give buffers of modules in train mode, such as BatchNorm's statistics, their values back."""
    kept = [
        (buffer, buffer.detach().clone())
        for module in modules_of(forward_func, tower)
        if module.training
        for buffer in module.buffers(recurse=False)
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)


def _check(
    forward_func: Callable[..., Tensor],
    images: Tensor,
    args: tuple[Any, ...],
    tower: VisionTower | None,
    hiding: bool,
) -> FieldOfView | None:
    with torch.inference_mode(False), torch.no_grad(), buffers_kept(forward_func, tower):
        pair = images[:2] if len(images) > 1 else torch.cat([images, images.flip(-1)])
        rows = torch.tensor([0, min(1, len(images) - 1)])
        own_args = tuple(outside_inference(arg) for arg in rows_of_args(args, rows))
        trial = Trial(forward_func, pair.clone(), own_args, tower)
        view = trial.check_outputs()
        if tower is not None and hiding:
            trial.check_hiding(view)
    return view
