"""What every backbone is made into, whoever describes it: pure functions."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from qface_jax.models.blocks import ADDED, FEATURE_MAP, LAST, BatchNorm


class Network(NamedTuple):
    """A backbone before the batch is cut into groups (models/factory.py).

    The last feature map is the last array of pixels, [b, h, w, c], that the features
    are made from: what lies behind it is pooled, flattened or one token.

    Attributes:
        init: key -> (params, stats).
        evaluate: (params, stats, images [b, h, w, 3]) -> features [b, d], float32.
        train: (params, stats, images, key) -> (features, new stats); `key` may be None
            where nothing is dropped out.
        evaluate_with_map: (params, stats, images, added) -> (features, feature map),
            float32; `added`, of the map's shape, is added to it; None adds nothing.
        train_with_map: (params, stats, images, key, added) -> ((features, feature map),
            new stats).
    """

    init: Callable[[jax.Array], tuple[Any, Any]]
    evaluate: Callable[..., jax.Array]
    train: Callable[..., tuple[jax.Array, Any]]
    evaluate_with_map: Callable[..., tuple[jax.Array, jax.Array]]
    train_with_map: Callable[..., tuple[tuple[jax.Array, jax.Array], Any]]


def from_module(
    module: nn.Module, *, image_side: int, freeze_batch_norm: bool
) -> Network:
    """Returns the functions of a backbone of this package.

    Args:
        module: called as module(images, train); it marks its last feature map by
            `blocks.mark_last_map`.
        image_side: in pixels.
        freeze_batch_norm: normalise by the running statistics in training too.
    """
    return Network(
        init=functools.partial(_init, module, image_side),
        evaluate=functools.partial(_evaluate, module),
        train=functools.partial(_train, module, freeze_batch_norm),
        evaluate_with_map=functools.partial(_evaluate_with_map, module),
        train_with_map=functools.partial(_train_with_map, module, freeze_batch_norm),
    )


def _init(module, side, key):
    images = jnp.zeros((1, side, side, 3), jnp.float32)
    variables = module.init(key, images, False)
    # A backbone without batch norms has no statistics.
    return variables["params"], variables.get("batch_stats", {})


def _evaluate(module, params, stats, images):
    return module.apply({"params": params, "batch_stats": stats}, images, False)


def _train(module, frozen, params, stats, images, key):
    variables = {"params": params, "batch_stats": stats}
    features, updated = _run_training(module, frozen, variables, images, key, ())
    return features, stats if frozen else updated.get("batch_stats", {})


def _evaluate_with_map(module, params, stats, images, added):
    variables = {"params": params, "batch_stats": stats} | _addend(added)
    features, found = module.apply(variables, images, False, mutable=[FEATURE_MAP])
    return features, found[FEATURE_MAP][LAST]


def _train_with_map(module, frozen, params, stats, images, key, added):
    variables = {"params": params, "batch_stats": stats} | _addend(added)
    more = (FEATURE_MAP,)
    features, updated = _run_training(module, frozen, variables, images, key, more)
    new = stats if frozen else updated.get("batch_stats", {})
    return (features, updated[FEATURE_MAP][LAST]), new


def _addend(added):
    return {} if added is None else {ADDED: {LAST: added}}


def _run_training(module, frozen, variables, images, key, more):
    """Returns the features and what changed, besides the statistics that of `more`."""
    rngs = {} if key is None else {"dropout": key}
    mutable = ["batch_stats", *more]
    run = functools.partial(
        module.apply, variables, images, True, rngs=rngs, mutable=mutable
    )
    if not frozen:
        return run()
    with nn.intercept_methods(_freeze):
        return run()


def _freeze(call, arguments, keywords, context):
    """Batch norms are told that this is no training, all other layers that it is."""
    if isinstance(context.module, BatchNorm) and context.method_name == "__call__":
        return call(arguments[0], False)
    return call(*arguments, **keywords)
