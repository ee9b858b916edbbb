"""What can stop a file from being written, found before the work or kept from other files."""

from __future__ import annotations

import io
import os
import re
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import cci_captum
from cci_captum import explaining, side_by_side
from cci_captum.benchmarks import cli
from cci_captum.benchmarks.commands import _by_model, _outputs, compare, demo, explain
from cci_captum.benchmarks.commands._common import CommandError
from cci_captum.benchmarks.commands._outputs import Outputs, check_picture
from cci_captum.visualization import attribution_grid
from cci_captum.visualization.grid import grid_size

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="file names and limits as on Linux")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 64 kB: what a full disk says, said by the system itself."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


# before the work


@LINUX
def test_a_full_disk_is_found_before_the_work(tmp_path: Path, small_disk: None) -> None:
    with pytest.raises(CommandError, match=r"^--out: cannot write into .*: File too large$"):
        Outputs().expect(tmp_path / "a.png", "--out")
    assert names(tmp_path) == []


@LINUX
def test_a_folder_that_takes_no_files(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"^--out: cannot write into /proc: "):
        Outputs().expect(Path("/proc/a.png"), "--out")


@LINUX
def test_files_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name, message in {
        "folder.png": "expected a file, got a folder",
        "pipe.png": "expected a file, got a device or pipe",
        f"{'a' * 252}.png": "cannot write .*: File name too long",
        "no/a.png": "no such folder",
        "a.doc": r"expected a file name ending in \.png, \.pdf, got ",
    }.items():
        with pytest.raises(CommandError, match=f"^--out: {message}"):
            Outputs().expect(tmp_path / name, "--out", (".png", ".pdf"))
    Outputs().expect(tmp_path / f"{'a' * 251}.png", "--out")  # as long as a name may be


