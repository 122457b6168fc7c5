"""Trunk and neck: which map lies between them, and that they make the features."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from numpy.testing import assert_allclose, assert_array_equal

from models.onnx.test_backbone import RESIDUAL
from qface_jax.errors import ConfigError
from qface_jax.models import build, face_transformer, feature_map_shape
from qface_jax.models.network import Backbone, TrunkOutput
from qface_jax.models.onnx import backbone as onnx_backbone
from support.closeness import additions, assert_close_as_sums
from support.onnx_model import SIDE, Case, ints, model, read

IMAGES = jax.random.uniform(
    jax.random.key(7), (4, 112, 112, 3), minval=-1.0, maxval=1.0
)
PICTURES = np.random.default_rng(7).uniform(-2, 2, (3, SIDE, SIDE, 3))
PICTURES = PICTURES.astype(np.float32)


def drawn(model, key=0):
    """Values of a model's shapes, statistics not trivial."""
    shapes, stats = jax.eval_shape(model.init, jax.random.key(0))
    draw = np.random.default_rng(key).normal
    params = jax.tree.map(lambda x: draw(0, 0.3, x.shape).astype(np.float32), shapes)
    stats = jax.tree.map(
        lambda x: np.abs(draw(0, 1, x.shape)).astype(np.float32) + 0.5, stats
    )
    return params, stats


@pytest.mark.parametrize(
    ("backbone", "shape"),
    [
        ("iresnet18", (7, 7, 512)),
        ("ir_18", (7, 7, 512)),
        ("ir_se_50", (7, 7, 512)),
        ("mobilefacenet", (7, 7, 512)),
        ("mobilefacenet_relu6", (7, 7, 512)),
        ("resnet50", (4, 4, 2048)),
        ("mobilenet_v2", (4, 4, 1280)),
        ("face_transformer", (14, 14, 16)),
        ("face_transformer_p12s8", (14, 14, 16)),
        ("mini", (7, 7, 128)),
        ("tiny", (4, 4, 16)),
    ],
)
def test_each_family_has_one(backbone, shape, model_config):
    assert feature_map_shape(model_config(backbone=backbone)) == shape


@pytest.mark.parametrize(
    ("train", "changes"),
    [
        (False, {}),
        (True, {}),
        (True, {"batch_norm_groups": 2, "dropout": 0.5}),
        (True, {"freeze_batch_norm": True}),
        (True, {"remat": True, "dtype": "bfloat16"}),
    ],
    ids=["evaluation", "training", "groups", "frozen", "bfloat16"],
)
def test_the_neck_makes_the_features_of_the_trunk_s_map(train, changes, model_config):
    model = build(model_config(**changes))
    params, stats = drawn(model)

    @jax.jit
    def run(key):
        options = {"train": train, "key": key}
        output, new = model.trunk(params, stats, IMAGES, **options)
        features, new = model.neck(params, new, output, **options)
        whole = model.apply(params, stats, IMAGES, **options)
        return output.map, (features, new), whole

    feature_map, separate, whole = run(jax.random.key(1))
    jax.tree.map(assert_array_equal, separate, whole)
    assert (feature_map.shape, feature_map.dtype) == ((4, 4, 4, 16), jnp.float32)
    # The neck leaves the trunk's statistics, and the other way round.
    changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), separate[1], stats)
    learns = train and not changes.get("freeze_batch_norm")
    assert all(value == learns for value in jax.tree.leaves(changed))


@pytest.mark.parametrize("train", [False, True])
def test_the_gradient_of_the_map(train, model_config):
    """By hand: behind tiny's map are a linear layer and a batch norm."""
    model = build(model_config(batch_norm_groups=2, freeze_batch_norm=True))
    params, stats = drawn(model)
    weights = np.random.default_rng(3).normal(size=(4, 16)).astype(np.float32)
    moved = np.random.default_rng(4).normal(size=(4, 4, 4, 16)).astype(np.float32)

    @jax.jit
    def run(feature_map):
        def total(feature_map):
            output = TrunkOutput(feature_map)
            features, _ = model.neck(params, stats, output, train=train, key=None)
            return jnp.sum(features * weights), features

        return jax.grad(total, has_aux=True)(feature_map)

    gradient, features = run(moved)
    kernel, bias = (np.float64(params["fc"][name]) for name in ("kernel", "bias"))
    mean, var = (np.float64(stats["features"][name]) for name in ("mean", "var"))
    factor = 1 / np.sqrt(var + 1e-5)
    flat = np.float64(moved).reshape(4, -1)
    expected = (flat @ kernel + bias - mean) * factor + params["features"]["bias"]
    assert_allclose(features, expected, rtol=1e-4, atol=1e-4)
    by_hand = (weights * factor) @ kernel.T
    assert_allclose(gradient.reshape(4, -1), by_hand, rtol=1e-4, atol=1e-5)


def test_the_last_attention_of_a_transformer_reads_it():
    backbone = face_transformer.build(
        12, 2, 2, 8, embedding_dim=16, dropout=0.0, dtype=jnp.bfloat16, remat=True
    )
    network = backbone.network(image_side=112, freeze_batch_norm=False)
    params, stats = drawn(network)

    @jax.jit
    def run(params):
        output, _ = network.trunk(params, stats, IMAGES[:1], False, None)

        def total(feature_map):
            moved = output._replace(map=feature_map)
            features, _ = network.neck(params, stats, moved, False, None)
            return jnp.sum(jnp.sin(features))

        return output.map, jax.grad(total)(output.map)

    feature_map, gradient = run(params)
    assert (feature_map.shape, feature_map.dtype) == ((1, 14, 14, 16), jnp.float32)
    assert (np.abs(gradient).max(-1) > 0).all(), "a patch has no part in the feature"


