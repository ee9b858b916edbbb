"""What Grounding DINO is asked for, by the name of a class."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Parents = Callable[[str], Sequence[str]]


def prompt_of(name: str) -> str:
    """The prompt for one thing: in lower case, with a dot at its end and no other.

    Dots and question marks within end a phrase for Grounding DINO: "St. Bernard" would be two.

    Args:
        name: Of the thing.

    Raises:
        ValueError: If nothing is left of it.

    Example:
        >>> prompt_of("St. Bernard")
        'st bernard.'
    """
    words = re.sub(r"[.?]", " ", name).lower().split()
    if not words:
        raise ValueError(f"class_names: expected names with letters, got {name!r}")
    return " ".join(words) + "."


def prompts_of(class_name: str, parents: Parents | None = None) -> tuple[str, ...]:
    """The prompts to try for one class, one after the other, each of one thing.

    Commas part synonyms, as in ImageNet's own names, and each is a prompt: Grounding DINO reads
    commas as part of a phrase.

    Args:
        class_name: Of the class, such as "ice bear, polar bear".
        parents: What the class is a kind of, nearest first, by its name as it was given.

    Raises:
        TypeError: If parents gives no strings.
        ValueError: If nothing is left of a name.

    Example:
        >>> prompts_of("ice bear, polar bear", parents=lambda name: ["bear"])
        ('ice bear.', 'polar bear.', 'bear.')
    """
    names = [part for part in class_name.split(",") if part.strip(" .?")] or [class_name]
    above = [] if parents is None else parents(class_name)
    if isinstance(above, str) or not all(isinstance(name, str) for name in above):
        raise TypeError(f"parents: expected strings for {class_name!r}, got {above!r:.80}")
    for name in above:
        names += [part for part in name.split(",") if part.strip(" .?")]
    return tuple(dict.fromkeys(map(prompt_of, names)))
