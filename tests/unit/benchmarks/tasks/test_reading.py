"""Items read without the model, here and by other processes, and images that cannot be read."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data._utils.pin_memory import pin_memory
from toy_comparison import NAMES, PREPROCESS, Toy, by_hand, toy_sample

from cci_captum import ZeroShotClassifier
from cci_captum.benchmarks.comparison import FolderStore, compare
from cci_captum.benchmarks.data import ImageFolders, MapStyle, MissingImageError, Sample
from cci_captum.benchmarks.tasks import Classification, Loaded, Reader, Retrieval, read_blocks
from cci_captum.benchmarks.tasks import loaded as loaded_module
from cci_captum.benchmarks.tasks import reading as reading_module

PLACES = range(8)
ORDER = [(3, range(6, 8)), (0, range(3)), (1, range(3, 6))]
EIO = OSError(errno.EIO, "Input/output error")
# A fork takes a fiftieth of the time; what is started in use has a test of its own.
FORKED = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_module, "_START", "fork")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaded_module, "PAUSES", (0.0, 0.0))


def toy(*wrong: tuple[int, Exception]) -> Toy:
    samples: list[Any] = [toy_sample(index) for index in PLACES]
    for place, error in wrong:
        samples[place] = error
    return Toy(samples)


def reader(*wrong: tuple[int, Exception]) -> Reader:
    return Reader(toy(*wrong), PREPROCESS, masks=True)


def the_same(one: Loaded, other: Loaded) -> bool:
    """Bit for bit; photos by their pixels."""
    photos = ([(p.mode, p.size, p.tobytes()) for p in loaded.photos] for loaded in (one, other))
    kept = (loaded._replace(photos=[], inputs=None, masks=None) for loaded in (one, other))
    tensors = zip((one.inputs, one.masks), (other.inputs, other.masks), strict=True)
    alike = [a is b is None or torch.equal(a, b) for a, b in tensors]  # type: ignore[arg-type]
    return all(alike) and next(photos) == next(photos) and next(kept) == next(kept)


class Unused(nn.Module):
    """A model that nothing may run, nor hand to another process."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Any) -> Tensor:
        raise AssertionError("reading ran the model")

    def __reduce__(self) -> Any:
        raise AssertionError("the model was pickled")


# Without the model.


def test_what_is_read_is_each_item_by_hand(make_clip: Any) -> None:
    task = Classification(toy((5, ValueError("torn"))), Unused(make_clip(1)[0]), PREPROCESS)
    found = task.read([7, 5, 2])
    assert (found.places, found.rows, found.errors) == ([7, 2], [0, 1], {5: "torn"})
    assert found.inputs is not None and found.masks is not None
    for row, place in enumerate(found.places):
        sample = toy_sample(place)
        expected = by_hand(sample)
        assert found.photos[row].tobytes() == expected.photo.tobytes()
        assert torch.equal(found.inputs[row], expected.inputs[0])
        assert torch.equal(found.masks[row], expected.mask[0])
        assert (found.names[row], found.targets[row]) == (sample.name, sample.target)
    copy = pickle.loads(pickle.dumps(task.reader))
    assert the_same(copy([7, 5, 2]), found)
    assert the_same(pickle.loads(pickle.dumps(found)), found)


def test_nothing_can_be_read_of_a_block() -> None:
    found = reader((1, ValueError("torn")), (2, ValueError("lost")))([1, 2])
    assert found.inputs is None and found.masks is None and found.places == []
    assert found.errors == {1: "torn", 2: "lost"}


def test_a_block_is_what_was_read_and_then_predicted(make_clip: Any, tokenizer: Any) -> None:
    model, _ = make_clip(1, image_size=32, patch_size=8)
    classifier = ZeroShotClassifier(model, tokenizer, NAMES, "{}")
    task = Classification(toy((5, ValueError("torn"))), classifier, PREPROCESS)
    batch, errors = task.block(range(4, 8))
    assert batch is not None and errors == {5: "torn"} and batch.indices == [4, 6, 7]
    with torch.no_grad():
        guesses = classifier(batch.inputs).argmax(dim=1).tolist()
    assert batch.predicted == guesses
    assert task.batch(task.read([5])) == (None, {5: "torn"})


