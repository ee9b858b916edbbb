"""How many hours the tables of the CCI paper take, of a GPU and of the cores that feed it.

Prints them as Markdown, in float32, which the commands compute in, and in bfloat16. GPU hours are
passes x operations / throughput, which `docs/benchmarks.md` has measured on one H200: give your own
GPU's with `--tflops`. Core hours are those of photos painted at their own resolution, which the CPU
does: `--measure` times it here, in place of `CORE_SECONDS`.

    python -m cci_captum.benchmarks.speed.hours
    python -m cci_captum.benchmarks.speed.hours --tflops 15 --measure
"""

from __future__ import annotations

import argparse
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from cci_captum._checks import check_choice, check_positive_int
from cci_captum.baselines.registry import find_method

from ..clip_variants import ARCHITECTURES, PAPER_VARIANTS
from ..faithfulness import DeletionInsertion
from ..faithfulness.protocols import Protocol, find_protocol
from ..markdown import table

Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")

CORE_SECONDS = {375: 0.35, 500: 0.61}
"""Side of a photo in pixels -> what `core_seconds` found on a core of an AMD EPYC, torch 2.14."""

_PROTOCOL = "grad-eclip-released"  # of published figures

_BACKWARD = 2  # forward passes that one backward pass takes: two products where that has one
_REGIONS = 3  # passes of a verdict beside CCI: two regions, hidden alone and together


class Measured(NamedTuple):
    """A row of the table of plain passes on one H200 in `docs/benchmarks.md`.

    Attributes:
        architecture: open_clip's name.
        images: In a batch.
        passes: Of that batch.
        seconds: That these passes took, by precision.
    """

    architecture: str
    images: int
    passes: int
    seconds: dict[Precision, float]

    def tflops(self, precision: Precision) -> float:
        """1e12 floating-point operations a second."""
        gflops = ARCHITECTURES[self.architecture].gflops * self.images * self.passes
        return gflops / self.seconds[precision] / 1000


MEASURED = (
    Measured("ViT-B-32", 64, 8, {"float32": 0.132, "bfloat16": 0.025}),
    Measured("ViT-B-16", 64, 8, {"float32": 0.439, "bfloat16": 0.049}),
    Measured("ViT-L-14", 32, 8, {"float32": 0.912, "bfloat16": 0.095}),
)


def assumed_tflops(architecture: str, precision: Precision = "float32") -> float:
    """The throughput of the measured model that is nearest in operations a pass, by ratio.

    Args:
        architecture: A key of `ARCHITECTURES`.
        precision: Of the weights.

    Example:
        >>> round(assumed_tflops("ViT-H-14"), 1) == round(MEASURED[2].tflops("float32"), 1)
        True
    """
    check_choice("precision", precision, PRECISIONS)
    gflops = ARCHITECTURES[architecture].gflops

    def distance(measured: Measured) -> float:
        return abs(math.log(ARCHITECTURES[measured.architecture].gflops / gflops))

    return min(MEASURED, key=distance).tflops(precision)


def map_passes(method: str, clusters: int = 7) -> int:
    """Forward passes of the image encoder that a map is worth.

    A backward pass counts as two, through the whole encoder: an upper bound, since most methods
    that differentiate stop at its last block.

    Args:
        method: A name of `cci_captum.baselines.registry.METHODS`.
        clusters: K, where the method has clusters.

    Raises:
        ValueError: If there is no such method, or its passes are no whole ones (M2IB's) or
            those of an image's patches (AtMan's).

    Example:
        >>> map_passes("cci"), map_passes("maskclip"), map_passes("grad-eclip")
        (8, 1, 3)
    """
    facts = find_method(method)
    passes = re.fullmatch(r"(K \+ )?(\d+)", facts.forward_passes)
    if passes is None:
        raise ValueError(
            f"method: expected one of whole passes, got {method!r} with {facts.forward_passes}"
        )
    forward = int(passes[2]) + (clusters if passes[1] else 0)
    return forward * (1 + _BACKWARD * facts.needs_gradients)


def comparison_passes(
    methods: Sequence[str], protocols: Sequence[str | Protocol], clusters: int = 7
) -> int:
    """Passes of `compare` an image, or of `retrieval` a caption, with `--ties none`.

    One for what is predicted, one for the random map, which is always compared, and of every method
    its map; and of each map, the random one too, two curves a protocol, a pass a point. Further
    orders of equal values cost more (`docs/faithfulness.md`).

    Example:
        >>> comparison_passes(["cci", "maskclip"], ["grad-eclip"])  # 1 + 1 + 8 + 1 + 3 * 2 * 11
        77
    """
    points = sum(len(find_protocol(protocol).fractions) for protocol in protocols)
    maps = sum(map_passes(method, clusters) for method in methods)
    return 2 + maps + (len(methods) + 1) * 2 * points


