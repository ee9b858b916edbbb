"""What the number of images in a pass may change, and what not, in every precision."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import oracles
import pytest
import torch
from families import FAMILIES
from torch import Tensor

from cci_captum import CCI, ClusterEffects

NAMES = ["open_clip ViT, class token", "timm ViT, class token"]
PRECISIONS: dict[str, tuple[torch.dtype, Any]] = {
    "float64": (torch.float64, nullcontext()),
    "float32": (torch.float32, nullcontext()),
    "bf16": (torch.bfloat16, nullcontext()),
    "bf16 autocast": (torch.float32, torch.autocast("cpu", torch.bfloat16)),
    "fp16": (torch.float16, nullcontext()),
}
EXACT = ("float64", "float32")


class Stripes:
    """Clusters that depend on no token."""

    n_clusters = 3

    def __call__(self, embeddings: Tensor) -> Tensor:
        batch, patches, _ = embeddings.shape
        return (torch.arange(patches) % 3).expand(batch, -1).contiguous()


def effects(name: str, precision: str, batch_size: int | None, **options: Any) -> ClusterEffects:
    family = FAMILIES[name]
    dtype, context = PRECISIONS[precision]
    model = family.make(2).to(dtype)

    def forward(images: Tensor) -> Tensor:
        return family.run(model, images)

    with context:
        explain = CCI(forward, model, **options)
        return explain.effects(family.images(6).to(dtype), internal_batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("precision", EXACT)
@pytest.mark.parametrize("name", NAMES)
def test_clusters_do_not_depend_on_the_batch(name: str, precision: str, batch_size: int) -> None:
    whole, parts = (effects(name, precision, size) for size in (None, batch_size))
    assert torch.equal(parts.labels, whole.labels)
    assert oracles.relative_error(parts.masked_outputs, whole.masked_outputs) < 1e-5


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", NAMES)
def test_effects_given_the_labels(name: str, precision: str) -> None:
    """To the rounding of the precision, in every one."""
    whole, single = (effects(name, precision, size, clustering=Stripes()) for size in (None, 1))
    assert torch.equal(whole.labels, single.labels)
    tolerance = 1e-5 if precision in EXACT else 3e-2
    assert oracles.relative_error(single.masked_outputs, whole.masked_outputs) < tolerance
    assert whole.drops(0).abs().max() > tolerance * whole.outputs.abs().max()


@pytest.mark.exhaustive
@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name not in EXACT])
def test_one_image_a_pass_depends_on_no_batch(precision: str) -> None:
    """The same clusters, whatever else there is to explain."""
    name = NAMES[0]
    family = FAMILIES[name]
    dtype, context = PRECISIONS[precision]
    model, images = family.make(2).to(dtype), family.images(6).to(dtype)
    explain = CCI(lambda x: family.run(model, x), model)
    with context:
        together = explain.effects(images, internal_batch_size=1)
        alone = [explain.effects(image[None], internal_batch_size=1) for image in images]
    assert torch.equal(together.labels, torch.cat([one.labels for one in alone]))
