"""What became of an image that was to be read."""

from typing import NamedTuple

OK, UNREADABLE, NOT_AN_IMAGE = "ok", "unreadable", "not_an_image"


class Status(NamedTuple):
    """What became of one image.

    Attributes:
      name: where it comes from.
      status: OK, UNREADABLE (there are no bytes) or NOT_AN_IMAGE (the bytes cannot be
        decoded).
      message: what is wrong with it; "" where nothing is.
      width: of the image as it is stored, in pixels; 0 where it cannot be decoded.
      height: likewise.
    """

    name: str
    status: str
    message: str = ""
    width: int = 0
    height: int = 0
