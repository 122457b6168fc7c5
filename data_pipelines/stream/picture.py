"""What a picture is: the one rule of training, import, inspection, scores, previews.

`read` looks at the header only, which takes some microseconds for the JPEG and PNG
files that face sets are made of: these stay as they are. What else Pillow reads
becomes a PNG, upright, 8-bit, RGB. `pixels` decodes as well.
"""

import io
import os
import stat
import struct
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from PIL import Image, ImageOps

from qface_jax.errors import DataError
from qface_jax.storage.retrying import retrying

# Endings of files that are taken for pictures, in any case. What a file is, its
# content says.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".jpe", ".jfif",
    ".apng", ".gif",
)  # fmt: skip
MAX_PIXELS = 64_000_000
# The short side becomes 112: 60,000 x 1 would ask for 9 GB.
MAX_ASPECT = 16
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_EXPECTED = "a whole JPEG, PNG, WebP, BMP, TIFF or GIF"
_ORIENTATION = 0x0112
_SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L")
_END = b"\xff\xd9"  # of a JPEG; its compressed data does not hold it
_UNDECODABLE = (OSError, SyntaxError, ValueError, struct.error, EOFError)


# Why bytes are no picture that can be used, in a word for counts.
BROKEN, EMPTY, ANIMATED, TOO_LARGE = "broken", "empty", "animated", "too large"
UNREAD_VALUES, NO_FILE = "of values that are not read", "no regular file"


class PictureError(DataError):
    """The bytes are no picture that can be used; the message says why.

    Attributes:
        kind: why, in a word: one of the constants above.
    """

    def __init__(self, message: str, kind: str = BROKEN):
        super().__init__(message)
        self.kind = kind


class Picture(NamedTuple):
    """An encoded picture.

    Attributes:
        format: of the bytes that were read, one of JPEG, PNG, WEBP, BMP, TIFF, GIF.
        width: upright, px.
        height: upright, px.
        encoded: JPEG or PNG, upright, 8-bit, grey or RGB.
    """

    format: str
    width: int
    height: int
    encoded: bytes


def read(encoded: bytes) -> Picture:
    """Returns what some bytes are a picture of, without decoding common ones.

    Raises:
        PictureError: they are no picture, are cut short, hold several pictures, or
            have more pixels or longer sides than can be used.
    """
    if not encoded:
        raise PictureError(f"not a picture: empty, expected {_EXPECTED}", EMPTY)
    header = _jpeg(encoded) if encoded[:3] == b"\xff\xd8\xff" else _png(encoded)
    if header is None:
        return _transcoded(encoded)
    return header


def pixels(picture: Picture) -> np.ndarray:
    """Decodes a picture: uint8 [h, w, 3], RGB.

    Raises:
        PictureError: the picture is damaged.
    """
    image = _decoded(picture.encoded)
    if is_flat(image) and is_cut(picture.encoded):
        raise PictureError(_cut(picture.encoded))
    return image


def is_flat(image: np.ndarray) -> bool:
    """Whether the last corner is of one colour, as where a JPEG's data ran out."""
    corner = image[-4:, -4:]
    return bool((corner == corner[-1, -1]).all())


def is_cut(encoded: bytes) -> bool:
    """Whether a JPEG lacks data before its end mark, which decoders make up for.

    Where nothing lacks, decoders do not look at what stands between data and mark.
    """
    if encoded[:2] != b"\xff\xd8":
        return False
    end = encoded.rfind(_END)
    more = np.random.default_rng(0).integers(0, 255, 4096).astype(np.uint8).tobytes()
    try:
        other = _decoded(encoded[:end] + more + encoded[end:])
        return not np.array_equal(_decoded(encoded), other)
    except PictureError:
        return True


def read_file(path: str | bytes | Path) -> bytes:
    """Returns the content of a file.

    Raises:
        OSError: it cannot be read, though tried again.
        PictureError: it is no regular file: reading a FIFO would wait for ever.
    """

    def content() -> bytes:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise PictureError(
                "not a picture: no regular file; it was not opened", NO_FILE
            )
        with open(path, "rb") as file:
            return file.read()

    return retrying(content, path)


