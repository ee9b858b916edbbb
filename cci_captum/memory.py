"""Memory that runs out: the same work goes on in smaller passes."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")

# What torch says where it does not raise OutOfMemoryError: the CPU's allocator, cuBLAS, cuDNN.
_SAID = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_DEVICE = ("CUDA error:", "HIP error:", "device-side assert", "CUDNN_STATUS_EXECUTION_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out.

    Example:
        >>> is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
        True
        >>> is_out_of_memory(RuntimeError("sizes do not match"))
        False
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID)


def is_of_device(error: BaseException) -> bool:
    """Whether an error says that the device failed, so that nothing that follows can be right.

    Example:
        >>> is_of_device(RuntimeError("CUDA error: unspecified launch failure"))
        True
    """
    if not isinstance(error, RuntimeError) or is_out_of_memory(error):
        return False
    return any(said in str(error) for said in _DEVICE)


def within_memory(call: Callable[[int], T], size: int) -> tuple[T, int]:
    """A call's result, with half the size whenever memory runs out.

    Args:
        call: Takes the most images in one forward pass.
        size: Of the first try, at least 1.

    Returns:
        The result, and the size that it took.

    Raises:
        Exception: What the call raises; where memory runs out, for one image alone.

    Example:
        >>> def passes(size):
        ...     if size > 5:
        ...         raise torch.OutOfMemoryError("CUDA out of memory")
        ...     return "done"
        >>> within_memory(passes, 32)
        ('done', 4)
    """
    while True:
        try:
            return call(size), size
        except Exception as error:
            if size == 1 or not is_out_of_memory(error):
                raise
        # Here the error is gone, and with it the frames that hold tensors.
        size //= 2
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
