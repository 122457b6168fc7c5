"""From a config to a backbone: two pure functions, so that nobody else sees Linen."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from qface_jax.errors import ConfigError
from qface_jax.models.adaface_ir import AdaFaceIR
from qface_jax.models.iresnet import IResNet
from qface_jax.models.mobilefacenet import MobileFaceNet
from qface_jax.models.small import SmallResNet

IMAGE_SIDE = 112  # px; what the backbones are built for

# Name -> factory(embedding_dim=, dropout=, dtype=, remat=) of a module.
BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "iresnet18": functools.partial(IResNet, (2, 2, 2, 2)),
    "iresnet34": functools.partial(IResNet, (3, 4, 6, 3)),
    "iresnet50": functools.partial(IResNet, (3, 4, 14, 3)),
    "iresnet100": functools.partial(IResNet, (3, 13, 30, 3)),
    "ir_18": functools.partial(AdaFaceIR, (2, 2, 2, 2), squeeze=False),
    "ir_34": functools.partial(AdaFaceIR, (3, 4, 6, 3), squeeze=False),
    "ir_50": functools.partial(AdaFaceIR, (3, 4, 14, 3), squeeze=False),
    "ir_101": functools.partial(AdaFaceIR, (3, 13, 30, 3), squeeze=False),
    "ir_se_50": functools.partial(AdaFaceIR, (3, 4, 14, 3), squeeze=True),
    "mobilefacenet": MobileFaceNet,
    "mini": functools.partial(SmallResNet, 2, (32, 64, 128), (1, 1, 2)),
    "tiny": functools.partial(SmallResNet, 8, (8, 16), (1, 1)),
}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class Model(NamedTuple):
    """A backbone as two pure functions over two pytrees.

    Attributes:
        init: key -> (params, stats), float32; `stats` are the running means and
            variances of the batch norms.
        apply: (params, stats, images, *, train, key) -> (features, stats). `images` are
            float32 [b, 112, 112, 3] in [-1, 1], RGB; features float32 [b, d], not
            normalised. With train=True the batch's statistics normalise, the stats that
            come back include them, and `key` draws the dropout (it may be None where
            the rate is 0); with train=False the stats come back as they were and
            `key` is not used.
    """

    init: Callable[[jax.Array], tuple[Any, Any]]
    apply: Callable[..., tuple[jax.Array, Any]]


def build(model_config: ConfigDict, *, devices: int = 1) -> Model:
    """Returns the backbone that a config's `model` group describes.

    Args:
        model_config: backbone, embedding_dim, dropout, dtype, remat and
            batch_norm_groups as in configs/base.py.
        devices: Over which a training batch is cut; counts where batch_norm_groups is
            0, and for training only.

    Raises:
        ConfigError: a value is unknown or out of range.
    """
    _check(model_config)
    module = BACKBONES[model_config.backbone](
        embedding_dim=model_config.embedding_dim,
        dropout=model_config.dropout,
        dtype=DTYPES[model_config.dtype],
        remat=model_config.remat,
    )
    groups = model_config.batch_norm_groups or devices
    return Model(
        init=functools.partial(_init, module),
        apply=functools.partial(_apply, module, groups),
    )


def _init(module, key):
    images = jnp.zeros((1, IMAGE_SIDE, IMAGE_SIDE, 3), jnp.float32)
    variables = module.init(key, images, False)
    return variables["params"], variables["batch_stats"]


def _apply(module, groups, params, stats, images, *, train, key):
    if not train:
        variables = {"params": params, "batch_stats": stats}
        return module.apply(variables, images, False), stats
    run = functools.partial(_train, module, params, stats)
    if groups == 1:
        return run(images, key)
    return _in_groups(run, groups, images, key)


def _train(module, params, stats, images, key):
    variables = {"params": params, "batch_stats": stats}
    rngs = {} if key is None else {"dropout": key}
    features, updated = module.apply(
        variables, images, True, rngs=rngs, mutable=["batch_stats"]
    )
    return features, updated["batch_stats"]


def _in_groups(run, groups, images, key):
    """Normalises each of equal contiguous parts of the batch by itself.

    Batch norm is the only layer in which images meet, so the groups are batches of
    their own. Each group's running statistics are a weighted mean of the old ones and
    its own; their mean over the groups is that of the old ones and the groups' mean.
    """
    if images.shape[0] % groups:
        raise ValueError(
            f"batch of {images.shape[0]} images cannot be cut into {groups} groups; "
            "expected a multiple (model.batch_norm_groups)"
        )
    cut = images.reshape(groups, images.shape[0] // groups, *images.shape[1:])
    keys = None if key is None else jax.random.split(key, groups)
    features, stats = jax.vmap(run)(cut, keys)
    features = features.reshape(images.shape[0], features.shape[-1])
    return features, jax.tree.map(lambda leaf: leaf.mean(0), stats)


def _check(model_config):
    if model_config.backbone not in BACKBONES:
        raise ConfigError(
            f"model.backbone: got {model_config.backbone!r}, "
            f"known are {', '.join(BACKBONES)}"
        )
    if model_config.dtype not in DTYPES:
        raise ConfigError(
            f"model.dtype: got {model_config.dtype!r}, known are {', '.join(DTYPES)}"
        )
    if model_config.embedding_dim < 1:
        raise ConfigError(
            f"model.embedding_dim: got {model_config.embedding_dim}, must be at least 1"
        )
    if model_config.batch_norm_groups < 0:
        raise ConfigError(
            f"model.batch_norm_groups: got {model_config.batch_norm_groups}, "
            "must be at least 0"
        )
    if not 0 <= model_config.dropout < 1:
        raise ConfigError(
            f"model.dropout: got {model_config.dropout}, must be in [0, 1)"
        )
