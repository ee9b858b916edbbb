"""Image files of odd kinds, against the pixels that went into them."""

from __future__ import annotations

import errno
import re
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from odd_photos import wide_png, with_exif
from PIL import Image, features

from cci_captum.images import _to_rgb, crop_to_ratio, decode_with_scaling, read_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quadrants() -> Image.Image:
    """A 4 x 2 picture: red, green over blue, white, in blocks of 2 x 1."""
    image = Image.new("RGB", (4, 2))
    for index, colour in enumerate([RED, GREEN, BLUE, WHITE]):
        image.paste(colour, (index % 2 * 2, index // 2, index % 2 * 2 + 2, index // 2 + 1))
    return image


def pixels(path: Path) -> np.ndarray:
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_rgb_is_unchanged(tmp_path: Path) -> None:
    quadrants().save(tmp_path / "a.png")
    assert (pixels(tmp_path / "a.png") == np.asarray(quadrants())).all()


@pytest.mark.parametrize("mode", ["1", "L"])
def test_gray_is_repeated(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(np.array([[0, 255], [255, 0]], dtype=np.uint8)).convert(mode)
    image.save(tmp_path / "a.png")
    assert (pixels(tmp_path / "a.png") == np.asarray(image.convert("L"))[..., None]).all()


def test_one_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png").tolist() == [[[10, 20, 30]]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_over_white(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (3, 1))
    black = (0,) * (len(mode) - 1)
    for x, alpha in enumerate((0, 128, 255)):
        image.putpixel((x, 0), (*black, alpha))
    image.save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png")[0, :, 0].tolist() == [255, 127, 0]


def test_palette(tmp_path: Path) -> None:
    quadrants().quantize(4).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "P"
    assert (pixels(tmp_path / "a.png") == np.asarray(quadrants())).all()


def test_transparent_colour_of_a_palette(tmp_path: Path) -> None:
    image = quadrants().quantize(4)
    image.save(tmp_path / "a.png", transparency=image.getpixel((0, 0)))
    result = pixels(tmp_path / "a.png")
    assert result[0, 0].tolist() == list(WHITE)  # red was made transparent
    assert result[0, 3].tolist() == list(GREEN)


def test_transparent_colour_of_rgb(tmp_path: Path) -> None:
    quadrants().save(tmp_path / "a.png", transparency=BLUE)
    result = pixels(tmp_path / "a.png")
    assert result[1, 0].tolist() == list(WHITE)
    assert result[0, 0].tolist() == list(RED)


def test_cmyk(tmp_path: Path) -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # magenta and yellow: red
    image.save(tmp_path / "a.jpg", quality=95)
    assert Image.open(tmp_path / "a.jpg").mode == "CMYK"
    red, green, blue = pixels(tmp_path / "a.jpg")[8, 8].tolist()
    assert red > 240 and green < 15 and blue < 15


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    ramp = np.arange(0, 65536, 257, dtype=np.uint16)[None].repeat(2, axis=0)
    Image.fromarray(ramp).save(tmp_path / f"a.{suffix}")
    result = pixels(tmp_path / f"a.{suffix}")
    assert (result == np.arange(256)[None, :, None]).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_scale_that_leaves_an_image_dark_is_said(tmp_path: Path, suffix: str) -> None:
    """12 bits of a camera in a file of 16: 4095 becomes 16 of 255."""
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.array([[0, 2048, 4095]], dtype=np.uint16)).save(path)
    message = (
        rf"a\.{suffix}: grey of 16 bits, .* 4095, needs 12: divided by 65535, .* if 4095 means"
    )
    with pytest.warns(UserWarning, match=message):
        assert pixels(path)[0, :, 0].tolist() == [0, 8, 16]


@pytest.mark.parametrize("largest", [0, 32768, 65535])
def test_a_scale_that_the_file_means_is_not_said(tmp_path: Path, largest: int) -> None:
    Image.fromarray(np.array([[0, largest]], dtype=np.uint16)).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("values", "expected", "white"),
    [([0, 100, 255], [0, 100, 255], 255), ([0, 256, 65535], [0, 1, 255], 65535)],
)
def test_whole_numbers_of_32_bits(
    tmp_path: Path, values: list[int], expected: list[int], white: int
) -> None:
    Image.fromarray(np.array([values], dtype=np.int32)).save(tmp_path / "a.tif")
    assert Image.open(tmp_path / "a.tif").mode == "I"
    with pytest.warns(UserWarning, match=f"largest {values[-1]}: divided by {white}$"):
        assert pixels(tmp_path / "a.tif")[0, :, 0].tolist() == expected


@pytest.mark.parametrize("values", [[0, 65536], [-1, 5]])
def test_whole_numbers_out_of_range(tmp_path: Path, values: list[int]) -> None:
    Image.fromarray(np.array([values], dtype=np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"expected values from 0 to (255|65535), got .*a\.tif"):
        read_image(tmp_path / "a.tif")


def test_a_dark_file_of_16_bits_is_not_taken_for_8(tmp_path: Path) -> None:
    """Pillow gives mode "I" for a PGM of 16 bits: its range is known all the same."""
    values = np.array([0, 200, 255], dtype=">u2").tobytes()
    (tmp_path / "a.pgm").write_bytes(b"P5\n3 1\n65535\n" + values)
    assert Image.open(tmp_path / "a.pgm").mode == "I"
    with pytest.warns(UserWarning, match="grey of 16 bits"):
        assert pixels(tmp_path / "a.pgm")[0, :, 0].tolist() == [0, 1, 1]


def test_transparent_grey_of_16_bits(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1000, 65535], [1000, 0, 1001]], dtype=np.uint16))
    image.save(tmp_path / "a.png", transparency=1000)
    assert pixels(tmp_path / "a.png")[..., 0].tolist() == [[0, 255, 255], [255, 0, 4]]


