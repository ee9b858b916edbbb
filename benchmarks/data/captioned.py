"""Photos with captions, for retrieval: COCO and Flickr30k in the splits of Karpathy and Fei-Fei."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import SupportsIndex

from cci_captum.images import read_with_scaling
from cci_captum.names import readable

from ._captions import Photo, file_of_captions, files_in, from_karpathy, from_lines, images_in
from ._drawing import check_drawing, drawn_alike, fewer
from ._notes import ScalingNotes
from ._tree import some
from .base import MissingImageError, Sample, position

SPLITS = ("train", "restval", "val", "test")
"""Of Karpathy and Fei-Fei. What papers train on in COCO is "train" and "restval"."""


class _Captioned:
    """Photos with captions, in the order of the file that lists them.

    Args:
        photos: All of a split.
        images: The folder they lie in.
        title: Says which data these are, such as "COCO Karpathy test".
        captions: See `COCOKarpathy`.
        count: The same.
        seed: The same.
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        images: Path,
        title: str,
        *,
        captions: int | None,
        count: int | None,
        seed: int,
    ) -> None:
        drawn = f"{len(photos)} images"
        if (few := fewer(count, len(photos))) is not None:
            drawn = f"{few} of {drawn}, seed {seed}"
            photos = [photos[place] for place in drawn_alike(len(photos), few, seed)]
        self._photos = list(photos)
        self._images = images
        self.captions = [photo.captions[:captions] for photo in self._photos]
        written = sum(map(len, self.captions))
        first = "" if captions is None else f", the first {captions} of each"
        self.name = f"{title} ({drawn}; {written} captions{first})"
        self.class_names: tuple[str, ...] = ()
        self.templates: str | tuple[str, ...] = "{}"
        self.has_masks = False
        self.targets = [-1] * len(self._photos)
        there = files_in(self._images, (photo.file for photo in self._photos))
        self._missing = {photo.file for photo in self._photos if photo.file not in there}
        self.notes = self._notes_of_missing()
        for note in self.notes:
            warnings.warn(note, UserWarning, stacklevel=3)
        self._scaling = ScalingNotes(self.notes)

    @property
    def listing(self) -> list[str]:
        """The files with their sizes, and the captions."""
        texts = []
        for photo, captions in zip(self._photos, self.captions, strict=True):
            gone = photo.file in self._missing
            size = "missing" if gone else (self._images / photo.file).stat().st_size
            texts += [f"{readable(photo.file)} {size}", *captions]
        return texts

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        place = position(index, len(self))
        photo = self._photos[place]
        path = self._images / photo.file
        if photo.file in self._missing:
            raise MissingImageError(f"no such image: {readable(path)}")
        image, scaling = read_with_scaling(path)
        name = readable(photo.file)
        note = self._scaling.of(name, scaling)
        return Sample(name, image, -1, captions=self.captions[place], facts=photo.facts, note=note)

    def _notes_of_missing(self) -> list[str]:
        """Which files are not there, as notes.

        Raises:
            FileNotFoundError: If none is there.
        """
        missing = [photo.file for photo in self._photos if photo.file in self._missing]
        if len(missing) == len(self._photos):
            raise FileNotFoundError(
                f"images: expected files like {readable(missing[0])} in "
                f"{readable(self._images)}, got none of the {len(missing)}"
            )
        if not missing:
            return []
        return [
            f"{len(missing)} of the {len(self._photos)} images are not in "
            f"{readable(self._images)}: {some(map(readable, missing))}"
        ]


