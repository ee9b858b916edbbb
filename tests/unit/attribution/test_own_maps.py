"""What a method of one's own may return, and what is said of anything else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cci_captum import PatchAttribution, explain, load_clip


def returning(value: Any) -> type[PatchAttribution]:
    class Mine(PatchAttribution):
        def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Any:
            self._score(images, target, args)
            return value(images) if callable(value) else value

    return Mine


@pytest.mark.parametrize(
    ("value", "error", "got"),
    [
        (lambda x: torch.ones(len(x), 144), ValueError, r"got shape \(2, 144\); .unflatten\(1, re"),
        (lambda x: torch.ones(len(x), 1, 12, 12), ValueError, r"got shape \(2, 1, 12, 12\)"),
        (torch.ones(12, 12), ValueError, r"got shape \(12, 12\); .unflatten"),
        (torch.ones(3, 12, 12), ValueError, r"got shape \(3, 12, 12\)"),
        (torch.ones(2, 12, 12, dtype=torch.int64), TypeError, "got torch.int64"),
        (None, TypeError, "got NoneType"),
        (lambda x: torch.ones(len(x), 12, 12).numpy(), TypeError, "got ndarray"),
    ],
)
def test_what_is_no_map_is_named(value: Any, error: type[Exception], got: str) -> None:
    clip = load_clip("tiny")
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    message = rf"Mine._patch_map: expected a floating point tensor \(2, h, w\), {got}"
    with pytest.raises(error, match=message):
        explain(images, "a cat", clip, method=returning(value))
