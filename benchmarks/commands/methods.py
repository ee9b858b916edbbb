"""`cci-captum methods`: the attribution methods that can be compared."""

from __future__ import annotations

import argparse
import textwrap
from itertools import zip_longest

from cci_captum.baselines.registry import METHODS, Method

_LINE = 100  # characters
_GAP = "  "
_HEAD = ("name", "title", "map", "needs", "forward passes", "paper")
_WIDEST = (23, 20, 5, 10, 14)  # characters of all columns but the last, which has the rest


def add_to(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    text = (
        "List the attribution methods: what each needs, what it costs, where it is published, and "
        "which options it has."
    )
    parser = subparsers.add_parser("methods", help="list the methods", description=text)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Print a table, a row a method with its options below."""
    rows = [_HEAD, *(_cells(method) for method in METHODS.values())]
    longest = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths = [min(pair) for pair in zip(_WIDEST, longest, strict=False)]
    widths.append(_LINE - sum(widths) - len(_GAP) * len(widths))
    lines = []
    for row, method in zip(rows, [None, *METHODS.values()], strict=True):
        cells = [_wrap(cell, width) for cell, width in zip(row, widths, strict=True)]
        for parts in zip_longest(*cells, fillvalue=""):
            padded = (f"{part:{width}}" for part, width in zip(parts, widths, strict=True))
            lines.append(_GAP.join(padded).rstrip())
        if method is not None:
            lines += _defaults(method)
    lines += [
        "",
        "map: a value a patch or a pixel; forward passes: for one image, with default options;",
        "cci-captum explain takes every method that needs no masks, cci-captum demo all of them;",
        'options with their defaults: --method "cci(clusters=10,score=margin)" sets two of them',
        "",
        *_meanings(),
    ]
    print("\n".join(lines))


def _defaults(method: Method) -> list[str]:
    """The lines below a method: its options, each with its default."""
    options = (f"{option.name}={option.kind.text(option.default)}" for option in method.options)
    return textwrap.wrap(
        ", ".join(options),
        _LINE,
        initial_indent=_GAP,
        subsequent_indent=_GAP,
        break_on_hyphens=False,
    )


def _meanings() -> list[str]:
    """What each option is and may be; with the methods, where they mean different things."""
    methods: dict[str, dict[str, list[str]]] = {}
    for method in METHODS.values():
        for option in method.options:
            meaning = f"{option.help} ({option.kind.expected})"
            methods.setdefault(option.name, {}).setdefault(meaning, []).append(method.name)
    width = max(map(len, methods))
    lines = []
    for name, meanings in methods.items():
        for meaning, names in meanings.items():
            of = f"{', '.join(names)}: " if len(meanings) > 1 else ""
            lines += textwrap.wrap(
                of + meaning,
                _LINE,
                initial_indent=f"{_GAP}{name:{width}}{_GAP}",
                subsequent_indent=" " * (width + 2 * len(_GAP)),
                break_on_hyphens=False,
            )
    return lines


def _wrap(cell: str, width: int) -> list[str]:
    """The lines of a cell; "arXiv 1234.56789" stays on one."""
    joined = cell.replace("arXiv ", "arXiv\N{NO-BREAK SPACE}")
    lines = textwrap.wrap(joined, width, break_on_hyphens=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def _cells(method: Method) -> tuple[str, ...]:
    needs = {
        "gradients": method.needs_gradients,
        "text": method.needs_text,
        "masks": method.needs_masks,
    }
    return (
        method.name,
        method.title,
        method.resolution,
        ", ".join(name for name, needed in needs.items() if needed) or "-",
        method.forward_passes,
        method.paper,
    )
