"""CounterAnimal as released, with all that is odd about it, and as half a download leaves it."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from animals import DAMAGED, TWICE, make_release
from PIL import Image
from timm.data import ImageNetInfo

from cci_captum.benchmarks.data import (
    AnimalClass,
    CounterAnimal,
    _counteranimal,
    animal_classes,
    imagenet_synonyms,
    open_data,
)

BEAR = "296 ice bear, polar bear, Ursus Maritimus, Thalarctos maritimus"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("release"), photos=1)


@pytest.fixture
def broken(release: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the release to break, of links: the top folder."""
    shutil.copytree(release, tmp_path / "copy", copy_function=os.link)
    yield tmp_path / "copy" / "LAION-final"


def files_by_hand(top: Path) -> dict[str, tuple[int, str, str]]:
    """Every image by the rules of the release: path -> index, group, background."""
    found = {}
    for folder in top.iterdir():
        if not folder.is_dir() or not folder.name.split(" ", 1)[0].isdigit():
            continue
        for group in folder.iterdir():
            if group.is_dir():
                kind, background = group.name.split("-", 1)
                for file in group.iterdir():
                    hidden = file.name.startswith(".")
                    if not hidden and file.suffix.lower() in (".jpg", ".jpeg", ".png"):
                        key = f"{folder.name}/{group.name}/{file.name}"
                        found[key] = (int(folder.name.split(" ", 1)[0]), kind, background)
    return found


def test_every_photo_is_found_by_its_full_name(release: Path) -> None:
    data = CounterAnimal(release)
    expected = files_by_hand(release / "LAION-final")
    read, damaged = {}, []
    for place in range(len(data)):
        try:
            sample = data[place]
        except (OSError, ValueError) as error:
            damaged.append(str(error))
            continue
        read[sample.name] = (sample.target, sample.facts["group"], sample.facts["background"])
        with Image.open(release / "LAION-final" / sample.name) as image:
            assert sample.image.tobytes() == image.convert("RGB").tobytes()
        assert data.targets[place] == sample.target
    (said,) = damaged
    assert DAMAGED in said
    assert read == {name: fact for name, fact in expected.items() if name != DAMAGED}
    assert len(data) == len(expected)
    assert {f"{TWICE}.jpeg", f"{TWICE}.jpg"} < set(read)
    assert {target for target, _, _ in read.values()} == {each.index for each in animal_classes()}
    assert ("green" in {fact[2] for fact in read.values()}) and not data.has_masks
    assert data.name == f"CounterAnimal ({len(expected)} images of 45 classes)"


@pytest.mark.parametrize("given", ["", "LAION-final"])
def test_its_folder_or_the_one_above(release: Path, given: str) -> None:
    assert len(CounterAnimal(release / given)) == len(files_by_hand(release / "LAION-final"))


def test_unpacked_into_a_folder_of_its_own_name(release: Path, tmp_path: Path) -> None:
    (tmp_path / "LAION-final").symlink_to(release)
    assert CounterAnimal(tmp_path).name == CounterAnimal(release).name


def test_what_is_odd_is_said_once(release: Path) -> None:
    with pytest.warns(UserWarning) as caught:
        data = CounterAnimal(release)
    assert [str(each.message) for each in caught] == data.notes
    assert data.notes == [
        "backgrounds that are none of the paper's 14: '37 box turtle, box tortoise/common-green' "
        "(grass?)"
    ]


def test_loose_files_are_left_out_and_images_among_them_are_counted(broken: Path) -> None:
    before = CounterAnimal(broken)
    for file in ("stray.jpg", "9 notes.txt", "more.py"):
        (broken / file).write_bytes(b"")
    (broken / BEAR / "stray.jpg").write_bytes(b"")
    (broken / BEAR / "common-snow" / "list.txt").write_text("")
    after = CounterAnimal(broken)
    assert after.listing == before.listing
    assert after.notes[1:] == [
        f"left out of {broken}: 1 x .txt, 1 x image beside the class folders"
    ]


# names


def test_names_are_imagenets_synonyms(release: Path) -> None:
    data = CounterAnimal(release)
    info = ImageNetInfo("imagenet-1k")
    assert len(data.class_names) == 1000 and data.templates == "A photo of {}."
    for index, name in enumerate(data.class_names):
        if index != 349:
            assert name == info.index_to_description(index)
    assert data.class_names[349] == "bighorn, bighorn sheep, cimarron"
    for each in animal_classes():
        assert info.index_to_label_name(each.index) == each.wnid
        assert each.name.lower() == data.class_names[each.index].lower()


def test_the_releases_own_list_decides(broken: Path) -> None:
    path = broken / "imagenet_names.txt"
    lines = path.read_text().splitlines()
    lines[0], lines[9] = "0\ttench", "9\tOSTRICH, Struthio camelus"
    path.unlink()  # a link to the other tree's
    path.write_text("\ufeff" + "\r\n".join(lines) + "\r\n\r\n", encoding="utf-8")
    data = CounterAnimal(broken)
    assert (data.class_names[0], data.class_names[9]) == ("tench", "OSTRICH, Struthio camelus")
    assert data.notes[-1] == (
        f"1 of the 1000 names in {path} are not ImageNet's synonyms: '0 tench'"
    )
    path.unlink()
    assert CounterAnimal(broken).class_names == imagenet_synonyms()


