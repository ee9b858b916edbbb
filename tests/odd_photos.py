"""A folder of photos as people have them: some odd, some that nothing can read."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

READ = (  # of the folder "odd", sorted
    "animated.gif",
    "animated.webp",
    "cmyk.jpg",
    "damaged-exif.png",
    "grey.jpg",
    "grey16.png",
    "one-pixel.png",
    "palette.png",
    "tall.png",
    "turned.jpg",
    "twelve-bits.png",
    "wide.png",
)
WHY = {  # of the folder "unreadable"
    "empty.jpg": "not an image, or of an unknown kind",
    "huge.png": "too large, more than 178,956,970 pixels; scale it down",
    "link.jpg": "a link to a file that is missing",
    "text.jpg": "not an image, or of an unknown kind",
    "torn-1.jpg": "cannot be read, image file is truncated",
    "torn-2.jpg": "cannot be read, image file is truncated",
}


def write_odd_photos(root: Path) -> None:
    """The class folders "odd" and "unreadable" with the files of `READ` and `WHY`."""
    odd, unreadable = root / "odd", root / "unreadable"
    odd.mkdir(parents=True)
    unreadable.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    photo = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("animated.gif", "animated.webp"):
        photo.save(odd / name, save_all=True, append_images=[photo.rotate(180)])
    photo.convert("CMYK").save(odd / "cmyk.jpg")
    photo.convert("L").save(odd / "grey.jpg")
    Image.fromarray(pixels[..., 0] * np.uint16(257)).save(odd / "grey16.png")
    Image.new("RGB", (1, 1), "red").save(odd / "one-pixel.png")
    photo.quantize(16).save(odd / "palette.png", transparency=bytes([0, 128]))
    photo.resize((1, 5000)).save(odd / "tall.png")
    photo.resize((5000, 1)).save(odd / "wide.png")
    photo.save(odd / "turned.jpg", exif=exif)
    (odd / "twelve-bits.png").write_bytes(wide_png(pixels.astype(np.uint16) * 16))
    (odd / "damaged-exif.png").write_bytes(with_exif(photo, b"XX\0*" + exif.tobytes()[10:]))

    photo.save(unreadable / "torn-1.jpg")
    whole = (unreadable / "torn-1.jpg").read_bytes()
    for number, share in ((1, 0.5), (2, 0.9)):
        (unreadable / f"torn-{number}.jpg").write_bytes(whole[: int(share * len(whole))])
    (unreadable / "empty.jpg").touch()
    (unreadable / "text.jpg").write_text("no image")
    (unreadable / "huge.png").write_bytes(png(20_000, 10_000, 8, b""))
    (unreadable / "link.jpg").symlink_to("nowhere.jpg")


def wide_png(values: np.ndarray) -> bytes:
    """A PNG of colours (H, W, 3) of 16 bits, which Pillow does not write."""
    rows = [b"\0" + row.astype(">u2").tobytes() for row in values]
    return png(values.shape[1], values.shape[0], 16, b"".join(rows))


def with_exif(photo: Image.Image, content: bytes) -> bytes:
    """A PNG with EXIF data as given, whole or not."""
    whole = io.BytesIO()
    photo.save(whole, "png")
    start = whole.getvalue().index(b"IDAT") - 4
    return whole.getvalue()[:start] + chunk(b"eXIf", content) + whole.getvalue()[start:]


def png(width: int, height: int, bits: int, rows: bytes) -> bytes:
    """A PNG of colours, chunk by chunk (PNG specification, section 5)."""
    head = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
