"""Random images in the layouts of ImageNet, WebDataset and COCO, as many, and what opening costs.

Makes in a folder, where they are not there yet,

- "imagenet": ImageNet's validation set, 50,000 JPEG files in a folder for each WordNet id;
- "shards": the same number of samples in 100 tar files, as CLIP_benchmark lays them out;
- "coco": dataset_coco.json, as long as Karpathy's, and the 5,000 photos of its test split;

then opens each in a process of its own, twice, and prints a Markdown table: seconds to open
(`open_data`) and to list what identifies the images (`listing`, which a stored run is compared by),
and the peak of the process's memory, beside that of one that has imported the same and opened
nothing. The files were written just before: they are in the system's cache.

    python -m cci_captum.benchmarks.speed.stand_ins --out DIR
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from timm.data import ImageNetInfo

from cci_captum._checks import check_positive_int

from ..markdown import table
from ..versions import version_of

_SIZE = (32, 24)  # width and height of the images
_KARPATHY = {"test": 5_000, "val": 5_000, "restval": 30_504, "train": 82_783}
_WORDS = ("a", "red", "small", "dog", "cat", "boat", "man", "street", "on", "the", "grass", "with")


def jpeg(rng: np.random.Generator) -> bytes:
    """The file of an image of noise, 32 x 24 pixels."""
    pixels = rng.integers(0, 256, (_SIZE[1], _SIZE[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def make_imagenet(root: Path, images: int = 50_000, seed: int = 0) -> None:
    """Files like n01440764/ILSVRC2012_val_00000001.JPEG, in turn in the folders of 1000 classes.

    Args:
        root: A folder, which is made.
        images: How many.
        seed: Of what is seen in them.
    """
    check_positive_int("images", images)
    rng = np.random.default_rng(seed)
    ids = ImageNetInfo("imagenet-1k").label_names()
    for name in ids:
        (root / name).mkdir(parents=True)
    for number in range(images):
        name = f"ILSVRC2012_val_{number + 1:08d}.JPEG"
        (root / ids[number % len(ids)] / name).write_bytes(jpeg(rng))


def make_shards(root: Path, images: int = 50_000, shards: int = 100, seed: int = 0) -> None:
    """Samples of a .jpg and the .cls of its class, of 1000, in test/0.tar and so on.

    Args:
        root: A folder, which is made.
        images: How many, spread as evenly as may be.
        shards: How many tar files.
        seed: Of what is seen in the images.

    Raises:
        ValueError: If there are fewer images than shards.
    """
    check_positive_int("shards", shards)
    check_positive_int("images", images)
    if images < shards:
        raise ValueError(f"images: expected at least {shards}, one a shard, got {images}")
    rng = np.random.default_rng(seed)
    (root / "test").mkdir(parents=True)
    (root / "test" / "nshards.txt").write_text(f"{shards}\n")
    (root / "classnames.txt").write_text("".join(f"thing {c}\n" for c in range(1000)))
    for shard, numbers in enumerate(np.array_split(np.arange(images), shards)):
        with tarfile.open(root / "test" / f"{shard}.tar", "w") as tar:
            for number in numbers.tolist():
                _add(tar, f"s{number:07d}.cls", str(number % 1000).encode())
                _add(tar, f"s{number:07d}.jpg", jpeg(rng))


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def make_coco(root: Path, images: int = 5_000, captions: int = 5, seed: int = 0) -> None:
    """dataset_coco.json with tokens, ids and all splits, and the photos of "test".

    Args:
        root: A folder, which is made.
        images: Of "test"; the other splits are larger as Karpathy's are, and have no photos.
        captions: Of each image.
        seed: Of what is seen and said.
    """
    check_positive_int("images", images)
    check_positive_int("captions", captions)
    rng = np.random.default_rng(seed)
    (root / "val2014").mkdir(parents=True)
    entries: list[dict[str, object]] = []
    for split, size in _KARPATHY.items():
        folder = "train2014" if split == "train" else "val2014"
        for _ in range(round(size * images / _KARPATHY["test"])):
            number = len(entries)
            name = f"COCO_{folder}_{number:012d}.jpg"
            sentences = []
            for sentence in range(captions):
                tokens = [_WORDS[place] for place in rng.integers(0, len(_WORDS), 10)]
                own = {"imgid": number, "sentid": number * captions + sentence}
                sentences.append({"tokens": tokens, "raw": " ".join(tokens).capitalize(), **own})
            entries.append(
                {
                    "filepath": folder,
                    "filename": name,
                    "imgid": number,
                    "cocoid": number,
                    "split": split,
                    "sentids": [each["sentid"] for each in sentences],
                    "sentences": sentences,
                }
            )
            if split == "test":
                (root / folder / name).write_bytes(jpeg(rng))
    content = json.dumps({"images": entries, "dataset": "coco"})
    (root / "dataset_coco.json").write_text(content)


class Cost(NamedTuple):
    """What opening data took.

    Attributes:
        name: Of the data, as reports print it.
        seconds: To open.
        listing: Seconds to list what identifies the images.
        before: Peak of memory, in MB of 1e6 bytes, when everything was imported.
        after: The same when the data were open and listed.
    """

    name: str
    seconds: float
    listing: float
    before: float
    after: float


_PROGRAM = """
import json, re, resource, sys, time
from cci_captum.benchmarks.data import open_data

