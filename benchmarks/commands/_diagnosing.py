"""What `diagnose` makes of the names that the user gave: rules, judges, segmenters."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cci_captum.names import readable

from ._common import CommandError

if TYPE_CHECKING:
    import torch

    from cci_captum.diagnosis import Rule
    from cci_captum.models.clip import LoadedCLIP

    from ..data import ImageData

SEGMENTERS = (
    '"data", masks of the data; "clusters", none: clusters at the border are background; '
    '"folder:DIR"; "imagenet-s:DIR"; or "grounded-sam[:DETECTOR,SEGMENTER]"'
)
JUDGES = '"wordnet", a file of two names a line with a tab between them, or "none"'

Wrap = Callable[["ImageData", "LoadedCLIP | None", "torch.device"], "ImageData"]
"""From images to the same with masks; clusters alone need the model."""


def add_segmenter_option(parser: argparse.ArgumentParser, but: str = "") -> None:
    """Add `--segmenter`, whose value `segmented` takes.

    Args:
        parser: A command's.
        but: Which it does not take.
    """
    parser.add_argument(
        "--segmenter",
        default="data",
        metavar="S",
        help=f"where objects are: {SEGMENTERS}{but} (%(default)s)",
    )


def choose_rules(texts: Sequence[str] | None) -> tuple[Rule, ...]:
    """The rules that the user named."""
    from cci_captum.diagnosis.diagnosing import USUAL_RULES
    from cci_captum.diagnosis.rules import find_rules

    try:
        return find_rules(texts or USUAL_RULES)
    except ValueError as error:
        raise CommandError(f"--rule: {str(error).removeprefix('rule: ')}") from error


def choose_judge(text: str) -> Callable[[Sequence[str]], Any]:
    """From the class names to what says which of them look alike, or None."""
    if text == "none":
        return lambda names: None
    from cci_captum.diagnosis import FineGrainedJudge

    if text == "wordnet":

        def of_wordnet(names: Sequence[str]) -> Any:
            from cci_captum.tiny import CLASS_NAMES, WORDNET_IDS

            of_scenes = tuple(names) == CLASS_NAMES  # of which several are no words of one meaning
            try:
                return FineGrainedJudge(names=WORDNET_IDS if of_scenes else names)
            except ValueError as error:
                raise CommandError(f"--alike: {error}") from error

        return of_wordnet
    pairs = _pairs_in(Path(text))

    def of_pairs(names: Sequence[str]) -> Any:
        unknown = sorted({name for pair in pairs for name in pair} - set(names))
        if unknown:
            raise CommandError(
                f"--alike: expected names of classes in {text}, got {', '.join(unknown[:5])}"
            )
        return FineGrainedJudge.from_pairs(pairs)

    return of_pairs


def segmented(text: str, *, masks: bool) -> Wrap:
    """From images of classes to the same with masks, by what the user named."""
    kind, _, rest = text.partition(":")
    if kind == "data":
        if not masks:
            raise CommandError(
                f"--segmenter: expected another than data, which has no masks: {SEGMENTERS}"
            )
        return lambda data, clip, device: data
    if kind not in ("clusters", "folder", "imagenet-s", "grounded-sam"):
        raise CommandError(f"--segmenter: expected {SEGMENTERS}, got {text!r}")
    if kind in ("folder", "imagenet-s") and not Path(rest).is_dir():
        raise CommandError(f"--segmenter: expected {kind}:DIR, got {text!r}, which is no folder")

    def wrap(data: ImageData, clip: LoadedCLIP | None, device: torch.device) -> ImageData:
        from ..diagnosis.segmented import Segmented

        try:
            made = _made(kind, rest, data, clip, device)
            files = kind in ("folder", "imagenet-s")
            listing = _files_in(Path(rest)) if files else ()
            return Segmented(data, made, text, in_process=not files, listing=listing)
        except (OSError, TypeError, ValueError) as error:
            raise CommandError(f"--segmenter: {error}") from error

    return wrap


def _made(
    kind: str, rest: str, data: ImageData, clip: LoadedCLIP | None, device: torch.device
) -> Any:
    from cci_captum.diagnosis import BorderClusters, segmentation
    from cci_captum.models.clip import ZeroShotClassifier

    if kind == "clusters":
        assert clip is not None
        classifier = ZeroShotClassifier(
            clip.model, clip.tokenizer, data.class_names, data.templates
        )
        return BorderClusters(classifier, preprocess=clip.preprocess)
    if kind == "folder":
        return segmentation.MaskFolder(rest)
    if kind == "imagenet-s":
        return segmentation.ImageNetS(rest)
    given: dict[str, Any] = dict(
        zip(("detector", "segmenter"), filter(None, rest.split(",")), strict=False)
    )
    return segmentation.GroundedSAM(**given, device=device)


def _files_in(folder: Path) -> list[str]:
    """The files of masks and their sizes: a changed mask is another one."""
    from ..data._tree import size_of

    found = []
    for above, _, names in os.walk(folder):
        for name in names:
            path = Path(above, name)
            size = size_of(path)
            inside = readable(path.relative_to(folder).as_posix())
            found.append(f"{inside} {'missing' if size is None else size}")
    return sorted(found)


def _pairs_in(path: Path) -> list[tuple[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise CommandError(f"--alike: expected {JUDGES}; cannot read {path}: {error}") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            words = [word.strip() for word in line.split("\t")]
            if len(words) != 2:
                raise CommandError(
                    f"--alike: expected two names with a tab between them in line {number} of "
                    f"{path}, got {line!r}"
                )
            pairs.append((words[0], words[1]))
    return pairs
