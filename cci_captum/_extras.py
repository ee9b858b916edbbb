"""Packages that some features alone need: where one is missing, the error says how to get it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

_EXTRAS = {
    "faiss": "faiss",
    "pandas": "benchmark",
    "protobuf": "hf",
    "pyarrow": "benchmark",
    "scipy": "benchmark",
    "sentencepiece": "hf",
}


class MissingExtraError(ImportError):
    """A feature needs a package that is not installed; the message names its extra."""


@contextmanager
def needed_by(feature: str) -> Iterator[None]:
    """In this context imports of packages of an extra fail with what to install.

    Args:
        feature: What needs them, as the user calls it.

    Raises:
        MissingExtraError: If one is not installed. Of other packages the error stays as it is.

    Example:
        >>> try:
        ...     with needed_by("compare"):
        ...         raise ModuleNotFoundError(name="pandas")
        ... except ImportError as error:
        ...     print(error)
        compare needs pandas: pip install "cci-captum[benchmark]"
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        raise _missing(feature, package) from error


def missing_for_tokenizer(feature: str, error: Exception) -> MissingExtraError | None:
    """What a tokenizer of transformers cannot be made without, by the error that it gave.

    transformers says in words of its own which package it did not find.

    Args:
        feature: See `needed_by`.
        error: As it was raised.

    Returns:
        The error to raise instead; None where the packages that it names are installed.
    """
    text = str(error).lower()
    for package, module in (("sentencepiece", "sentencepiece"), ("protobuf", "google.protobuf")):
        if package in text and not _is_installed(module):
            return _missing(feature, package)
    return None


def _missing(feature: str, package: str) -> MissingExtraError:
    extra = _EXTRAS[package]
    return MissingExtraError(
        f'{feature} needs {package}: pip install "cci-captum[{extra}]"', name=package
    )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False
