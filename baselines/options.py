"""Options of methods as text: what they are called, which argument they set, what they may be.

Facts only, no torch, as in `registry`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any


@dataclass(frozen=True)
class Kind:
    """What values an option may have.

    Attributes:
        none: The word for the value None, or "" where None is no value.
    """

    none: str = field(default="", kw_only=True)

    @property
    def expected(self) -> str:
        """What values there are, as an error or a help text says it.

        Example:
            >>> Integer().expected, Layer(("input",), none="auto").expected
            ('a positive int', "a block's index, input or auto")
        """
        return f"{self._expected} or {self.none}" if self.none else self._expected

    @property
    def _expected(self) -> str:
        raise NotImplementedError(f"{type(self).__name__} has no _expected")

    def read(self, text: str) -> Any:
        """The value that a text stands for.

        Raises:
            ValueError: If it stands for none; says what was expected and what came.

        Example:
            >>> Flag().read("yes"), Number(none="none").read("none"), Integer().read("10")
            (True, None, 10)
        """
        if self.none and text == self.none:
            return None
        try:
            return self.check(self._read(text))
        except ValueError:
            raise ValueError(f"expected {self.expected}, got {text!r}") from None

    def check(self, value: Any) -> Any:
        """The value, as the one Python object of all that are equal to it.

        Raises:
            ValueError: If the option may not be that; says what was expected and what came.

        Example:
            >>> Number().check(2), Integer().check(7)
            (2.0, 7)
        """
        if value is None and self.none:
            return None
        if not self._fits(value):
            raise ValueError(f"expected {self.expected}, got {value!r}")
        return self._normal(value)

    def text(self, value: Any) -> str:
        """The text of a value that `check` has returned: `read` undoes it."""
        return self.none if value is None else self._text(value)

    def _read(self, text: str) -> Any:
        return text

    def _fits(self, value: Any) -> bool:
        raise NotImplementedError(f"{type(self).__name__} has no _fits")

    def _normal(self, value: Any) -> Any:
        return value

    def _text(self, value: Any) -> str:
        return str(value)


@dataclass(frozen=True)
class Integer(Kind):
    """An int in a range that a computer's own ints have room for.

    Attributes:
        least: The smallest.
    """

    least: int = 1

    @property
    def _expected(self) -> str:
        return "a positive int" if self.least == 1 else f"an int of at least {self.least}"

    def _read(self, text: str) -> int:
        return int(text)

    def _fits(self, value: Any) -> bool:
        if not isinstance(value, Integral) or isinstance(value, bool):
            return False
        return self.least <= int(value) < 2**63

    def _normal(self, value: Any) -> int:
        return int(value)


@dataclass(frozen=True)
class Number(Kind):
    """A finite number in a range.

    Attributes:
        least: The smallest; any is allowed for minus infinity.
        above: What it has to exceed.
        most: The largest.
    """

    least: float = -math.inf
    above: float = -math.inf
    most: float = math.inf

    @property
    def _expected(self) -> str:
        bounds = {"of at least": self.least, "above": self.above, "of at most": self.most}
        said = [
            f"{word} {_number(bound)}" for word, bound in bounds.items() if math.isfinite(bound)
        ]
        return " ".join(["a number", " and ".join(said)]).strip()

    def _read(self, text: str) -> float:
        return float(text)

    def _fits(self, value: Any) -> bool:
        if not isinstance(value, Real) or isinstance(value, bool):
            return False
        number = float(value)
        return math.isfinite(number) and self.least <= number <= self.most and number > self.above

    def _normal(self, value: Any) -> float:
        return float(value) + 0.0  # one zero of two

    def _text(self, value: float) -> str:
        return _number(value)


@dataclass(frozen=True)
class Choice(Kind):
    """One of some names."""

    names: tuple[str, ...] = ()

    @property
    def _expected(self) -> str:
        return f"one of {', '.join(self.names)}"

    def _fits(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.names

    def _normal(self, value: str) -> str:
        return str(value)


@dataclass(frozen=True)
class Flag(Kind):
    """A bool, in text "yes" or "no"."""

    @property
    def _expected(self) -> str:
        return "yes or no"

    def _read(self, text: str) -> Any:
        return {"yes": True, "no": False}.get(text)

    def _fits(self, value: Any) -> bool:
        return isinstance(value, bool)

    def _text(self, value: bool) -> str:
        return "yes" if value else "no"


@dataclass(frozen=True)
class Layer(Kind):
    """A block's index, from the end if negative, or the name of other tokens."""

    names: tuple[str, ...] = ()

    @property
    def _expected(self) -> str:
        *first, last = ["a block's index", *self.names]
        return last if not first else f"{', '.join(first)}{',' if self.none else ' or'} {last}"

    def _read(self, text: str) -> int | str:
        return text if text in self.names else int(text)

    def _fits(self, value: Any) -> bool:
        if isinstance(value, str):
            return value in self.names
        return isinstance(value, Integral) and not isinstance(value, bool)

    def _normal(self, value: Any) -> int | str:
        return value if isinstance(value, str) else int(value)


