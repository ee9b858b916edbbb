"""`cci-captum explain`: which parts of images match which texts."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cci_captum.baselines.spec import MethodSpec
from cci_captum.names import is_text, readable
from cci_captum.pages import ROWS, of_page, page_paths, rows_of_pages, save_pages

from ._common import (
    CommandError,
    add_method_option,
    add_shared_options,
    at_least,
    check_model,
    choose_device,
    choose_methods,
    load_model,
    method_errors,
    warn_about_unknown_words,
)
from ._outputs import DPI, Outputs, check_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

    from cci_captum.explanation import Explanation

_METHODS = ("cci",)
_PICTURES = (".png", ".pdf", ".svg", ".jpg", ".jpeg", ".webp")


def add_to(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "explain",
        help="explain the similarity of images and texts",
        description="Draw, for each image and text, which parts of the image match the text. "
        "A row an image, a column a text (and method), the cosine similarity below each map.",
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files")
    parser.add_argument(
        "--text", action="append", required=True, metavar="T", help="a text; may be repeated"
    )
    add_method_option(parser, _METHODS)
    add_shared_options(parser, "--model", "--pretrained", "--device")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("explanation.png"),
        help="picture (%(default)s); of many images a .pdf of several pages, or numbered files",
    )
    parser.add_argument(
        "--rows",
        type=at_least(1),
        default=ROWS,
        metavar="N",
        help="images on a page, at most (%(default)s)",
    )
    parser.add_argument(
        "--words",
        type=Path,
        metavar="FILE",
        help="also write a picture of each text's words: by how much hiding each in the text "
        "encoder lowers the similarity, and where in the image that comes from",
    )
    parser.add_argument(
        "--save-maps",
        type=Path,
        metavar="NPZ",
        help="also write all maps, with --words those of the words; and of cci the cluster of each "
        "patch, and the drop of each cluster for each text",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Check everything the user gave, then load the model, explain, and write the files."""
    check_model(arguments.model, arguments.pretrained)
    texts = _check_texts(arguments.text)
    methods = choose_methods(arguments.method or _METHODS, masks=False)
    for spec in methods:
        if _over_classes(spec) and len(texts) < 2:
            raise CommandError(
                f"--method: {spec} compares a text with the others; expected at least two --text, "
                "got one"
            )
        if _over_classes(spec) and arguments.words:
            raise CommandError(f"--words: expected methods that explain one text, got {spec}")
    outputs = Outputs()
    pages = rows_of_pages(len(arguments.images), arguments.rows)
    files = _files(arguments.out, "--out", pages, arguments.images, outputs)
    word_pages = [
        (spec, text, page) for spec in methods for text in range(len(texts)) for page in pages
    ]
    word_files = {}
    if arguments.words:
        word_files = _files(arguments.words, "--words", word_pages, arguments.images, outputs)
        for file in word_files:
            if any(_same(file, other) for other in files):
                raise CommandError(
                    f"--words: expected another file than --out, got {readable(file)}"
                )
    if arguments.save_maps:
        outputs.expect(arguments.save_maps, "--save-maps", (".npz",))
    pictures = _read(arguments.images)
    device = choose_device(arguments.device)
    clip = load_model(arguments.model, arguments.pretrained, device)
    warn_about_unknown_words(arguments.model, texts)

    from cci_captum.explaining import explain, prepare

    names = [readable(image) for image in arguments.images]
    titles = _titles(texts, methods)
    for file, own_pages in files.items():
        for page in own_pages:
            check_picture(file, _size(pictures, names, page, titles), "--out")
    try:
        prepared = prepare(pictures, texts, clip)
    except (TypeError, ValueError) as error:
        raise CommandError(str(error)) from error
    explained = {}
    for spec in methods:
        with method_errors(spec):
            found = explain(
                prepared,
                texts,
                clip,
                method=spec,
                words=arguments.words is not None,
                show_progress=True,
            )
        explained[spec] = replace(found, names=tuple(names))
    for file, own_pages in files.items():
        drawn = (_page([*explained.values()], page) for page in own_pages)
        save = partial(save_pages, figures=drawn, pages=len(own_pages), dpi=DPI)
        outputs.write(file, save)
    for file, own_words in word_files.items():
        drawn = (_page_of_words(explained[spec], text, page) for spec, text, page in own_words)
        save = partial(save_pages, figures=drawn, pages=len(own_words), dpi=DPI)
        outputs.write(file, save)
    if arguments.save_maps:
        outputs.write(arguments.save_maps, lambda path: _save_maps(path, explained))
    (first, *_) = explained.values()
    for name, row in zip(names, first.similarities.tolist(), strict=True):
        for text, cosine in zip(texts, row, strict=True):
            print(f"{name}: {cosine:.3f} {text}")
    if first.words is not None:
        for name, drops in zip(names, first.words.drops.tolist(), strict=True):
            for own, values in zip(first.words.words, drops, strict=True):
                added = (f"{word.text} {v:+.3f}" for word, v in zip(own, values, strict=False))
                print(f"{name}: {', '.join(added)}")
    outputs.finish()
    *others, last = map(readable, outputs.written)
    print(f"wrote {' and '.join(filter(None, [', '.join(others), last]))}")