def core_seconds(side: int, photos: int = 8) -> float:
    """CPU seconds, on one core, that both curves of a map take beside the passes.

    Photos of noise are painted at their own resolution, made the model's input of 224 pixels, and
    scored by what costs nothing.

    Args:
        side: Of a photo, in pixels: what preprocessing keeps of it is a square.
        photos: How many; the mean is returned.
    """
    check_positive_int("side", side)
    check_positive_int("photos", photos)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (photos, side, side, 3), dtype=np.uint8)
    images = [Image.fromarray(photo) for photo in pixels]
    bicubic = transforms.Resize(224, transforms.InterpolationMode.BICUBIC)
    preprocess = transforms.Compose([bicubic, transforms.CenterCrop(224), transforms.ToTensor()])
    harness = DeletionInsertion(
        lambda inputs: inputs.mean(dim=(2, 3)), _PROTOCOL, preprocess=preprocess, check=False
    )
    maps = torch.from_numpy(rng.random((photos, 14, 14)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        harness(images[:1], maps[:1], target=0)  # once, to warm up
        start = time.process_time()
        harness(images, maps, target=0)
        return (time.process_time() - start) / photos
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Job:
    """Something to run on one model.

    Attributes:
        title: What it is.
        architecture: A key of `ARCHITECTURES`.
        items: Images, or captions.
        passes: Of the image encoder an item.
        maps: Of an item, whose curves are of painted photos.
        side: Of these photos, a key of `CORE_SECONDS`.
    """

    title: str
    architecture: str
    items: int
    passes: int
    maps: int = 0
    side: int = 375

    def hours(self, tflops: float) -> float:
        """GPU hours at so many 1e12 operations a second.

        Example:
            >>> job = Job("", "ViT-B-16", items=36_000, passes=100)  # 36e5 passes of 35.13e9
            >>> round(job.hours(35.13), 6)  # 1000 passes a second
            1.0
        """
        operations = self.items * self.passes * ARCHITECTURES[self.architecture].gflops * 1e9
        return operations / (tflops * 1e12) / 3600

    def core_hours(self, seconds: Mapping[int, float] = CORE_SECONDS) -> float:
        """Hours of one core that photos are painted for: side -> seconds a map.

        Example:
            >>> Job("", "ViT-B-16", items=1800, passes=1, maps=4, side=500).core_hours({500: 0.5})
            1.0
        """
        return self.items * self.maps * seconds[self.side] / 3600


def jobs(clusters: int = 7) -> list[Job]:
    """The paper's tables: faithfulness on ImageNet and COCO, and COVAR's images by each model.

    Raises:
        TypeError: If clusters is no int.
        ValueError: If it is not positive.
    """
    check_positive_int("clusters", clusters)
    three = ["cci", "grad-eclip", "maskclip"]
    four = [*three, "gradcam"]
    passes = {len(own): comparison_passes(own, [_PROTOCOL], clusters) for own in (three, four)}
    verdict = map_passes("cci", clusters) + _REGIONS
    covar = [(f"COVAR, {variant.model}", variant.architecture) for variant in PAPER_VARIANTS]
    return [
        # With random maps. The shorter side of most photos is 375 in ImageNet, 480 in COCO.
        Job("ImageNet, deletion and insertion", "ViT-B-16", 50_000, passes[4], 5, 375),
        Job("COCO, retrieval", "ViT-B-16", 25_010, passes[3], 4, 500),
        *(Job(title, architecture, 396_000, verdict) for title, architecture in covar),
    ]


def report(
    clusters: int = 7, tflops: float | None = None, seconds: Mapping[int, float] = CORE_SECONDS
) -> str:
    """The table, with a last row for all of COVAR; see the module's docstring."""
    names = PRECISIONS if tflops is None else ("given",)
    head = ["", "items", "passes an item", "GFLOP a pass", "core hours"]
    head += [f"{word}, {name}" for name in names for word in ("TFLOP/s", "GPU hours")]
    rows, covar = [], dict.fromkeys(names, 0.0)
    for job in jobs(clusters):
        row: list[object] = [job.title, f"{job.items:,}", job.passes]
        row.append(f"{ARCHITECTURES[job.architecture].gflops:.2f}")
        row.append(f"{job.core_hours(seconds):.0f}" if job.maps else "-")
        for name in names:
            speed = tflops or assumed_tflops(job.architecture, name)  # type: ignore[arg-type]
            row += [f"{speed:.0f}", f"{job.hours(speed):.2f}"]
            covar[name] += job.hours(speed) * job.title.startswith("COVAR")
        rows.append(row)
    totals = [cell for name in names for cell in ("", f"{covar[name]:.2f}")]
    return table(head, [*rows, ["COVAR, all 18", "", "", "", "", *totals]])


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clusters", type=int, default=7, help="K (%(default)s)")
    parser.add_argument("--tflops", type=float, help="measured on your GPU (those of one H200)")
    parser.add_argument("--measure", action="store_true", help="time how photos are painted here")
    args = parser.parse_args(argv)
    if args.clusters < 1 or (args.tflops is not None and not args.tflops > 0):
        parser.error("--clusters: expected at least 1, and --tflops more than 0")
    sides = {side: core_seconds(side) for side in CORE_SECONDS} if args.measure else CORE_SECONDS
    print(", ".join(f"{side} pixels: {found:.2f} core s a map" for side, found in sides.items()))
    print(f"\n{report(args.clusters, args.tflops, sides)}")


if __name__ == "__main__":
    main()