def test_trunk_and_neck_share_no_parameter():
    backbone = Backbone(_Plain(), _Plain())
    network = backbone.network(image_side=8, freeze_batch_norm=False)
    with pytest.raises(ValueError, match="layer/bias: trunk and neck both have"):
        jax.eval_shape(network.init, jax.random.key(0))


class _Plain(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(3, name="layer")(x)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A network of 112 px pictures: [2, 2] behind the last convolution."""
    body = RESIDUAL.body.replace("strides = [2,2]", "strides = [56,56]")
    proto = model(RESIDUAL._replace(body=body), batch=1, side=112)
    return read(proto, tmp_path_factory.mktemp("large"))


def test_the_factory_gives_that_of_an_imported_graph(large, model_config):
    config = model_config(
        backbone="onnx", graph=large.graph.pack(), embedding_dim=large.embedding_dim
    )
    assert feature_map_shape(config) == (2, 2, 4)
    config.batch_norm_groups = 2
    run = functools.partial(build(config).apply_with_map, train=True, key=None)
    (features, feature_map), _ = jax.jit(run)(large.params, large.stats, IMAGES)
    # What RESIDUAL makes of its map: the mean over the pixels of a channel.
    scale = abs(feature_map).max()
    assert_close_as_sums(feature_map.mean((1, 2)), features, terms=4, scale=scale)


# From the reshape on it is computed image by image, and so is the map.
MAPPED = Case(
    "c = Conv (x, w) s = Reshape (c, same) r = Relu (s) m = Conv (r, v) "
    "t = Transpose <perm = [0,2,3,1]> (m) h = Identity (t)",
    {"w": (2, 3, 3, 3), "same": ints(1, 2, 4, 4), "v": (2, 2, 1, 1)},
)


def pixel_means(maps):
    return maps.mean((1, 2))


def as_it_is(maps):
    return maps.reshape(len(maps), -1)


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize(
    ("case", "batch", "size", "tail"),
    [(RESIDUAL, "N", (3, 4), pixel_means), (MAPPED, 1, (4, 2), as_it_is)],
    ids=["batched", "mapped"],
)
def test_an_imported_graph(case, batch, size, tail, remat, tmp_path):
    imported = read(model(case, batch=batch), tmp_path)
    network = onnx_backbone.build(imported.graph, remat=remat)
    side, channels = size
    weights = (imported.params, imported.stats)

    @jax.jit
    def run(images, shift):
        output, _ = network.trunk(*weights, images, True, None)

        def total(feature_map):
            moved = output._replace(map=feature_map)
            features, _ = network.neck(*weights, moved, True, None)
            return jnp.sum(jnp.sin(features)), features

        moved = output.map + shift
        gradient, features = jax.grad(total, has_aux=True)(moved)
        by_hand = jax.grad(lambda maps: jnp.sum(jnp.sin(tail(maps))))(moved)
        trained, _ = network.apply(*weights, images, train=True)
        return output.map, (features, tail(moved)), (gradient, by_hand), trained

    shape = (3, side, side, channels)
    shift = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    feature_map, features, gradients, trained = run(PICTURES, shift)
    assert (feature_map.shape, feature_map.dtype) == (shape, jnp.float32)
    terms = additions(imported.params)
    assert_close_as_sums(trained, tail(feature_map), terms=terms)
    assert_close_as_sums(*features, terms=terms)
    assert_allclose(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("remat", [False, True])
def test_an_imported_graph_in_bfloat16(remat, tmp_path):
    imported = read(model(RESIDUAL), tmp_path)
    network = onnx_backbone.build(imported.graph, dtype=jnp.bfloat16, remat=remat)

    @jax.jit
    def run(params, stats):
        output, _ = network.trunk(params, stats, PICTURES, False, None)
        features, _ = network.neck(params, stats, output, False, None)
        return output.map, features

    feature_map, features = run(imported.params, imported.stats)
    assert (features.dtype, feature_map.dtype) == (jnp.float32, jnp.float32)
    assert_allclose(feature_map.mean((1, 2)), features, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("body", "weights", "name"),
    [
        # Weights of an attention have the shape of a picture.
        (
            "c = Conv (x, w) q = Reshape (c, rows) k = Transpose <perm = [0,1,3,2]> (q)"
            " p = MatMul (q, k) d = Div (p, two) h = Softmax (d)",
            {"w": (2, 3, 3, 3), "rows": ints(1, 2, 4, 4), "two": np.float32(2)},
            "c",
        ),
        # One pixel is no map; nor is what the features do not follow from.
        (
            "c = Conv (x, w) r = Relu (c) z = Neg (r) o = MaxPool <kernel_shape=[2,2]>"
            " (r) g = GlobalAveragePool (r) h = Relu (g)",
            {"w": (2, 3, 3, 3)},
            "r",
        ),
    ],
)
def test_which_value_of_a_graph_it_is(body, weights, name, tmp_path):
    graph = read(model(Case(body, weights), batch=1), tmp_path).graph
    assert onnx_backbone._cut(graph, jnp.float32).map == name


def test_a_graph_without_pictures_says_so(model_config, tmp_path):
    case = Case("r = Reshape (x, one) h = Gemm (r, w)", {
        "one": ints(1, 3 * 112**2), "w": (3 * 112**2, 4)
    })  # fmt: skip
    packed = read(model(case, batch=1, side=112), tmp_path).graph.pack()
    config = model_config(backbone="onnx", graph=packed, embedding_dim=4)
    network = build(config)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    run = functools.partial(network.apply, train=True, key=None)
    features, _ = jax.eval_shape(run, *shapes, IMAGES)
    assert features.shape == (4, 4)
    with pytest.raises(ConfigError, match="has no feature map: no convolution"):
        feature_map_shape(config)
