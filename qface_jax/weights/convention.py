"""What pixels a network was trained on: order of the colours, mean and deviation."""

from typing import NamedTuple

import numpy as np

from qface_jax.errors import ConfigError

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class Convention(NamedTuple):
    """The input of a network: (pixel - mean) / std.

    Attributes:
        mean: Of pixels 0..255, in the order R, G, B.
        std: Of pixels 0..255, in the order R, G, B; above 0.
        color_order: "RGB" or "BGR", of the channels that the network takes.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    color_order: str

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Returns what the network takes, float32 [b, h, w, 3], of RGB pixels 0..255.

        >>> PRESETS["insightface"].apply(np.full((1, 1, 1, 3), 255)).max()
        np.float32(1.0)
        """
        scaled = (pixels - np.asarray(self.mean)) / np.asarray(self.std)
        ordered = scaled[..., ::-1] if self.color_order == "BGR" else scaled
        return np.ascontiguousarray(ordered, np.float32)

    def __str__(self) -> str:
        """Says it in one line."""

        def numbers(values):
            same = len(set(values)) == 1
            texts = [f"{value:g}" for value in (values[:1] if same else values)]
            return texts[0] if same else f"({', '.join(texts)})"

        return f"{self.color_order}, (x - {numbers(self.mean)}) / {numbers(self.std)}"


def _same(mean: float, std: float, color_order: str) -> Convention:
    return Convention((mean,) * 3, (std,) * 3, color_order)


# Name for the command line -> what the published code of that name does.
PRESETS = {
    "insightface": _same(127.5, 127.5, "RGB"),
    "adaface": _same(127.5, 127.5, "BGR"),
    "magface": _same(0.0, 255.0, "BGR"),
    "imagenet": Convention(
        tuple(255 * value for value in _IMAGENET_MEAN),
        tuple(255 * value for value in _IMAGENET_STD),
        "RGB",
    ),
    "faceplugin": _same(127.0, 128.0, "RGB"),
    "unit": _same(0.0, 255.0, "RGB"),
    "pixels": _same(0.0, 1.0, "RGB"),
}
DEFAULT = "insightface"


def choose(
    preset: str,
    *,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    color_order: str | None,
) -> Convention:
    """Returns a preset with whatever is given in its place.

    Args:
        preset: A key of `PRESETS`.
        mean: One number for all colours, or three; None: the preset's.
        std: The same.
        color_order: "RGB" or "BGR"; None: the preset's.

    Raises:
        ConfigError: if a number is missing, too many, or no deviation.
    """
    base = PRESETS[preset]
    mean = base.mean if mean is None else _three("--mean", mean)
    std = base.std if std is None else _three("--std", std)
    if min(std) <= 0:
        raise ConfigError(f"--std: got {', '.join(map(str, std))}, must be above 0")
    return Convention(mean, std, color_order or base.color_order)


def _three(name: str, values: tuple[float, ...]) -> tuple[float, float, float]:
    if len(values) not in (1, 3) or not np.all(np.isfinite(values)):
        raise ConfigError(
            f"{name}: got {','.join(map(str, values))}, expected one number or three "
            "(R,G,B), of pixels 0..255"
        )
    return tuple(values) * 3 if len(values) == 1 else tuple(values)
