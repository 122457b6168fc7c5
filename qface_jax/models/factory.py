"""From a config to a backbone: two pure functions, so that nobody else sees Linen."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict

from qface_jax.errors import ConfigError
from qface_jax.models.adaface_ir import AdaFaceIR
from qface_jax.models.face_transformer import FaceTransformer
from qface_jax.models.iresnet import IResNet
from qface_jax.models.mobilefacenet import MobileFaceNet
from qface_jax.models.mobilefacenet_relu6 import MobileFaceNetRelu6
from qface_jax.models.network import Network, from_module
from qface_jax.models.onnx import backbone as onnx_backbone
from qface_jax.models.onnx.graph import Graph
from qface_jax.models.small import SmallResNet

IMAGE_SIDE = 112  # px; what the backbones are built for

# Name -> factory(embedding_dim=, dropout=, dtype=, remat=) of a module; of an imported
# graph the factory is called with the graph instead.
BACKBONES: dict[str, Callable[..., nn.Module | Network]] = {
    "iresnet18": functools.partial(IResNet, (2, 2, 2, 2)),
    "iresnet34": functools.partial(IResNet, (3, 4, 6, 3)),
    "iresnet50": functools.partial(IResNet, (3, 4, 14, 3)),
    "iresnet100": functools.partial(IResNet, (3, 13, 30, 3)),
    "iresnet200": functools.partial(IResNet, (6, 26, 60, 6)),
    "ir_18": functools.partial(AdaFaceIR, (2, 2, 2, 2), squeeze=False),
    "ir_34": functools.partial(AdaFaceIR, (3, 4, 6, 3), squeeze=False),
    "ir_50": functools.partial(AdaFaceIR, (3, 4, 14, 3), squeeze=False),
    "ir_101": functools.partial(AdaFaceIR, (3, 13, 30, 3), squeeze=False),
    "ir_se_50": functools.partial(AdaFaceIR, (3, 4, 14, 3), squeeze=True),
    "mobilefacenet": MobileFaceNet,
    "mobilefacenet_relu6": MobileFaceNetRelu6,
    "face_transformer": functools.partial(FaceTransformer, 8, 20, 8, 64),
    "face_transformer_p12s8": functools.partial(FaceTransformer, 12, 20, 8, 64),
    "mini": functools.partial(SmallResNet, 2, (32, 64, 128), (1, 1, 2)),
    "tiny": functools.partial(SmallResNet, 8, (8, 16), (1, 1)),
    "onnx": onnx_backbone.build,
}
INIT_FROM = "init_from"  # as a backbone: the model of the run to start from
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
COLOR_ORDERS = ("RGB", "BGR")
_HALF = 127.5  # of 255: images in [-1, 1] are (pixels - 127.5) / 127.5


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
        apply_with_map: as `apply`, and the last feature map: (params, stats, images, *,
            train, key, added=None) -> ((features, feature map), stats). The map is
            float32 [b, h, w, c], `feature_map_shape` says which; of a vision
            transformer it is the patches' tokens that the last attention gets. `added`,
            float32 [b, h, w, c], is added to the map before anything follows from it,
            so that its gradient is the map's. None where the model has no map.
    """

    init: Callable[[jax.Array], tuple[Any, Any]]
    apply: Callable[..., tuple[jax.Array, Any]]
    apply_with_map: Callable[..., tuple[tuple[jax.Array, jax.Array], Any]] | None = None


