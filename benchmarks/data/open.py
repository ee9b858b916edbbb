"""Data by one line of text, such as "scenes:n=500,objects=two" or "imagenet:/data/val"."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from cci_captum.models.preprocessing import Preprocess
from cci_captum.names import readable

from .base import ImageData
from .sources import SOURCES

# Errors of a source's class, which name its arguments: raised again with the names used here.
_RENAMED = (FileNotFoundError, NotADirectoryError, TypeError, ValueError)
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9_-]+):(?P<rest>.*)", re.DOTALL)


def open_data(text: str, *, preprocess: Preprocess | None = None, **options: Any) -> ImageData:
    """The images that a line of text names, found but not yet read.

    Args:
        text: A scheme with options, "scenes" or "scenes:n=500,objects=two"; a scheme with a path,
            which is all that follows the colon, commas and colons included, "imagenet:/data/val";
            or the path of a folder of class folders. A folder that is called like a scheme is
            "./scenes" or "folder:scenes".
        preprocess: Of the model, which says how large scenes have to be.
        options: Of the source, by name: n=50, masks="masks", ... `SOURCES` and docs/data.md list
            them. A source without a path takes them in its text, too.

    Returns:
        What the source's class makes: `Scenes`, `ImageFolders`, `ImageNet`, `CounterAnimal`,
        `COCOKarpathy`, `Flickr30k`, `WebDataset`.

    Raises:
        TypeError: If text is no str, or as the source's class raises it.
        OSError: As the source's class raises it; FileNotFoundError if there is no such folder.
        ValueError: If there is no such scheme, option or value, listing those there are; an option
            is given twice; or as the source's class raises it.

    Example:
        >>> open_data("scenes:n=3,objects=two,artwork=held-out,seed=3").name
        'scenes (held-out artwork, two objects, seed 3)'
        >>> len(open_data("scenes:seed=3", n=7))
        7
        >>> open_data("scenes:objects=three")
        Traceback (most recent call last):
        ...
        ValueError: data: objects of scenes: expected one of one, two, each, got 'three'
    """
    scheme, given = read_source(text)
    source = SOURCES[scheme]
    known = {option.name: option for option in source.options}
    arguments: dict[str, Any] = {"root": given.pop("root")} if source.path else {}
    for name, value in options.items():
        if name in given:
            raise ValueError(f"{name}: expected it once, got it in {text!r} and beside it")
        if name not in known:
            raise ValueError(f"data: expected an option of {_listed(scheme)}, got {name!r}")
        try:
            given[name] = known[name].kind.check(value)
        except OSError as error:
            raise type(error)(f"{name}: {error}") from error
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    arguments |= {known[name].argument: value for name, value in given.items()}
    try:
        return source.open(preprocess, **arguments)
    except _RENAMED as error:
        argument, _, rest = str(error).partition(": ")
        names = {option.argument: option.name for option in source.options} | {"root": "data"}
        if argument in names and type(error) in _RENAMED:
            raise type(error)(f"{names[argument]}: {rest}") from error
        raise


def read_source(text: str) -> tuple[str, dict[str, Any]]:
    r"""What a line of text says, without looking at any data.

    Args:
        text: See `open_data`.

    Returns:
        The scheme, and its options by name or, of a source with a path, {"root": path}.

    Raises:
        FileNotFoundError: If it is no scheme, and there is no such folder.
        TypeError: See `open_data`.
        ValueError: See `open_data`.

    Example:
        >>> read_source("scenes:n=500,objects=two")
        ('scenes', {'n': 500, 'objects': 'two'})
        >>> read_source("folder:C:\\photos, mine")
        ('folder', {'root': 'C:\\photos, mine'})
    """
    if not isinstance(text, str):
        raise TypeError(
            f"data: expected a str, got {type(text).__name__}; MapStyle(dataset) makes images of a "
            "data set in memory"
        )
    if text in SOURCES and not SOURCES[text].path:
        return text, {}
    match = _SCHEME.fullmatch(text)
    if match and match["scheme"] in SOURCES:
        scheme, rest = match.group("scheme", "rest")
        if not SOURCES[scheme].path:
            return scheme, _read_options(scheme, rest)
        if not rest:
            raise ValueError(f"data: expected a folder after {text!r}")
        return scheme, {"root": rest}
    if text and Path(text).exists():
        return "folder", {"root": text}
    if match:
        raise ValueError(f"data: expected {_schemes()}, got {readable(text)!r}")
    raise FileNotFoundError(f"data: no such folder: {readable(text)}; expected {_schemes()}")


def _read_options(scheme: str, text: str) -> dict[str, Any]:
    """The values of "name=value,name=value"."""
    known = {option.name: option for option in SOURCES[scheme].options}
    found: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals:
            raise ValueError(f"data: expected options of {_listed(scheme)} as n=500, got {part!r}")
        if name not in known:
            raise ValueError(f"data: expected an option of {_listed(scheme)}, got {name!r}")
        if name in found:
            raise ValueError(f"data: expected each option of {scheme} once, got {name!r} again")
        try:
            found[name] = known[name].kind.read(value)
        except ValueError as error:
            raise ValueError(f"data: {name} of {scheme}: {error}") from error
    return found


def _listed(scheme: str) -> str:
    return f"{scheme} ({', '.join(option.name for option in SOURCES[scheme].options)})"


def _schemes() -> str:
    schemes = [f"{name}:DIR" if source.path else name for name, source in SOURCES.items()]
    return f"one of {', '.join(schemes)}, or a folder"
