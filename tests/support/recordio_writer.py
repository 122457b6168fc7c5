"""Writes small MXNet RecordIO files in every layout that is about."""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

MAGIC_BYTES = struct.pack("<I", 0xCED7230A)


def jpeg(seed: int, side: int = 112, mode: str = "RGB") -> bytes:
    """A small skin-coloured picture that differs from seed to seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 80, (7, 7, 3)) + np.array([170, 120, 90])
    image = Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8)).convert(mode)
    buffer = io.BytesIO()
    image.resize((side, side)).save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()


def noise(seed: int, side: int = 112) -> bytes:
    """A picture of noise: no two pixels are alike."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=95)
    return buffer.getvalue()


def payload(image: bytes, label: float | list[float], key: int = 0, id2: int = 0):
    """Image header and image; a list of labels is written as a label vector."""
    if isinstance(label, list):
        head = struct.pack("<IfQQ", len(label), 0.0, key, id2)
        return head + struct.pack(f"<{len(label)}f", *label) + image
    return struct.pack("<IfQQ", 0, label, key, id2) + image


def chunk(data: bytes, cflag: int) -> bytes:
    """One chunk with its padding."""
    word = cflag << 29 | len(data)
    return MAGIC_BYTES + struct.pack("<I", word) + data + bytes(-len(data) % 4)


def record(data: bytes) -> bytes:
    """One record, split wherever the magic stands at an offset divisible by four."""
    parts, begin = [], 0
    for at in range(0, len(data) - 3, 4):
        if data[at : at + 4] == MAGIC_BYTES:
            parts.append(data[begin:at])
            begin = at + 4
    parts.append(data[begin:])
    if len(parts) == 1:
        return chunk(parts[0], 0)
    flags = [1] + [2] * (len(parts) - 2) + [3]
    return b"".join(chunk(part, flag) for part, flag in zip(parts, flags, strict=True))


class RecordWriter:
    """Collects records and their keys, then writes `.rec` and `.idx`."""

    def __init__(self):
        self.body = bytearray()
        self.index: list[tuple[int, int]] = []

    def add(self, key: int, data: bytes) -> None:
        self.index.append((key, len(self.body)))
        self.body += record(data)

    def save(self, folder: Path, *, with_index: bool = True) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "train.rec").write_bytes(self.body)
        if with_index:
            lines = [f"{key}\t{offset}\n" for key, offset in self.index]
            (folder / "train.idx").write_text("".join(lines))
        return folder


def write_indexed(
    folder: Path, labels: list[int], images: list[bytes], *, with_index: bool = True
) -> Path:
    """Writes insightface's layout: images 1..N, identity records, header record 0.

    `labels` must be ascending, as insightface's tools write them.
    """
    writer = RecordWriter()
    for key, (label, image) in enumerate(zip(labels, images, strict=True), start=1):
        writer.add(key, payload(image, float(label), key))
    n, identities = len(images), sorted(set(labels))
    for number, label in enumerate(identities):
        first = labels.index(label) + 1
        span = [float(first), float(first + labels.count(label))]
        writer.add(n + 1 + number, payload(b"", span, n + 1 + number))
    last = [float(n + 1), float(n + 1 + len(identities))]
    writer.add(0, payload(b"", last, 0, id2=1))
    folder = writer.save(folder, with_index=with_index)
    (folder / "property").write_text(f"{len(identities)},112,112\n")
    return folder


def write_plain(
    folder: Path, labels: list[int], images: list[bytes], *, with_index: bool = True
) -> Path:
    """Writes the layout of im2rec and others: keys 0..N-1, every record an image."""
    writer = RecordWriter()
    for key, (label, image) in enumerate(zip(labels, images, strict=True)):
        writer.add(key, payload(image, float(label), key))
    return writer.save(folder, with_index=with_index)
