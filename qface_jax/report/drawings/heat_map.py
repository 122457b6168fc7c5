"""Maps over pictures: where a network looks, as colours on the face."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from qface_jax.data_pipelines.degradation.recipe import SIDE
from qface_jax.data_pipelines.tools.sheet import Band, write_sheet
from qface_jax.errors import DataError

_COLOURS = "turbo"
_OPACITY = 0.5


def overlay(
    image: UInt8[np.ndarray, "112 112 3"], values: Float[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "112 112 3"]:
    """Returns the picture under half transparent colours, from blue (low) to red.

    The map is scaled to 0 .. 1 by its own smallest and largest value and enlarged,
    bicubic. A map that is the same everywhere is low everywhere.

    Args:
        image: RGB.
        values: One for each cell, of any range.

    Raises:
        ValueError: The picture is not uint8 [112, 112, 3], or a value not finite.
    """
    if image.shape != (SIDE, SIDE, 3) or image.dtype != np.uint8:
        raise ValueError(
            f"picture: got {image.dtype} {list(image.shape)}, expected uint8 "
            f"[{SIDE}, {SIDE}, 3]"
        )
    if not np.isfinite(values).all():
        raise ValueError("map: got NaN or infinite values, expected finite ones")
    colours = matplotlib.colormaps[_COLOURS](_enlarged(values))[..., :3]
    mixed = (1 - _OPACITY) * image + _OPACITY * 255 * colours
    return np.round(mixed).astype(np.uint8)


def write_maps(
    path: Path,
    images: Sequence[np.ndarray],
    maps: dict[str, np.ndarray],
    captions: Sequence[str],
    *,
    columns: int = 8,
) -> None:
    """Writes pictures and below each its maps as one PNG, aside and then renamed.

    Args:
        path: Where the PNG goes.
        images: uint8 [112, 112, 3] each, RGB.
        maps: Name of a row -> float [n, h, w], a map of each picture.
        captions: Above each picture; may be "".
        columns: Pictures beside each other; what is more goes below.

    Raises:
        DataError: There is no picture, a map is not finite, or the file cannot be
            written.
        ValueError: There are not as many maps or captions as pictures.
    """
    for name, values in {"captions": captions, **maps}.items():
        if len(values) != len(images):
            raise ValueError(
                f"{name}: got {len(values)}, expected {len(images)}, one per picture"
            )
    bad = {n: int((~np.isfinite(v)).any((1, 2)).sum()) for n, v in maps.items()}
    if any(bad.values()):
        counts = ", ".join(f"{count} of {name}" for name, count in bad.items() if count)
        raise DataError(
            f"{path}: {counts} of {len(images)} maps are NaN or infinite; the model's "
            "weights or features are not finite, so there is nothing to draw"
        )
    bands = []
    for first in range(0, len(images), columns):
        block = range(first, min(first + columns, len(images)))
        heads = [str(captions[index]) for index in block]
        pictures = [images[index] for index in block]
        bands.append(Band("", pictures, heads=heads, name="picture"))
        for name, values in maps.items():
            covered = [overlay(images[index], values[index]) for index in block]
            bands.append(Band("", covered, name=name))
    write_sheet(path, bands)


def _enlarged(values):
    """The map scaled to 0 .. 1, [112, 112]."""
    values = np.asarray(values, np.float64)
    low, high = values.min(), values.max()
    # Differences that float32 cannot hold are no pattern.
    spread = high - low
    if spread <= 1e-6 * max(abs(high), abs(low)):
        return np.zeros((SIDE, SIDE))
    scaled = ((values - low) / spread).astype(np.float32)
    large = Image.fromarray(scaled).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(large, np.float64), 0, 1)
