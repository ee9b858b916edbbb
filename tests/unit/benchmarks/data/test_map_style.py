"""Data sets of other libraries as they are: torchvision's, Hugging Face's, lists, torch's."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import ImageNetInfo
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset
from torchvision import transforms
from torchvision.datasets import FakeData, ImageFolder

from cci_captum import ZeroShotClassifier, load_clip
from cci_captum.benchmarks.comparison import compare
from cci_captum.benchmarks.data import ImageData, MapStyle
from cci_captum.images import read_image

NAMES = ["cat", "polar bear", "dog"]
RED = (255, 0, 0)


def picture(number: int, size: tuple[int, int] = (5, 4)) -> Image.Image:
    """Noise that tells the number."""
    values = np.random.default_rng(number).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(values)


def pairs(count: int = 3) -> list[tuple[Image.Image, int]]:
    return [(picture(number), number % 3) for number in range(count)]


def pixels(data: ImageData, place: int = 0) -> np.ndarray:
    image = data[place].image
    assert image.mode == "RGB"
    return np.asarray(image)


def one(value: Any) -> np.ndarray:
    """An image as it comes out."""
    return pixels(MapStyle([(value, 0)], class_names=["cat"]))


class Counting(Dataset):
    """A torch data set that counts what is read."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> Any:
        if not 0 <= place < len(self.rows):
            raise IndexError(place)
        self.read.append(place)
        return self.rows[place]


class ClassLabel:
    def __init__(self, names: list[str]) -> None:
        self.names = names


class HuggingFace(Counting):
    """What `datasets.Dataset` has, as far as it is used: dict rows, and columns by name."""

    def __init__(self, rows: list[dict[str, Any]], **features: Any) -> None:
        super().__init__(rows)
        self.features = {name: features.get(name) for name in rows[0]}
        self.column_names = list(rows[0])
        self.split = "test"
        self._fingerprint = "0123456789abcdef"
        self.columns: list[str] = []
        self.format: str | None = None

    def with_format(self, kind: str | None) -> HuggingFace:
        other = HuggingFace(self.rows)
        other.features, other.format, other.columns = self.features, kind, self.columns
        return other

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            self.columns.append(key)
            column = [row[key] for row in self.rows]
            return column if self.format is None else np.asarray(column)
        row = super().__getitem__(key)
        if self.format == "torch":
            tensor = torch.from_numpy(np.array(row["image"])).permute(2, 0, 1)
            return row | {"image": tensor, "label": torch.tensor(row["label"])}
        return row


def hugging_face(**more: Any) -> HuggingFace:
    rows = [{"image": image, "label": label, **more} for image, label in pairs()]
    return HuggingFace(rows, label=ClassLabel(["cat", "polar_bear", "dog"]))


# rows


def test_a_list_of_pairs() -> None:
    data = MapStyle(pairs(), class_names=NAMES, templates=["a {}", "the {}"])
    assert (len(data), data.targets, data.class_names) == (3, [0, 1, 2], tuple(NAMES))
    assert (data.templates, data.has_masks, data.captions) == (("a {}", "the {}"), False, [()] * 3)
    assert data.name == "list (3 images)"
    for place in (0, 1, 2, -1):
        sample = data[place]
        assert sample.image.tobytes() == picture(place % 3).tobytes()
        assert (sample.target, sample.mask, sample.captions) == (place % 3, None, ())
    assert [data[place].name for place in (0, -1)] == ["image 0", "image 2"]
    assert data[np.int64(1)].target == 1
    for wrong in (3, -4):
        with pytest.raises(IndexError, match=f"index: expected -3 to 2, got {wrong}"):
            data[wrong]


def test_other_places_in_a_row() -> None:
    rows = [("extra", label, image) for image, label in pairs()]
    data = MapStyle(rows, 2, class_names=NAMES, name="mine")
    assert data.name == "mine (3 images)" and data.targets == [0, 1, 2]
    assert data[1].image.tobytes() == picture(1).tobytes()
    last = MapStyle([(label, image) for image, label in pairs()], -1, 0, NAMES)
    assert last.targets == [0, 1, 2] and last[2].image.tobytes() == picture(2).tobytes()


