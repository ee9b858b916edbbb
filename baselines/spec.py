"""A method and its options as one line of text, such as "rise(masks=200)".

Facts only, no torch: classes are imported when a spec makes an attribution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cci_captum.spec_text import split_spec

from .options import Option
from .registry import METHODS, Method, find_method

if TYPE_CHECKING:
    from cci_captum.attribution.base import ImageAttribution

_SCORE = "score"


@dataclass(frozen=True, init=False, repr=False)
class MethodSpec:
    """A method with values of its options: a key, a title, a line of JSON, a command's argument.

    Its text is a name of `METHODS`, then in parentheses the options that are not as usual:

        cci
        cci(clusters=10,hide=drop,score=log-probability)
        rise(masks=200)

    Equal specs have equal texts: options stand in the order in which `Method.options` declares
    them, defaults are left out, numbers have one form. A method that is another with some of its
    options set goes by its own name: "clip-surgery(revision=2023-04-12)" is
    "clip-surgery-2023-04-12". `cci-captum methods` lists all options.

    Args:
        method: A key of `METHODS`.
        options: Name of an option -> value: a number, a bool, a name.

    Raises:
        ValueError: If there is no such method, option or value; lists those there are.

    Attributes:
        name: The key of `METHODS`.
        options: Those that are not the defaults.
        values: All options of the method.
        method: The registry's entry.
        title: As a paper prints it.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.baselines import MethodSpec
        >>> spec = MethodSpec("cci", {"score": "log-probability", "clusters": 10})
        >>> str(spec), spec.title
        ('cci(clusters=10,score=log-probability)', 'CCI (10 clusters, log probability)')
        >>> spec == MethodSpec.parse("cci( score = log-probability, hide = mask, clusters = 010 )")
        True
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> MethodSpec.parse("cci(clusters=3)")(classifier).patch_map(
        ...     torch.rand(1, 3, 96, 96), target=0
        ... ).unique().numel()
        3
    """

    name: str
    _chosen: tuple[tuple[str, Any], ...] = field(default=())

    def __init__(self, method: str, options: Mapping[str, Any] | None = None) -> None:
        _set(self, find_method(method), dict(options or {}), Option.check)

    @classmethod
    def parse(cls, text: str) -> MethodSpec:
        """The spec of a text; spaces around its words do not count.

        Args:
            text: Such as "cci" or "cci(clusters=10,hide=drop)".

        Raises:
            TypeError: If it is no text.
            ValueError: If it does not read as a spec, naming the place, or there is no such
                method, option or value; lists those there are.

        Example:
            >>> from cci_captum.baselines import MethodSpec
            >>> str(MethodSpec.parse("clip-surgery(revision=2023-04-12,blocks=3)"))
            'clip-surgery-2023-04-12(blocks=3)'
            >>> MethodSpec.parse("random(seeds=1)")
            Traceback (most recent call last):
            ...
            ValueError: method: expected an option of random (seed), got 'seeds'
        """
        if not isinstance(text, str):
            raise TypeError(f"method: expected a str, got {type(text).__name__}")
        name, options = split_spec(text, "method")
        spec = cls.__new__(cls)
        _set(spec, find_method(name), options, Option.read)
        return spec

    @property
    def method(self) -> Method:
        """The registry's entry."""
        return METHODS[self.name]

    @property
    def options(self) -> dict[str, Any]:
        """Name -> value of the options that are not the defaults, in the declared order."""
        return dict(self._chosen)

    @property
    def values(self) -> dict[str, Any]:
        """Name -> value of all options, in the declared order."""
        return {option.name: option.default for option in self.method.options} | self.options

    @property
    def title(self) -> str:
        """As a paper prints it, such as "CCI (10 clusters)"; another for every spec."""
        said = [option.titled(value) for option, value in self._pairs()]
        return f"{self.method.title} ({', '.join(said)})" if said else self.method.title

    def __call__(self, forward_func: Any, vision_tower: Any = None) -> ImageAttribution:
        """An attribution of forward_func by this method with these options.

        Args:
            forward_func: See `PatchAttribution`. A score other than "logit" is a function of the
                outputs of all classes, which it then has to return.
            vision_tower: See `PatchAttribution`.

        Raises:
            TypeError: As the method's class raises it.
            ValueError: As the method's class raises it, such as for a layer that is not there.
        """
        arguments: dict[str, Any] = {}
        clustering: dict[str, Any] = {}
        for option, value in self._pairs():
            owner, _, argument = option.argument.rpartition(".")
            if option.name == _SCORE:
                from cci_captum.models.scores import find_score

                forward_func = find_score(value)(forward_func)
            elif owner:
                clustering[argument] = value
            else:
                arguments[argument] = value
        if clustering:
            from cci_captum.clustering import KMeans

            arguments["clustering"] = KMeans(**clustering)
        return self.method(forward_func, vision_tower, **arguments)

    def __str__(self) -> str:
        chosen = [f"{option.name}={option.kind.text(value)}" for option, value in self._pairs()]
        return f"{self.name}({','.join(chosen)})" if chosen else self.name

    def __repr__(self) -> str:
        return f"MethodSpec.parse({str(self)!r})"

    def __reduce__(self) -> tuple[Callable[[str], MethodSpec], tuple[str]]:
        return MethodSpec.parse, (str(self),)

    def _pairs(self) -> list[tuple[Option, Any]]:
        """The options that are not the defaults, with their values."""
        declared = {option.name: option for option in self.method.options}
        return [(declared[name], value) for name, value in self._chosen]


def _set(
    spec: MethodSpec, method: Method, given: dict[str, Any], check: Callable[[Option, Any], Any]
) -> None:
    """Set the fields of a frozen spec, from options that check makes values of."""
    declared = {option.name: option for option in method.options}
    for name in given:
        if name not in declared:
            raise ValueError(
                f"method: expected an option of {method.name} ({', '.join(declared)}), got {name!r}"
                if declared
                else f"method: {method.name} takes no options, got {name!r}"
            )
    chosen = {}
    for name, option in declared.items():
        if name in given:
            try:
                value = check(option, given[name])
            except ValueError as error:
                raise ValueError(f"method: {name} of {method.name}: {error}") from None
            if value != option.default:
                chosen[name] = value
    for other in METHODS.values():
        preset = dict(other.preset)
        if other.path == method.path and preset and preset.items() <= chosen.items():
            method = other
            chosen = {name: value for name, value in chosen.items() if name not in preset}
            break
    object.__setattr__(spec, "name", method.name)
    object.__setattr__(spec, "_chosen", tuple(chosen.items()))
