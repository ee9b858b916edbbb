"""A build as a run: images of a design, photo by photo, shared by any number of processes."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from cci_captum._files import check_folder, whole_file
from cci_captum.diagnosis.segmentation import Segmenter

from ..comparison.plan import Key, Plan, definition_of
from ..comparison.store import MemoryStore, Store, fill
from ..data import Sample
from ..data.covar import ABOUT, MANIFEST
from ..versions import revision, version_of
from .backgrounds import Backgrounds
from .compositor import Compositor
from .cutout import Cutout
from .design import CONTROLS, PHOTO, Design, Item, folder_of
from .editors import Edited, Editor, edited
from .output import (
    SHARDS,
    Encoding,
    Format,
    Written,
    check_format,
    encoded,
    encoded_mask,
    write_folders,
    write_shard,
)
from .reading import LoadedPhotos, PhotoReader, Reading
from .sources import Photos
from .transformations import TRANSFORMATIONS, Transformation

_DECIDE = ("cci-captum", "torch", "numpy", "pillow")


class BuildRun:
    """The images of a design as units of a run: one is made, written, and named in a row.

    A block is a photo with all of its images. What is written is the same, byte for byte, whoever
    writes it and how often he is interrupted; a block counts as done when its rows are stored,
    which is after its files are there.

    Args:
        photos: That images are made of.
        backgrounds: That they are put on.
        out: The folder to fill.
        transformations: On each background; the first is the original.
        controls: Some of `CONTROLS`.
        size: Height and width of the images in pixels.
        seed: Of what is drawn, beside photos and backgrounds that have their own.
        feather: See `Compositor`.
        colour: See `Compositor`.
        format: "folders", or "webdataset", a shard a photo.
        encoding: "png", or "jpg" of quality 95.
        licence: Of photos and backgrounds, as the user says; it is written into every row.
        editor: What takes the compositor's place, for controls too; None is the compositor.
        segmenter: Finds the object again in what an editor made; see `edited`.

    Attributes:
        design: Which images there are.
        task: How photos are read.
        plan: The units, and all that decides their bytes.

    Raises:
        NotADirectoryError: If out is a file.
        ValueError: If an option is out of its range, or a segmenter comes without an editor.

    Example:
        >>> import tempfile
        >>> from cci_captum.benchmarks.covar.backgrounds import Textures
        >>> from cci_captum.benchmarks.data import Scenes, open_data
        >>> photos = Photos.choose(Scenes(99, size=64), 1, classes=["cat", "bus"], seed=3)
        >>> with tempfile.TemporaryDirectory() as out:
        ...     run = BuildRun(photos, Textures(["snow", "lava"]), out, size=48)
        ...     table = run.all()
        ...     data = open_data(f"covar:{out}", factor="scale")
        >>> len(table), int((table["factor"] == "scale").sum()), len(data)
        (58, 16, 26)
    """

    def __init__(
        self,
        photos: Photos,
        backgrounds: Backgrounds,
        out: str | os.PathLike[str],
        *,
        transformations: Sequence[Transformation] = TRANSFORMATIONS,
        controls: Sequence[str] = CONTROLS,
        size: int = 224,
        seed: int = 0,
        feather: float = 1.0,
        colour: float = 0.0,
        format: Format = "folders",
        encoding: Encoding = "png",
        licence: str = "",
        editor: Editor | None = None,
        segmenter: Segmenter | None = None,
    ) -> None:
        check_format(format, encoding)
        if segmenter is not None and editor is None:
            raise ValueError("segmenter: expected an editor, whose objects it finds, got none")
        self._photos, self._backgrounds, self._out = photos, backgrounds, Path(out)
        check_folder(self._out, "out")
        self._compositor = Compositor(size, feather=feather, colour=colour)
        self._format, self._encoding, self._licence = format, encoding, licence
        self._editor, self._segmenter = editor, segmenter
        self.design = Design.of(
            photos.classes,
            [len(places) for places in photos.places],
            {name: backgrounds.names(name) for name in photos.classes},
            transformations=tuple(transformations),
            controls=tuple(controls),
            size=size,
            seed=seed,
        )
        step = self.design.images_a_photo
        self.task = Reading(PhotoReader(photos.data, photos.all_places, step), photos.data)
        described = {
            "design": self.design.described(),
            "compositor": repr(self._compositor),
            "editor": "" if editor is None else definition_of(editor),
            "segmenter": "" if segmenter is None else definition_of(segmenter),
            "photos": dict(photos.asked),
            "places": _digest(list(photos.all_places)),
            "backgrounds": _digest(list(backgrounds.listing)),
            "format": format,
            "encoding": encoding,
            "licence": licence,
        }
        made_by = {
            "python": platform.python_version(),
            **{name: version_of(name) for name in _DECIDE},
            "revision": revision(),
        }
        self._settings = {
            "data": photos.data.name,
            "background_data": backgrounds.name,
            "class_names": list(photos.data.class_names),
            "templates": photos.data.templates,
            "refused": dict(photos.refused),
            "notes": list(getattr(photos.data, "notes", ())),
        }
        configured = {**made_by, **described}
        self.plan = Plan(configured, "covar", len(self.design), step, {"": ""}, self._settings)

    def begin(self, store: Store) -> None:
        """Prepare a store; while images are missing in it, the folder is not called finished.

        Raises:
            ValueError: If the store has units of another build.
        """
        store.begin(self.plan)
        if store.missing(self.plan.all_keys()):
            (self._out / ABOUT).unlink(missing_ok=True)  # an earlier build's, now to be overwritten

    def maps_of(self, key: Key) -> int:
        """How much of a unit an image is, for progress bars."""
        return 1

    def measure(
        self, places: Sequence[int], keys: Iterable[Key], loaded: LoadedPhotos | None = None
    ) -> Iterator[tuple[Key, pd.DataFrame]]:
        """Make and write the images of a block, then name them.

        Args:
            places: Numbers of the images.
            keys: Of the units asked for: one a block.
            loaded: Their photos, as `task.reader` reads them; None reads them here.

        Yields:
            Key and rows of the manifest.

        Raises:
            OSError: If a photo or background cannot be read now, or a file cannot be written.
            ValueError: If a photo was changed since it was chosen.
        """
        for key in keys:
            if loaded is None:
                loaded = self.task.reader(places)
            yield key, self._block(key.block, places, loaded)

    def all(self, store: Store | None = None) -> pd.DataFrame:
        """Make what a store lacks, and finish; gives the manifest."""
        store = MemoryStore() if store is None else store
        self.begin(store)
        fill(store, self)
        return self.finish(store)

    def finish(self, store: Store) -> pd.DataFrame:
        """Write the manifest, and last what the folder says of itself: then it is data.

        Args:
            store: Has all units of the plan.

        Returns:
            The manifest, a row an image.

        Raises:
            ValueError: If a unit is missing.
        """
        units = store.load(self.plan.all_keys())
        table = pd.concat(units, ignore_index=True).sort_values("number", ignore_index=True)
        if table["number"].tolist() != list(range(len(self.design))):
            raise ValueError(
                f"store: expected {len(self.design)} images, each once, got {len(table)} rows"
            )
        with whole_file(self._out / MANIFEST) as path:
            table.to_parquet(path, index=False)
        about = {
            **self.plan.configuration,
            **self._settings,
            "images": len(table),
            "manifest_sha256": hashlib.sha256((self._out / MANIFEST).read_bytes()).hexdigest(),
        }
        if self._format == "webdataset":
            with whole_file(self._out / SHARDS / "classnames.txt") as path:
                path.write_text("\n".join(self._settings["class_names"]) + "\n", encoding="utf-8")
        with whole_file(self._out / ABOUT) as path:
            path.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        return table

    def _block(self, block: int, places: Sequence[int], loaded: LoadedPhotos) -> pd.DataFrame:
        made = [
            self._image(item, sample, cutout)
            for number, sample in loaded.samples.items()
            for cutout in [self._cut(sample)]
            for item in map(self.design.item, self.design.block_of(number))
            if item.number in places
        ]
        if self._format == "folders":
            where = write_folders(self._out, made, self._encoding)
        else:
            where = write_shard(self._out, block, made, self._encoding)
        rows = [
            {**image.facts, **place._asdict()} for image, place in zip(made, where, strict=True)
        ]
        return pd.DataFrame(rows)

    def _cut(self, sample: Sample) -> Cutout:
        if sample.mask is None or not sample.mask.any():
            raise ValueError(
                f"photos: expected an object in {sample.name}, which had one when it was chosen; "
                "the data or the segmenter changed: begin a new build"
            )
        return Cutout.of(sample.image, sample.mask.numpy(), self.design.size)

    def _image(self, item: Item, sample: Sample, cutout: Cutout) -> Written:
        class_name = self.design.classes[item.class_]
        photo = item.number // self.design.images_a_photo
        behind = ""
        if item.factor == PHOTO:
            made = self._compositor.photo(cutout)
        else:
            if item.control:
                background = cutout.control(item.control)
                behind = f"control {item.control}"
            else:
                background = self._backgrounds.get(
                    class_name, item.background, photo, self.design.size
                )
                behind = self._backgrounds.provenance(class_name, item.background)
            if self._editor is None:
                made = self._compositor.compose(cutout, background, item.transformation)
            else:
                made = self._edited(background, item.transformation, cutout, class_name)
        assert made.mask is not None
        folder = folder_of(class_name)
        facts: Mapping[str, Any] = {
            "number": item.number,
            "name": f"{folder}/{item.name}",
            "class": class_name,
            "target": sample.target,
            "photo": item.photo,
            "source": sample.source or sample.name,
            "background": item.background,
            "control": item.control,
            "factor": item.factor,
            "level": item.level,
            "moves": "" if item.factor == PHOTO else item.transformation.moves,
            "object_share": float(made.mask.mean()),
            "visible": made.visible,
            "photo_from": f"{self._photos.data.name}: {sample.name}",
            "background_from": behind,
            "licence": self._licence,
        }
        content = encoded(made.picture, self._encoding), encoded_mask(made.mask)
        return Written(item.number, folder, item.name, sample.target, *content, facts)

    def _edited(
        self, background: Any, change: Transformation, cutout: Cutout, class_name: str
    ) -> Edited:
        segment = None
        if self._segmenter is not None:
            segmenter = self._segmenter

            def segment(picture: Image.Image) -> Any:
                (found,) = segmenter([picture], [class_name], [background.name])
                return None if found.mask is None else found.mask.numpy()

        assert self._editor is not None
        return edited(self._editor, cutout, background, change, self.design.size, segment)


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode("utf-8", "replace")).hexdigest()
