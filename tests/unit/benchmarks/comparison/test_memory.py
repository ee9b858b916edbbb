"""Memory that runs out, and devices that fail: in methods, in the harness, in both."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from toy_comparison import NAMES, PREPROCESS, Toy, run, toy_sample

from cci_captum import CCI, ZeroShotClassifier
from cci_captum.benchmarks.comparison import FolderStore, report
from cci_captum.benchmarks.tasks import Classification
from cci_captum.memory import is_of_device, is_out_of_memory, within_memory

NO_ROOM = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


class Small(nn.Module):
    """A model whose device has room for so many images at a time."""

    def __init__(self, model: nn.Module, room: int, error: Exception = NO_ROOM) -> None:
        super().__init__()
        self.model, self.room, self.error = model, room, error
        self.largest = 0

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.room:
            raise self.error
        self.largest = max(self.largest, len(images))
        return self.model(images)


@pytest.fixture(scope="module")
def classifier(make_clip: Any, tokenizer: Any) -> ZeroShotClassifier:
    model, _ = make_clip(1, layers=2)
    return ZeroShotClassifier(model, tokenizer, NAMES, "{}").eval().requires_grad_(False)


@pytest.fixture(scope="module")
def data() -> Toy:
    return Toy([toy_sample(index) for index in range(8)])


OPTIONS: dict[str, Any] = {
    "methods": {"cci": CCI},
    "protocols": ["tokens"],
    "ties": (),
    "batch_size": 8,
    "internal_batch_size": 8,
}


def compared(model: nn.Module, data: Toy, **options: Any):
    chosen = OPTIONS | options
    return run(model, data, chosen.pop("methods"), chosen.pop("protocols"), **chosen)


@pytest.mark.exhaustive
def test_memory_that_runs_out_costs_time_alone(
    classifier: ZeroShotClassifier, data: Toy, tmp_path: Any
) -> None:
    """All numbers of a device with room for 3 images are those of one with room for all."""
    whole = compared(classifier, data)
    small = Small(classifier, 3)
    found = compared(small, data, store=FolderStore(tmp_path), batch_size=8)
    assert small.largest <= 3 and found.failures.empty
    pd.testing.assert_frame_equal(
        found.results.drop(columns="seconds"), whole.results.drop(columns="seconds"), atol=1e-5
    )
    notes = [note for note in found.settings["notes"] if "memory ran out" in note]
    assert notes[0] == (
        "memory ran out for 8 maps of cci: they took forward passes of at most 2 images"
    )
    assert notes[0] in report.text(found) + report.page(found)
    assert not any("memory" in note for note in whole.settings["notes"])


@pytest.mark.exhaustive
def test_no_room_for_one_image_is_an_error_of_the_map(
    classifier: ZeroShotClassifier, data: Toy
) -> None:
    class Hungry(CCI):
        def patch_map(self, *args: Any, **options: Any) -> Tensor:
            raise NO_ROOM

    found = compared(classifier, data, methods={"cci": CCI, "hungry": Hungry})
    assert set(found.failures["method"]) == {"hungry"} and len(found.failures) == 8
    assert found.failures["error"].str.startswith("OutOfMemoryError: CUDA out of").all()


@pytest.mark.parametrize("where", ["method", "harness"])
def test_a_device_that_fails_ends_the_run_and_stores_nothing(
    where: str, classifier: ZeroShotClassifier, data: Toy, tmp_path: Any
) -> None:
    """After a CUDA error every call fails: rows of errors would be facts about nothing."""
    broken = RuntimeError("CUDA error: an illegal memory access was encountered")

    class Failing(CCI):
        def patch_map(self, *args: Any, **options: Any) -> Tensor:
            if where == "method":
                raise broken
            model.room = 0  # from now on, as with CUDA
            return torch.rand(8, 4, 4)

    model = Small(classifier, 99, broken)
    store = FolderStore(tmp_path)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        compared(model, data, methods={"cci": CCI, "failing": Failing}, store=store)
    model.room = 99
    assert len(list(tmp_path.glob("*.parquet"))) == 2  # the images, and cci


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "error",
    [
        NO_ROOM,
        *(
            pytest.param(error, marks=pytest.mark.exhaustive)
            for error in (
                RuntimeError("DefaultCPUAllocator: can't allocate memory: ..."),
                RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when ..."),
                MemoryError(),
            )
        ),
    ],
)
def test_halves_until_it_fits(error: Exception) -> None:
    tried = []

    def call(size: int) -> str:
        tried.append(size)
        if size > 4:
            raise error
        return "fits"

    assert within_memory(call, 37) == ("fits", 4) and tried == [37, 18, 9, 4]
    with pytest.raises(ValueError, match="other"):
        within_memory(lambda size: (_ for _ in ()).throw(ValueError("other")), 8)


def test_what_errors_mean() -> None:
    assert not is_out_of_memory(ValueError("out of memory"))  # of a user's method
    assert is_of_device(RuntimeError("CUDA error: device-side assert triggered"))
    assert not is_of_device(NO_ROOM) and not is_of_device(ValueError("CUDA error: x"))


@pytest.mark.exhaustive
def test_predictions_need_no_room_for_a_block(classifier: ZeroShotClassifier, data: Toy) -> None:
    small = Small(classifier, 3)
    batch, errors = Classification(data, small, PREPROCESS).block(range(8))
    whole, _ = Classification(data, classifier, PREPROCESS).block(range(8))
    assert batch is not None and whole is not None
    assert not errors and batch.predicted == whole.predicted