@pytest.mark.parametrize(
    ("line", "text", "got"),
    [
        (3, b"4\tshark", "'4\\\\tshark' in line 4"),
        (3, b"3", "'3' in line 4"),
        (3, b"3\t ", r"'3\\t ?' in line 4"),
        (3, b"\xff\xfe3\tshark", "in line 4"),
        (999, b"", "999"),
        (999, b"999\ta\n1000\tb", "1001"),
    ],
)
def test_a_damaged_list_of_names(broken: Path, line: int, text: bytes, got: str) -> None:
    path = broken / "imagenet_names.txt"
    lines = path.read_bytes().splitlines()
    path.unlink()
    lines[line] = text
    path.write_bytes(b"\n".join(lines))
    message = f"root: expected 1000 lines of index, tab and names in {re.escape(str(path))}, got "
    with pytest.raises(ValueError, match=f"^{message}{got}$|^{message}.*{got}$"):
        CounterAnimal(broken)


# what is missing, or somewhere else


def error_of(root: Path, **options: Any) -> str:
    with pytest.raises(ValueError) as caught:
        CounterAnimal(root, **options)
    text = str(caught.value)
    assert text.startswith(f"root: expected {_counteranimal.LAYOUT}, got ")
    return text


def test_half_a_download_is_named_at_once(broken: Path) -> None:
    """In one error: a class, a group, an empty group, a number, and the name of a group."""
    shutil.rmtree(broken / "9 ostrich, Struthio camelus")
    shutil.rmtree(broken / BEAR / "counter-grass")
    empty = next((broken / "360 otter").glob("common-*"))
    for file in empty.iterdir():
        file.unlink()
    (broken / "16 bulbul").rename(broken / "Bulbul")
    (broken / "23 Vulture" / "counter-tree").rename(broken / "23 Vulture" / "conter-tree")
    text = error_of(broken)
    for said in (
        f"got in {broken}: 2 of the 45 classes missing: '9 ostrich', '16 bulbul'",
        f"no counter-<background> in '{BEAR}'",
        "no images in '360 otter/common-water'",
        "no counter-<background> in '23 Vulture'",
        "folders without a number: 'Bulbul' ('16 bulbul'?)",
        "folders of no group: '23 Vulture/conter-tree' (counter-...?)",
    ):
        assert said in text
    assert text.endswith("; partial=True goes on with what is there")


def test_partial_goes_on_with_what_is_there(broken: Path) -> None:
    shutil.rmtree(broken / "9 ostrich, Struthio camelus")
    shutil.rmtree(broken / BEAR / "counter-grass")
    data = CounterAnimal(broken, partial=True)
    assert len(data) == len(files_by_hand(broken))
    assert data.notes[:2] == [
        f"in {broken}: 1 of the 45 classes missing: '9 ostrich'",
        f"in {broken}: no counter-<background> in '{BEAR}'",
    ]
    assert "44 classes" in data.name
    assert len(CounterAnimal(broken, partial=True, group="common")) < len(data)


def test_more_than_the_release_is_a_note(broken: Path) -> None:
    (broken / "__MACOSX").mkdir()
    (broken / BEAR / "extra").mkdir()
    assert CounterAnimal(broken).notes[:2] == [
        f"in {broken}: folders without a number: '__MACOSX'",
        f"in {broken}: folders of no group: '{BEAR}/extra'",
    ]


def test_another_class_is_named(broken: Path) -> None:
    shutil.copytree(broken / BEAR, broken / "281 tabby, tabby cat")
    assert "'281 tabby, tabby cat' is none of the 45 classes" in error_of(broken)
    data = CounterAnimal(broken, partial=True)
    assert 281 in data.targets and "46 classes" in data.name


@pytest.mark.parametrize("partial", [False, True])
def test_a_class_twice_or_beyond_imagenet_is_wrong(broken: Path, partial: bool) -> None:
    shutil.copytree(broken / "23 Vulture", broken / "23 vulture, old")
    (broken / "1000 mammoth").mkdir()
    text = error_of(broken, partial=partial)
    assert "'1000 mammoth' has no index from 0 to 999" in text
    assert "index 23 twice: '23 Vulture', '23 vulture, old'" in text
    assert "partial" not in text


