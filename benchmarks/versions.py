"""Which packages decide numbers, and their versions: for bug reports and for runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    *("cci-captum", "torch", "torchvision", "captum", "open_clip_torch", "transformers", "timm"),
    *("faiss-cpu", "faiss-gpu", "numpy", "pillow", "matplotlib"),
)
"""Packages that a report names."""


def version_of(package: str) -> str:
    """The version that is installed, or that there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