def peak():
    try:  # on Linux; ru_maxrss there begins with the peak of the process that started this one
        status = open("/proc/self/status").read()
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024 / 1e6
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6

before, start = peak(), time.perf_counter()
data = open_data(sys.argv[1])
opened = time.perf_counter()
data.listing
listed = time.perf_counter()
print(json.dumps([data.name, opened - start, listed - opened, before, peak()]))
"""


def opening(text: str) -> Cost:
    """Open data in a new process.

    Args:
        text: As `open_data` takes it.

    Raises:
        RuntimeError: If that fails, with the last line that it says.
    """
    command = [sys.executable, "-c", _PROGRAM, text]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise RuntimeError(f"cannot open {text}: {last}")
    return Cost(*json.loads(done.stdout))


def _once(path: Path, make: Callable[[Path], None]) -> None:
    """Make it, whole or not at all, unless it is there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.name}-") as folder:
            make(Path(folder) / "made")
            (Path(folder) / "made").rename(path)


def main(argv: Sequence[str] | None = None) -> None:
    """Make what is missing, and print the table; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder")
    parser.add_argument("--images", type=int, default=50_000, help="files, samples (%(default)s)")
    parser.add_argument("--shards", type=int, default=100, help="tar files (%(default)s)")
    parser.add_argument("--coco", type=int, default=5_000, help="photos of COCO (%(default)s)")
    args = parser.parse_args(argv)
    if min(args.images, args.shards, args.coco) < 1 or args.images < args.shards:
        parser.error("--images: expected at least --shards, and all of them at least 1")
    for name, make in (
        ("imagenet", partial(make_imagenet, images=args.images)),
        ("shards", partial(make_shards, images=args.images, shards=args.shards)),
        ("coco", partial(make_coco, images=args.coco)),
    ):
        _once(args.out / name, make)
    rows = []
    for scheme, folder in (("imagenet", "imagenet"), ("webdataset", "shards"), ("coco", "coco")):
        costs = [opening(f"{scheme}:{args.out / folder}") for _ in range(2)]
        best = min(costs, key=lambda cost: cost.seconds)
        seconds, listing = (f"{value:.2f}" for value in (best.seconds, best.listing))
        rows.append([best.name, seconds, listing, f"{best.before:.0f}", f"{best.after:.0f}"])
    said = ", ".join(f"{name} {version_of(name)}" for name in ("pillow", "timm", "open_clip_torch"))
    machine = f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, {said}\n")
    head = ["", "s to open", "s to list", "MB, imported", "MB, open and listed"]
    print(table(head, rows))


if __name__ == "__main__":
    main()
