"""What an exported model takes and returns, once for all formats.

It takes `images` and returns a dict of `embedding` and, if asked for, `norm` and
`class_cosines`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qface_jax.errors import ConfigError
from qface_jax.models import IMAGE_SIDE
from qface_jax.weights.convention import Convention

IMAGES, EMBEDDING, NORM, COSINES = "images", "embedding", "norm", "class_cosines"
BATCH = "batch"  # the free axis
UINT8, FLOAT32, NORMALIZED = "uint8", "float32", "normalized"
INPUTS = (UINT8, FLOAT32, NORMALIZED)
NHWC, NCHW = "nhwc", "nchw"
LAYOUTS = (NHWC, NCHW)
COLOR_ORDERS = ("RGB", "BGR")
# A vector shorter than this is not made longer: black features stay near 0.
TINY = 1e-12
# Images in [-1, 1], RGB: what our networks take before a convention of their own.
OURS = Convention((127.5,) * 3, (127.5,) * 3, "RGB")


class Interface(NamedTuple):
    """What goes in and what comes out.

    Attributes:
        input: UINT8: pixels 0..255; FLOAT32: the same as floats; NORMALIZED: floats
            (pixel - mean) / std, by the network's own mean and std.
        layout: NHWC [b, 112, 112, 3] or NCHW [b, 3, 112, 112].
        color_order: Of the channels, "RGB" or "BGR".
        flip: Whether the raw feature of the mirror image is added to the image's.
        unit: Whether the embedding is divided by its L2 norm.
        norm: Whether the L2 norm of the raw feature of the image itself, without its
            mirror image, is an output [b]: the score of quality.
        cosines: Whether the cosines to all class centres are an output [b, c].
        batch: Images of a call; None: any number.
    """

    input: str = UINT8
    layout: str = NHWC
    color_order: str = "RGB"
    flip: bool = False
    unit: bool = True
    norm: bool = True
    cosines: bool = False
    batch: int | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs in their order."""
        more = ((NORM, self.norm), (COSINES, self.cosines))
        return (EMBEDDING, *(name for name, wanted in more if wanted))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of an image, without the batch's axis."""
        side = IMAGE_SIDE
        return (3, side, side) if self.layout == NCHW else (side, side, 3)

    @property
    def dtype(self) -> np.dtype:
        """NumPy's type of the images."""
        return np.dtype(np.uint8 if self.input == UINT8 else np.float32)

    @property
    def channel_axis(self) -> int:
        """Where the colours are."""
        return 1 if self.layout == NCHW else 3

    def convention(self, network: Convention) -> Convention:
        """Returns how the input is made of pixels 0..255.

        Args:
            network: What the network itself takes.
        """
        if self.input == NORMALIZED:
            return network._replace(color_order=self.color_order)
        return Convention((0.0,) * 3, (1.0,) * 3, self.color_order)

    def arranged(self, pixels: np.ndarray, network: Convention) -> np.ndarray:
        """Returns the input that images are for the exported model.

        Args:
            pixels: uint8 [b, 112, 112, 3], RGB.
            network: What the network itself takes.
        """
        values = self.convention(network).apply(pixels)
        if self.layout == NCHW:
            values = values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values.astype(self.dtype))

    def describe(self, network: Convention) -> dict[str, Any]:
        """Returns what a user of the file has to know, fit for JSON."""
        taken = self.convention(network)
        facts: dict[str, Any] = {
            "input": self.input,
            "layout": self.layout,
            "color_order": self.color_order,
            "size": [IMAGE_SIDE, IMAGE_SIDE],
            "flip": self.flip,
            "unit_length": self.unit,
            "outputs": list(self.outputs),
        }
        if self.input == NORMALIZED:
            facts |= {"mean": list(taken.mean), "std": list(taken.std)}
        return facts


def check(interface: Interface) -> None:
    """Raises ConfigError where a value is none of those that there are."""
    choices = (
        ("input", interface.input, INPUTS),
        ("layout", interface.layout, LAYOUTS),
        ("color_order", interface.color_order, COLOR_ORDERS),
    )
    for name, value, known in choices:
        if value not in known:
            raise ConfigError(
                f"{name}: got {value!r}, must be one of {', '.join(known)}"
            )
    if interface.batch is not None and interface.batch < 1:
        raise ConfigError(f"batch: got {interface.batch}, must be at least 1")


def function(
    raw: Callable[[jax.Array], jax.Array],
    interface: Interface,
    network: Convention,
    centres: np.ndarray | None,
) -> Callable[[jax.Array], Mapping[str, jax.Array]]:
    """Returns the exported model as a JAX function.

    Args:
        raw: Images float32 [b, 112, 112, 3] in [-1, 1], RGB -> raw features [b, d].
        interface: What it takes and returns.
        network: What the network itself takes.
        centres: Class centres [c, d] where the cosines are an output.

    Returns:
        Images, as `Interface.arranged` makes them -> the outputs by name.
    """
    taken = interface.convention(network)
    scale, shift = (each.reshape(1, 1, 1, 3) for each in between(taken, OURS))

    def exported(images: jax.Array) -> dict[str, jax.Array]:
        values = images.astype(jnp.float32)
        if interface.layout == NCHW:
            values = values.transpose(0, 2, 3, 1)
        if interface.color_order == "BGR":
            values = jnp.flip(values, 3)
        values = values * scale + shift
        features = plain = raw(values)
        if interface.flip:
            features = plain + raw(jnp.flip(values, 2))
        unit = features / _length(features)[:, None]
        outputs = {EMBEDDING: unit if interface.unit else features}
        if interface.norm:
            outputs[NORM] = jnp.linalg.norm(plain, axis=1)
        if interface.cosines:
            outputs[COSINES] = unit @ unit_centres(centres).T
        return outputs

    return exported


def between(taken: Convention, wanted: Convention) -> tuple[np.ndarray, np.ndarray]:
    """Returns factor and summand [3] from values of one convention to another's.

    Both in the order R, G, B.
    """
    std, mean, wanted_std, wanted_mean = (
        np.asarray(values, np.float64)
        for values in (taken.std, taken.mean, wanted.std, wanted.mean)
    )
    scale, shift = std / wanted_std, (mean - wanted_mean) / wanted_std
    return scale.astype(np.float32), shift.astype(np.float32)


def unit_centres(centres: np.ndarray) -> np.ndarray:
    """Returns class centres [c, d] divided by their L2 norms, float32."""
    norms = np.linalg.norm(centres.astype(np.float64), axis=1, keepdims=True)
    return (centres / np.maximum(norms, TINY)).astype(np.float32)


def _length(features: jax.Array) -> jax.Array:
    return jnp.maximum(jnp.linalg.norm(features, axis=1), TINY)
