"""What an encoded image says of itself before its pixels are decoded."""

import io
import struct
from typing import NamedTuple

from PIL import Image

# What TensorFlow's decoders take and face sets are made of.
FORMATS = ("JPEG", "PNG")
_END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL_BYTES = 64


class BrokenImageError(ValueError):
    """The bytes are no complete JPEG or PNG image; the message says why."""


class ImageHeader(NamedTuple):
    """Format and size of an encoded image."""

    format: str  # one of FORMATS
    width: int
    height: int
    mode: str  # of pillow: "RGB", "L", ...


def read_header(data: bytes) -> ImageHeader:
    """Reads the header of an encoded image and checks that its end is there.

    Pixels are decoded only where the end mark is missing.

    Raises:
        BrokenImageError: where the bytes are no JPEG or PNG, or are cut short.
    """
    if not data:
        raise BrokenImageError("empty")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise BrokenImageError(
            f"no JPEG or PNG image ({len(data)} bytes, the first are {data[:8].hex()})"
        ) from error
    # JPEG files with further pictures inside call themselves MPO.
    kind = "PNG" if image.format == "PNG" else "JPEG"
    if _END_MARKS[kind] not in data[-_TAIL_BYTES:]:
        try:
            image.load()
        except (OSError, SyntaxError, ValueError, struct.error) as error:
            raise BrokenImageError(f"{kind} image cut short: {error}") from error
    return ImageHeader(kind, *image.size, image.mode)
