"""What makes training fast on the machine at hand."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def has_fast_bf16() -> bool:
    """Return whether bf16 pays: on GPUs, and on CPUs with AMX."""
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return torch.cuda.is_available() or bool(amx())


@contextmanager
def precision(device: str, bf16: bool) -> Iterator[None]:
    """Compute in bf16 where asked.

    On the CPU the fused attention's backward pass does not use AMX and takes 60 % of a step;
    plain matrix products do, so they are asked for.
    """
    kernel = sdpa_kernel(SDPBackend.MATH) if bf16 and device == "cpu" else nullcontext()
    with kernel, torch.autocast(device.split(":")[0], torch.bfloat16, enabled=bf16):
        yield


def keep_memory() -> None:
    """Let glibc keep freed memory, so that no step has to ask the system for it again."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            for option in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
                libc.mallopt(option, 2**31 - 1)
