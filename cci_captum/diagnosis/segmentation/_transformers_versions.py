"""Which versions of transformers compute what Grounding DINO is."""

from __future__ import annotations

import re

_WRONG_FROM, _RIGHT_FROM = (5, 9), (5, 23)
_HALF_PRECISION_FROM = (5, 17)


def check_transformers() -> None:
    """Raise ImportError if the installed transformers would find wrong boxes.

    From 5.9.0 to 5.22.2 the position embeddings of Grounding DINO's text are rounded to whole
    numbers, most of them to 0, without a word.
    """
    import transformers

    if _WRONG_FROM <= _release(transformers.__version__) < _RIGHT_FROM:
        raise ImportError(
            "transformers: expected a version before 5.9, or 5.23 or later, got "
            f"{transformers.__version__}, in which Grounding DINO's text positions are wrong, so "
            "that boxes are, too (https://github.com/huggingface/transformers/issues/47674)",
            name="transformers",
        )


def detects_in_half_precision() -> bool:
    """Whether Grounding DINO runs in float16 and bfloat16: before 5.17 it raises an error."""
    import transformers

    return _release(transformers.__version__) >= _HALF_PRECISION_FROM


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version.

    Example:
        >>> _release("5.23.0.dev0"), _release("4.57.1")
        ((5, 23, 0), (4, 57, 1))
    """
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found.group().split("."))) if found else ()
