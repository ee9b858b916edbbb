"""The files that a command writes: checked before the work, each written on its own after it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from cci_captum._files import temporary_name, whole_file
from cci_captum.names import readable

from ._common import CommandError

DPI = 200  # of pictures
_ROOM = 2**23  # bytes that a folder must have room for: what most runs write
# The longest side in pixels, of Pillow's encoders and of matplotlib's canvas.
_LONGEST = {".webp": 16_383, ".jpg": 65_500, ".jpeg": 65_500, ".png": 65_535}
_PICTURES = (*_LONGEST, ".pdf", ".svg")


class Outputs:
    """Files that are all expected to be written, each whole or not at all.

    What can stop one from being written is looked for by `expect`, before the work. What goes
    wrong all the same takes no other file with it, and is said by `finish`.

    Args:
        announce: Print the path of each file as soon as it is written.

    Attributes:
        written: The paths of files that were written.
    """

    def __init__(self, *, announce: bool = False) -> None:
        self.written: list[Path] = []
        self._announce = announce
        self._failed: list[str] = []
        self._bug: Exception | None = None
        self._checked: set[Path] = set()

    def expect(self, path: Path, option: str, suffixes: Sequence[str] = ()) -> None:
        """Raise CommandError if a file cannot be written at path.

        Args:
            path: The file. One that is there will be replaced.
            option: As the command line calls what chooses the path.
            suffixes: Those that the name may end in; none allows any.
        """
        name = readable(path)
        if suffixes and path.suffix.lower() not in suffixes:
            known = ", ".join(suffixes)
            raise CommandError(f"{option}: expected a file name ending in {known}, got {name}")
        try:
            mode = os.stat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            mode = stat.S_IFREG
        except OSError as error:  # too long a name, links in a circle
            raise CommandError(f"{option}: cannot write {name}: {error.strerror}") from error
        if stat.S_ISDIR(mode):
            raise CommandError(f"{option}: expected a file, got a folder: {name}")
        if not stat.S_ISREG(mode):
            raise CommandError(f"{option}: expected a file, got a device or pipe: {name}")
        folder = path.absolute().parent
        if folder not in self._checked:
            _check_folder(folder, option)
            self._checked.add(folder)

    def expect_in(self, folder: Path, option: str, names: Iterable[str]) -> None:
        """Make a folder, with its parents, unless it is there, and expect files in it."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise CommandError(
                f"{option}: expected a folder, got a file: {readable(folder)}"
            ) from error
        except OSError as error:
            raise CommandError(
                f"{option}: cannot make {readable(folder)}: {error.strerror}"
            ) from error
        for name in names:
            self.expect(folder / name, option)

    def write(self, path: Path, save: Callable[[Path], object]) -> None:
        """Write a file, or remember what went wrong.

        Args:
            path: An expected file.
            save: Makes the file at the path that it is handed, which has the same suffix.
        """
        try:
            with whole_file(path) as temporary, _plain_texts(path):
                save(temporary)
        except (OSError, ValueError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            self._failed.append(f"cannot write {readable(path)}: {reason}")
        except Exception as error:  # raised by finish, when the other files are written
            self._bug = self._bug or error
        else:
            self.written.append(path)
            if self._announce:
                print(f"wrote {readable(path)}", flush=True)

    def finish(self) -> None:
        """Raise CommandError if a file could not be written, naming each, and the others."""
        if self._bug is not None:
            raise self._bug
        if self._failed:
            others = ", ".join(map(readable, self.written))
            raise CommandError("; ".join([*self._failed, f"wrote {others or 'nothing else'}"]))


@contextmanager
def _plain_texts(path: Path) -> Iterator[None]:
    """While a picture is drawn: names with "$" are no formulas, unless the drawing says so."""
    if path.suffix.lower() not in _PICTURES:
        yield
        return
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):
        yield


def check_picture(path: Path, size: tuple[float, float], option: str) -> None:
    """Raise CommandError if a picture of so many inches is beyond what its format can hold."""
    longest = _LONGEST.get(path.suffix.lower())
    width, height = (round(side * DPI) for side in size)
    if longest is not None and max(width, height) > longest:
        raise CommandError(
            f"{option}: expected a picture of at most {longest} pixels a side in "
            f"{path.suffix.lower()}, got {width} x {height}; write .pdf or .svg, or show "
            "fewer images on a page, texts or methods"
        )


def _check_folder(folder: Path, option: str) -> None:
    """Raise CommandError unless files can be written into the folder, and have room there."""
    name = readable(folder)
    if not folder.is_dir():
        raise CommandError(f"{option}: no such folder: {name}")
    # Trying tells more than permissions do: a read-only or full disk, a quota, a file system.
    temporary = temporary_name(folder, ".part")
    try:
        with open(temporary, "xb") as file:
            file.write(bytes(_ROOM))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CommandError(f"{option}: cannot write into {name}: {error.strerror}") from error
    finally:
        with suppress(OSError):  # what went wrong before is what counts
            temporary.unlink()
