"""How large CLIP models are, and what a forward pass of their image encoders takes.

Builds each architecture of `cci_captum.benchmarks.clip_variants` without memory for its weights (on
torch's "meta" device), counts parameters and the floating-point operations of one image through the
image encoder, and prints both lists as Markdown tables. Nothing is downloaded.

    python -m cci_captum.benchmarks.speed.passes
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import open_clip
import torch
from torch.utils.flop_counter import FlopCounterMode

from ..clip_variants import VARIANT_LISTS, Variant
from ..markdown import table


class Counts(NamedTuple):
    """Sizes of a model, as numbers of parameters and operations.

    Attributes:
        image_parameters: Of the image encoder.
        parameters: Of the whole model.
        flops: Floating-point operations of one image through the image encoder: of matrix
            products, convolutions and attention, a multiplication and its addition counted as two.
            What is left out (norms, activations, softmax) is below one in a hundred.
    """

    image_parameters: int
    parameters: int
    flops: int


def without_weights(architecture: str) -> Any:
    """open_clip's model of that name on the device "meta": it computes shapes and no values."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # open_clip warns that there are no weights
    try:
        model = open_clip.create_model(architecture, device="meta")
    finally:
        root.setLevel(level)
    return model.eval().requires_grad_(False)


def counts_of(model: Any) -> Counts:
    """What a model of open_clip on the device "meta" has and takes.

    On "meta", attention is the products that it consists of; fused kernels of the CPU are unknown
    to torch's counter and would count as nothing.

    Args:
        model: As `without_weights` gives it.

    Example:
        >>> counts = counts_of(without_weights("ViT-B-32"))
        >>> counts.parameters, round(counts.flops / 1e9, 2)
        (151277313, 8.82)
    """
    size = model.visual.image_size
    height, width = size if isinstance(size, Sequence) else (size, size)
    with FlopCounterMode(display=False) as counter:
        model.encode_image(torch.empty(1, 3, height, width, device="meta"))
    image, whole = (
        sum(parameter.numel() for parameter in part.parameters()) for part in (model.visual, model)
    )
    return Counts(image, whole, counter.get_total_flops())


_HEAD = [
    *("model", "data", "backbone", "patch", "image", "patches", "loss", "QuickGELU"),
    *("image encoder, M", "all, M", "GFLOP an image", "why"),
]


def _row(variant: Variant, counts: Counts) -> list[str]:
    return [
        variant.model,
        variant.data,
        variant.backbone,
        "-" if variant.patch is None else str(variant.patch),
        str(variant.image_size),
        "-" if variant.patches is None else str(variant.patches),
        variant.loss,
        "yes" if variant.quick_gelu else "",
        f"{counts.image_parameters / 1e6:.2f}",
        f"{counts.parameters / 1e6:.2f}",
        f"{counts.flops / 1e9:.2f}",
        variant.reason,
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.parse_args(argv)
    every = dict.fromkeys(v.architecture for own in VARIANT_LISTS.values() for v in own)
    counts = {name: counts_of(without_weights(name)) for name in every}
    print(f"torch {torch.__version__}, open_clip {open_clip.__version__}")
    for name, variants in VARIANT_LISTS.items():
        rows = [_row(variant, counts[variant.architecture]) for variant in variants]
        print(f"\n{name}: {len(variants)} models\n\n{table(_HEAD, rows)}")


if __name__ == "__main__":
    main()
