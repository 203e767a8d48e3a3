"""Image files of every kind: right pixels, or an error that names the reason; within limits."""

import io
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from cascade.detection.image_files import decode_image, to_channels
from cascade.errors import RowsError

GREY = np.add.outer(np.arange(24) * 4, np.arange(40) * 2).astype(np.uint8)
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=2)


def encoded(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def decode(content, max_bytes=1 << 24, max_pixels=1 << 24):
    return decode_image(content, max_bytes, max_pixels)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_lossless_files_keep_their_pixels(form):
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(COLOUR), form, lossless=True)), COLOUR)


def test_grey_images_have_no_channels():
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(GREY))), GREY)
    black_and_white = Image.fromarray(GREY > 60)
    np.testing.assert_array_equal(decode(encoded(black_and_white)), np.where(GREY > 60, 255, 0))


def test_a_jpeg_is_decoded_up_to_its_losses():
    for mode in ("RGB", "L"):
        wanted = np.asarray(Image.fromarray(COLOUR).convert(mode))
        found = decode(encoded(Image.fromarray(COLOUR).convert(mode), "JPEG", quality=100, subsampling=0))
        assert np.abs(found.astype(int) - wanted).mean() < 2


def test_cmyk_becomes_rgb():
    content = encoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG", quality=100)
    assert np.abs(decode(content).astype(int) - COLOUR).mean() < 4


def test_sixteen_bits_become_eight_instead_of_being_clipped():
    deep = (GREY.astype(np.uint16) << 8) + 77
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(deep))), GREY)


def test_transparent_pixels_are_laid_over_white():
    alpha = np.zeros_like(GREY)
    alpha[:, 20:] = 255
    found = decode(encoded(Image.fromarray(np.dstack([COLOUR, alpha]))))
    assert (found[:, :20] == 255).all()
    np.testing.assert_array_equal(found[:, 20:], COLOUR[:, 20:])
    shade = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)])
    np.testing.assert_array_equal(to_channels(decode(encoded(shade)), (8, 8))[:, 20:], GREY[:, 20:])


def test_a_palette_is_resolved_with_its_transparent_colour():
    places = (GREY > 60).astype(np.uint8)
    image = Image.fromarray(places).convert("P")
    image.putpalette([250, 10, 20, 30, 40, 200])
    image.putdata(places.ravel().tolist())
    assert decode(encoded(image))[0, 0].tolist() == [250, 10, 20]
    assert decode(encoded(image, transparency=0))[0, 0].tolist() == [255, 255, 255]
    assert decode(encoded(image, transparency=0))[-1, -1].tolist() == [30, 40, 200]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_the_orientation_of_exif_is_applied(form, orientation):
    turned = {
        1: GREY,
        2: GREY[:, ::-1],
        3: GREY[::-1, ::-1],
        4: GREY[::-1],
        5: GREY.T,
        6: np.rot90(GREY, -1),
        7: GREY[::-1, ::-1].T,
        8: np.rot90(GREY),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encoded(Image.fromarray(GREY), form, exif=exif, quality=95))
    found = to_channels(found, (8, 8)).astype(int)
    assert found.shape == turned[orientation].shape
    assert np.abs(found - turned[orientation]).mean() < 5


def test_the_smallest_and_the_widest_image():
    assert decode(encoded(Image.new("L", (1, 1), 7))).tolist() == [[7]]
    assert decode(encoded(Image.new("RGB", (20_000, 3)), "JPEG")).shape == (3, 20_000, 3)


def test_sixteen_bits_of_colour_become_eight():
    deep = (COLOUR.astype(">u2") << 8) + np.uint16(77)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in deep)
    np.testing.assert_array_equal(decode(png_header(40, 24, lines, bits=16)), COLOUR)


def test_data_beyond_the_claimed_size_are_not_decoded():
    content = png_header(40, 24, bytes(20_000_000))
    tracemalloc.start()
    assert not decode(content).any()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


def png_header(width, height, data=bytes(99), bits=8, text=b""):
    """A PNG file that claims a size, with hardly any data by default."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)), (b"IDAT", zlib.compress(data))]
    if text:
        parts.insert(1, (b"zTXt", b"Comment\0\0" + zlib.compress(text)))
    chunks = [struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def animated(form, **options):
    frames = [Image.fromarray(COLOUR), Image.fromarray(255 - COLOUR)]
    return encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)


WHOLE = encoded(Image.fromarray(COLOUR), "JPEG")
BAD = {
    "truncated JPEG": (WHOLE[: len(WHOLE) // 2], "not a whole JPEG, PNG or WebP file"),
    "truncated PNG": (encoded(Image.fromarray(COLOUR))[:-40], "not a whole"),
    "truncated WebP": (encoded(Image.fromarray(COLOUR), "WEBP")[:-40], "not a whole"),
    "text": (b"hello, I am no image", "not a whole"),
    "empty": (b"", "is empty"),
    "GIF": (animated("GIF"), "GIF files are not supported"),
    "animated WebP": (animated("WEBP"), "animated images are not supported"),
    "animated PNG": (animated("PNG"), "animated images are not supported"),
    "BMP": (encoded(Image.fromarray(COLOUR), "BMP"), "BMP files are not supported"),
    "TIFF": (encoded(Image.fromarray(COLOUR), "TIFF"), "TIFF files are not supported"),
    "bomb": (png_header(5000, 5000), "an image may have 16777216 pixels; got 5000 x 5000"),
    "large bomb": (png_header(60_000, 60_000), "an image may have 16777216 pixels; this one has far more"),
    "bomb of text": (png_header(40, 24, text=bytes(5_000_000)), "Decompressed data too large"),
    "bomb of scans": (WHOLE + b"\xff\xda" * 200, "a JPEG file may have 100 scans; got 201"),
    "bytes": (bytes(1 << 24) + b"1", "an image file may have 16777216 bytes; got 16777217"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_refused_at_once_with_its_reason(kind):
    content, reason = BAD[kind]
    began = time.perf_counter()
    with pytest.raises(RowsError, match=reason):
        decode(content)
    assert time.perf_counter() - began < 2


def test_arrays_are_checked_and_converted_to_the_channels_of_the_windows():
    np.testing.assert_array_equal(to_channels(GREY[:, :, None], (8, 8)), GREY)
    assert (to_channels(GREY, (8, 8, 3)) == GREY[:, :, None]).all()
    weights = COLOUR @ np.array([0.299, 0.587, 0.114])
    assert np.abs(to_channels(COLOUR, (8, 8)) - weights).max() <= 1
    for wrong in (COLOUR[None], GREY.astype(float), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)):
        with pytest.raises(RowsError, match="an image must be uint8"):
            to_channels(wrong, (8, 8))


def test_a_refusal_shows_no_address_of_memory():
    with pytest.raises(RowsError) as refused:
        decode(b"neither an image nor empty")
    assert "0x" not in str(refused.value)
