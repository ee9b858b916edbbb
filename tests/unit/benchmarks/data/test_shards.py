"""Shards against the package webdataset, which reads them as streams."""

from __future__ import annotations

import io
import pickle
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from PIL import Image

from cci_captum.benchmarks.data import WebDataset, open_data
from cci_captum.benchmarks.data._shards import entries_of

Files = Sequence[tuple[str, bytes]]


def picture(number: int, kind: str = "png") -> bytes:
    colour = np.random.default_rng(number).integers(0, 256, 3).tolist()
    file = io.BytesIO()
    Image.new("RGB", (4, 3), tuple(colour)).save(file, kind)
    return file.getvalue()


def sample(number: int, label: int, kind: str = "png") -> Files:
    return [(f"s{number:04}.{kind}", picture(number)), (f"s{number:04}.cls", b"%d" % label)]


def write(path: Path, files: Files, form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as shard:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
    return path


def benchmark(root: Path, labels: Sequence[Sequence[int]] = ((1, 0), (2, 1, 0))) -> Path:
    """As CLIP_benchmark lays a data set out; a list of labels for each shard."""
    number = 0
    for place, of_shard in enumerate(labels):
        files: list[tuple[str, bytes]] = []
        for label in of_shard:
            files += sample(number, label)
            number += 1
        write(root / "test" / f"{place}.tar", files)
    (root / "test" / "nshards.txt").write_text(f"{len(labels)}\n")
    (root / "classnames.txt").write_text("cat\nhot dog\nowl\n")
    templates = "a photo of a {c}.\nart of the {c}.\n"
    (root / "zeroshot_classification_templates.txt").write_text(templates)
    return root


def streamed(path: Path) -> list[dict[str, Any]]:
    """What webdataset makes of a shard: {"__key__": key, suffix: content, ...} each."""
    return list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))


ODD: Files = [
    ("__meta__", b"nothing"),
    ("a/b.c/0.PNG", picture(0)),
    ("a/b.c/0.Cls", b"1"),
    ("a/b.c/0.seg.png", picture(1)),
    ("README", b"no suffix"),
    ("./1.jpg", picture(2)),
    ("./1.cls", b" 0\n"),
    ("x" * 150 + ".jpeg", picture(3)),
    ("x" * 150 + ".cls", b"1"),
    ("__of_no_sample__/2.png", picture(4)),
    ("ünïcode 猫.webp", picture(5)),
    ("ünïcode 猫.cls", b"0"),
]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_samples_are_those_of_the_package(form: int, tmp_path: Path) -> None:
    path = write(tmp_path / "odd.tar", ODD, form)
    found, expected = entries_of(path), streamed(path)
    assert [entry.key for entry in found] == [one["__key__"] for one in expected]
    content = path.read_bytes()
    for entry, one in zip(found, expected, strict=True):
        own = {name: content[first : first + size] for name, (first, size) in entry.files.items()}
        assert own == {name: value for name, value in one.items() if not name.startswith("__")}


def test_shards_that_the_package_wrote(tmp_path: Path) -> None:
    with webdataset.ShardWriter(str(tmp_path / "%d.tar"), maxcount=4, verbose=0) as writer:
        for number in range(11):
            image = Image.new("RGB", (5, 4), (number * 20, 0, 0))
            writer.write({"__key__": f"k{number}", "png": image, "cls": number % 2})
    data = WebDataset(tmp_path, class_names=["even", "odd"])
    assert data.name == f"{tmp_path.name} (11 images)" and data.targets == [0, 1] * 5 + [0]
    assert [data[n].image.getpixel((0, 0)) for n in range(11)] == [
        (20 * number, 0, 0) for number in range(11)
    ]
    assert data[5].name == "image 5 (1.tar/k5)" and data[5].image.size == (5, 4)
    assert data.templates == "a photo of a {}."


def test_the_layout_of_clip_benchmark(tmp_path: Path) -> None:
    data = WebDataset(benchmark(tmp_path / "pets"))
    assert data.name == "pets test (5 images)"
    assert data.class_names == ("cat", "hot dog", "owl") and data.targets == [1, 0, 2, 1, 0]
    assert data.templates == ("a photo of a {}.", "art of the {}.")
    assert not any(data.captions) and not data.has_masks
    for number, one in enumerate(data):
        with Image.open(io.BytesIO(picture(number))) as expected:
            assert one.image.tobytes() == expected.tobytes() and one.target == data.targets[number]
    assert pickle.loads(pickle.dumps(data))[3].name == "image 3 (1.tar/s0003)"
    before = data.listing
    assert before[2] == f"1.tar/s0002 {len(picture(2))} 1"
    write(tmp_path / "pets" / "test" / "1.tar", [*sample(7, 0), *sample(8, 1)])
    assert WebDataset(tmp_path / "pets").listing != before
    other = WebDataset(tmp_path / "pets", class_names=["a", "b"], templates="{}")
    assert other.class_names == ("a", "b") and other.templates == "{}"