def test_labels_that_are_class_names() -> None:
    rows = [("a.png", "dog"), ("b.png", "cat"), ("c.png", "dog")]
    data = MapStyle(rows)
    assert (data.class_names, data.targets) == (("cat", "dog"), [1, 0, 1])
    other = MapStyle(rows, class_names=["zebra", "dog", "cat"])
    assert other.targets == [1, 2, 1]
    with pytest.raises(ValueError, match="label: expected one of the 1 class names, 'dog', got 'c"):
        MapStyle(rows, class_names=["dog"])


@pytest.mark.parametrize("label", [np.int64(1), torch.tensor(1), True, np.uint8(1)])
def test_labels_of_all_kinds(label: Any) -> None:
    data = MapStyle([(picture(0), label)], class_names=NAMES)
    assert data.targets == [1] and data[0].target == 1 and type(data[0].target) is int


def test_own_targets() -> None:
    data = MapStyle([(picture(0),), (picture(1),)], class_names=NAMES, targets=[2, 0])
    assert data.targets == [2, 0] and data[1].target == 0
    with pytest.raises(ValueError, match="targets: expected one for each of the 2 rows, got 1"):
        MapStyle([(picture(0),), (picture(1),)], class_names=NAMES, targets=[2])
    with pytest.raises(ValueError, match="label: expected 0 to 2, the 3 classes, got 3 in row 1"):
        MapStyle([(picture(0),), (picture(1),)], class_names=NAMES, targets=[2, 3])


# torchvision


