"""Names of files and folders as text that every output can hold."""

from __future__ import annotations

import os
import unicodedata

_ESCAPED = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, ends of lines


def readable(name: str | os.PathLike[str]) -> str:
    r"""A name as one line of text: bytes that are no UTF-8, and control characters, are escaped.

    File systems hold names that are no text. Python keeps bytes of another encoding as lone
    surrogates, which no UTF-8 file, Parquet table or terminal takes; a line end breaks a table.
    All other characters stay as they are.

    Args:
        name: As the file system or the command line gave it.

    Example:
        >>> readable("a/polar_bear.jpg"), readable(b"caf\xe9.jpg".decode("utf8", "surrogateescape"))
        ('a/polar_bear.jpg', 'caf\\xe9.jpg')
        >>> print(readable("two\nlines.jpg"))
        two\nlines.jpg
    """
    return "".join(
        _escape(c) if unicodedata.category(c) in _ESCAPED else c for c in os.fspath(name)
    )


def is_text(name: str) -> bool:
    r"""Whether a name is one that UTF-8 can hold.

    Example:
        >>> is_text("caf\u00e9"), is_text(b"caf\xe9".decode(errors="surrogateescape"))
        (True, False)
    """
    return not any(unicodedata.category(c) == "Cs" for c in name)


def encodable(text: str) -> str:
    r"""The text with what UTF-8 cannot hold, lone surrogates, escaped.

    Example:
        >>> print(encodable("caf\udce9"))
        caf\udce9
    """
    return text.encode("utf-8", "backslashreplace").decode()


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