def to_float(images: UInt8[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """Returns x / 127.5 - 1: bytes in [0, 255] to floats in [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def embed(
    model: Model, params: Any, stats: Any, images: UInt8[Array, "b h w 3"]
) -> Float[Array, "b d"]:
    """Returns raw features of images by the running statistics, float32 [b, d]."""
    features, _ = model.apply(params, stats, to_float(images), train=False, key=None)
    return features


def build(model_config: ConfigDict, *, devices: int = 1) -> Model:
    """Returns the backbone that a config's `model` group describes.

    Args:
        model_config: the group `model` of configs/base.py.
        devices: Over which a training batch is cut; counts where batch_norm_groups is
            0, and for training only.

    Raises:
        ConfigError: a value is unknown or out of range.
    """
    _check(model_config)
    if model_config.backbone == "onnx":
        network = _imported(model_config)
    else:
        network = _own(model_config)
    groups = model_config.batch_norm_groups or devices
    given = (network, _prepare(model_config), groups)
    return Model(
        init=network.init,
        apply=functools.partial(_apply, *given),
        apply_with_map=functools.partial(_apply_with_map, *given),
    )


def feature_map_shape(model_config: ConfigDict) -> tuple[int, int, int]:
    """Returns height, width and channels of the last feature map, without computing it.

    Raises:
        ConfigError: as `build`; or an imported graph has no feature map.
    """
    model = build(model_config)
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((1, IMAGE_SIDE, IMAGE_SIDE, 3), jnp.float32)
    run = functools.partial(model.apply_with_map, train=False, key=None)
    (_, feature_map), _ = jax.eval_shape(run, params, stats, images)
    return feature_map.shape[1:]


def _own(model_config):
    """Returns the functions of a backbone of this package."""
    module = BACKBONES[model_config.backbone](
        embedding_dim=model_config.embedding_dim,
        dropout=model_config.dropout,
        dtype=DTYPES[model_config.dtype],
        remat=model_config.remat,
    )
    return from_module(
        module,
        image_side=IMAGE_SIDE,
        freeze_batch_norm=model_config.freeze_batch_norm,
    )


def _imported(model_config):
    """Returns the functions of an imported graph."""
    graph = Graph.unpack(model_config.graph)
    sizes = (
        ("embedding_dim", model_config.embedding_dim, graph.embedding_dim),
        ("dropout", model_config.dropout, 0.0),
    )
    for key, got, expected in sizes:
        if got != expected:
            raise ConfigError(
                f"model.{key}: got {got}, must be {expected}, as in the imported graph"
            )
    if graph.input_side != IMAGE_SIDE:
        raise ConfigError(
            f"model.graph: takes images of {graph.input_side} px, but they are "
            f"{IMAGE_SIDE} px here; export the network for that size"
        )
    return BACKBONES["onnx"](
        graph,
        dtype=DTYPES[model_config.dtype],
        remat=model_config.remat,
        freeze_batch_norm=model_config.freeze_batch_norm,
    )


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
        return images[..., ::-1] if reverse else images

    return prepare


def _apply(network, prepare, groups, params, stats, images, *, train, key):
    images = prepare(images)
    if not train:
        return network.evaluate(params, stats, images), stats
    run = functools.partial(network.train, params, stats)
    if groups == 1:
        return run(images, key)
    return _in_groups(run, groups, images, key)


def _apply_with_map(
    network, prepare, groups, params, stats, images, *, train, key, added=None
):
    images = prepare(images)
    if not train:
        return network.evaluate_with_map(params, stats, images, added), stats
    run = functools.partial(network.train_with_map, params, stats)
    if groups == 1:
        return run(images, key, added)
    return _in_groups(run, groups, images, key, added)


def _in_groups(run, groups, images, key, *more):
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

    def cut(leaf):
        return leaf.reshape(groups, leaf.shape[0] // groups, *leaf.shape[1:])

    parts = jax.tree.map(cut, (images, *more))
    keys = None if key is None else jax.random.split(key, groups)
    outputs, stats = jax.vmap(run)(parts[0], keys, *parts[1:])
    outputs = jax.tree.map(
        lambda leaf: leaf.reshape(images.shape[0], *leaf.shape[2:]), outputs
    )
    return outputs, jax.tree.map(lambda leaf: leaf.mean(0), stats)


def _check(model_config):
    if model_config.backbone == INIT_FROM:
        raise ConfigError(
            f"model.backbone: {INIT_FROM} takes the model of another run, and none is "
            "given; give --init-from=RUN to qface train, elsewhere name a backbone"
        )
    if model_config.backbone not in BACKBONES:
        raise ConfigError(
            f"model.backbone: got {model_config.backbone!r}, "
            f"known are {', '.join(BACKBONES)}"
        )
    if model_config.dtype not in DTYPES:
        raise ConfigError(
            f"model.dtype: got {model_config.dtype!r}, known are {', '.join(DTYPES)}"
        )
    if model_config.color_order not in COLOR_ORDERS:
        raise ConfigError(
            f"model.color_order: got {model_config.color_order!r}, "
            f"known are {', '.join(COLOR_ORDERS)}"
        )
    for key in ("input_mean", "input_std"):
        if len(model_config[key]) != 3:
            raise ConfigError(
                f"model.{key}: got {tuple(model_config[key])}, expected 3 numbers"
            )
    if min(model_config.input_std) <= 0:
        raise ConfigError(
            f"model.input_std: got {tuple(model_config.input_std)}, must be above 0"
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
