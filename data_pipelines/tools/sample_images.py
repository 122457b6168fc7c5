"""A few images of whatever holds some, for checks that need real pictures."""

from pathlib import Path

import numpy as np

from qface_jax.data_pipelines.sources.image_list import (
    OK,
    ImageList,
    decoded_batches,
    evenly_spread,
    open_images,
)
from qface_jax.data_pipelines.synthetic.faces import SyntheticFaces
from qface_jax.errors import DataError


def sample(path: Path, count: int, resize: str = "crop") -> np.ndarray:
    """Returns images that are spread evenly over what is there, as the network sees it.

    Args:
        path: As of `open_images`.
        count: How many at most.
        resize: Of images that are not 112 px, as of `decoding.fit`.

    Returns:
        uint8 [n, 112, 112, 3], RGB, n from 1 to `count`.

    Raises:
        DataError: if there is no image, or one cannot be decoded.
    """
    images = open_images(path)
    return _decoded(images, evenly_spread(len(images), count), resize)


def drawn_faces(count: int) -> np.ndarray:
    """Returns faces that are drawn, not photographed, uint8 [count, 112, 112, 3]."""
    source = SyntheticFaces(identities=count, images_per_identity=1, seed=0)
    encoded, _ = source.fetch(np.arange(count))
    images = ImageList(Path("drawn faces"), count, name=str, read=encoded.__getitem__)
    return _decoded(images, np.arange(count), "crop")


def _decoded(images: ImageList, rows: np.ndarray, resize: str) -> np.ndarray:
    batches = decoded_batches(images, batch_size=len(rows), resize=resize, rows=rows)
    ((pictures, statuses),) = batches
    for status in statuses:
        if status.status != OK:
            raise DataError(
                f"{images.path}: {status.name}: {status.message}; remove it, or mend it"
            )
    return pictures