@pytest.mark.parametrize("command", [demo, compare])
def test_every_file_of_a_folder_is_checked_before_a_model_is_loaded(
    command: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = _by_model if command is compare else command
    monkeypatch.setattr(module, "choose_device", lambda *_: pytest.fail("went on"))
    (tmp_path / "curves.png").mkdir()
    name = command.__name__.rpartition(".")[2]  # type: ignore[attr-defined]
    assert cli.main([name, "--out", str(tmp_path)]) == 2
    message = f"--out: expected a file, got a folder: {tmp_path / 'curves.png'}"
    assert capsys.readouterr().err == f"cci-captum: error: {message}\n"


@LINUX
def test_explain_checks_its_files_and_texts_before_it_loads_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(explain, "load_model", lambda *_: pytest.fail("loaded a model"))
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    Path("b.png").symlink_to("a.png")
    Path("maps.npz").mkdir()
    odd = b"caf\xe9".decode(errors="surrogateescape")
    for options, message in [
        (["--text", odd], "--text: expected UTF-8, got caf\\xe9"),
        (["--text", "a", "--out", "./b.png"], "--out: would overwrite the image b.png"),
        (["--text", "a", "--save-maps", "maps.npz"], "--save-maps: expected a file, got a folder"),
        (["--text", "a", "--out", "/proc/a.png"], "--out: cannot write into /proc: "),
    ]:
        assert cli.main(["explain", "a.png", *options]) == 2
        assert message in capsys.readouterr().err
    assert names(tmp_path) == ["a.png", "b.png", "maps.npz"]


# pictures


@pytest.mark.parametrize(("suffix", "longest"), [(".jpg", 65_500), (".webp", 16_383)])
def test_the_longest_side_is_the_format_s(suffix: str, longest: int) -> None:
    kind = {".jpg": "JPEG", ".webp": "WEBP"}[suffix]
    Image.new("L", (longest, 1)).save(io.BytesIO(), kind)
    with pytest.raises((OSError, ValueError)):
        Image.new("L", (longest + 1, 1)).save(io.BytesIO(), kind)
    path = Path(f"a{suffix}")
    check_picture(path, (1.0, longest / _outputs.DPI), "--out")
    with pytest.raises(CommandError, match=rf"^--out: expected .* {longest} pixels .* got 200 x "):
        check_picture(path, (1.0, (longest + 1) / _outputs.DPI), "--out")
    check_picture(Path("a.pdf"), (1.0, 1e6), "--out")


def test_explain_finds_a_picture_too_large_before_it_explains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(explaining, "explain", lambda *_, **__: pytest.fail("explained"))
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    many = ["explain", *["a.png"] * 50, "--text", "a cat", "--device", "cpu", "--out", "a.webp"]
    assert cli.main([*many, "--rows", "50"]) == 2
    assert "--out: expected a picture of at most 16383 pixels a side" in capsys.readouterr().err
    assert names(tmp_path) == ["a.png"]


def test_the_size_of_a_grid_is_known_before_its_maps() -> None:
    import torch

    titles, row_titles = ["image", "a cat in the grass, seen from very far away"], ["a", "b"]
    scores = {"map": ["0.123", "0.100"]}
    size = grid_size([(8, 12)] * 2, ["map"], titles=titles, row_titles=row_titles, scores=scores)
    options = {"titles": titles, "row_titles": row_titles, "scores": scores}
    images = torch.rand(2, 3, 8, 12)
    blank = attribution_grid(images, {"map": torch.full((2, 2, 2), 1e-13)}, **options)
    assert tuple(blank.get_size_inches()) == pytest.approx(size)
    usual = attribution_grid(images, {"map": torch.rand(2, 2, 2)}, **options)
    assert usual.get_size_inches()[0] == pytest.approx(size[0])
    assert 0 < size[1] - usual.get_size_inches()[1] < 0.4


# after it


@LINUX
def test_one_failed_file_takes_no_other(tmp_path: Path) -> None:
    outputs = Outputs()
    (tmp_path / "a.txt").write_text("old")
    outputs.write(tmp_path / "a.txt", lambda path: path.write_text("\udcff", encoding="utf-8"))
    outputs.write(tmp_path / "b.txt", lambda path: path.write_text("b"))
    outputs.write(tmp_path / "no" / "c.txt", lambda path: path.write_text("c"))
    outputs.write(tmp_path / "d.txt", lambda path: path.write_text("d"))
    assert outputs.written == [tmp_path / "b.txt", tmp_path / "d.txt"]
    with pytest.raises(CommandError) as raised:
        outputs.finish()
    failed, missing, others = str(raised.value).split("; ")
    assert failed.startswith(f"cannot write {tmp_path}/a.txt: ") and "surrogates" in failed
    assert missing == f"cannot write {tmp_path}/no/c.txt: No such file or directory"
    assert others == f"wrote {tmp_path}/b.txt, {tmp_path}/d.txt"
    assert names(tmp_path) == ["a.txt", "b.txt", "d.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_names_in_pictures_are_no_formulas(tmp_path: Path) -> None:
    """An unpaired brace between dollars is no formula, and matplotlib refuses it as one."""

    def save(path: Path) -> None:
        figure = Figure()
        axes = figure.subplots()
        axes.set_title("hf:models/$a_{$")
        axes.set_yticks([0], ["$5 or $_{"])
        figure.savefig(path)

    outputs = Outputs()
    for name in ("a.png", "a.pdf", "a.svg"):
        outputs.write(tmp_path / name, save)
    outputs.finish()
    assert len(outputs.written) == 3 and matplotlib.rcParams["text.parse_math"]


def test_bugs_keep_their_traceback_and_the_other_files(tmp_path: Path) -> None:
    outputs = Outputs()
    outputs.write(tmp_path / "a.txt", lambda path: 1 / 0)
    outputs.write(tmp_path / "b.txt", lambda path: path.write_text("b"))
    with pytest.raises(ZeroDivisionError):
        outputs.finish()
    assert names(tmp_path) == ["b.txt"]


def test_explain_writes_maps_where_the_picture_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(side_by_side, "attribution_grid", full)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    options = ["--method", "maskclip", "--device", "cpu", "--save-maps", "maps.npz"]
    assert cli.main(["explain", "a.png", "--text", "a cat", *options]) == 2
    output = capsys.readouterr()
    message = "cannot write explanation.png: No space left on device; wrote maps.npz"
    assert f"cci-captum: error: {message}\n" in output.err and "a.png: " in output.out
    assert names(tmp_path) == ["a.png", "maps.npz"]


@pytest.mark.exhaustive
def test_explain_writes_the_words_of_every_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(explain, "DPI", 40)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8), "green").save(name)
    texts = ["a cat and a dog", "a tree"]
    asked = ["explain", "a.png", "b.png", *(part for text in texts for part in ("--text", text))]
    options = ["--device", "cpu", "--out", "m.png", "--words", "w.png"]
    assert cli.main([*asked, *options, "--save-maps", "m.npz"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "wrote m.png, w-1.png, w-2.png and m.npz"
    saved = np.load("m.npz")
    own = cci_captum.explain(["a.png", "b.png"], texts, "tiny", words=True).words
    assert own is not None
    np.testing.assert_allclose(saved["word_drops.cci"], own.drops, atol=1e-5)
    assert saved["word_maps.cci"].shape == (2, 2, 5, 12, 12)
    assert saved["words"].tolist() == [["a", "cat", "and", "a", "dog"], ["a", "tree", "", "", ""]]
    first = ", ".join(
        f"{word.text} {drop:+.3f}"
        for word, drop in zip(own.words[0], own.drops[0, 0].tolist(), strict=True)
    )
    assert lines[4] == f"a.png: {first}"

    os.unlink("w-2.png")
    Path("w-2.png").mkdir()  # found before the work
    monkeypatch.setattr(explain, "load_model", lambda *_: pytest.fail("loaded a model"))
    assert cli.main([*asked, *options]) == 2
    assert "--words: expected a file, got a folder: w-2.png" in capsys.readouterr().err
    assert cli.main([*asked, "--out", "m.pdf", "--words", "./m.pdf"]) == 2
    assert "--words: expected another file than --out, got m.pdf" in capsys.readouterr().err
    assert cli.main([*asked, "--words", "w.png", "--method", "cci(score=margin)"]) == 2
    assert "--words: expected methods that explain one text" in capsys.readouterr().err


@pytest.mark.exhaustive
def test_explain_pages_over_many_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two rows a page: five images are three files, or one of three pages; each is named."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(explain, "DPI", 40)
    images = [f"{place}.png" for place in range(5)]
    for place, image in enumerate(images):
        Image.new("RGB", (8, 8), (50 * place, 0, 0)).save(image)
    rows, drawn = [], attribution_grid

    def recorded(photos: list[Image.Image], *args: object, **options: Any) -> object:
        rows.append(options["row_titles"])
        assert len(photos) == len(options["row_titles"])
        return drawn(photos, *args, **options)

    monkeypatch.setattr(side_by_side, "attribution_grid", recorded)
    options = ["--text", "a cat", "--method", "maskclip", "--device", "cpu", "--rows", "2"]
    assert cli.main(["explain", *images, *options, "--out", "m.png", "--save-maps", "m.npz"]) == 0
    out = capsys.readouterr().out
    pages = ["m-1.png", "m-2.png", "m-3.png"]
    assert out.endswith("wrote m-1.png, m-2.png, m-3.png and m.npz\n")
    assert names(tmp_path) == [*images, *pages, "m.npz"]
    assert rows == [images[:2], images[2:4], images[4:]]
    heights = [Image.open(page).height for page in pages]
    assert heights[0] == heights[1] > 1.5 * heights[2]

    assert cli.main(["explain", *images, *options, "--out", "m.pdf"]) == 0
    assert capsys.readouterr().out.endswith("wrote m.pdf\n")
    written = Path("m.pdf").read_bytes()
    assert len(re.findall(rb"/Type /Page\b", written)) == 3
    assert b"/Type3" not in written and b"/Subtype /Type0" in written  # as of figures alone

    os.unlink("m-2.png")
    Path("m-2.png").mkdir()  # found before the work
    monkeypatch.setattr(explain, "load_model", lambda *_: pytest.fail("loaded a model"))
    assert cli.main(["explain", *images, *options, "--out", "m.png"]) == 2
    assert "--out: expected a file, got a folder: m-2.png" in capsys.readouterr().err
    os.rename("0.png", "n-1.png")
    assert cli.main(["explain", "n-1.png", *images[1:], *options, "--out", "n.png"]) == 2
    assert "--out: would overwrite the image n-1.png" in capsys.readouterr().err


@LINUX
@pytest.mark.parametrize("arguments", [["methods"], ["--version"], ["explain", "--help"]])
def test_a_full_disk_under_what_is_printed(arguments: list[str]) -> None:
    """One line, and nothing more when Python ends."""
    code = "import sys; from cci_captum.benchmarks import cli; sys.exit(cli.main(sys.argv[1:]))"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.stderr == "cci-captum: error: cannot print: No space left on device\n"
    assert done.returncode == 2


@LINUX
def test_a_folder_cannot_be_a_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for command in ("demo", "compare"):
        assert cli.main([command, "--out", str(pipe)]) == 2
        message = f"cci-captum: error: --out: expected a folder, got a file: {pipe}\n"
        assert capsys.readouterr().err == message
    assert stat.S_ISFIFO(os.stat(pipe).st_mode)


@LINUX
def test_explain_takes_names_that_are_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    image, out = (name + b"\xe9\n.png".decode(errors="surrogateescape") for name in "ab")
    Image.new("RGB", (8, 8)).save("a.png")
    os.rename("a.png", image)
    options = ["--method", "maskclip", "--device", "cpu", "--save-maps", "maps.npz", "--out", out]
    assert cli.main(["explain", image, "--text", "a cat", *options]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("a\\xe9\\n.png: ")
    assert printed.endswith("wrote b\\xe9\\n.png and maps.npz\n")
