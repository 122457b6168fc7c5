"""A few images of a folder or a pair file, for checks that need real pictures."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from qface_jax.data_pipelines.sets.pair_pickle import load_pair_pickle
from qface_jax.data_pipelines.sources.image_folder import IMAGE_SUFFIXES
from qface_jax.data_pipelines.stream.decoding import decode, is_common, transcode
from qface_jax.errors import DataError


def sample(path: Path, count: int) -> np.ndarray:
    """Returns images that are spread evenly over what is there, as the network sees it.

    Args:
        path: A folder with images at any depth, an image, or a `.bin` file of pairs.
        count: How many at most.

    Returns:
        uint8 [n, 112, 112, 3], RGB, n from 1 to `count`.

    Raises:
        DataError: if there is no image, or one cannot be decoded.
    """
    if path.suffix == ".bin":
        encoded, _ = load_pair_pickle(path)
        names = [f"{path}: image {row}" for row in range(len(encoded))]
    else:
        files = sorted(_images(path))
        encoded = [file.read_bytes() for file in _spread(files, count)]
        names = [str(file) for file in _spread(files, count)]
    if not encoded:
        raise DataError(
            f"{path}: no image; give a folder with .jpg, .jpeg or .png files, one such "
            "file, or a .bin file of pairs"
        )
    chosen = zip(_spread(names, count), _spread(encoded, count), strict=True)
    return np.stack([_decoded(name, data) for name, data in chosen])


def _images(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    suffixes = tuple(suffix.decode() for suffix in IMAGE_SUFFIXES)
    return [p for p in path.rglob("*") if p.name.lower().endswith(suffixes)]


def _spread(items: list, count: int) -> list:
    rows = np.linspace(0, len(items) - 1, min(count, len(items)))
    return [items[row] for row in rows.round().astype(int)]


def _decoded(name: str, data: bytes) -> np.ndarray:
    common = data if is_common(data) else transcode(data)
    try:
        if common is not None:
            return decode(tf.constant(common)).numpy()
    except tf.errors.InvalidArgumentError:
        pass
    raise DataError(f"{name}: cannot be decoded as an image; remove it, or mend it")


def drawn_faces(count: int) -> np.ndarray:
    """Returns faces that are drawn, not photographed, uint8 [count, 112, 112, 3]."""
    from qface_jax.data_pipelines.synthetic.faces import SyntheticFaces

    source = SyntheticFaces(identities=count, images_per_identity=1, seed=0)
    encoded, _ = source.fetch(np.arange(count))
    return np.stack([_decoded("a drawn face", data) for data in encoded])