def test_captions_one_a_line(tmp_path: Path) -> None:
    files: list[tuple[str, bytes]] = []
    for number, text in enumerate(("A cat, asleep.\n\nA cat.\n", "Café — 猫", "a\nb\nc")):
        files += [(f"{number}.jpg", picture(number)), (f"{number}.txt", text.encode())]
    path = write(tmp_path / "train" / "0.tar", files)
    data = WebDataset(tmp_path, "train")
    assert data.captions == [("A cat, asleep.", "A cat."), ("Café — 猫",), ("a", "b", "c")]
    assert data.class_names == () and data.targets == [-1] * 3 and data.templates == "{}"
    assert data[2].captions == ("a", "b", "c")
    first = WebDataset(path, captions=1)
    assert first.captions == [("A cat, asleep.",), ("Café — 猫",), ("a",)]
    drawn = WebDataset(tmp_path, "train", count=2, seed=1)
    assert len(drawn) == 2 and set(drawn.captions) < set(data.captions)
    assert drawn.name == "0 train (2 of 3 images, seed 1)".replace(
        "0 train", f"{tmp_path.name} train"
    )


def test_classes_and_captions(tmp_path: Path) -> None:
    path = write(tmp_path / "0.tar", [*sample(0, 1), ("s0000.txt", b"a dog")])
    assert WebDataset(path).captions == [("a dog",)] and WebDataset(path).class_names == ()
    both = WebDataset(path, class_names=["cat", "dog"])
    assert both.targets == [1] and both.captions == [("a dog",)]


def test_drawn_evenly_over_the_classes(tmp_path: Path) -> None:
    root = benchmark(tmp_path, [[0] * 9 + [1] * 2, [2] * 4])
    for seed in range(5):
        data = WebDataset(root, count=6, seed=seed)
        assert sorted(data.targets) == [0, 0, 1, 1, 2, 2]
        assert [data[n].target for n in range(6)] == data.targets
    names = {tuple(sample.name[8:] for sample in WebDataset(root, count=6, seed=s)) for s in (0, 1)}
    assert len(names) == 2
    one, other = (WebDataset(root, count=6, seed=seed).listing for seed in (0, 1))
    assert one != other


def test_shards_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        write(tmp_path / f"part-{number}.tar", sample(number, 0))
    data = WebDataset(tmp_path, class_names=["x"])
    assert [one.name for one in data] == [
        f"image {place} (part-{n}.tar/s{n:04})" for place, n in enumerate((1, 9, 10))
    ]


def test_by_one_line(tmp_path: Path) -> None:
    root = benchmark(tmp_path / "pets")
    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc\n")
    data = open_data(f"webdataset:{root}", n=2, seed=3, classes=names)
    assert len(data) == 2 and data.class_names == ("a", "b", "c")
    with pytest.raises(FileNotFoundError, match=r"^data: no such folder or file: .*nowhere"):
        open_data(f"webdataset:{tmp_path / 'nowhere'}")
    with pytest.raises(ValueError, match=r"^n: expected at most the 5 images, got 6"):
        open_data(f"webdataset:{root}", n=6)
    with pytest.raises(FileNotFoundError, match=r"^split: expected .*'test', got 'val'"):
        open_data(f"webdataset:{root}", split="val")


IMAGE = ("a.png", picture(0))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([("a.cls", b"0")], "root: expected one image of 'a' in .*0.tar, like .jpg, got '.cls'"),
        ([IMAGE, ("a.cls", b"cat")], "root: expected the number of a class in a.cls .*'cat'"),
        ([IMAGE, ("a.cls", b"-1")], "root: expected the number of a class in a.cls .*'-1'"),
        ([IMAGE, ("a.cls", b"3")], "label: expected 0 to 1, the 2 classes, got 3 in row 0"),
        ([IMAGE, ("a.txt", b" \n")], "root: expected captions in a.txt of .*, got none"),
        ([IMAGE, ("a.txt", b"\xff")], "root: expected UTF-8 in a.txt of "),
        ([IMAGE, IMAGE], "root: expected one file .png of 'a' in .*, got another"),
        ([IMAGE], "root: expected files .cls or .txt in 0.tar, got samples of 'png'"),
        ([("a", b"0")], "root: expected samples in .*0.tar, got none"),
        (
            [IMAGE, ("a.cls", b"0"), ("b.png", picture(1))],
            "root: expected a file .cls of every sample or of none, but 1 of the 2 have none: '0.t",
        ),
        (
            [("a.bmp", picture(0)), ("a.gif", picture(1)), ("a.cls", b"0")],
            "root: expected one image of 'a' .*got '.bmp', '.gif', '.cls'",
        ),
    ],
)
def test_what_is_no_sample(files: Files, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "0.tar", files)
    with pytest.raises(ValueError, match=f"^{message}"):
        WebDataset(path, class_names=["cat", "dog"])