class Captioned(Toy):
    """Photos with captions; how often each was read."""

    class_names = ()
    has_masks = False

    def __init__(self) -> None:
        super().__init__(toy((1, ValueError("torn"))).samples)
        self.captions = [(f"a {place}", f"one {place}") for place in PLACES]
        self.reads = [0] * len(PLACES)

    def __getitem__(self, index: Any) -> Sample:
        self.reads[index] += 1
        return super().__getitem__(index)


def test_captions_share_their_image(make_clip: Any, tokenizer: Any) -> None:
    data = Captioned()
    task = Retrieval(data, make_clip(1, image_size=32, patch_size=8)[0], tokenizer, PREPROCESS)
    assert data.reads == [1] * 8  # the gallery
    found = task.read([1, 2, 3, 4, 5])  # of the images 0, 1, 1, 2, 2
    assert data.reads == [2, 1, 2, 1, 1, 1, 1, 1]  # not what the gallery could not read
    assert (found.places, found.rows) == ([1, 4, 5], [0, 1, 1])
    assert found.errors == {2: "torn", 3: "torn"}
    assert found.inputs is not None
    for row, image in enumerate((0, 2)):
        assert torch.equal(found.inputs[row], by_hand(toy_sample(image)).inputs[0])
    batch, _ = task.batch(found)
    assert batch is not None and batch.names == ["image 0 #2", "image 2 #1", "image 2 #2"]
    assert torch.equal(batch.inputs[1], batch.inputs[2])
    assert batch.targets == [1, 4, 5]


# What says something about an image, and what does not.


@pytest.mark.parametrize(
    "error",
    [
        OSError("image file is truncated"),
        OSError(errno.EINVAL, "Invalid argument"),  # a damaged file names a place before its start
        ValueError("torn"),
        MissingImageError("no such image: a.png"),
    ],
)
def test_a_fact_about_an_image_is_its_error(error: Exception) -> None:
    assert reader((2, error))([1, 2]).errors == {2: str(error)}


@pytest.mark.parametrize(
    "error",
    [
        EIO,
        OSError(errno.ESTALE, "Stale file handle"),
        PermissionError(errno.EACCES, "Permission denied"),
        FileNotFoundError("no such image: a.png"),
    ],
)
@pytest.mark.usefixtures("at_once")
def test_what_the_system_refuses_is_asked_for_again(error: Exception) -> None:
    class Failing(Toy):
        """Image 2 can be read from a certain time on."""

        tries = 0
        good_at = 3

        def __getitem__(self, index: Any) -> Sample:
            self.tries += index == 2
            if index == 2 and self.tries < self.good_at:
                raise error
            return super().__getitem__(index)

    data = Failing(toy().samples)
    found = Reader(data, PREPROCESS)([1, 2])
    assert found.places == [1, 2] and found.errors == {} and data.tries == 3
    data.tries, data.good_at = 0, 4
    message = (
        r"^data: image 2 of toy could not be read now, in 3 tries \(.*\); its block is measured"
    )
    with pytest.raises(OSError, match=message) as raised:
        Reader(data, PREPROCESS)([1, 2])
    assert raised.value.__cause__ is error and data.tries == 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "cat").mkdir()
    for number in range(4):
        pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "cat" / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE])
