"""What a way of degrading pictures consists of.

Files of recipes import TensorFlow, or JAX, when a picture is drawn, not before: the
config takes its defaults from them, and a command has to start fast.
"""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

from qface_jax.configs.document import options_of
from qface_jax.options import Option
from qface_jax.tables import RECIPES

SIDE = 112  # px, of every picture that the networks see
# What the steps on the host and those on the device have in common.
DRAWS_OF_SHRINK = 3
RESCALE_KERNELS = ("nearest", "bilinear", "area", "bicubic", "lanczos")
BOX_ATTEMPTS = 10  # at a box that fits, as in torchvision's RandomResizedCrop
BOX_DRAWS = 2 + 2 * BOX_ATTEMPTS


class Recipe(NamedTuple):
    """A way of degrading pictures, an entry of `qface_jax.tables.RECIPES`.

    All draws of a picture come from its seed, so it is the same whatever stands beside
    it in the batch. A recipe is one pass of cheap steps behind conditions: only what
    was drawn is worked out.

    Attributes:
      draw: image uint8 [112, 112, 3], seed int64 [2], params with the options as
        attributes -> uint8 [views, 112, 112, 3], without the first axis where there is
        one view; of two views the degraded one is the first.
      options: by name; "flip_probability" is among them in all of the package.
      views: drawn from each picture, 1 or 2.
      reference: where the recipe was published.
      draw_on_device: the same in JAX, for `degrade.on` device: images uint8
        [b, 112, 112, 3], keys [b] of JAX's generator, params -> uint8
        [b, 112, 112, 3], or [b, 2, 112, 112, 3] of two views. None: there is no such
        form.
    """

    draw: Callable[[Any, Any, Any], Any]
    options: Mapping[str, Option]
    views: int = 1
    reference: str = ""
    draw_on_device: Callable[[Any, Any, Any], Any] | None = None


def params_of(config: Any) -> Any:
    """Returns the options of the recipe that a config names, as attributes."""
    name = config.degrade.recipe
    return SimpleNamespace(**options_of(config, "degradation", name))


def draws_pairs(name: str) -> bool:
    """Returns whether the recipe of that name draws two views of each picture."""
    return name in RECIPES and RECIPES[name].views == 2
