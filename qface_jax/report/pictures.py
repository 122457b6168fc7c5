"""Pictures of a run folder as data URLs."""

import base64
from pathlib import Path
from typing import NamedTuple

_MAX_PICTURES = 24
_MAX_BYTES = 4 << 20  # of one picture: a page must stay loadable
_PNG = b"\x89PNG\r\n\x1a\n"


class Picture(NamedTuple):
    """One picture: what it is called and its `data:` address."""

    caption: str
    source: str


class Samples(NamedTuple):
    """Pictures of a folder.

    Attributes:
        gst: those of the gradient scaling term.
        pictures: all others.
        left_out: file name and why it is not shown.
    """

    gst: list[Picture]
    pictures: list[Picture]
    left_out: list[tuple[str, str]]


def read_samples(folder: Path) -> Samples:
    """Reads the PNG files of a folder, which need not exist."""
    samples = Samples([], [], [])
    for path in sorted(folder.glob("*.png")):
        kept = samples.gst if path.name.startswith("gst") else samples.pictures
        reason = _unfit(path)
        if reason is None and len(kept) >= _MAX_PICTURES:
            reason = f"only the first {_MAX_PICTURES} are shown"
        if reason is not None:
            samples.left_out.append((path.name, reason))
            continue
        encoded = base64.b64encode(path.read_bytes()).decode("ascii")
        caption = path.stem.replace("_", " ")
        kept.append(Picture(caption, f"data:image/png;base64,{encoded}"))
    return samples


def _unfit(path: Path) -> str | None:
    size = path.stat().st_size
    if size > _MAX_BYTES:
        return f"{size / (1 << 20):.1f} MiB, at most {_MAX_BYTES >> 20} are shown"
    with path.open("rb") as file:
        if file.read(len(_PNG)) != _PNG:
            return "not a PNG picture"
    return None
