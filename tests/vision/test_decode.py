"""Pictures of every kind that the world writes: the pixels that are read of them, against numpy."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from gemkr.errors import VisionError
from gemkr.vision.decode import FORMATS, check_picture, known_formats, read_picture
from gemkr.vision.names import SUFFIXES
from gemkr.vision.pictures import PictureFolder

SIDE = 16
RAMP = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
"""0 to 255, each once."""
DEEP = (RAMP * 257).astype(np.uint16)
RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
ALPHA = RAMP.astype(np.uint8)
ORIENTATION = 0x0112


def png(values: np.ndarray, colour_type: int, *, transparent: bytes | None = None) -> bytes:
    """A PNG file of uint8 or uint16 [h, w] or [h, w, channels]."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8 * values.dtype.itemsize, colour_type, 0, 0, 0)
    rows = values.astype(values.dtype.newbyteorder(">"))
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    middle = b"" if transparent is None else chunk(b"tRNS", transparent)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + middle + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tiff(
    values: np.ndarray,
    photometric: int,
    *,
    bits: int = 0,
    extra: int | None = None,
    deflate: bool = False,
    order: str = "<",
    orientation: int = 1,
) -> bytes:
    """A TIFF file of [h, w] or [h, w, channels] of any dtype, or of packed bytes [h, n] with `bits` per sample."""
    height, width = values.shape[:2]
    samples = values.shape[2] if values.ndim == 3 else 1
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    if bits:
        width = width * 8 // bits
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    data = zlib.compress(data) if deflate else data
    entries = [
        (256, width), (257, height), (258, (bits or 8 * values.dtype.itemsize,) * samples), (259, 8 if deflate else 1),
        (262, photometric), (273, 8), (274, orientation), (277, samples), (278, height), (279, len(data)), (339, (kind,) * samples),
    ]  # fmt: skip
    if extra is not None:
        entries.insert(-1, (338, extra))
    place = 8 + len(data) + len(data) % 2
    outside = place + 2 + 12 * len(entries) + 4
    directory, tail = struct.pack(order + "H", len(entries)), b""
    for tag, value in entries:
        value = value if isinstance(value, tuple) else (value,)
        if tag in (273, 279):
            field = struct.pack(order + "HHII", tag, 4, 1, *value)
        elif len(value) <= 2:
            packed = struct.pack(f"{order}{len(value)}H", *value).ljust(4, b"\0")
            field = struct.pack(order + "HHI", tag, 3, len(value)) + packed
        else:
            field = struct.pack(order + "HHII", tag, 3, len(value), outside + len(tail))
            tail += struct.pack(f"{order}{len(value)}H", *value)
        directory += field
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, place)
    return head + data.ljust(place - 8, b"\0") + directory + struct.pack(order + "I", 0) + tail


def pixels(content: bytes | Image.Image) -> np.ndarray:
    """uint8[h, w, 3] of what is read."""
    source = BytesIO(content) if isinstance(content, bytes) else content
    picture = read_picture(source, "the picture")
    assert picture.mode == "RGB"
    return np.asarray(picture)


