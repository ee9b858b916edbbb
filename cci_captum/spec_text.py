"""A name and options as one line of text, such as "rise(masks=200)": how it is read."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^(),=]*")


def split_spec(text: str, what: str) -> tuple[str, dict[str, str]]:
    """The name and the options of a text, as they are written there; spaces do not count.

    Args:
        text: Such as "rise(masks=200)".
        what: It is the name of, such as "method", for errors.

    Returns:
        The name, and option -> value.

    Raises:
        ValueError: If it does not read as that, naming the place; or an option comes twice.

    Example:
        >>> split_spec("rise( masks=200, seed = 1)", "method")
        ('rise', {'masks': '200', 'seed': '1'})
    """
    place = 0

    def fail(expected: str) -> ValueError:
        return ValueError(
            f"{what}: expected {expected} at character {place + 1} of {text!r}, got "
            + (repr(text[place]) if place < len(text) else "the end")
        )

    def word(expected: str) -> str:
        nonlocal place
        found = _WORD.match(text, place)
        assert found is not None  # the pattern takes any text, also none
        if not found[0].strip():
            place = found.end()
            raise fail(expected)
        place = found.end()
        return found[0].strip()

    name, options = word(f"a {what}"), dict[str, str]()
    if place == len(text):
        return name, options
    if text[place] != "(":
        raise fail('"(" or the end')
    place += 1
    while True:
        option = word("an option")
        if text[place : place + 1] != "=":
            raise fail('"="')
        place += 1
        value = word("a value")
        if option in options:
            raise ValueError(f"{what}: expected each option once, got {option!r} twice in {text!r}")
        options[option] = value
        if text[place : place + 1] not in (",", ")"):
            raise fail('"," or ")"')
        place += 1
        if text[place - 1] == ")":
            break
    if text[place:].strip():
        place += len(text[place:]) - len(text[place:].lstrip())
        raise fail("the end")
    return name, options