@pytest.mark.usefixtures("at_once")
def test_a_disk_that_fails_is_no_damaged_image(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Nor is a file that is gone; one that was never there is a fact."""
    masks = folder / "masks"
    (folder / "photos").mkdir()
    (folder / "cat").rename(folder / "photos" / "cat")
    (masks / "cat").mkdir(parents=True)
    for number in range(4):
        Image.new("L", (48, 40), 255).save(masks / "cat" / f"{number}.png")
    (folder / "photos" / "cat" / "4.png").symlink_to("nowhere.png")
    data = ImageFolders(folder / "photos", masks=masks)
    assert any(text.startswith("cat/4.png missing") for text in data.listing)
    read = Reader(data, PREPROCESS, masks=True)
    opened, bad = Path.open, [masks / "cat" / "1.png", folder / "photos" / "cat" / "2.png"]

    def failing(path: Path, *args: Any, **options: Any) -> Any:
        if path in bad:
            raise OSError(code, os.strerror(code))
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", failing)
    for place, path in zip((1, 2), bad, strict=True):
        with pytest.raises(OSError, match=f"cannot read .*{path.name} now: {os.strerror(code)}"):
            read([0, place])
    monkeypatch.undo()
    monkeypatch.setattr(loaded_module, "PAUSES", (0.0,))
    assert read(range(5)).errors == {
        4: f"a link to a file that is missing: {folder}/photos/cat/4.png"
    }
    for path in bad:
        path.unlink()
    for place in (1, 2):
        with pytest.raises(OSError, match="could not be read now, in 2 tries"):
            read([place])


def test_files_of_a_list_that_were_never_there(folder: Path) -> None:
    paths = [folder / "cat" / f"{number}.png" for number in range(5)]
    data = MapStyle([(path, 0) for path in paths], class_names=["cat"])
    assert Reader(data, PREPROCESS)([3, 4]).errors == {4: f"no such image: {paths[4]}"}
    paths[3].unlink()
    with pytest.raises(FileNotFoundError) as raised:
        data[3]
    assert not isinstance(raised.value, ValueError)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("at_once")
def test_a_block_that_could_not_be_read_is_measured_when_the_run_goes_on(
    make_clip: Any, tokenizer: Any, tmp_path: Path
) -> None:
    model, _ = make_clip(1, image_size=32, patch_size=8)
    classifier = ZeroShotClassifier(model, tokenizer, NAMES, "{}")

    def run(data: Toy, store: FolderStore | None = None) -> Any:
        options: dict[str, Any] = {"ties": (), "batch_size": 3, "store": store}
        task = Classification(data, classifier, PREPROCESS)
        return compare(["gradcam"], task, ["tokens"], **options)

    data = toy()
    data.samples[4] = EIO
    data.targets = toy().targets
    with pytest.raises(OSError, match="image 4 of toy could not be read now"):
        run(data, FolderStore(tmp_path))
    stored = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")}
    assert len(stored) == 4  # the first block: its images, the method, two references
    resumed = run(toy(), FolderStore(tmp_path))
    assert stored.items() <= {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.parquet")}.items()
    assert resumed.errors.empty
    columns = [name for name in resumed.results if name != "seconds"]
    pd.testing.assert_frame_equal(resumed.results[columns], run(toy()).results[columns])


# Other processes.


def lazily(order: Sequence[Any], pulled: list[int]) -> Iterator[Any]:
    for number, places in order:
        pulled.append(number)
        yield number, places


def check_reads_alike(read: Any) -> None:
    """What two processes read, against reading here; and when they ask for blocks."""
    order = [(number, range(number % 5, number % 5 + 3)) for number in range(9)]
    expected = list(read_blocks(read, order))
    before, pulled, found = torch.get_rng_state(), [], []
    for number, loaded in read_blocks(read, lazily(order, pulled), readers=2):
        found.append((number, loaded))
        assert len(pulled) <= len(found) + 2 * reading_module.AHEAD
    assert [number for number, _ in found] == pulled == [*range(9)]
    assert all(the_same(a[1], b[1]) for a, b in zip(found, expected, strict=True))
    assert torch.equal(torch.get_rng_state(), before)
    assert multiprocessing.active_children() == []


@FORKED
@pytest.mark.usefixtures("forked")
def test_processes_read_what_is_read_here(folder: Path) -> None:
    check_reads_alike(reader((4, ValueError("torn"))))
    (folder / "cat" / "1.png").write_bytes(b"no image")
    (folder / "cat" / "3.png").write_bytes((folder / "cat" / "2.png").read_bytes()[:-40])
    read = Reader(ImageFolders(folder), PREPROCESS)
    order = [(0, [0, 1]), (1, [2, 3])]
    here, there = (list(read_blocks(read, order, readers)) for readers in (0, 1))
    assert [list(loaded.errors) for _, loaded in there] == [[1], [3]]
    assert all(the_same(a[1], b[1]) for a, b in zip(here, there, strict=True))


@pytest.mark.exhaustive
def test_processes_as_they_are_started() -> None:
    """Not by a fork: of a process that has started CUDA and threads, that is not safe."""
    assert reading_module._START != "fork"
    check_reads_alike(reader((4, ValueError("torn"))))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_processes_of_one_that_uses_a_gpu() -> None:
    assert float(torch.ones(3, device="cuda").sum()) == 3
    check_reads_alike(reader())
    for readers in (0, 2):
        ((_, found),) = read_blocks(reader(), [(0, [1, 2])], readers, pin_memory=True)
        assert found.inputs.is_pinned() and found.masks.is_pinned()
        assert the_same(found, reader()([1, 2]))


def test_blocks_here_are_read_when_they_are_asked_for() -> None:
    pulled: list[int] = []
    blocks = read_blocks(reader(), lazily(ORDER, pulled))
    assert pulled == []
    number, loaded = next(blocks)
    assert (number, loaded.places, pulled) == (3, [6, 7], [3])


def test_pinning_keeps_all_but_where_tensors_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a DataLoader does it, without a GPU: by torch's own function."""
    pinned = []

    def pin(tensor: Tensor, *device: Any) -> Tensor:
        pinned.append(tensor)
        return tensor.clone()

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    facts: list[Any] = [MappingProxyType({"group": 1}), {"group": "a"}]
    before = reader((0, ValueError("torn")))([0, 1, 2])._replace(facts=facts)
    number, after = pin_memory((4, before))
    assert isinstance(after, Loaded) and number == 4 and the_same(after, before)
    assert len(pinned) == 2 and after.inputs is not before.inputs
    assert [type(photo) for photo in after.photos] == [Image.Image] * 2
    nothing = reader((0, ValueError("torn")))([0])
    assert the_same(pin_memory(nothing), nothing)


@FORKED
@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), EIO])
@pytest.mark.usefixtures("forked", "at_once")
def test_errors_of_a_process_are_raised_here(error: Exception) -> None:
    """As they are, not as the text of a traceback; after the blocks before."""
    blocks = read_blocks(reader((4, error)), [(0, [1]), (1, [4]), (2, [5])], readers=2)
    assert next(blocks)[0] == 0
    expected = OSError if error is EIO else ZeroDivisionError
    with pytest.raises(expected) as raised:
        next(blocks)
    first = "data: image 4 of toy could not be read now" if error is EIO else "a bug"
    assert str(raised.value).startswith(first)
    assert multiprocessing.active_children() == []