@dataclass(frozen=True)
class Several(Kind):
    """At least one value of another kind, each once, in text with "+" between them.

    Attributes:
        each: What each may be.

    Example:
        >>> Several(each=Integer()).read("4+7"), Several(each=Integer()).text((4, 7))
        ((4, 7), '4+7')
        >>> Several(each=Integer()).check(4)
        (4,)
    """

    each: Kind = field(default_factory=Kind, kw_only=True)

    @property
    def _expected(self) -> str:
        return f"{self.each.expected}, or several with + between them, each once"

    def _read(self, text: str) -> tuple[Any, ...]:
        return tuple(self.each.read(one) for one in text.split("+"))

    def _fits(self, value: Any) -> bool:
        values = self._several(value)
        return bool(values) and len(set(map(self.each.check, values))) == len(values)

    def _normal(self, value: Any) -> tuple[Any, ...]:
        return tuple(map(self.each.check, self._several(value)))

    def _several(self, value: Any) -> Sequence[Any]:
        """The values; one alone is as well as a sequence of it."""
        alone = isinstance(value, str) or not isinstance(value, Sequence)
        return (value,) if alone else value

    def _text(self, value: Any) -> str:
        return "+".join(self.each.text(one) for one in value)


@dataclass(frozen=True)
class Option:
    """An option of a method, as command line, keys and titles call it.

    Attributes:
        name: As a text has it, such as "masks".
        argument: Of the method's class that it sets, such as "n_masks"; "clustering.n_clusters"
            is that of the `KMeans` that the class is given; "forward_func" wraps what is explained
            into another score.
        kind: What values it may have.
        default: The value where it is not given, which is the class's own.
        help: What it is, in a few words.
        title: As a title says it, "{}" its value. Of a flag, what its other value than the
            default means.

    Example:
        >>> from cci_captum.baselines import find_method
        >>> masks = find_method("rise").options[0]
        >>> masks.name, masks.argument, masks.kind.expected, masks.default
        ('masks', 'n_masks', 'a positive int', 4000)
        >>> masks.titled(200)
        '200 masks'
    """

    name: str
    argument: str
    kind: Kind
    default: Any
    help: str
    title: str

    def read(self, text: str) -> Any:
        """The value that a text stands for; raises ValueError as `Kind.read` does."""
        return self.kind.read(text)

    def check(self, value: Any) -> Any:
        """The value itself; raises ValueError as `Kind.check` does."""
        return self.kind.check(value)

    def titled(self, value: Any) -> str:
        """What a title says of a value that is not the default; "1 masks" is "1 mask"."""
        text = self.kind.text(value)
        if isinstance(self.kind, Choice):
            text = text.replace("-", " ")
        words = self.title.replace("{}", text)
        return words[:-1] if words.startswith("1 ") and words.endswith("s") else words


def _number(value: float) -> str:
    """The shortest text that is read as the same number: "2", "0.1", "1e-05"."""
    return repr(float(value)).removesuffix(".0")
