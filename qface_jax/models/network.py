"""What every backbone is made into: pure functions, a trunk and a neck.

The trunk makes the last feature map of the images, the neck makes the features of the
map. Whoever wants the map, its gradient or a module on it puts his own code between.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util

from qface_jax.models.blocks import BatchNorm
from qface_jax.options import Option


class TrunkOutput(NamedTuple):
    """What a trunk hands to the neck.

    Attributes:
        map: The last feature map, float32 [b, h, w, c]: the last array of pixels that
            the features are made from. None where an imported graph has none.
        beside: What else the neck reads, such as the class token of a transformer; a
            pytree whose leaves have a first axis of length b.
    """

    map: jax.Array | None
    beside: tuple[Any, ...] = ()


class Network(NamedTuple):
    """A backbone before the batch is cut into groups (models/factory.py).

    Both functions return the new running statistics as a flat dict, path -> value, of
    those that changed: none in evaluation.

    Attributes:
        init: key -> (params, stats).
        trunk: (params, stats, images [b, h, w, 3], train, key) -> (TrunkOutput,
            changed statistics); `key` may be None where nothing is dropped out.
        neck: (params, stats, TrunkOutput, train, key) -> (features [b, d] float32,
            changed statistics).
    """

    init: Callable[[jax.Array], tuple[Any, Any]]
    trunk: Callable[..., tuple[TrunkOutput, dict[tuple[str, ...], jax.Array]]]
    neck: Callable[..., tuple[jax.Array, dict[tuple[str, ...], jax.Array]]]

    def apply(
        self,
        params: Any,
        stats: Any,
        images: jax.Array,
        *,
        train: bool = False,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """Returns the features and the new running statistics, as nested as `stats`."""
        output, first = self.trunk(params, stats, images, train, key)
        features, second = self.neck(params, stats, output, train, key)
        return features, with_changed(stats, first | second)


def with_changed(stats: Any, changed: dict[tuple[str, ...], jax.Array]) -> Any:
    """Returns the statistics with those that changed, by their path."""
    return traverse_util.unflatten_dict(traverse_util.flatten_dict(stats) | changed)


class Backbone(NamedTuple):
    """A backbone as two Flax modules.

    Their parameters lie in one tree, without a level that says which of the two they
    belong to: so no two may have the same path.

    Attributes:
        trunk: Called as trunk(images [b, h, w, 3], train) -> the last feature map
            [b, h, w, c], or a tuple of it and what else the neck reads.
        neck: Called as neck(map float32 [b, h, w, c], train, ...) -> features [b, d],
            float32; after `train` comes what else the trunk returned.
    """

    trunk: nn.Module
    neck: nn.Module

    def network(self, *, image_side: int, freeze_batch_norm: bool) -> Network:
        """Returns the pure functions.

        Args:
            image_side: Height and width of an image in pixels.
            freeze_batch_norm: Normalise by the running statistics in training too.
        """
        run = functools.partial(_run, freeze_batch_norm)
        return Network(
            init=functools.partial(_init, self, image_side),
            trunk=functools.partial(_trunk, run, self.trunk),
            neck=functools.partial(_neck, run, self.neck),
        )


class BackboneEntry(NamedTuple):
    """A backbone by name: what `qface_jax.tables.BACKBONES` holds.

    Attributes:
        build: (embedding_dim=, dropout=, dtype=, remat=, and each of the options) ->
            Backbone, or another object with its method `network`. `dtype` is that of
            the compute up to the map; `remat` asks for the activations to be
            recomputed in the backward pass.
        options: Config keys of this backbone alone, name -> Option.
        has_dropout: Whether `build` takes a `dropout` above 0.
    """

    build: Callable[..., Any]
    options: Mapping[str, Option] = MappingProxyType({})
    has_dropout: bool = True


def _init(backbone, side, key):
    images = jnp.zeros((1, side, side, 3), jnp.float32)
    made, first = backbone.trunk.init_with_output(key, images, False)
    output = _trunk_output(made)
    second = backbone.neck.init(key, output.map, False, *output.beside)
    # A backbone without batch norms has no statistics.
    return tuple(
        _joined(first.get(kind, {}), second.get(kind, {}))
        for kind in ("params", "batch_stats")
    )


def _joined(first, second):
    first, second = map(traverse_util.flatten_dict, (first, second))
    for path in sorted(first.keys() & second.keys()):
        raise ValueError(
            f"{'/'.join(path)}: trunk and neck both have a parameter of this path; "
            "expected distinct ones, give their layers a name"
        )
    return traverse_util.unflatten_dict(first | second)


def _trunk(run, module, params, stats, images, train, key):
    made, changed = run(module, params, stats, (images,), train, key)
    return _trunk_output(made), changed


def _trunk_output(made):
    last_map, *beside = made if isinstance(made, tuple) else (made,)
    return TrunkOutput(last_map.astype(jnp.float32), tuple(beside))


def _neck(run, module, params, stats, output, train, key):
    return run(module, params, stats, (output.map, *output.beside), train, key)


def _run(frozen, module, params, stats, inputs, train, key):
    """Returns what a module makes of its inputs, and the statistics that changed."""
    variables = {"params": params, "batch_stats": stats}
    first, *rest = inputs
    if not train:
        return module.apply(variables, first, False, *rest), {}
    rngs = {} if key is None else {"dropout": key}
    run = functools.partial(
        module.apply, variables, first, True, *rest, rngs=rngs, mutable=["batch_stats"]
    )
    if frozen:
        with nn.intercept_methods(_freeze):
            return run()[0], {}
    made, updated = run()
    old = traverse_util.flatten_dict(stats)
    new = traverse_util.flatten_dict(updated.get("batch_stats", {}))
    return made, {path: new[path] for path in new if new[path] is not old[path]}


def _freeze(call, arguments, keywords, context):
    """Batch norms are told that this is no training, all other layers that it is."""
    if isinstance(context.module, BatchNorm) and context.method_name == "__call__":
        return call(arguments[0], False)
    return call(*arguments, **keywords)