@FORKED
@pytest.mark.usefixtures("forked")
def test_an_error_of_the_order_comes_after_what_was_asked_for() -> None:
    """As it does where blocks are read here."""
    disk = OSError(errno.EIO, "of the store")

    def order() -> Iterator[Any]:
        yield from ORDER[:2]
        raise disk

    for readers in (0, 2):
        blocks = read_blocks(reader(), order(), readers)
        assert [next(blocks)[0], next(blocks)[0]] == [3, 0]
        with pytest.raises(OSError, match="of the store") as raised:
            next(blocks)
        assert raised.value is disk


class Killed(Toy):
    """Image 5 ends the process that reads it, as the system does where memory is short."""

    def __getitem__(self, index: Any) -> Sample:
        if index == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


@FORKED
@pytest.mark.usefixtures("forked")
def test_a_process_that_is_killed_is_said() -> None:
    read = Reader(Killed(toy().samples), PREPROCESS)
    blocks = read_blocks(read, [(0, [1]), (1, [2]), (2, [5]), (3, [3])], readers=2)
    message = r"^readers: expected 2 processes to read until the end, but one ended\. .*use fewer"
    with pytest.raises(RuntimeError, match=message):
        list(blocks)
    assert multiprocessing.active_children() == []


@FORKED
@pytest.mark.parametrize("leave", ["closed", "dropped", "raised"])
@pytest.mark.usefixtures("forked")
def test_processes_end_with_the_iterator(leave: str) -> None:
    def use() -> None:
        for _ in read_blocks(reader(), ((n, [n % 8]) for n in range(99)), readers=2):
            assert len(multiprocessing.active_children()) == 2
            raise KeyError

    if leave == "raised":
        with pytest.raises(KeyError):
            use()
    else:
        blocks: Any = read_blocks(reader(), ((n, [n % 8]) for n in range(99)), readers=2)
        next(blocks)
        assert len(multiprocessing.active_children()) == 2
        if leave == "closed":
            blocks.close()
        del blocks
    assert multiprocessing.active_children() == []