def test_transparent_value_of_a_png_in_few_or_many_bits(tmp_path: Path) -> None:
    """A value of 4 bits is in the file as it is, of 16 bits in all three channels too."""
    write_png(tmp_path / "4.png", 2, bits=4, colours=0, row=b"\x5a", transparent=b"\0\x05")
    assert pixels(tmp_path / "4.png")[0, :, 0].tolist() == [255, 170]
    colours = np.array([[0, 0, 0], [1000, 2000, 3000]], dtype=">u2")
    options = {"row": colours.tobytes(), "transparent": colours[1].tobytes()}
    write_png(tmp_path / "16.png", 2, bits=16, colours=2, **options)
    with pytest.warns(UserWarning, match="of which the largest value is about 2827"):
        assert pixels(tmp_path / "16.png").tolist() == [[[0, 0, 0], [255, 255, 255]]]


def write_png(
    path: Path, width: int, *, bits: int, colours: int, row: bytes, transparent: bytes
) -> None:
    """A PNG of one row, chunk by chunk (PNG specification, section 5)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, 1, bits, colours, 0, 0, 0)
    data = zlib.compress(b"\0" + row)
    parts = [(b"IHDR", head), (b"tRNS", transparent), (b"IDAT", data), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))


def test_premultiplied_grey() -> None:
    assert _to_rgb(Image.new("La", (1, 1)), None, None).getpixel((0, 0)) == WHITE


def test_floating_point_is_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 0.5, 1]], dtype=np.float32)).save(tmp_path / "a.tif")
    assert pixels(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 128, 255]


def test_floating_point_of_unknown_range(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 7.5]], dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"expected values from 0 to 1, got 0 to 7\.5: .*a\.tif"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [*enumerate([RED, GREEN, WHITE, BLUE, RED, BLUE, WHITE, GREEN], start=1)],
)
def test_exif_orientation(tmp_path: Path, orientation: int, corner: tuple[int, ...]) -> None:
    quadrants().save(tmp_path / "a.png", exif=exif_of(orientation))
    image = read_image(tmp_path / "a.png")
    assert image.size == ((2, 4) if orientation > 4 else (4, 2))
    assert image.getpixel((0, 0)) == corner


def test_damaged_exif_leaves_the_picture_as_it_lies(tmp_path: Path) -> None:
    """As viewers show it, and said."""
    content = b"XX\0*" + exif_of(6).tobytes()[10:]
    (tmp_path / "a.png").write_bytes(with_exif(quadrants(), content))
    with pytest.warns(UserWarning, match=r"a\.png: its EXIF data are damaged: taken as it lies"):
        assert (pixels(tmp_path / "a.png") == np.asarray(quadrants())).all()


def test_orientation_beside_other_exif_that_is_wrong(tmp_path: Path) -> None:
    """Read all the same, and not said again of the image that was turned."""
    exif = exif_of(6)
    exif[0x0131] = "text"
    content = exif.tobytes()[6:].replace(b"\x01\x31\0\x02", b"\x01\x00\0\x02")  # as a width
    (tmp_path / "a.png").write_bytes(with_exif(quadrants(), content))
    image = read_image(tmp_path / "a.png")
    assert image.size == (2, 4) and image.getpixel((0, 0)) == BLUE
    assert 0x0112 not in image.getexif()


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("largest", [4095, 255, 40_000])
def test_colours_of_16_bits_that_stay_dark_are_said(tmp_path: Path, largest: int) -> None:
    """As grey is; Pillow gives the upper 8 bits."""
    values = np.zeros((2, 3, 3), dtype=np.uint16)
    values[1, 2, 1] = largest
    (tmp_path / "a.png").write_bytes(wide_png(values))
    portable = b"P6\n3 2\n65535\n" + values.astype(">u2").tobytes()
    (tmp_path / "a.ppm").write_bytes(portable)
    for name in ("a.png", "a.ppm"):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            found = pixels(tmp_path / name)
        assert abs(int(found.max()) - largest / 257) <= 1
        said = [re.findall(r"colours of 16 bits, .* about (\d+)", str(w.message)) for w in warned]
        assert said == [] if largest == 40_000 else abs(int(said[0][0]) - largest) <= 256


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in (GREEN, RED)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert Image.open(tmp_path / "a.gif").n_frames == 2
    assert (pixels(tmp_path / "a.gif") == GREEN).all()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such image: .*a\.png"):
        read_image(tmp_path / "a.png")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="expected an image, got a folder"):
        read_image(tmp_path)


@pytest.mark.parametrize("content", [b"", b"just some text\n"])
def test_not_an_image(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"not an image, or of an unknown kind: .*a\.jpg"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "webp"])
def test_truncated(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"a\.{suffix}"):
        read_image(path)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_whatever_a_decoder_raises_is_about_the_file() -> None:
    """Pillow's decoder of AVIF raises RuntimeError for some of these."""
    whole = BytesIO()
    quadrants().resize((32, 16)).save(whole, "avif")
    rng, raised = np.random.default_rng(0), set()
    for _ in range(300):
        content = bytearray(whole.getvalue())
        for place in rng.integers(0, len(content), 3):
            content[place] = rng.integers(256)
        try:
            decode_with_scaling(bytes(content), "a.avif")
        except ValueError as error:
            assert str(error).endswith(": a.avif")
            raised.add(type(error.__cause__))
    assert RuntimeError in raised