class COCOKarpathy(_Captioned):
    """Photos of COCO 2014 with their captions, in the splits of Karpathy and Fei-Fei (2015).

    The usual test of retrieval: the 5,000 images of "test", all of them from val2014. Captions
    are the file's `raw` texts, as they stand. Most images have five, a few six or seven:
    CLIP_benchmark keeps all, which on this test are reported as 25,010; other reports say 25,000,
    the first five of each. The name of the data says how many there are.

    Args:
        root: The folder of dataset_coco.json, or the file itself.
        split: "test", "val", "train" or "restval" (of val2014, added to "train" for training).
        images: The folder of the folders train2014 and val2014. None: root, or a folder "images"
            or "coco" in it.
        captions: How many of each image at most, the first ones; None is all.
        count: How many of the images to draw at random; None is all. A smaller gallery is an
            easier task.
        seed: Of what is drawn.

    Attributes:
        captions: Of every image, as `cci_captum.benchmarks.faithfulness.CaptionRetrieval` takes
            them.
        notes: How many files are missing, and which; how values were scaled in images of more
            than 8 bits, once one was read. Missing files are warned about, too.

    Raises:
        FileNotFoundError: If the file or images are not there, or not one image is. When a sample
            is read: if its image is missing, a `MissingImageError` if it always was.
        ValueError: If the file is no JSON or another one, lists a file twice or an image without
            captions, or has no images of the split; or another argument is not one of these. When
            a sample is read: if the image is damaged.

    References:
        Karpathy and Fei-Fei, Deep Visual-Semantic Alignments for Generating Image Descriptions,
        CVPR 2015, arXiv 1412.2306.

    Example:
        >>> import json, tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> entry = {"filepath": "val2014", "filename": "1.jpg", "cocoid": 1, "split": "test",
        ...     "sentences": [{"raw": "A cat, asleep."}, {"raw": "A cat."}]}
        >>> with tempfile.TemporaryDirectory() as root:
        ...     (Path(root) / "val2014").mkdir()
        ...     Image.new("RGB", (8, 6)).save(Path(root) / "val2014" / "1.jpg")
        ...     content = json.dumps({"dataset": "coco", "images": [entry]})
        ...     _ = (Path(root) / "dataset_coco.json").write_text(content)
        ...     data = COCOKarpathy(root)
        ...     sample = data[0]
        >>> data.name
        'COCO Karpathy test (1 images; 2 captions)'
        >>> sample.name, sample.captions, sample.facts
        ('val2014/1.jpg', ('A cat, asleep.', 'A cat.'), {'cocoid': 1})
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "test",
        images: str | os.PathLike[str] | None = None,
        *,
        captions: int | None = None,
        count: int | None = None,
        seed: int = 0,
    ) -> None:
        _check(split, captions, count, seed)
        path = file_of_captions(Path(root), ["dataset_coco.json"])
        photos = from_karpathy(path, split, "coco")
        folder = images_in(path.parent, images, ("images", "coco"), photos)
        title = f"COCO Karpathy {split}"
        super().__init__(photos, folder, title, captions=captions, count=count, seed=seed)


class Flickr30k(_Captioned):
    r"""Photos of Flickr30k with their captions, in the splits of Karpathy and Fei-Fei (2015).

    The usual test of retrieval: the 1,000 images of "test" with five captions each.

    Two files list them, the first of which is taken where both are there:

    - dataset_flickr30k.json, that of Karpathy;
    - flickr30k_test_karpathy.txt, that of CLIP_benchmark for each split: a line "image,caption",
      and then a file and a caption a line, without quotes: all that follows the first comma is
      the caption. Where the whole file is a table of two columns as spreadsheets write it,
      quotes around a caption are not part of it.

    Args:
        root: The folder of the file, or the file itself.
        split: "test", "val" or "train".
        images: The folder of the images. None: root, or a folder "flickr30k-images",
            "flickr30k_images", "images" or "Images" in it.
        captions: See `COCOKarpathy`.
        count: See `COCOKarpathy`.
        seed: See `COCOKarpathy`.

    Raises:
        FileNotFoundError: See `COCOKarpathy`.
        ValueError: See `COCOKarpathy`; and if a line has no file and caption.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> lines = ["image,caption", "1.jpg,A man, seated, reads.", "1.jpg,A man reads."]
        >>> with tempfile.TemporaryDirectory() as root:
        ...     Image.new("RGB", (8, 6)).save(Path(root) / "1.jpg")
        ...     _ = (Path(root) / "flickr30k_test_karpathy.txt").write_text("\n".join(lines))
        ...     data = Flickr30k(root)
        >>> data.captions
        [('A man, seated, reads.', 'A man reads.')]
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "test",
        images: str | os.PathLike[str] | None = None,
        *,
        captions: int | None = None,
        count: int | None = None,
        seed: int = 0,
    ) -> None:
        _check(split, captions, count, seed)
        path = file_of_captions(
            Path(root), ["dataset_flickr30k.json", f"flickr30k_{split}_karpathy.txt"]
        )
        if path.suffix.lower() == ".json":
            photos = from_karpathy(path, split, "flickr30k")
        else:
            photos = from_lines(path)
        folders = ("flickr30k-images", "flickr30k_images", "images", "Images")
        folder = images_in(path.parent, images, folders, photos)
        title = f"Flickr30k Karpathy {split}"
        super().__init__(photos, folder, title, captions=captions, count=count, seed=seed)


def _check(split: str, captions: int | None, count: int | None, seed: int) -> None:
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    check_drawing(count, seed, captions)
