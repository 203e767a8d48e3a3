"""Image files to upright 8-bit pixels, within limits of bytes, pixels and time."""

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from cascade.errors import RowsError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["FORMATS", "decode_image", "to_channels"]

Value = TypeVar("Value")

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_SCANS = 100
"""Of a JPEG file; each scan of a progressive file passes over all pixels, so thousands of short ones take minutes."""
START_OF_SCAN = b"\xff\xda"
ADDRESS = re.compile(r" ?<_io\.\w+ object at 0x[0-9a-f]+>")
"""Of an object, in Pillow's messages."""
SIGNATURES = {b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"%PDF": "PDF"}


def decode_image(content: bytes, max_bytes: int, max_pixels: int) -> np.ndarray:
    """Decodes a JPEG, PNG or WebP file.

    The orientation of its EXIF data is applied, transparent pixels are laid over white, 16-bit values are divided by
    256, and CMYK and palettes are converted to RGB. Colour profiles are ignored.

    Args:
        content: of the file.
        max_bytes: maximum size of the file.
        max_pixels: maximum size of the image; it is read before any pixel is decoded.

    Returns:
        (height, width, 3) uint8, C-contiguous; (height, width) for grey images without transparency.

    Raises:
        RowsError: the content is no such file, is damaged or animated, or exceeds a limit.
    """
    if len(content) > max_bytes:
        raise RowsError(f"an image file may have {max_bytes} bytes; got {len(content)}")
    from PIL import Image, ImageOps

    try:
        image = _guarded(lambda: Image.open(io.BytesIO(content), formats=FORMATS), content)
    except RowsError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):  # of Pillow, above twice its own limit
            raise RowsError(f"an image may have {max_pixels} pixels; this one has far more") from error
        raise
    width, height = image.size
    if width * height > max_pixels:
        raise RowsError(f"an image may have {max_pixels} pixels; got {width} x {height}")
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise RowsError(f"animated images are not supported; send one frame (this {image.format} file has several)")
    if image.format in ("JPEG", "MPO") and content.count(START_OF_SCAN) > MAX_SCANS:
        raise RowsError(f"a JPEG file may have {MAX_SCANS} scans; got {content.count(START_OF_SCAN)}; save it again")
    return _guarded(lambda: _pixels(ImageOps.exif_transpose(image)), content)


def to_channels(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An image as the windows need it: grey or RGB.

    Args:
        image: (height, width), (height, width, 1), or (height, width, 3) RGB, uint8.
        shape: of a window, (height, width) or (height, width, 3).

    Returns:
        (height, width) or (height, width, 3) uint8, C-contiguous. Grey is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601).

    Raises:
        RowsError: the array is no such image.
    """
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or not image.size:
        raise RowsError(
            f"an image must be uint8 of shape (height, width) or (height, width, 3); got {image.dtype} of shape "
            f"{image.shape}"
        )
    if image.shape[2:] != shape[2:]:
        from PIL import Image

        image = np.asarray(Image.fromarray(image).convert("RGB" if len(shape) == 3 else "L"))
    return np.ascontiguousarray(image)


def _pixels(image: "Image") -> np.ndarray:
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        # Pillow would clip values above 255 instead of scaling them.
        return np.ascontiguousarray(np.asarray(image).astype(np.int64).clip(0, 0xFFFF) >> 8, dtype=np.uint8)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    is_grey = image.mode in ("1", "L", "LA", "La")
    return np.array(image.convert("L" if is_grey else "RGB"))


def _guarded(read: Callable[[], Value], content: bytes) -> Value:
    try:
        return read()
    except Exception as error:  # Pillow's decoders raise many kinds of errors for damaged files
        kind = next((name for start, name in SIGNATURES.items() if content.startswith(start)), None)
        if not content:
            raise RowsError("the image file is empty") from error
        if kind is not None:
            raise RowsError(f"{kind} files are not supported; send JPEG, PNG or WebP") from error
        detail = ADDRESS.sub("", f"{type(error).__name__}: {error}")
        raise RowsError(f"the image is not a whole JPEG, PNG or WebP file: {detail}") from error