def test_a_misspelt_background_is_named(broken: Path) -> None:
    (broken / BEAR / "counter-grass").rename(broken / BEAR / "Counter-gras")
    (broken / "23 Vulture" / "common-sky").rename(broken / "23 Vulture" / "common-rock")
    data = CounterAnimal(broken)
    assert f"'{BEAR}/Counter-gras' (grass?)" in data.notes[0]
    assert data.notes[1] == (
        "backgrounds other than in the paper's table: '23 Vulture/common-rock' (sky)"
    )
    shown = CounterAnimal(broken, group="counter")
    assert shown[shown.targets.index(296) + 1].facts == {"group": "counter", "background": "gras"}


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (BEAR, "which looks like one class; use {top}"),
        (f"{BEAR}/common-snow", "which is one group of a class; use {top}"),
        ("..", "use {top}"),
    ],
)
def test_another_folder_is_told_which_to_use(broken: Path, given: str, hint: str) -> None:
    broken = broken.rename(broken.parent / "animals")  # a name that is not looked for
    text = error_of((broken / given).resolve())
    assert "got no folder that begins with a number in" in text
    assert text.endswith(hint.format(top=broken))


def test_no_such_folder_and_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="root: no such folder"):
        CounterAnimal(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="root: expected a folder"):
        CounterAnimal(tmp_path / "file")
    assert "got no folder that begins with a number" in error_of(tmp_path)


def test_nothing_at_all_is_an_error_of_partial_too(tmp_path: Path) -> None:
    (tmp_path / BEAR / "common-snow").mkdir(parents=True)
    text = error_of(tmp_path, partial=True)
    assert f"no images in '{BEAR}/common-snow'" in text and "partial" not in text


# options


def test_one_group(release: Path) -> None:
    every = files_by_hand(release / "LAION-final")
    for group in ("common", "counter"):
        data = open_data(f"counteranimal:{release}", group=group)
        own = [name for name, fact in every.items() if fact[1] == group]
        assert len(data) == len(own)
        assert data.name == f"CounterAnimal, {group} ({len(own)} images of 45 classes)"
    with pytest.raises(ValueError, match="group: expected one of common, counter, both, got 'all'"):
        CounterAnimal(release, group="all")


def test_drawn_evenly_over_classes_and_groups(release: Path) -> None:
    data = open_data(f"counteranimal:{release}", n=90, seed=2)
    read = {(line.split(" ")[0], "/counter-" in line) for line in data.listing}
    assert len(read) == len(data) == 90
    every = files_by_hand(release / "LAION-final")
    assert data.name.endswith(f"90 of {len(every)} images of 45 classes, seed 2)")


def test_eighty_prompts(release: Path) -> None:
    assert open_data(f"counteranimal:{release}", templates="openai-imagenet").templates == (
        "openai-imagenet"
    )
    with pytest.raises(ValueError, match=r"templates: expected one of A photo of \{\}\., openai-"):
        open_data(f"counteranimal:{release}", templates="{}")
    assert CounterAnimal(release, templates=["{}", "a {}"]).templates == ("{}", "a {}")


def test_masks_of_files_with_one_stem(release: Path, tmp_path: Path) -> None:
    """Named by the full file name, where one stem is there twice."""
    top = release / "LAION-final"
    names = [name for name in files_by_hand(top) if name.startswith("9 ostrich")]
    (tmp_path / "masks" / names[0].rpartition("/")[0]).mkdir(parents=True)
    for name in files_by_hand(top):
        path = tmp_path / "masks" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("1", (8, 6), 1).save(path)
    data = CounterAnimal(release, masks=tmp_path / "masks")
    sample = data[0]
    assert data.has_masks and sample.mask is not None and bool(sample.mask.all())
    (tmp_path / "masks" / f"{TWICE}.jpeg.png").unlink()
    with pytest.raises(FileNotFoundError, match="masks: expected a mask for each"):
        CounterAnimal(release, masks=tmp_path / "masks")


def test_other_processes_can_be_handed_it(release: Path) -> None:
    data = CounterAnimal(release)
    copy = pickle.loads(pickle.dumps(data))
    assert (copy.name, copy.listing, copy[5].facts) == (data.name, data.listing, data[5].facts)


def test_the_table_of_classes_is_the_papers() -> None:
    """Sums that the paper and Figure 3 give, and the extremes of its table."""
    classes = animal_classes()
    assert [each.ca_id for each in classes] == [*range(1, 46)]
    assert [each.index for each in classes] == sorted({each.index for each in classes})
    assert sum(each.common_photos for each in classes) == 7174  # as Figure 3 adds up, 25 for 83
    assert sum(each.counter_photos for each in classes) == 5926
    backgrounds = {each.common for each in classes} | {each.counter for each in classes}
    assert backgrounds == set(_counteranimal.BACKGROUNDS)
    assert classes[22].index == 83 and classes[22].common_photos == 25
    bear = AnimalClass(39, 296, "n02134084", BEAR.split(" ", 1)[1], "snow", "grass", 126, 110)
    assert classes[38] == bear


def test_no_warning_where_nothing_is_odd(broken: Path) -> None:
    turtle = broken / "37 box turtle, box tortoise"
    (turtle / "common-green").rename(turtle / "common-grass")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert CounterAnimal(broken).notes == []
