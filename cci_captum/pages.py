"""Figures of many rows as pages: one file that has several, or a file for each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._checks import check_positive_int
from ._files import check_file, whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = 8
"""Images on a page: of usual photos, about what a sheet of A4 shows."""

_PDF = ".pdf"


def rows_of_pages(count: int, rows: int) -> list[range]:
    """The images on each page, at most so many.

    Raises:
        ValueError: If rows is no positive int.

    Example:
        >>> rows_of_pages(5, 2)
        [range(0, 2), range(2, 4), range(4, 5)]
    """
    check_positive_int("rows", rows)
    return [range(first, min(first + rows, count)) for first in range(0, count, rows)]


def page_paths(path: Path, pages: int) -> list[Path]:
    """The files that so many pages go to: one of a PDF, else one each, in the order of names.

    Example:
        >>> [file.name for file in page_paths(Path("maps.png"), 2)]
        ['maps-1.png', 'maps-2.png']
        >>> [file.name for file in page_paths(Path("maps.pdf"), 2)]
        ['maps.pdf']
    """
    if pages == 1 or path.suffix.lower() == _PDF:
        return [path]
    digits = len(str(pages))
    return [
        path.with_name(f"{path.stem}-{page:0{digits}}{path.suffix}") for page in range(1, pages + 1)
    ]


def save_pages(
    path: str | os.PathLike[str], figures: Iterable[Figure], pages: int, **options: Any
) -> list[Path]:
    """Write figures, each drawn as its turn comes, each file whole or not at all.

    Args:
        path: With an ending that says the format; `page_paths` says which files follow.
        figures: The pages.
        pages: How many there are.
        options: Of `matplotlib.figure.Figure.savefig`.

    Returns:
        The files.

    Raises:
        OSError: If there is no such folder, or something else than a file is there.
        ValueError: If the name has no ending.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_pdf import PdfPages

    from .visualization._picture import TRUETYPE

    paths = page_paths(Path(path), pages)
    for own in paths:
        if not own.suffix:
            raise ValueError(f"path: expected a name with an ending, such as .pdf, got {own}")
        check_file(own, "path")
    if pages > 1 and len(paths) == 1:
        # Fonts are chosen for each page and written at the end, so that both see the setting.
        with (
            whole_file(paths[0]) as temporary,
            rc_context({"pdf.fonttype": TRUETYPE}),
            PdfPages(temporary) as file,
        ):
            for figure in figures:
                file.savefig(figure, **options)
    else:
        for own, figure in zip(paths, figures, strict=True):
            with whole_file(own) as temporary:
                figure.savefig(temporary, **options)
    return paths


def of_page(page: range, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a figure with what some of them have for each image cut to those of a page."""
    return {
        name: [value[image] for image in page]
        if name in ("masks", "outline", "row_titles") and hasattr(value, "__getitem__")
        else value
        for name, value in options.items()
    }
