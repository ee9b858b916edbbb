"""Which packages decide numbers, and their versions: for bug reports and for runs."""

from __future__ import annotations

import hashlib
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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


@cache
def revision() -> str:
    """The git revision of this code, with a digest of what was changed since.

    Returns:
        Such as "1f3a...c2" or "1f3a...c2, changed 09ab12cd34ef"; "" of an installed package.
    """
    folder = Path(__file__).resolve().parent
    top = _git(folder, "rev-parse", "--show-toplevel").strip()
    if not top or Path(top) != folder.parent:  # another project's, which holds an environment
        return ""
    head = _git(folder, "rev-parse", "HEAD").strip()
    changes = _git(folder.parent, "diff", "HEAD", "--", "cci_captum", "baselines", "benchmarks")
    digest = hashlib.sha256(changes.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{head}, changed {digest}" if changes else head


def _git(folder: Path, *arguments: str) -> str:
    """What git prints; nothing where there is no git, or no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace")