def _files(
    path: Path, option: str, pages: list[Any], images: list[Path], outputs: Outputs
) -> dict[Path, list[Any]]:
    """Each file of pictures, which can be written, with its pages."""
    files = page_paths(path, len(pages))
    for file in files:
        outputs.expect(file, option, _PICTURES)
        if any(_same(file, image) for image in images):
            raise CommandError(f"{option}: would overwrite the image {readable(file)}")
    if len(files) == 1:
        return {files[0]: pages}
    return {file: [page] for file, page in zip(files, pages, strict=True)}


def _page(explained: list[Explanation], page: range) -> Figure:
    """The maps of some of the images, those of all methods side by side."""
    from cci_captum.side_by_side import side_by_side

    titles = explained[0].row_titles
    options = of_page(page, {"row_titles": titles})
    return side_by_side([found[page] for found in explained], **options)


def _page_of_words(found: Explanation, text: int, page: range) -> Figure:
    """The maps of the words of one text over some of the images."""
    options = of_page(page, {"row_titles": found.row_titles})
    return found[page].word_figure(text, **options)


def _over_classes(spec: MethodSpec) -> bool:
    """Whether a method explains a score that takes all texts together."""
    return spec.values.get("score", "logit") != "logit"


def _check_texts(texts: list[str]) -> list[str]:
    stripped = [text.strip() for text in texts]
    if not all(stripped):
        raise CommandError("--text: expected some words, got an empty text")
    for text in stripped:
        if not is_text(text):
            raise CommandError(f"--text: expected UTF-8, got {readable(text)}")
    return list(dict.fromkeys(stripped))


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are of one file, or would be."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.absolute() == other.absolute()


def _read(paths: list[Path]) -> list[Image]:
    from cci_captum.images import read_image

    try:
        return [read_image(path) for path in paths]
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from error


def _titles(texts: list[str], methods: list[MethodSpec]) -> list[str]:
    """Of the columns of maps."""
    from cci_captum.side_by_side import titles_of

    return titles_of(texts, [spec.title for spec in methods])


def _size(
    pictures: list[Image], names: list[str], page: range, titles: list[str]
) -> tuple[float, float]:
    """Width and height of a page in inches."""
    from cci_captum.side_by_side import drawn_size
    from cci_captum.visualization.grid import grid_size

    columns = [str(place) for place in range(len(titles))]
    return grid_size(
        [drawn_size(pictures[image])[::-1] for image in page],
        columns,
        titles=["image", *titles],
        row_titles=[Path(names[image]).name for image in page],
        scores={column: ["0.000"] * len(page) for column in columns},
    )


def _save_maps(path: Path, explained: Mapping[MethodSpec, Explanation]) -> None:
    import numpy as np
    import torch

    (first, *_) = explained.values()
    tensors = {"similarities": first.similarities}
    for spec, found in explained.items():
        maps = found.maps
        if spec.method.resolution == "patch":
            tensors[f"patch_maps.{spec}"] = maps
            size = found.inputs.shape[-2:]
            maps = torch.nn.functional.interpolate(maps, size, mode="nearest-exact")
        tensors[f"maps.{spec}"] = maps
        if found.words is not None:
            tensors |= {
                f"word_drops.{spec}": found.words.drops,
                f"word_maps.{spec}": found.words.maps,
            }
        if found.effects is not None:
            tensors |= {
                f"drops.{spec}": found.drops,
                f"labels.{spec}": found.effects.labels,
                f"clusters.{spec}": found.effects.clusters,
            }
    arrays: dict[str, Any] = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
    if first.words is not None:
        most = first.words.drops.shape[2]
        names = [[word.text for word in own] for own in first.words.words]
        arrays["words"] = np.array([[*own, *[""] * (most - len(own))] for own in names])
    np.savez_compressed(
        path,
        **arrays,
        images=np.array(first.names),
        photo_sizes=np.array([photo.size for photo in first.photos]),
        fields_of_view=np.array(first.field_of_view),
        texts=np.array(first.texts),
        methods=np.array([str(spec) for spec in explained]),
        model=np.array(first.model),
    )