def test_fake_data() -> None:
    dataset = FakeData(4, (3, 6, 5), num_classes=3)
    data = MapStyle(dataset, class_names=NAMES)
    assert data.name == "FakeData (4 images)"
    assert data.targets == [dataset[place][1] for place in range(4)]
    for place in range(4):
        assert data[place].image.tobytes() == dataset[place][0].tobytes()
        assert data[place].target == dataset[place][1]
    tensors = MapStyle(FakeData(4, (3, 6, 5), 3, transforms.ToTensor()), class_names=NAMES)
    assert (pixels(tensors, 2) == pixels(data, 2)).all()
    with pytest.raises(ValueError, match="class_names: expected the names of the classes"):
        MapStyle(dataset)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(["polar_bear/1.png", "cat/1.png", "cat/2.png"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture(number).save(tmp_path / name)
    return tmp_path


def test_image_folder(folder: Path) -> None:
    data = MapStyle(ImageFolder(str(folder)))
    assert (data.class_names, data.targets) == (("cat", "polar bear"), [0, 0, 1])
    assert pixels(data, 2).tolist() == np.asarray(picture(0)).tolist()
    sizes = [(folder / name).stat().st_size for name in ("cat/1.png", "cat/2.png")]
    assert data.listing[:2] == [
        f"{folder}/cat/{number}.png {size}" for number, size in zip((1, 2), sizes, strict=True)
    ]


def test_transforms_of_labels_count(folder: Path) -> None:
    """`dataset.targets` does not know of them."""
    dataset = ImageFolder(str(folder), target_transform=lambda label: 1 - label)
    data = MapStyle(dataset)
    assert data.targets == [1, 1, 0]
    assert [data[place].target for place in range(3)] == [1, 1, 0]


@pytest.mark.parametrize("attribute", ["targets", "labels", "_labels"])
@pytest.mark.parametrize("kind", [list, np.asarray, torch.tensor])
def test_labels_are_known_without_reading(attribute: str, kind: Callable[..., Any]) -> None:
    dataset = Counting(pairs())
    setattr(dataset, attribute, kind([0, 1, 2]))
    dataset.classes = [("cat", "Felis catus"), "polar_bear", "dog"]
    data = MapStyle(dataset)
    assert data.targets == [0, 1, 2] and data.class_names == tuple(NAMES)
    part = MapStyle(Subset(Subset(dataset, [2, 1]), [1, 0]))
    assert part.targets == [1, 2] and part.class_names == tuple(NAMES)
    assert part[0].image.tobytes() == picture(1).tobytes()
    assert part.name == "part of part of Counting (2 images)"
    assert set(dataset.read) <= {0, 1}  # the first rows of both, and the sample


def test_known_labels_are_those_of_the_rows() -> None:
    dataset = Counting(pairs())
    dataset.targets = [0, 2, 2]
    data = MapStyle(dataset, class_names=NAMES)
    assert data[0].target == 0
    with pytest.raises(ValueError, match=r"expected the label 2 in row 1, .*, got 1"):
        data[1]


def test_rows_are_read_when_they_are_needed() -> None:
    dataset = Counting(pairs())
    data = MapStyle(dataset, class_names=NAMES)
    assert dataset.read == [0]
    assert data[2].target == 2
    assert dataset.read == [0, 2]
    assert data.targets == [0, 1, 2] and data.targets == [0, 1, 2]
    assert dataset.read == [0, 2, 0, 1, 2]  # once
    both = MapStyle(ConcatDataset([dataset, dataset]), class_names=NAMES)
    assert both.targets == [0, 1, 2, 0, 1, 2]


def test_wordnet_ids_have_names() -> None:
    ids = ImageNetInfo("imagenet-1k").label_names()
    dataset = Counting([(picture(0), 1)])
    dataset.classes = [ids[0], ids[281]]
    assert MapStyle(dataset).class_names == ("tench", "tabby cat")


# Hugging Face


def test_hugging_face() -> None:
    dataset = hugging_face()
    data = MapStyle(dataset)
    assert (data.class_names, data.targets) == (tuple(NAMES), [0, 1, 2])
    assert data.name == "HuggingFace test (3 images)"
    assert dataset.columns == ["label"] and dataset.read == [0]
    assert data[2].image.tobytes() == picture(2).tobytes() and data[2].target == 2
    assert data.listing == ["0123456789abcdef"]


def test_hugging_face_has_any_names() -> None:
    rows = [{"img": image, "fine": label, "label": 0} for image, label in pairs()]
    dataset = HuggingFace(rows, fine=ClassLabel(NAMES), label=ClassLabel(["animal"]))
    data = MapStyle(dataset, image="img", label="fine")
    assert (data.class_names, data.targets, data[1].target) == (tuple(NAMES), [0, 1, 2], 1)
    assert MapStyle(dataset, image="img").class_names == ("animal",)


def test_hugging_face_has_formats() -> None:
    dataset = hugging_face().with_format("torch")
    data = MapStyle(dataset)
    assert data.targets == [0, 1, 2]
    assert (pixels(data, 1) == np.asarray(picture(1))).all()


@pytest.mark.parametrize("with_bytes", [True, False])
def test_hugging_face_has_encoded_images(with_bytes: bool, tmp_path: Path) -> None:
    path = tmp_path / "1.png"
    picture(7).save(path)
    content = {"bytes": path.read_bytes() if with_bytes else None, "path": str(path)}
    data = MapStyle([{"image": content, "label": 0}], class_names=["cat"])
    assert (pixels(data) == np.asarray(picture(7))).all()
    assert data[0].name == f"image 0 ({path})"


def test_captions_by_name() -> None:
    rows = [{"image": picture(n), "caption": own} for n, own in enumerate((["a", "b"], ["c"]))]
    dataset = HuggingFace(rows)
    data = MapStyle(dataset, captions="caption")
    assert data.captions == [("a", "b"), ("c",)] and dataset.read == [0]
    assert (data.class_names, data.targets, data.templates) == ((), [-1, -1], "{}")
    assert (data[0].captions, data[0].target) == (("a", "b"), -1)
    assert data.listing[-3:] == ["a", "b", "c"]


def test_captions_by_place() -> None:
    """As torchvision's CocoCaptions has them."""
    dataset = Counting([(picture(0), ["a", "b"]), (picture(1), "c")])
    data = MapStyle(dataset, captions=1)
    assert data[1].captions == ("c",) and dataset.read == [0, 1]
    assert data.captions == [("a", "b"), ("c",)]
    assert MapStyle(Subset(dataset, [1]), captions=1).captions == [("c",)]


def test_captions_and_labels() -> None:
    rows = [(picture(0), 2, ["a"]), (picture(1), 0, "b")]
    data = MapStyle(rows, label=1, captions=2, class_names=NAMES)
    assert (data.targets, data.captions) == ([2, 0], [("a",), ("b",)])
    assert (data[0].target, data[0].captions) == (2, ("a",))
    with pytest.raises(TypeError, match="captions: expected a string or several, got int in row 0"):
        MapStyle(rows, captions=1)


# images of all kinds


def test_files(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("L", (5, 4)).save(tmp_path / "1.jpg", exif=exif)
    for path in (tmp_path / "1.jpg", str(tmp_path / "1.jpg"), (tmp_path / "1.jpg").read_bytes()):
        assert one(path).shape == (5, 4, 3)
    assert one(Image.open(tmp_path / "1.jpg")).shape == (5, 4, 3)
    assert MapStyle([(tmp_path / "1.jpg", "cat")])[0].name == f"image 0 ({tmp_path / '1.jpg'})"


def files() -> Iterator[Image.Image]:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (4, 5), dtype=np.uint8)
    yield Image.fromarray(grey)
    yield Image.fromarray(grey > 127)
    yield Image.fromarray(rng.integers(0, 256, (4, 5, 2), dtype=np.uint8))
    yield Image.fromarray(rng.integers(0, 256, (4, 5, 4), dtype=np.uint8))
    yield Image.fromarray(rng.integers(0, 65536, (4, 5), dtype=np.uint16))
    yield picture(0).convert("P")


@pytest.mark.parametrize("image", list(files()), ids=lambda image: image.mode)
def test_like_the_file(image: Image.Image, tmp_path: Path) -> None:
    """In memory, as bytes and as an array, an image is what its PNG is."""
    image.save(tmp_path / "1.png")
    expected = np.asarray(read_image(tmp_path / "1.png"))
    values = [image, (tmp_path / "1.png").read_bytes(), Image.open(tmp_path / "1.png")]
    if image.mode != "P":
        array = np.asarray(image)
        channels_first = array if array.ndim == 2 else array.transpose(2, 0, 1)
        values += [array, torch.from_numpy(channels_first.copy())]
    mode = image.mode
    for value in values:
        assert (one(value) == expected).all()
    assert image.mode == mode


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floats_are_from_0_to_1(dtype: torch.dtype) -> None:
    levels = torch.tensor([0.0, 1.0, 0.2, 0.5]).to(dtype)
    expected = (levels.double() * 255).round().byte().numpy()
    found = one(levels.reshape(1, 2, 2).expand(3, 2, 2))
    assert (found == expected.reshape(2, 2, 1)).all()
    if dtype != torch.bfloat16:
        assert (one(levels.reshape(2, 2).numpy()) == expected.reshape(2, 2, 1)).all()


def test_floats_may_be_off_by_rounding() -> None:
    levels = torch.tensor([[-0.0019, 1.0019]])
    assert one(levels)[0, :, 0].tolist() == [0, 255]
    for wrong in (-0.0021, 1.0021):
        with pytest.raises(ValueError, match="from 0 to 1"):
            one(torch.tensor([[wrong, 0.5]]))


def test_transparency_of_floats_lies_over_white() -> None:
    clear = np.zeros((1, 2, 4))
    clear[0, 1] = (1, 0, 0, 1)
    assert one(clear)[0].tolist() == [[255, 255, 255], list(RED)]


def test_colours_of_16_bits() -> None:
    values = np.array([[[0, 257, 65535], [128, 129, 65407]]], dtype=np.uint16)
    assert one(values)[0].tolist() == [[0, 1, 255], [0, 1, 255]]


def test_one_channel() -> None:
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for value in (grey[..., None], torch.from_numpy(grey[None]), torch.from_numpy(grey)):
        assert (one(value) == grey[..., None]).all()


def test_dark_images_are_said_once() -> None:
    """12 bits in 16, as a file of them is."""
    rows = [(np.full((2, 2), 4095, dtype=np.uint16), 0)] * 3
    data = MapStyle(rows, class_names=["cat"])
    with pytest.warns(UserWarning, match=r"^image 1: .* 4095, .* divided by 65535") as warned:
        for place in (1, 0, 2):
            data[place]
    assert len(warned) == 1 and data.notes == [str(warned[0].message)]


def test_the_data_set_stays_as_it_is() -> None:
    grey = Image.new("LA", (2, 2), (3, 4))
    array = np.zeros((2, 2, 3), dtype=np.uint8)
    data = MapStyle([(grey, 0), (array, 0)], class_names=["cat"])
    data[0].image.putpixel((0, 0), RED)
    data[1].image.putpixel((0, 0), RED)
    assert grey.getpixel((0, 0)) == (3, 4) and not array.any()
    assert data[1].image.getpixel((0, 0)) == (0, 0, 0)


# what is refused


def test_normalised_images_are_refused() -> None:
    normalise = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5], [0.2])])
    hint = "leave that to the model's preprocess"
    whole = FakeData(2, (3, 4, 4), 2, normalise)
    for dataset in (whole, Subset(whole, [1])):
        with pytest.raises(ValueError, match=f"dataset: .*transform that normalises them; {hint}"):
            MapStyle(dataset, class_names=NAMES)
    hidden = FakeData(2, (3, 4, 4), 2, lambda image: normalise(image))  # nobody can read this
    with pytest.raises(ValueError, match=f"from 0 to 1, got -.* to .*; .*{hint}: image 0"):
        MapStyle(hidden, class_names=NAMES)
    later = Counting([(torch.zeros(3, 2, 2), 0), (torch.full((3, 2, 2), -1.5), 0)])
    data = MapStyle(later, class_names=NAMES)
    with pytest.raises(ValueError, match=f"got -1.5 to -1.5; .*{hint}: image 1"):
        data[1]


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (torch.full((3, 2, 2), 200.0), ValueError, "got 200 to 200; from 0 to 255, they should be"),
        (torch.full((3, 2, 2), 2.0), ValueError, "got 2 to 2; if a transform normalises, leave"),
        (torch.full((2, 2), torch.nan), ValueError, "from 0 to 1, got nan to nan"),
        (
            torch.zeros(3, 2, 2).int(),
            TypeError,
            "of type uint8, uint16, bool or floating point, go",
        ),
        (np.zeros((2, 2), dtype=complex), TypeError, "got complex128: image 0"),
        (np.zeros((3, 8, 8)), ValueError, "an array (H, W) or (H, W, C) with 1 to 4 channels, got"),
        (torch.zeros(8, 8, 3), ValueError, "a tensor (H, W) or (C, H, W) with 1 to 4 channels, go"),
        (torch.zeros(1, 3, 8, 8), ValueError, "got shape (1, 3, 8, 8): image 0"),
        (np.zeros((0, 8, 3)), ValueError, "got shape (0, 8, 3): image 0"),
        (None, ValueError, "image: expected an image, got None: image 0"),
        (3, TypeError, "image: expected an image of PIL, a path, bytes, an array or a tensor, got"),
        (b"no image", ValueError, "not an image, or of an unknown kind: image 0"),
        ("nowhere.png", FileNotFoundError, "no such image: nowhere.png"),
    ],
)
def test_images_that_are_none(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        one(value)


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[Any]:
        return iter(pairs())

    def __len__(self) -> int:
        return 3


@pytest.mark.parametrize(
    ("dataset", "error", "message"),
    [
        ({"train": [], "test": []}, TypeError, "expected one split, got a mapping of 'train', 'te"),
        ((row for row in ()), TypeError, "a length and rows by number (map style), got generator"),
        (Stream(), TypeError, "dataset: expected rows by number, got NotImplementedError from Str"),
        ("photos", TypeError, "dataset: expected rows by number, got str"),
        ({1, 2}, TypeError, "dataset: expected rows by number, got set"),
        (torch.zeros(3, 3, 8, 8), TypeError, "dataset: expected rows by number, got Tensor"),
        ([], ValueError, "dataset: expected at least one row, got an empty list"),
        ([(picture(0),)], ValueError, "label: expected 1 in every row, got a tuple of 1 in row 0"),
        ([picture(0)], ValueError, "image: expected 0 in every row, got Image in row 0"),
        (
            [{"img": 1, "label": 0}],
            ValueError,
            "image: expected 'image' in every row, got a mapping with 'img', 'label' in row 0",
        ),
        ([(picture(0), 3)], ValueError, "label: expected 0 to 2, the 3 classes, got 3 in row 0"),
        ([*pairs(), (picture(0), -1)], ValueError, "the 3 classes, got -1 in row 3"),
        ([(picture(0), 0.0)], TypeError, "an int or a class name, got float in row 0"),
        ([(picture(0), None)], TypeError, "an int or a class name, got None in row 0"),
        (
            [*pairs(), (picture(0),)],
            ValueError,
            "label: expected 1 in every row, got a tuple of 1 i",
        ),
    ],
)
def test_data_sets_of_another_kind(dataset: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        MapStyle(dataset, class_names=NAMES)


def test_class_names_are_names() -> None:
    with pytest.raises(ValueError, match="class_names: expected a sequence of at least one name"):
        MapStyle(pairs(), class_names="cat")
    with pytest.raises(TypeError, match="class_names: expected strings, got int"):
        MapStyle(pairs(), class_names=[1, 2, 3])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="class_names: expected the names of the classes"):
        MapStyle(pairs())


# which images these are


def test_listings_tell_images_apart(folder: Path) -> None:
    paths = [folder / "cat" / "1.png", folder / "cat" / "2.png"]
    encoded = [path.read_bytes() for path in paths]
    for first, second in (
        paths,
        map(str, paths),
        encoded,
        map(Image.open, paths),
        [{"bytes": content, "path": None} for content in encoded],
        [picture(0), picture(1)],
        [np.asarray(picture(number)) for number in (0, 1)],
        [torch.rand(3, 2, 2, generator=torch.Generator().manual_seed(n)) for n in (0, 1)],
        [torch.zeros(3, 2, 2, dtype=torch.bfloat16), torch.zeros(3, 2, 2, dtype=torch.float16)],
        [np.zeros((2, 3), dtype=bool), np.zeros((3, 2), dtype=bool)],
    ):
        a, b = (MapStyle([(value, 0)], class_names=NAMES) for value in (first, second))
        assert len(a.listing) == 1
        assert a.listing == pickle.loads(pickle.dumps(a.listing)) == a.listing
        assert a.listing != b.listing


def test_a_changed_file_is_another_image(folder: Path) -> None:
    data = MapStyle([(folder / "cat" / "1.png", "cat")])
    before = data.listing
    picture(0, (50, 40)).save(folder / "cat" / "1.png")
    assert data.listing != before
    (folder / "cat" / "1.png").unlink()
    assert data.listing == [f"{folder}/cat/1.png missing"]


def test_listings_of_data_sets(folder: Path) -> None:
    assert MapStyle(FakeData(2), class_names=NAMES * 4).listing[0].startswith("Dataset FakeData")
    plain = MapStyle(Counting(pairs()), class_names=NAMES).listing
    assert len(plain) == 1 and "Counting object" in plain[0] and "0x" not in plain[0]
    said = Counting(pairs())
    said.listing = ("first", 2)
    assert MapStyle(said, class_names=NAMES).listing == ["first", "2"]
    images = ImageFolder(str(folder))
    parts = [MapStyle(Subset(images, places)).listing for places in ([0, 1], [0, 2], [0, 1])]
    assert parts[0] == parts[2] != parts[1]
    in_memory = [Counting(pairs()) for _ in range(2)]
    for number, dataset in enumerate(in_memory):  # as CIFAR and MNIST have them
        dataset.data = np.full((3, 4, 4), number, dtype=np.uint8)
    first, second = (MapStyle(dataset, class_names=NAMES).listing for dataset in in_memory)
    assert first != second


def test_copies_in_other_processes(folder: Path) -> None:
    data = MapStyle(ImageFolder(str(folder)))
    copy = pickle.loads(pickle.dumps(data))
    assert (copy.name, copy.class_names, copy.listing) == (
        data.name,
        data.class_names,
        data.listing,
    )
    assert copy[1].image.tobytes() == data[1].image.tobytes()


# a comparison takes it


@pytest.mark.exhaustive
def test_a_damaged_row_does_not_end_a_comparison() -> None:
    content = io.BytesIO()
    picture(1, (96, 96)).save(content, "PNG")
    rows: list[Any] = [(picture(0, (96, 96)), "cat"), (b"no image", "dog")]
    data = MapStyle([*rows, (content.getvalue(), "dog")])
    clip = load_clip("tiny")
    classifier = ZeroShotClassifier(clip.model, clip.tokenizer, data.class_names, data.templates)
    found = compare(
        ["gradcam"],
        data,
        ["tokens"],
        forward_func=classifier,
        preprocess=clip.preprocess,
        ties=(),
    )
    assert found.errors["error"].tolist() == ["not an image, or of an unknown kind: image 1"]
    images = found.results.query("method == 'gradcam'")
    assert images["image"].tolist() == ["image 0", "image 2"]
    assert images["target"].tolist() == [0, 1]
