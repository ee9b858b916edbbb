"""Grounded SAM: the mask of what a class's name finds, by two models of transformers."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from math import nan
from typing import Any, Literal

import torch
from PIL import Image
from torch import nn

from ..._checks import check_choice, check_positive_int
from ...memory import is_of_device, is_out_of_memory
from ...names import readable
from . import base
from ._cache import Found, MaskCache, digest_of
from ._detector import Boxes, Detector
from ._loading import load_detector, load_segmenter
from ._sam import BoxSegmenter
from .base import Segmentation
from .prompts import Parents, prompts_of


class GroundedSAM:
    """Grounding DINO finds boxes of a class by its name, SAM or SAM 2 the mask in them.

    (Liu et al. 2023, arXiv 2303.05499; Kirillov et al. 2023, arXiv 2304.02643; Ravi et al. 2024,
    arXiv 2408.00714; together Ren et al. 2024, arXiv 2401.14159.)

    One thing is asked for at a time: first the class, by each of its synonyms where its name has
    commas, then its `parents`. The first with a box above the threshold decides. Names are in
    lower case, with a dot at the end and none within. There is no threshold of texts: it only
    chooses the words for a box, which are known here.

    Statuses: "no detection", "several boxes", "empty mask", "name too long" and "failed", for
    which a UserWarning says what a model raised.

    Args:
        detector: A Grounding DINO checkpoint, by its name on the Hub or its folder; or a model in
            eval mode and its processor, which stay as they are.
        segmenter: A SAM or SAM 2 checkpoint, the same way.
        threshold: A box's score has to be above it. 0.3 is what most use with the tiny detector;
            transformers' own default is 0.25, the authors' 0.35.
        parents: From a class's name to what it is a kind of, nearest first, such as its parents
            in WordNet: found where rare names are not. None: the class alone.
        several: With more than one box above the threshold: "union" takes all of them, since the
            others are of the class too, and counting them as background is what a diagnosis must
            not do; "best" the one with the highest score; "status" gives no mask.
        cache: A folder that keeps what was found, by the image's pixels, the prompts, the models'
            weights and all options; any number of processes may share it. None: nothing is kept.
        detector_size: Of the shorter side that the detector sees, and the most of the longer:
            (800, 1333) in published checkpoints, smaller is faster. None: as its processor says.
        device: Where models loaded by name run; None is the CPU.
        dtype: Of their weights. Before transformers 5.17 the detector stays in float32.
        internal_batch_size: The most images of one size in a pass of the detector. With 1, a mask
            is the same bits whatever other images are asked for, or were found in the cache.

    Attributes:
        counts: Of the images so far: "images", "from the cache", "several boxes" (also where there
            is a mask), "by a parent or synonym", and every status.

    Raises:
        ImportError: If transformers is of a version from 5.9.0 to 5.22.2, in which the text
            positions of Grounding DINO are wrong.
        NotADirectoryError: If the cache is a file.
        OSError: If a checkpoint is not found.
        TypeError: If a model is neither a name nor a model and its processor.
        ValueError: If it is of another kind, or another argument is out of range.

    Example:
        >>> segmenter = GroundedSAM(cache="masks")  # doctest: +SKIP
        >>> found = segmenter([photo], ["ice bear, polar bear"], ["1.jpg"])  # doctest: +SKIP
        >>> found[0].status, found[0].mask.shape, found[0].score  # doctest: +SKIP
        ('', torch.Size([683, 1024]), 0.87)
    """

    def __init__(
        self,
        detector: str | tuple[nn.Module, Any] = "IDEA-Research/grounding-dino-tiny",
        segmenter: str | tuple[nn.Module, Any] = "facebook/sam-vit-base",
        *,
        threshold: float = 0.3,
        parents: Parents | None = None,
        several: Literal["union", "best", "status"] = "union",
        cache: str | os.PathLike[str] | None = None,
        detector_size: tuple[int, int] | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        internal_batch_size: int = 1,
    ) -> None:
        check_choice("several", several, ("union", "best", "status"))
        check_positive_int("internal_batch_size", internal_batch_size)
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold: expected a number from 0 to below 1, got {threshold}")
        if parents is not None and not callable(parents):
            raise TypeError(f"parents: expected a callable or None, got {parents!r}")
        if detector_size is not None:
            for side in detector_size:
                check_positive_int("detector_size", side)
        self.threshold = threshold
        self.parents = parents
        self.several = several
        self.internal_batch_size = internal_batch_size
        self.counts: Counter[str] = Counter()
        found = load_detector(detector, device, dtype), load_segmenter(segmenter, device, dtype)
        self._detector = Detector(*found[0], detector_size)
        self._segmenter = BoxSegmenter(*found[1])
        self._cache = None
        if cache is not None:
            import transformers

            facts = {
                "detector": digest_of(*found[0]),
                "segmenter": digest_of(*found[1]),
                "transformers": transformers.__version__,
                "threshold": threshold,
                "several": several,
                "detector_size": detector_size,
            }
            self._cache = MaskCache(cache, facts)

    def __call__(
        self, images: Sequence[Image.Image], class_names: Sequence[str], names: Sequence[str]
    ) -> list[Segmentation]:
        """See `Segmenter`.

        Raises:
            MemoryError: If memory runs out; or torch's OutOfMemoryError.
            OSError: If the cache cannot be written.
            RuntimeError: If the device fails.
            TypeError: If an argument, or what `parents` gives, is of another type.
            ValueError: If there are not as many of each, or a class's name has no letters.
        """
        base.check_call(images, class_names, names)
        asked = [prompts_of(name, self.parents) for name in class_names]
        found: dict[int, Found] = {}
        keys: dict[int, str] = {}
        if self._cache is not None:
            for place, (image, prompts) in enumerate(zip(images, asked, strict=True)):
                keys[place] = self._cache.key(image, prompts)
                if (kept := self._cache.get(keys[place], image)) is not None:
                    found[place] = kept
        if found:
            self.counts["from the cache"] += len(found)
        left = [place for place in range(len(images)) if place not in found]
        for place, new in self._found_in(images, asked, names, left).items():
            found[place] = new
            if self._cache is not None and new.segmentation.status != base.FAILED:
                self._cache.put(keys[place], new)
        for place, prompts in enumerate(asked):
            self._count(found[place], prompts)
        return [found[place].segmentation for place in range(len(images))]

    def _count(self, found: Found, prompts: Sequence[str]) -> None:
        self.counts["images"] += 1
        if found.boxes > 1:
            self.counts[base.SEVERAL_BOXES] += 1
        if found.boxes and found.prompt != prompts[0]:
            self.counts["by a parent or synonym"] += 1
        status = found.segmentation.status
        if status and status != base.SEVERAL_BOXES:
            self.counts[status] += 1

    def _found_in(
        self,
        images: Sequence[Image.Image],
        asked: Sequence[tuple[str, ...]],
        names: Sequence[str],
        places: Sequence[int],
    ) -> dict[int, Found]:
        """What the models find in the images at these places."""
        found: dict[int, Found] = {}
        prompts: dict[int, list[str]] = {}  # that are left to try
        for place in places:
            prompts[place] = [text for text in asked[place] if self._detector.fits(text)]
            if not prompts[place]:
                found[place] = Found(Segmentation(None, base.LONG_NAME), 0, asked[place][-1])
                del prompts[place]
        while prompts:
            now = {place: waiting.pop(0) for place, waiting in prompts.items()}
            for place, boxes in self._boxes(images, now, names).items():
                if boxes is None:
                    found[place] = Found(Segmentation(None, base.FAILED), 0, now[place])
                elif len(boxes.scores):
                    found[place] = self._mask(images[place], boxes, now[place], names[place])
                elif not prompts[place]:
                    found[place] = Found(Segmentation(None, base.NO_DETECTION), 0, now[place])
            prompts = {place: rest for place, rest in prompts.items() if place not in found}
        return found

    def _boxes(
        self, images: Sequence[Image.Image], asked: dict[int, str], names: Sequence[str]
    ) -> dict[int, Boxes | None]:
        """The boxes for each place's prompt; None where the detector failed."""
        by_size: dict[tuple[int, int], list[int]] = {}
        for place in asked:
            by_size.setdefault(images[place].size, []).append(place)
        found: dict[int, Boxes | None] = {}
        for same in by_size.values():
            for start in range(0, len(same), self.internal_batch_size):
                batch = same[start : start + self.internal_batch_size]
                for some in (batch, *([place] for place in batch)):
                    if found.keys() >= set(some):  # all of a batch went well
                        continue
                    try:
                        boxes = self._detector.find(
                            [images[place] for place in some],
                            [asked[place] for place in some],
                            self.threshold,
                        )
                    except Exception as error:
                        _raise_if_of_machine(error)
                        if len(some) == 1:
                            _failed(error, names[some[0]])
                            found[some[0]] = None
                    else:
                        found.update(zip(some, boxes, strict=True))
        return found

    def _mask(self, image: Image.Image, boxes: Boxes, prompt: str, name: str) -> Found:
        count, score = len(boxes.scores), float(boxes.scores[0])
        if count > 1 and self.several == "status":
            return Found(Segmentation(None, base.SEVERAL_BOXES, score), count, prompt)
        used = boxes.corners[:1] if self.several == "best" else boxes.corners
        try:
            mask = self._segmenter.union(image, used)
        except Exception as error:
            _raise_if_of_machine(error)
            _failed(error, name)
            return Found(Segmentation(None, base.FAILED, nan), count, prompt)
        if not mask.any():
            return Found(Segmentation(None, base.EMPTY_MASK, score), count, prompt)
        return Found(Segmentation(mask, "", score), count, prompt)


def _raise_if_of_machine(error: Exception) -> None:
    """Raise an error again that says nothing about an image: smaller passes may do, or none."""
    if is_out_of_memory(error) or is_of_device(error):
        raise error


def _failed(error: Exception, name: str) -> None:
    reason = str(error).partition("\n")[0] or type(error).__name__
    warnings.warn(f"{readable(name)}: {base.FAILED}: {reason}", UserWarning, stacklevel=5)
