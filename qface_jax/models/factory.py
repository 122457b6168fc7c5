"""From a config's `model` group to a backbone as pure functions.

Nobody else needs to know Linen, or whether a backbone is an imported graph.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict

from qface_jax.errors import ConfigError
from qface_jax.models.network import TrunkOutput, with_changed
from qface_jax.options import (
    BELOW_ONE,
    COLOURS,
    NOT_NEGATIVE,
    POSITIVE_COLOURS,
    Rule,
    one_of,
)
from qface_jax.tables import BACKBONES, INIT_FROM

IMAGE_SIDE = 112  # px; what the backbones are built for
# What a caller may have set that no config of a run has passed through.
_RULES = {
    "dtype": one_of("float32", "bfloat16"),
    "color_order": one_of("RGB", "BGR"),
    "input_mean": COLOURS,
    "input_std": POSITIVE_COLOURS,
    "embedding_dim": Rule(lambda v: v >= 1, "must be >= 1"),
    "batch_norm_groups": NOT_NEGATIVE,
    "dropout": BELOW_ONE,
}
_HALF = 127.5  # of 255: images in [-1, 1] are (pixels - 127.5) / 127.5


class Model(NamedTuple):
    """A backbone as pure functions over two pytrees, parameters and statistics.

    With train=True the batch's statistics normalise, the stats that come back include
    them, and `key` draws the dropout (it may be None where the rate is 0). With
    train=False the stats come back as they were and `key` is not used. Trunk and neck
    of one step take the same key.

    Attributes:
        init: key -> (params, stats), float32; `stats` are the running means and
            variances of the batch norms.
        trunk: (params, stats, images, *, train, key) -> (TrunkOutput, stats). `images`
            are float32 [b, 112, 112, 3] in [-1, 1], RGB. The output's `map` is the last
            feature map, float32 [b, h, w, c], `feature_map_shape` says which; of a
            vision transformer it is the patches' tokens that the last attention gets.
        neck: (params, stats, TrunkOutput, *, train, key) -> (features, stats), features
            float32 [b, d], not normalised.
    """

    init: Callable[[jax.Array], tuple[Any, Any]]
    trunk: Callable[..., tuple[TrunkOutput, Any]]
    neck: Callable[..., tuple[jax.Array, Any]]

    def apply(
        self,
        params: Any,
        stats: Any,
        images: jax.Array,
        *,
        train: bool,
        key: jax.Array | None,
    ) -> tuple[jax.Array, Any]:
        """Returns the neck's features of the trunk's map, and the statistics."""
        output, stats = self.trunk(params, stats, images, train=train, key=key)
        return self.neck(params, stats, output, train=train, key=key)

    def apply_with_map(
        self,
        params: Any,
        stats: Any,
        images: jax.Array,
        *,
        train: bool,
        key: jax.Array | None,
    ) -> tuple[tuple[jax.Array, jax.Array], Any]:
        """Returns the features and the map they are made of, and the statistics."""
        output, stats = self.trunk(params, stats, images, train=train, key=key)
        features, stats = self.neck(params, stats, output, train=train, key=key)
        return (features, output.map), stats


def to_float(images: UInt8[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """Returns x / 127.5 - 1: bytes in [0, 255] to floats in [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def embed(
    model: Model, params: Any, stats: Any, images: UInt8[Array, "b h w 3"]
) -> Float[Array, "b d"]:
    """Returns raw features of images by the running statistics, float32 [b, d]."""
    features, _ = model.apply(params, stats, to_float(images), train=False, key=None)
    return features


def build(
    model_config: ConfigDict,
    *,
    devices: int = 1,
    options: Mapping[str, Any] | None = None,
) -> Model:
    """Returns the backbone that a config's `model` group describes.

    Args:
        model_config: the group `model` of configs/base.py.
        devices: Over which a training batch is cut; counts where batch_norm_groups is
            0, and for training only.
        options: Values of the backbone's own options (`BackboneEntry.options`) that are
            not in the group; the others have their defaults.

    Raises:
        ConfigError: a value is unknown or out of range.
    """
    _check(model_config)
    entry = BACKBONES[model_config.backbone]
    values = {name: option.default for name, option in entry.options.items()}
    values |= {name: model_config[name] for name in values if name in model_config}
    backbone = entry.build(
        embedding_dim=model_config.embedding_dim,
        dropout=model_config.dropout,
        dtype=jnp.dtype(model_config.dtype),
        remat=model_config.remat,
        **values | dict(options or {}),
    )
    network = backbone.network(
        image_side=IMAGE_SIDE, freeze_batch_norm=model_config.freeze_batch_norm
    )
    groups = model_config.batch_norm_groups or devices
    prepare = _prepare(model_config)
    return Model(
        init=network.init,
        trunk=functools.partial(_run, network.trunk, prepare, groups),
        neck=functools.partial(_run, network.neck, lambda output: output, groups),
    )


def feature_map_shape(
    model_config: ConfigDict, *, options: Mapping[str, Any] | None = None
) -> tuple[int, int, int]:
    """Returns height, width and channels of the last feature map, without computing it.

    Raises:
        ConfigError: as `build`; or an imported graph has no feature map.
    """
    model = build(model_config, options=options)
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((1, IMAGE_SIDE, IMAGE_SIDE, 3), jnp.float32)
    trunk = functools.partial(model.trunk, train=False, key=None)
    output, _ = jax.eval_shape(trunk, params, stats, images)
    if output.map is None:
        raise ConfigError(
            "model.graph: the imported network has no feature map: no convolution or "
            "pooling in it makes pictures of more than one pixel; expected one, such "
            "as every convolutional network has, for attention and activation maps"
        )
    return output.map.shape[1:]


def _prepare(model_config):
    """Returns the change from images in [-1, 1], RGB, to what the backbone takes."""
    mean, std = (tuple(model_config[key]) for key in ("input_mean", "input_std"))
    reverse = model_config.color_order == "BGR"
    as_they_are = mean == std == (_HALF,) * 3
    if as_they_are and not reverse:
        return lambda images: images

    shape = (1, 1, 1, 3)
    shift = [(_HALF - m) / s for m, s in zip(mean, std, strict=True)]
    shift = np.asarray(shift, np.float32).reshape(shape)
    scale = np.asarray([_HALF / s for s in std], np.float32).reshape(shape)

    def prepare(images):
        if not as_they_are:
            images = images * scale + shift
        return jnp.flip(images, -1) if reverse else images

    return prepare


def _run(function, prepare, groups, params, stats, inputs, *, train, key):
    """Runs a trunk or a neck, of which the batch is cut into groups in training."""
    inputs = prepare(inputs)
    if not train:
        return function(params, stats, inputs, False, key)[0], stats

    def run(inputs, key):
        return function(params, stats, inputs, True, key)

    if groups == 1:
        outputs, changed = run(inputs, key)
    else:
        outputs, changed = _in_groups(run, groups, inputs, key)
    return outputs, with_changed(stats, changed)


def _in_groups(run, groups, inputs, key):
    """Normalises each of equal contiguous parts of the batch by itself.

    Batch norm is the only layer in which images meet, so the groups are batches of
    their own. Each group's running statistics are a weighted mean of the old ones and
    its own; their mean over the groups is that of the old ones and the groups' mean.
    """
    size = len(jax.tree.leaves(inputs)[0])
    if size % groups:
        raise ValueError(
            f"batch of {size} images cannot be cut into {groups} groups; "
            "expected a multiple (model.batch_norm_groups)"
        )

    def cut(leaf):
        return leaf.reshape(groups, leaf.shape[0] // groups, *leaf.shape[1:])

    keys = None if key is None else jax.random.split(key, groups)
    outputs, stats = jax.vmap(run)(jax.tree.map(cut, inputs), keys)
    outputs = jax.tree.map(lambda leaf: leaf.reshape(size, *leaf.shape[2:]), outputs)
    return outputs, jax.tree.map(lambda leaf: leaf.mean(0), stats)


def _check(model_config):
    if model_config.backbone == INIT_FROM:
        raise ConfigError(
            f"model.backbone: {INIT_FROM} takes the model of another run, and none is "
            "given; give --init-from=RUN to qface train, elsewhere name a backbone"
        )
    for key, rule in _RULES.items():
        if not rule.holds(model_config[key]):
            raise ConfigError(f"model.{key}: got {model_config[key]!r}, {rule.text}")
