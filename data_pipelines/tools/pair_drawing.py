"""Pairs of images of one's own people, to evaluate a model on."""

import io
import os
import pickle
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from qface_jax.data_pipelines.sources.records import Source, record_name
from qface_jax.errors import ConfigError, DataError
from qface_jax.storage.atomic_file import replace_file, replacing

_AT_ONCE = 256  # pairs that are fetched together
_TRIES = 50  # draws of a pair of two people for each that is wanted, at most


def draw_pairs(labels: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """Draws pairs of one person and of two in turn, none of them twice.

    Args:
        labels: whose each image is, int [n].
        count: pairs at most, at least 2.
        seed: at least 0.

    Returns:
        int64 [p, 2], numbers of images; pairs 0, 2, .. are of one person.

    Raises:
        ConfigError: `count` or `seed` is out of range.
        DataError: there are not two people, or nobody has two images.
    """
    if count < 2 or seed < 0:
        raise ConfigError(
            f"got --pairs={count} --seed={seed}, must be at least 2 and at least 0"
        )
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    same = _of_one_person(labels, count // 2, rng)
    different = _of_two_people(labels, count // 2, rng)
    half = min(len(same), len(different))
    if not half:
        raise DataError(
            f"got {len(labels):,} images of {len(np.unique(labels)):,} people, "
            "expected two people at least, and two images of one of them"
        )
    return np.stack([same[:half], different[:half]], axis=1).reshape(-1, 2)


def write_list(path: Path, folder: Path, source: Source, pairs: np.ndarray) -> None:
    """Writes pairs as lines `file<TAB>label`, two for each, 0 where they are of two.

    Args:
        path: file to write.
        folder: that the files are named in.
        source: images of that folder, whose records are named by their files.
        pairs: from `draw_pairs`.
    """
    labels = source.labels()
    with (
        replacing(path) as aside,
        aside.open("w", encoding="utf-8", errors="surrogateescape") as file,
    ):
        for pair in pairs.tolist():
            same = int(labels[pair[0]] == labels[pair[1]])
            for row in pair:
                name = os.path.relpath(record_name(source, row), folder)
                file.write(f"{name}\t{same}\n")


def write_images(
    path: Path, source: Source, pairs: np.ndarray, *, mirrored: bool = False
) -> None:
    """Writes pairs with their images as a `.bin` file, as the LFW family has them.

    The images of the pairs are in memory at once, as they are when one reads the file.

    Args:
        path: file to write.
        source: of any kind.
        pairs: from `draw_pairs`, [p, 2].
        mirrored: mirror the second image of each pair, left and right; it is written
            as PNG then, so that nothing is lost.

    Raises:
        DataError: an image that is to be mirrored cannot be decoded; names it.
    """
    labels = source.labels()
    images: list[bytes] = []
    for first in range(0, len(pairs), _AT_ONCE):
        rows = pairs[first : first + _AT_ONCE].reshape(-1)
        encoded, _ = source.fetch(rows)
        if mirrored:
            encoded[1::2] = [
                _mirror(image, record_name(source, int(row)))
                for image, row in zip(encoded[1::2], rows[1::2], strict=True)
            ]
        images += [bytes(image) for image in encoded]
    issame = [bool(same) for same in labels[pairs[:, 0]] == labels[pairs[:, 1]]]
    replace_file(path, pickle.dumps((images, issame), protocol=4))


def _mirror(encoded: bytes, place: str) -> bytes:
    try:
        with Image.open(io.BytesIO(encoded)) as picture:
            mirrored = ImageOps.mirror(picture.convert("RGB"))
    except (OSError, ValueError) as error:
        raise DataError(f"{place}: cannot be decoded ({error})") from error
    png = io.BytesIO()
    mirrored.save(png, "PNG")
    return png.getvalue()


def _of_one_person(labels: np.ndarray, count: int, rng: np.random.Generator):
    """Returns shuffled pairs, [<= count, 2]; each person has its turn."""
    rounds: list[tuple[int, float, int, int]] = []
    for person in np.unique(labels):
        images = rng.permutation(np.flatnonzero(labels == person))
        # Image i of a person's shuffled ones with image i + 1, then with i + 2, ...
        pairs = [
            (images[i], images[i + step])
            for step in range(1, len(images))
            for i in range(len(images) - step)
        ]
        rounds += [
            (turn, rng.random(), int(a), int(b))
            for turn, (a, b) in enumerate(pairs[:count])
        ]
    chosen = [(a, b) for _, _, a, b in sorted(rounds)[:count]]
    return np.asarray(chosen, np.int64).reshape(-1, 2)


def _of_two_people(labels: np.ndarray, count: int, rng: np.random.Generator):
    """Returns distinct pairs, [<= count, 2]."""
    seen: dict[tuple[int, int], None] = {}
    for _ in range(_TRIES):
        drawn = rng.integers(len(labels), size=(count, 2))
        drawn = np.sort(drawn[labels[drawn[:, 0]] != labels[drawn[:, 1]]], axis=1)
        seen |= dict.fromkeys(map(tuple, drawn.tolist()))
        if len(seen) >= count:
            break
    return np.asarray(list(seen)[:count], np.int64).reshape(-1, 2)
