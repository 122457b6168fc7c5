"""Pictures as they are, mirrored or not."""

from typing import Any

from qface_jax.data_pipelines.degradation.recipe import Recipe
from qface_jax.options import SHARE, Option


def draw(image: Any, seed: Any, params: Any) -> Any:
    """Mirrors the picture with `flip_probability`, no more."""
    from qface_jax.data_pipelines.degradation import steps

    draws = steps.uniform(1, seed)
    return steps.sometimes(draws[0], params.flip_probability, steps.flip, image)


def draw_on_device(images: Any, keys: Any, params: Any) -> Any:
    """`draw` of a batch, in JAX."""
    from qface_jax.data_pipelines.device_degradation import geometry, steps

    draws = steps.uniform(1, keys)
    before = steps.planes(images)
    return steps.pictures(
        steps.sometimes(draws[:, 0], params.flip_probability, geometry.flip, before)
    )


RECIPE = Recipe(
    draw,
    {"flip_probability": Option(0.5, SHARE, "of being mirrored, left and right")},
    draw_on_device=draw_on_device,
)