def grey(level: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(level, dtype=np.uint8)[..., None], 3, axis=-1)


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours [h, w, 3] over white, rounded; exact up to halves, which no product of bytes by 255 makes."""
    share = alpha[..., None].astype(np.float64) / 255
    return np.round(colours * share + 255 * (1 - share)).astype(np.uint8)


def saved(picture: Image.Image, kind: str, **settings: object) -> bytes:
    stream = BytesIO()
    picture.save(stream, kind, **settings)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP"])
def test_ordinary_pictures_are_read_as_pillow_reads_them(kind: str) -> None:
    exact = {"lossless": True} if kind == "WEBP" else {}
    for picture in (Image.fromarray(COLOURS), Image.fromarray(ALPHA)):
        content = saved(picture, kind, **exact)
        expected = np.asarray(Image.open(BytesIO(content)).convert("RGB"))
        np.testing.assert_array_equal(pixels(content), expected)
        if kind != "GIF" and picture.mode == "RGB":
            np.testing.assert_array_equal(expected, COLOURS)


def test_photos_are_read_as_pillow_reads_them_and_stand_upright() -> None:
    picture = Image.fromarray(np.vstack([COLOURS, COLOURS]))
    plain = saved(picture, "JPEG", quality=90)
    np.testing.assert_array_equal(pixels(plain), np.asarray(Image.open(BytesIO(plain)).convert("RGB")))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    turned = saved(picture, "JPEG", quality=90, exif=exif)
    np.testing.assert_array_equal(pixels(turned), np.rot90(pixels(plain), -1))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
def test_16_bits_of_grey(order: str, deflate: bool) -> None:
    np.testing.assert_array_equal(pixels(png(DEEP, 0)), grey(RAMP))
    np.testing.assert_array_equal(pixels(tiff(DEEP, 1, order=order, deflate=deflate)), grey(RAMP))
    if order == "<":
        np.testing.assert_array_equal(pixels(tiff(DEEP, 0, deflate=deflate)), grey(255 - RAMP))
    between = RNG.integers(0, 1 << 16, (SIDE, SIDE), dtype=np.uint16)
    np.testing.assert_array_equal(pixels(png(between, 0)), grey(np.round(between / 257)))
    dark = np.full((SIDE, SIDE), 257 * 3, dtype=np.uint16)  # a dark picture stays dark
    np.testing.assert_array_equal(pixels(png(dark, 0)), grey(np.full((SIDE, SIDE), 3)))


def test_16_bits_of_grey_turned_and_given_decoded() -> None:
    turned = tiff(DEEP, 1, orientation=6)
    np.testing.assert_array_equal(pixels(turned), grey(np.rot90(RAMP, -1)))
    np.testing.assert_array_equal(pixels(Image.fromarray(DEEP)), grey(RAMP))


def test_16_bits_of_grey_with_a_transparent_level() -> None:
    expected = grey(RAMP)
    expected[RAMP == 7] = 255
    content = png(DEEP, 0, transparent=struct.pack(">H", 7 * 257))
    np.testing.assert_array_equal(pixels(content), expected)


def test_12_bits_of_grey() -> None:
    values = RNG.integers(0, 1 << 12, (SIDE, SIDE)).astype(np.uint32)
    first, second = values[:, ::2], values[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).astype(np.uint8)
    content = tiff(packed.reshape(SIDE, -1), 1, bits=12)
    np.testing.assert_array_equal(pixels(content), grey(np.round(values * 255 / 4095)))


def test_16_bits_of_colour() -> None:
    deep = COLOURS.astype(np.uint16) * 256 + RNG.integers(0, 256, COLOURS.shape, dtype=np.uint16)
    for content in (png(deep, 2), tiff(deep, 2), tiff(deep, 2, order=">"), tiff(deep, 2, deflate=True)):
        np.testing.assert_array_equal(pixels(content), COLOURS)
    deeper = np.dstack([deep, ALPHA.astype(np.uint16) * 257])
    for content in (png(deeper, 6), tiff(deeper, 2, extra=2)):
        np.testing.assert_array_equal(pixels(content), on_white(COLOURS, ALPHA))
    both = np.dstack([DEEP, ALPHA.T.astype(np.uint16) * 257])
    np.testing.assert_array_equal(pixels(png(both, 4)), on_white(grey(RAMP), ALPHA.T))


def test_16_bits_of_colour_with_a_transparent_one() -> None:
    deep = COLOURS.astype(np.uint16) * 256
    deep[3, 4] = 0x1234, 0x5678, 0x9ABC
    expected = (deep >> 8).astype(np.uint8)
    expected[3, 4] = 255
    content = png(deep, 2, transparent=struct.pack(">HHH", 0x1234, 0x5678, 0x9ABC))
    np.testing.assert_array_equal(pixels(content), expected)


@pytest.mark.parametrize(
    ("dtype", "order"), [(np.int32, "<"), (np.int32, ">"), (np.uint32, "<"), (np.int16, "<"), (np.int16, ">")]
)
def test_whole_numbers_without_a_white_of_their_own(dtype: type, order: str) -> None:
    def read(values: np.ndarray) -> np.ndarray:
        return pixels(tiff(values.astype(dtype), 1, order=order))

    np.testing.assert_array_equal(read(RAMP), grey(RAMP))
    np.testing.assert_array_equal(read(RAMP * 4), grey(np.round(RAMP * 4 / 257)))
    if dtype is not np.uint32:
        np.testing.assert_array_equal(read(RAMP * 100 - 12000), grey(RAMP))
    if dtype is not np.int16:
        np.testing.assert_array_equal(read(RAMP * 1000 + 50000), grey(RAMP))
        np.testing.assert_array_equal(read(np.full((SIDE, SIDE), 100_000)), grey(np.zeros((SIDE, SIDE))))
    if dtype is np.uint32:
        np.testing.assert_array_equal(read(RAMP * 0x1010101), grey(RAMP))


def test_floats() -> None:
    def read(values: np.ndarray) -> np.ndarray:
        return pixels(tiff(values.astype(np.float32), 1))

    np.testing.assert_array_equal(read(RAMP / 255), grey(RAMP))
    np.testing.assert_array_equal(read(RAMP / 509), grey(np.round(RAMP / 509 * 255)))
    np.testing.assert_array_equal(read(RAMP.astype(float)), grey(RAMP))
    np.testing.assert_array_equal(read(RAMP * 257.0), grey(RAMP))
    np.testing.assert_array_equal(read(RAMP / 128 - 1), grey(RAMP))
    holes = RAMP / 255
    holes[0, :3] = np.nan, np.inf, -np.inf
    expected = grey(RAMP)
    expected[0, :3] = [[0] * 3, [255] * 3, [0] * 3]
    np.testing.assert_array_equal(read(holes), expected)
    with pytest.raises(VisionError, match="none of its values is a finite number; give another"):
        read(np.full((2, 2), np.nan))


@pytest.mark.parametrize(
    "content", [tiff(DEEP, 0, order=">"), tiff(RAMP / 255, 1), tiff(RAMP.astype(np.uint32), 1, order=">")]
)
def test_kinds_of_tiff_that_pillow_does_not_decode_are_named(content: bytes) -> None:
    message = r"it is no picture of a known format \(.*TIFF.*\), or of a kind of it that Pillow \S+ does not decode;"
    with pytest.raises(VisionError, match=message):
        pixels(content)


def test_whole_numbers_and_floats_given_decoded() -> None:
    for mode in ("I", "F"):
        np.testing.assert_array_equal(pixels(Image.fromarray(ALPHA).convert(mode)), grey(RAMP))
        upright = Image.fromarray(ALPHA).convert(mode)
        upright.getexif()[ORIENTATION] = 3
        np.testing.assert_array_equal(pixels(upright), grey(RAMP[::-1, ::-1]))


def test_alpha_is_mixed_with_white() -> None:
    expected = on_white(COLOURS, ALPHA)
    rgba = Image.fromarray(np.dstack([COLOURS, ALPHA]))
    for content in (saved(rgba, "PNG"), saved(rgba, "TIFF"), saved(rgba, "WEBP", lossless=True, exact=True)):
        np.testing.assert_array_equal(pixels(content), expected)
    opaque = Image.fromarray(np.dstack([COLOURS, np.full_like(ALPHA, 255)]))
    np.testing.assert_array_equal(pixels(saved(opaque, "PNG")), COLOURS)
    level = Image.merge("LA", [Image.fromarray(ALPHA.T.copy()), Image.fromarray(ALPHA)])
    for content in (saved(level, "PNG"), saved(level, "TIFF"), level):
        np.testing.assert_array_equal(pixels(content), on_white(grey(RAMP.T), ALPHA))


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_alpha_that_is_multiplied_in_already(mode: str) -> None:
    whole = Image.fromarray(np.dstack([grey(RAMP.T), ALPHA])).convert("LA" if mode == "La" else "RGBA")
    found = pixels(whole.convert(mode)).astype(int)
    assert np.abs(found - on_white(grey(RAMP.T), ALPHA)).max() <= 1


def test_a_palette_with_transparency_is_mixed_with_white() -> None:
    palette = RNG.integers(0, 256, (256, 3), dtype=np.uint8)
    picture = Image.fromarray(ALPHA).copy()
    picture.putpalette(palette.tobytes())
    assert picture.mode == "P"
    colours = palette[RAMP]
    np.testing.assert_array_equal(pixels(saved(picture, "PNG")), colours)
    shares = RNG.integers(0, 256, 256, dtype=np.uint8)
    content = saved(picture, "PNG", transparency=shares.tobytes())
    np.testing.assert_array_equal(pixels(content), on_white(colours, shares[RAMP]))
    expected = colours.copy()
    expected[RAMP == 9] = 255
    for kind in ("PNG", "GIF"):
        np.testing.assert_array_equal(pixels(saved(picture, kind, transparency=9)), expected)
    own = Image.fromarray(ALPHA).copy()
    own.putpalette(np.column_stack([palette, shares]).tobytes(), "RGBA")
    np.testing.assert_array_equal(pixels(own), on_white(colours, shares[RAMP]))
    np.testing.assert_array_equal(pixels(own.convert("PA")), on_white(colours, shares[RAMP]))


def test_a_transparent_colour_of_ordinary_pictures() -> None:
    marked = COLOURS.copy()
    marked[2, 3] = 10, 20, 30
    expected = marked.copy()
    expected[2, 3] = 255
    np.testing.assert_array_equal(
        pixels(png(marked, 2, transparent=struct.pack(">HHH", 10, 20, 30))), expected
    )
    expected = grey(RAMP)
    expected[RAMP == 11] = 255
    np.testing.assert_array_equal(pixels(png(ALPHA, 0, transparent=struct.pack(">H", 11))), expected)


def test_black_and_white_of_one_bit() -> None:
    picture = Image.fromarray(ALPHA > 100)
    expected = grey(255 * (RAMP > 100))
    for content in (saved(picture, "PNG"), saved(picture, "TIFF"), saved(picture, "BMP"), picture):
        np.testing.assert_array_equal(pixels(content), expected)


def test_cmyk_of_a_tiff_and_of_photoshop() -> None:
    flat = np.broadcast_to(np.array([40, 90, 200, 30], dtype=np.uint8), (SIDE, SIDE, 4)).copy()
    picture = Image.merge("CMYK", [Image.fromarray(flat[..., i].copy()) for i in range(4)])
    expected = np.round((255 - flat[..., :3].astype(float)) * (255 - 30) / 255)
    np.testing.assert_allclose(pixels(saved(picture, "TIFF")), expected, atol=1)
    photo = saved(picture, "JPEG", quality=100)
    adobe = photo.index(b"Adobe")  # inks are inverted in files with this mark
    assert photo[adobe + 11] == 0
    np.testing.assert_allclose(pixels(photo), expected, atol=3)
    luma = bytearray(photo)
    luma[adobe + 11] = 2  # the first three components are Y, Cb and Cr now
    y, cb, cr = (255.0 - flat[0, 0, :3]).tolist()
    red, green, blue = (
        y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128),
    )  # fmt: skip
    inks = np.clip(np.array([red, green, blue]), 0, 255)
    # what libjpeg makes of them is 255 - inks, which Pillow inverts like the other marks
    expected = np.broadcast_to(np.round((255 - inks) * (255 - 30) / 255), (SIDE, SIDE, 3))
    np.testing.assert_allclose(pixels(bytes(luma)), expected, atol=3)


def test_other_colour_spaces() -> None:
    for mode in ("YCbCr", "HSV"):
        picture = Image.fromarray(COLOURS).convert(mode)
        np.testing.assert_array_equal(pixels(picture), np.asarray(picture.convert("RGB")))


def test_the_first_frame_of_several() -> None:
    frames = [Image.fromarray(np.full((SIDE, SIDE, 3), level, dtype=np.uint8)) for level in (30, 200)]
    for kind in ("GIF", "TIFF", "WEBP", "PNG"):
        content = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        np.testing.assert_allclose(pixels(content), 30, atol=1)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_holds_pictures_of_every_suffix(suffix: str, tmp_path: Path) -> None:
    kind = {".jpg": "JPEG", ".jfif": "JPEG", ".jpe": "JPEG", ".tif": "TIFF"}.get(suffix, suffix[1:].upper())
    if kind not in known_formats():
        pytest.skip(f"this Pillow writes no {kind}")
    name = f"a{suffix}" if suffix != ".bmp" else "a.BMP"
    (tmp_path / name).write_bytes(saved(Image.fromarray(COLOURS), kind))
    pictures = PictureFolder(tmp_path)
    assert pictures.ids() == ["a"]
    assert pictures.path("a") == pictures.path(name) == tmp_path / name
    assert pictures.open("a").size == (SIDE, SIDE)
    pictures.check("a")
    capital = tmp_path / f"b.{suffix[1:].capitalize()}"
    capital.write_bytes((tmp_path / name).read_bytes())
    assert pictures.open("b").size == (SIDE, SIDE)


def test_pictures_that_are_not_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "whole.png").write_bytes(saved(Image.fromarray(COLOURS), "PNG"))
    (tmp_path / "notes.txt").write_text("no picture")
    pictures = PictureFolder(tmp_path, "pass it over")
    assert pictures.ids() == ["phone", "whole"]
    message = r"the picture 'phone' \(\S*phone\.HEIC\) cannot be read: \.heic files are not decoded .*; replace it, or pass it over$"
    for reading in (pictures.open, pictures.check):
        with pytest.raises(VisionError, match=message) as refusal:
            reading("phone")
        assert "\n" not in str(refusal.value)
    skipped: dict[str, str] = {}
    assert [name for name, _ in pictures.open_all(pictures.ids(), skipped)] == ["whole"]
    assert list(skipped) == ["phone"]
    (tmp_path / "new.avif").write_bytes(b"\0\0\0\x18ftypavif")
    monkeypatch.setattr(features, "check", lambda name: False)
    known_formats.cache_clear()
    try:
        assert "AVIF" not in known_formats()
        with pytest.raises(VisionError, match=r"new\.avif\) cannot be read: \.avif files are not decoded"):
            pictures.open("new")
    finally:
        known_formats.cache_clear()


def test_a_file_of_another_format_than_its_suffix(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_bytes(saved(Image.fromarray(COLOURS), "PNG"))
    assert PictureFolder(tmp_path).open("page").size == (SIDE, SIDE)
    (tmp_path / "drawing.png").write_bytes(saved(Image.fromarray(COLOURS), "EPS"))
    with pytest.raises(
        VisionError, match=r"it is no picture of a known format \(JPEG, PNG.*\), or of a kind .*; replace it"
    ):
        PictureFolder(tmp_path).open("drawing")
    assert set(known_formats()) <= set(FORMATS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_file_cut_short_is_found_without_reading_it_whole(kind: str, tmp_path: Path) -> None:
    noise = RNG.integers(0, 256, (120, 160, 3), dtype=np.uint8)
    content = saved(Image.fromarray(noise), kind)
    path = tmp_path / "cut"
    path.write_bytes(content)
    check_picture(path, "the picture", "replace it")
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(VisionError, match=r"the picture cannot be read: .*; replace it$") as found:
        check_picture(path, "the picture", "replace it")
    with pytest.raises(VisionError) as refusal:
        read_picture(path, "the picture", "replace it")
    assert str(found.value) == str(refusal.value)