def test_a_file_that_cannot_be_read_now_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    quadrants().save(tmp_path / "a.png")
    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(OSError, match=r"cannot read .*a\.png now: Input/output error") as raised:
        read_image(tmp_path / "a.png")
    assert raised.value.errno == errno.EIO


def test_too_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No image within the limit of pixels is as large as that; nothing of it is read."""
    quadrants().save(tmp_path / "a.png")
    with (tmp_path / "a.png").open("ab") as file:
        file.truncate(2**40)  # takes no room on the disk
    with pytest.raises(ValueError, match=r"too large, more than 1,431,655,760 bytes; .*a\.png"):
        read_image(tmp_path / "a.png")


def test_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)  # exceeded, but not twice
    assert read_image(tmp_path / "a.png").size == (100, 100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(ValueError, match=r"too large, more than 8,000 pixels"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("size", [(30, 30), (80, 10), (10, 80), (1, 1)])
def test_crop_leaves_usual_shapes_alone(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size)
    assert crop_to_ratio(image) is image


def test_crop_keeps_the_centre() -> None:
    ramp = np.arange(20_000).repeat(10).reshape(-1, 10) // 100
    tall = Image.fromarray(ramp.astype(np.uint8))
    for image in (tall, tall.transpose(Image.Transpose.TRANSPOSE)):
        cut = crop_to_ratio(image, 8)
        assert sorted(cut.size) == [10, 80]
        assert set(np.unique(np.asarray(cut))) == {99, 100}
