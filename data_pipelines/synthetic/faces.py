"""The embedded default: drawn faces, as a training source and as a pair set.

Deterministic in (seed, identity, image). Training and evaluation people are drawn in
different domains of the random generator, so they never meet.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from qface_jax.data_pipelines.sources.source import SourceEntry
from qface_jax.data_pipelines.synthetic import drawing, parameters
from qface_jax.errors import DataError
from qface_jax.options import POSITIVE, SEED, Option

JPEG_QUALITY = 95
_AT_ONCE = 16  # pictures drawn together; more would fall out of the cache


def draw(
    seed: int, domain: int, identities: np.ndarray, images: np.ndarray
) -> np.ndarray:
    """Draws the given pictures of the given people.

    Args:
      seed: of the whole set, at least 0.
      domain: `parameters.TRAINING_DOMAIN` or `EVALUATION_DOMAIN`.
      identities: int [b], at least 0.
      images: int [b], at least 0.

    Returns:
      uint8 [b, 112, 112, 3], RGB.
    """
    parts = [
        drawing.draw_faces(
            parameters.face_parameters(
                seed,
                domain,
                identities[start : start + _AT_ONCE],
                images[start : start + _AT_ONCE],
            )
        )
        for start in range(0, len(identities), _AT_ONCE)
    ]
    side = drawing.SIDE
    return np.concatenate([np.zeros((0, side, side, 3), np.uint8), *parts])


def encode_jpeg(image: np.ndarray) -> bytes:
    """Encodes uint8 [h, w, 3] RGB."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


class SyntheticFaces:
    """Drawn people to train on; a picture is drawn when it is fetched.

    Record i is picture `i % images_per_identity` of person `i // images_per_identity`,
    which is label of that person too.
    """

    name = "synthetic"

    def __init__(
        self,
        identities: int,
        images_per_identity: int,
        seed: int,
        first_identity: int = 0,
    ):
        """Sets the counts.

        Args:
          identities: number of people, at least 1.
          images_per_identity: at least 1.
          seed: at least 0.
          first_identity: number of the first person, to draw other people.

        Raises:
          DataError: a count or seed is out of range.
        """
        _check(identities, images_per_identity, seed, "images_per_identity")
        self.num_classes = identities
        self.images_per_identity = images_per_identity
        self.seed = seed
        self.first_identity = first_identity

    def __len__(self) -> int:
        return self.num_classes * self.images_per_identity

    def labels(self) -> np.ndarray:
        """Labels of all records, int32 [n]."""
        return np.repeat(
            np.arange(self.num_classes, dtype=np.int32), self.images_per_identity
        )

    def fetch(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """Draws the records `indices`: their JPEG files and labels int32 [b]."""
        labels, images = np.divmod(np.asarray(indices), self.images_per_identity)
        identities = labels + self.first_identity
        domain = parameters.TRAINING_DOMAIN
        pictures = draw(self.seed, domain, identities, images)
        return [encode_jpeg(picture) for picture in pictures], labels.astype(np.int32)

    def describe(self) -> dict:
        """Facts for logs and result files."""
        return {
            "source": self.name,
            "images": len(self),
            "identities": self.num_classes,
            "images_per_identity": self.images_per_identity,
            "seed": self.seed,
        }


class SyntheticPairs:
    """Pairs of pictures of drawn people who are in no training set.

    Pairs of one person and of two alternate, so that any even, contiguous fold holds
    as many of each.
    """

    name = "synthetic"

    def __init__(self, identities: int, pairs: int, seed: int):
        """Draws which people and pictures make the pairs.

        Args:
          identities: number of people, at least 2.
          pairs: at least 1.
          seed: at least 0.

        Raises:
          DataError: a count or seed is out of range.
        """
        _check(identities, pairs, seed, "pairs")
        if identities < 2:
            raise DataError(
                f"synthetic pairs: identities: got {identities}, must be at least 2, "
                "for pairs of two people"
            )
        self.seed = seed
        self.num_identities = identities
        self.issame = np.arange(pairs) % 2 == 0
        self.folds = 0  # any number fits
        rng = np.random.default_rng([seed, parameters.EVALUATION_DOMAIN])
        first = rng.integers(identities, size=pairs)
        other = (first + rng.integers(1, identities, size=pairs)) % identities
        second = np.where(self.issame, first, other)
        self._identities = np.stack([first, second], axis=1).ravel()
        # Every image of the set is a picture of its own: no pair shares one.
        self._images = np.arange(2 * pairs)

    def __len__(self) -> int:
        return len(self._images)

    def fetch(self, indices: np.ndarray) -> list[bytes]:
        """Draws the images `indices`; pair i is images 2i and 2i + 1."""
        indices = np.asarray(indices)
        domain = parameters.EVALUATION_DOMAIN
        people, images = self._identities[indices], self._images[indices]
        pictures = draw(self.seed, domain, people, images)
        return [encode_jpeg(picture) for picture in pictures]

    def describe(self) -> dict:
        """Facts for result files."""
        return {
            "set": self.name,
            "pairs": len(self.issame),
            "same": int(self.issame.sum()),
            "identities": self.num_identities,
            "seed": self.seed,
        }


def _check(identities: int, count: int, seed: int, count_name: str) -> None:
    """Raises DataError for counts below 1 and seeds below 0."""
    for name, value, least in (
        ("identities", identities, 1),
        (count_name, count, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise DataError(f"synthetic faces: {name}: got {value}, must be >= {least}")


def _open(path: Path, **options: int) -> SyntheticFaces:
    del path  # nothing is read
    return SyntheticFaces(**options)


SOURCE = SourceEntry(
    _open,
    {
        "identities": Option(200, POSITIVE, "people that are drawn"),
        "images_per_identity": Option(20, POSITIVE, "pictures of each of them"),
        "seed": Option(0, SEED, "of the people"),
    },
    needs_path=False,
)
