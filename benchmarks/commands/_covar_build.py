"""`cci-captum covar build`: variants of photos on other backgrounds, into a folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cci_captum.names import readable

from ._common import CommandError, StoppedError, add_shared_options, at_least, choose_device, one_of
from ._data import check_data, find_data, has_masks
from ._diagnosing import add_segmenter_option, segmented
from ._outputs import Outputs
from ._restart import store_of
from ._working import PARTS, Working, errors_of_run
from ._written import options_of

if TYPE_CHECKING:
    from ..covar import Backgrounds, BuildRun, Transformation, Usable
    from ..data import ImageData

FILES = ("manifest.parquet", "covar.json")
_TEXTURES = "scenes"
_OPTIONS = {
    "data": "--data",
    "store": "--out",
    "photos": "--photos",
    "classes": "--class",
    "backgrounds": "--backgrounds",
    "count": "--background-count",
    "usable": "--object-share",
    "controls": "--controls",
    "moves": "--moves",
    "size": "--size",
    "feather": "--feather",
    "colour": "--colour",
    "encoding": "--encoding",
}


def add_to(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `build` to the parser of `covar`."""
    parser = subparsers.add_parser(
        "build",
        help="variants of photos on other backgrounds",
        description="Cut the objects out of photos, put them on other backgrounds, move them, and "
        "write images with exact masks, controls, a manifest and covar.json; what is made stays, "
        "so that the same command goes on where it was interrupted, by any number of workers with "
        '"cci-captum run covar build ...".',
    )
    add_shared_options(parser, "--data", "--n", "--objects", "--artwork", "--classes", "--masks")
    add_segmenter_option(parser, ", but not clusters")
    parser.add_argument(
        "--backgrounds",
        default=_TEXTURES,
        metavar="DIR",
        help="pictures, the same for all classes, or in a folder a class; or "
        f'"{_TEXTURES}", drawn textures (%(default)s)',
    )
    parser.add_argument(
        "--background-count",
        type=at_least(1),
        default=20,
        metavar="N",
        help="of these, drawn at random where there are more (%(default)s)",
    )
    parser.add_argument(
        "--class",
        dest="class_",
        action="append",
        metavar="NAME",
        help="which classes; may be repeated (all that have images)",
    )
    parser.add_argument(
        "--photos", type=at_least(1), default=50, metavar="N", help="of each class (%(default)s)"
    )
    parser.add_argument(
        "--fewer", action="store_true", help="go on with classes that have not as many"
    )
    parser.add_argument(
        "--object-share",
        default="0.02,0.6",
        metavar="LEAST,MOST",
        help="of the photo's square, of objects that are taken (%(default)s)",
    )
    parser.add_argument(
        "--controls",
        default="same,mean,blurred,inpainted",
        metavar="C,C",
        help='the object on what was behind it anyway, or "none" (%(default)s)',
    )
    parser.add_argument(
        "--moves",
        action="append",
        metavar="FACTOR=WHAT",
        help='"viewpoint=picture": a factor moves the "picture" or the "object"; may be repeated '
        "(scale and viewpoint the object, others the picture)",
    )
    parser.add_argument(
        "--size", type=at_least(16), default=224, metavar="P", help="pixels a side (%(default)s)"
    )
    parser.add_argument(
        "--feather",
        type=float,
        default=1.0,
        metavar="P",
        help="pixels over which the object's edge fades (%(default)s)",
    )
    parser.add_argument(
        "--colour",
        type=float,
        default=0.0,
        metavar="S",
        help="how much the object takes on its new background's colours, 0 to 1 (%(default)s)",
    )
    parser.add_argument(
        "--format", type=one_of("folders", "webdataset"), default="folders", help="(%(default)s)"
    )
    parser.add_argument(
        "--encoding", type=one_of("png", "jpg"), default="png", help="of images (%(default)s)"
    )
    parser.add_argument(
        "--licence", default="", metavar="TEXT", help="of photos and backgrounds, for the manifest"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="count what there would be, and write nothing"
    )
    parser.add_argument("--out", type=Path, default=Path("covar"), help="folder (%(default)s)")
    add_shared_options(parser, "--restart", "--seed", "--device")
    parser.set_defaults(run=run, working=None)