def black() -> bytes:
    """Returns a small black picture, which stands for one that cannot be used."""
    buffer = io.BytesIO()
    Image.new("RGB", (112, 112)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def has_image_suffix(name: str | bytes) -> bool:
    """Whether the name of a file ends like one of a picture."""
    return os.fsdecode(name).lower().endswith(IMAGE_SUFFIXES)


def _jpeg(encoded: bytes) -> Picture | None:
    """Reads a JPEG's header; None: TensorFlow does not decode it as it is."""
    at, size, common = 2, None, True
    while at + 4 <= len(encoded):
        if encoded[at] != 0xFF:
            return None
        mark, length = encoded[at + 1], int.from_bytes(encoded[at + 2 : at + 4], "big")
        if mark == 0xFF:  # filling
            at += 1
            continue
        if 0xC0 <= mark <= 0xCF and mark not in (0xC4, 0xC8, 0xCC):
            if at + 10 > len(encoded):
                break
            bits, height, width, channels = struct.unpack_from(">BHHB", encoded, at + 4)
            size = _checked(width, height)
            # Of one scan, since a progressive one that is cut does not show it.
            common &= mark in (0xC0, 0xC1) and bits == 8 and channels in (1, 3)
        elif mark == 0xE1 and encoded[at + 4 : at + 10] == b"Exif\0\0":
            common &= _orientation(encoded[at + 4 : at + 2 + length]) == 1
        elif mark == 0xDA:
            # From the back, where it is: a search from here goes through all the data.
            if size is None or encoded.rfind(_END, at) < 0:
                break
            return Picture("JPEG", *size, encoded) if common else None
        at += 2 + length
    raise PictureError(_cut(encoded))


def _png(encoded: bytes) -> Picture | None:
    """Reads a PNG's header; None: it is none, or not decoded as it is."""
    if encoded[:8] != b"\x89PNG\r\n\x1a\n":
        return None
    if len(encoded) < 33 or encoded[12:16] != b"IHDR":
        raise PictureError(_cut(encoded))
    width, height, bits, colour = struct.unpack_from(">IIBB", encoded, 16)
    size = _checked(width, height)
    common = bits == 8 and colour in (0, 2)
    at = 33
    while at + 12 <= len(encoded):
        length, kind = struct.unpack_from(">I4s", encoded, at)
        if kind == b"IEND":
            return Picture("PNG", *size, encoded) if common else None
        common &= kind not in (b"tRNS", b"eXIf", b"acTL")
        at += 12 + length
    raise PictureError(_cut(encoded))


def _transcoded(encoded: bytes) -> Picture:
    """Reads whatever Pillow reads, and makes a PNG of it."""
    try:
        with Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
            # JPEG files with further pictures inside call themselves MPO.
            form = "JPEG" if image.format == "MPO" else image.format
            _checked(*image.size)
            frames = 1 if form == "JPEG" else getattr(image, "n_frames", 1)
            if frames > 1:
                raise PictureError(
                    f"animated: got a {form} of {frames} pictures, expected one",
                    ANIMATED,
                )
            upright = ImageOps.exif_transpose(image)
            plain = _eight_bit(upright)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(f"too large: {error}; {_limits()}", TOO_LARGE) from error
    except _UNDECODABLE as error:
        _refuse(encoded, error)
    if form == "JPEG" and is_cut(encoded):
        raise PictureError(_cut(encoded))
    buffer = io.BytesIO()
    plain.save(buffer, "PNG", compress_level=1)
    return Picture(form, *plain.size, buffer.getvalue())


def _eight_bit(image: Image.Image) -> Image.Image:
    """Returns a picture of any mode as RGB of 8 bits."""
    if image.mode == "F":
        raise PictureError(
            "not a picture: got floats, expected whole numbers", UNREAD_VALUES
        )
    if image.mode in _SIXTEEN_BIT:
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise PictureError(
                "not a picture: got 32 bits a value, expected 8 or 16", UNREAD_VALUES
            )
        image = Image.fromarray((values >> 8).astype(np.uint8))
    return image.convert("RGB")


def _decoded(encoded: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG")) as image:
            return np.asarray(image.convert("RGB"))
    except _UNDECODABLE as error:
        _refuse(encoded, error)


def _refuse(encoded: bytes, error: Exception) -> NoReturn:
    raise PictureError(
        f"not a picture, or a damaged one: got {len(encoded)} bytes that begin with "
        f"{encoded[:8]!r}, expected {_EXPECTED}"
    ) from error


def _cut(encoded: bytes) -> str:
    return (
        f"not a picture, or a damaged one: got {len(encoded)} bytes that begin with "
        f"{encoded[:8]!r} and are cut short, expected {_EXPECTED}"
    )


def _limits() -> str:
    return (
        f"expected at most {MAX_PIXELS:,} pixels, and sides of at most 1 to "
        f"{MAX_ASPECT}"
    )


def _checked(width: int, height: int) -> tuple[int, int]:
    """Returns the size of a picture that can be used."""
    if min(width, height) < 1:
        raise PictureError(f"not a picture: got {width} x {height} px; {_limits()}")
    long, short = max(width, height), min(width, height)
    if width * height > MAX_PIXELS or long > MAX_ASPECT * short:
        raise PictureError(
            f"too large: got {width:,} x {height:,} px; {_limits()}", TOO_LARGE
        )
    return width, height


def _orientation(exif: bytes) -> int:
    """Returns how a camera was held, 1 .. 8; 1: upright, or not known."""
    tags = Image.Exif()
    try:
        tags.load(exif)
        value = tags.get(_ORIENTATION, 1)
    except _UNDECODABLE:
        return 1
    return value if value in range(1, 9) else 1