def test_damaged_and_missing_shards_are_found_at_once(tmp_path: Path) -> None:
    root = benchmark(tmp_path / "pets")
    shard = root / "test" / "1.tar"
    whole = shard.read_bytes()
    for left in (100, 700, 1500, len(whole) // 3):
        shard.write_bytes(whole[:left])
        with pytest.raises(ValueError, match=r"^root: (cannot read|expected) .*1\.tar"):
            WebDataset(root)
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=r"^root: expected 2 .*1 are missing: '1.tar'"):
        WebDataset(root)
    (root / "test" / "nshards.txt").write_text("two")
    with pytest.raises(ValueError, match=r"^root: expected a number of shards in .*, got 'two'"):
        WebDataset(root)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match=r"^root: expected files \*\.tar in .*, got none"):
        WebDataset(empty)
    (empty / "train").mkdir()
    (empty / "val").mkdir()
    with pytest.raises(FileNotFoundError, match=r"got none but folders, 'train', 'val'; split "):
        WebDataset(empty)
    (empty / "0.tar.gz").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"got compressed ones, '0.tar.gz'; unpack them"):
        WebDataset(empty)
    packed = empty / "1.tar"
    with tarfile.open(packed, "w:gz"):
        pass
    with pytest.raises(ValueError, match=r"^root: cannot read .*1.tar: .*an uncompressed tar file"):
        WebDataset(empty)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_shard_opens_whole_or_not_at_all(form: int, tmp_path: Path) -> None:
    files = [file for number in range(3) for file in sample(number, number % 2)]
    files += [*sample(3, 0)[::-1], ("__meta__/" + "ü" * 120, b"the last")]
    path = write(tmp_path / "0.tar", files, form)
    whole = path.read_bytes()
    end = -(-len(whole.rstrip(b"\0")) // 512) * 512  # of the last block that is not zeros
    for left in [*range(0, end + 512, 128), end + 511]:
        path.write_bytes(whole[:left])
        with pytest.raises(ValueError, match=r"^root: cannot read .*0\.tar: .*uncompressed tar"):
            WebDataset(path, class_names=["cat", "dog"])
    for start in range(0, end, 512):
        if whole[start + 257 : start + 262] == b"ustar":  # a header
            for wrong in (b"\xff", b"\0"):
                path.write_bytes(whole[:start] + wrong * 512 + whole[start + 512 :])
                with pytest.raises(ValueError, match=r"^root: cannot read .*0\.tar: "):
                    WebDataset(path, class_names=["cat", "dog"])


def test_what_no_sample_is_lost_by(tmp_path: Path) -> None:
    path = write(tmp_path / "0.tar", [file for number in range(3) for file in sample(number, 0)])
    whole = path.read_bytes()
    end = -(-len(whole.rstrip(b"\0")) // 512) * 512
    for content in (whole[: end + 512], whole + bytes(3 << 20)):
        path.write_bytes(content)
        assert len(WebDataset(path, class_names=["cat"])) == 3


def test_class_names_are_needed_for_numbers(tmp_path: Path) -> None:
    root = benchmark(tmp_path)
    (root / "classnames.txt").unlink()
    with pytest.raises(ValueError, match=r"^class_names: expected .*, or classnames.txt"):
        WebDataset(root)
    (root / "classnames.txt").write_text("cat\ndog\n")
    with pytest.raises(ValueError, match=re.escape("label: expected 0 to 1, the 2 classes, got 2")):
        WebDataset(root)
    (root / "classnames.txt").write_text("cat\ndog\nowl\n")
    (root / "zeroshot_classification_templates.txt").write_text("a photo of {}\n")
    with pytest.raises(ValueError, match=r"^root: expected \{c\} once in each line of zeroshot_"):
        WebDataset(root)