def run(arguments: argparse.Namespace) -> None:
    """Check everything the user gave, then count, or make images and the manifest."""
    if arguments.segmenter == "clusters":
        raise CommandError("--segmenter: expected masks of objects, which clusters are not")
    segment = segmented(arguments.segmenter, masks=has_masks(arguments))
    check_data(arguments)
    with errors_of_run(arguments.out, _OPTIONS):
        how = _How.of(arguments)  # before photos are read, which takes long
        if arguments.dry_run:
            _count(arguments, how)
            return
    outputs = Outputs()
    outputs.expect_in(arguments.out, "--out", FILES)
    working: Working = arguments.working or Working()
    if working.only_checks:
        return
    device = choose_device(working.device(arguments.device))
    options = options_of(arguments)
    asked = {"command": "covar build", **options, "out": str(arguments.out)}
    with errors_of_run(arguments.out, _OPTIONS):
        store = store_of(arguments.out, arguments.restart, working)
        with working.of(arguments.out, store.folder, device, asked):
            data = segment(find_data(arguments, None), None, device)
            made = _run(arguments, data, how)
            made.begin(store)
            done = working.measure(made, store)
            if done and working.first_to("write", arguments.out / FILES[-1]):
                table = made.finish(store)
                where = readable(arguments.out)
                print(f"{len(table)} images of {table['source'].nunique()} photos in {where}")
                print(f"wrote {' and '.join(FILES)}; cci-captum covar evaluate {where} reads them")
            if working.stop:
                raise StoppedError(working.stop.signal)


class _How(NamedTuple):
    """How images are made."""

    usable: Usable
    changes: tuple[Transformation, ...]
    controls: tuple[str, ...]
    backgrounds: Backgrounds

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> _How:
        """What the options say; ValueError, or an OSError, if it cannot be done."""
        from ..covar import Compositor, Usable, transformations
        from ..covar.design import check_controls

        found = cls(
            Usable(*_share(arguments)),
            transformations(_moves(arguments)),
            _controls(arguments),
            _backgrounds(arguments),
        )
        check_controls(found.controls)
        Compositor(arguments.size, feather=arguments.feather, colour=arguments.colour)
        return found


def _run(arguments: argparse.Namespace, data: ImageData, how: _How) -> BuildRun:
    from ..covar import BuildRun, Photos

    photos = Photos.choose(
        data,
        arguments.photos,
        classes=arguments.class_,
        seed=arguments.seed,
        usable=how.usable,
        fewer=arguments.fewer,
        stored=arguments.out / PARTS / "photos.json",
    )
    for reason, number in photos.refused.items():
        print(f"{number} photos were not taken: {reason}")
    return BuildRun(
        photos,
        how.backgrounds,
        arguments.out,
        transformations=how.changes,
        controls=how.controls,
        size=arguments.size,
        seed=arguments.seed,
        feather=arguments.feather,
        colour=arguments.colour,
        format=arguments.format,
        encoding=arguments.encoding,
        licence=arguments.licence,
    )


def _count(arguments: argparse.Namespace, how: _How) -> None:
    """Say what there would be, if enough photos are usable; no image is read."""
    from ..covar import Design, dry_run

    data = find_data(arguments, None)
    there = {data.class_names[target] for target in data.targets}
    classes = arguments.class_ or [name for name in data.class_names if name in there]
    design = Design.of(
        classes,
        arguments.photos,
        {name: how.backgrounds.names(name) for name in classes},
        transformations=how.changes,
        controls=how.controls,
        size=arguments.size,
        seed=arguments.seed,
    )
    print(dry_run(design, arguments.encoding).text())


def _backgrounds(arguments: argparse.Namespace) -> Backgrounds:
    from cci_captum.tiny import BACKGROUND_NAMES

    from ..covar import BackgroundFolder, Textures

    if arguments.backgrounds == _TEXTURES:
        return Textures(BACKGROUND_NAMES[: arguments.background_count], arguments.seed)
    return BackgroundFolder(
        arguments.backgrounds, count=arguments.background_count, seed=arguments.seed
    )


def _moves(arguments: argparse.Namespace) -> dict[str, Any]:
    found = {}
    for text in arguments.moves or ():
        factor, equals, what = text.partition("=")
        if not equals:
            raise CommandError(f"--moves: expected FACTOR=picture or FACTOR=object, got {text!r}")
        found[factor] = what
    return found


def _share(arguments: argparse.Namespace) -> tuple[float, float]:
    try:
        least, most = map(float, arguments.object_share.split(","))
    except ValueError as error:
        raise CommandError(
            f"--object-share: expected two numbers, LEAST,MOST, got {arguments.object_share!r}"
        ) from error
    return least, most


def _controls(arguments: argparse.Namespace) -> tuple[str, ...]:
    return () if arguments.controls == "none" else tuple(arguments.controls.split(","))
