"""Whether an adapter says the truth about its image encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import VisionTower
from .hooks import after, first_output


@torch.no_grad()
def check_vision_tower(
    tower: VisionTower,
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> None:
    """Check an adapter of your own: what hiding patches must do, and must not do.

    With half of the patches hidden, drawn for each image: hiding by mask and by drop give the
    same outputs and the same recorded tokens; the image feature is what `read_out` makes of the
    prefix tokens and kept patches alone; noise painted over hidden patches changes nothing;
    hiding nothing changes nothing; and attention computed step by step gives the outputs of the
    model itself.

    Args:
        tower: The adapter.
        forward_func: Runs the image encoder once: images (B, 3, H, W) -> the features (B, E)
            that `read_out` gives; their length does not matter.
        images: (B, 3, H, W), at least two, with different contents.
        tolerance: Largest difference allowed, relative to the largest value.
        seed: Of what is hidden, and of the noise.

    Raises:
        ValueError: If the image encoder is in train mode, where dropout would fail the checks.
        RuntimeError: If the adapter fails a check, with what differs and by how much.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.vision_towers import check_vision_tower
        >>> clip = cci_captum.load_clip("tiny")
        >>> tower = cci_captum.find_vision_tower(clip.model)
        >>> check_vision_tower(tower, clip.model.encode_image, torch.rand(4, 3, 96, 96))
    """

    def compare(what: str, one: Tensor, other: Tensor) -> None:
        difference = _relative_difference(one, other)
        if not difference <= tolerance:  # NaN too
            raise RuntimeError(
                f"vision_tower: {what}: expected no difference beyond {tolerance:g} of the largest "
                f"value, got {difference:.2g}"
            )

    if tower.module.training:
        raise ValueError("vision_tower: expected an image encoder in eval mode; call model.eval()")
    generator = torch.Generator().manual_seed(seed)
    h, w = tower.grid(images)
    mask = (torch.rand(len(images), h * w, generator=generator) < 0.5).to(images.device)
    plain = forward_func(images)

    with _last_tokens(tower) as last:
        forward_func(images)
    if len(last) != 1:
        raise RuntimeError(
            f"forward_func: expected it to run the vision tower once, it ran {len(last)} times"
        )
    compare("read_out", _unit(tower.read_out(last[0])), _unit(plain))

    outputs, recorded = {}, {}
    layers = ("input", *range(tower.num_blocks))
    for strategy in ("mask", "drop"):
        with tower.hide(torch.zeros_like(mask), strategy):
            compare(f"hiding nothing, by {strategy}", forward_func(images), plain)
        for layer in layers:
            with tower.hide(mask, strategy), tower.record(layer) as recording:
                outputs[strategy] = forward_func(images)
            recorded[strategy, layer] = recording.tokens
    compare("outputs, hidden by mask and by drop", outputs["drop"], outputs["mask"])
    for layer in layers:
        what = f"tokens of layer {layer}, hidden by mask and by drop"
        compare(what, recorded["drop", layer], recorded["mask", layer])

    with tower.hide(mask), _last_tokens(tower) as last:
        forward_func(images)
    kept = torch.cat([mask.new_ones(len(mask), tower.num_prefix_tokens), ~mask], dim=1)
    alone = [tower.read_out(tokens[None, row]) for tokens, row in zip(last[0], kept, strict=True)]
    compare("read_out of kept tokens alone", _unit(outputs["mask"]), _unit(torch.cat(alone)))

    pixels = mask.view(-1, 1, h, w).to(images.dtype)
    painted = F.interpolate(pixels, images.shape[-2:], mode="nearest").bool()
    noise = torch.randn(images.shape, generator=generator).to(images)
    with tower.hide(mask):
        seen = forward_func(torch.where(painted, noise, images))
    compare("noise painted over hidden patches", seen, outputs["mask"])

    readable = [i for i, block in enumerate(tower.blocks) if block.unreadable is None]
    pool = tower.attention_pool
    with tower.record_attention(readable, pool=pool is not None and pool.unreadable is None):
        compare("attention computed step by step", forward_func(images), plain)


@contextmanager
def _last_tokens(tower: VisionTower) -> Iterator[list[Tensor]]:
    """The output of the last block in the pass run inside, (B, T, D), as the list's one item."""
    tokens: list[Tensor] = []

    def record(module: nn.Module, args: Any, output: Any) -> None:
        tokens.append(first_output(output))

    handle = after(tower.block(-1).module, record)
    try:
        yield tokens
    finally:
        handle.remove()


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features, dim=-1)


def _relative_difference(one: Tensor, other: Tensor) -> float:
    """Largest absolute difference, relative to the largest value of `other`."""
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-12))