@FORKED
@pytest.mark.usefixtures("forked")
def test_a_note_of_an_image_is_said_once_and_here(folder: Path) -> None:
    dark = np.full((40, 48), 4095, dtype=np.uint16)
    for number in (1, 2):
        Image.fromarray(dark).save(folder / "cat" / f"{number}.png")
    read = Reader(ImageFolders(folder), PREPROCESS)
    with pytest.warns(UserWarning, match=r"cat/1\.png: grey of 16 bits") as warned:
        found = list(read_blocks(read, [(n, [n]) for n in range(4)], readers=2))
    assert len([each for each in warned if each.category is UserWarning]) == 1
    assert [bool(loaded.notes[0]) for _, loaded in found] == [False, True, True, False]


def test_what_cannot_be_handed_to_a_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Refused in words, and read here: an open file, whose place two processes would share."""
    monkeypatch.setattr(reading_module, "_START", "spawn")

    class Rows:
        def __init__(self) -> None:
            self.file = (tmp_path / "rows").open("wb+")

        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return toy_sample(index).image, 0

    read = Reader(MapStyle(Rows(), class_names=["cat"], targets=[0, 0]), PREPROCESS)
    message = (
        "^readers: expected data and preprocess that other processes can be handed, .*0 readers"
    )
    with pytest.raises(TypeError, match=message):
        list(read_blocks(read, [(0, [0, 1])], readers=1))
    ((_, found),) = read_blocks(read, [(0, [0, 1])])
    assert found.places == [0, 1]


@pytest.mark.parametrize(
    ("readers", "error"), [(-1, ValueError), (1.0, TypeError), (True, TypeError)]
)
def test_bad_numbers_of_readers(readers: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^readers: expected "):
        read_blocks(reader(), [], readers)  # before it is iterated


# Signals, which a scheduler sends to all processes of a job.

SCRIPT = """
import multiprocessing, signal, sys, time
from cci_captum.benchmarks.tasks import read_blocks
from cci_captum.benchmarks.tasks.loaded import Loaded

class Slow:
    def __call__(self, places):
        time.sleep(0.05)
        return Loaded([], [], {}, [], [], [], None, None, [], [], [])

if __name__ == "__main__":
    told = []
    if sys.argv[1] == "heeds":
        signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    for number, _ in read_blocks(Slow(), ((n, [n]) for n in range(10**6)), readers=2):
        if number == 0:
            print(*[child.pid for child in multiprocessing.active_children()], flush=True)
        if told:
            break
    print("ended", flush=True)
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform != "linux", reason="of /proc")
@pytest.mark.parametrize(
    ("how", "sign", "group", "codes"),
    [
        ("heeds", signal.SIGTERM, True, {0}),
        # an interrupt that torch makes an error of its own, or not, by where it comes
        pytest.param(
            "dies", signal.SIGINT, True, {1, -signal.SIGINT}, marks=pytest.mark.beyond_pairs
        ),
        ("dies", signal.SIGKILL, False, {-signal.SIGKILL}),
    ],
)
def test_signals_are_for_the_process_that_reads_for_all(
    how: str, sign: signal.Signals, group: bool, codes: set[int], tmp_path: Path
) -> None:
    """Readers go on until it ends, and are gone soon after."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    readers = [int(word) for word in process.stdout.readline().split()]
    assert len(readers) == 2
    time.sleep(0.3)
    os.killpg(process.pid, sign) if group else process.send_signal(sign)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode in codes and printed == ("ended\n" if how == "heeds" else "")
    until = time.monotonic() + 30
    while any(Path(f"/proc/{reader}").exists() for reader in readers):
        assert time.monotonic() < until, "orphans"
        time.sleep(0.1)
