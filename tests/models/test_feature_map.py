"""The last feature map: which one it is, and that asking for it changes nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from models.onnx.test_backbone import RESIDUAL
from qface_jax.errors import ConfigError
from qface_jax.models import build, feature_map_shape
from qface_jax.models.face_transformer import FaceTransformer
from qface_jax.models.network import from_module
from qface_jax.models.onnx import backbone as onnx_backbone
from qface_jax.models.onnx.feature_map import marked
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


@functools.cache
def plain(model, *, train):
    return jax.jit(functools.partial(model.apply, train=train))


@functools.cache
def mapped(model, *, train):
    return jax.jit(functools.partial(model.apply_with_map, train=train))


@pytest.mark.parametrize(
    ("backbone", "shape"),
    [
        ("iresnet18", (7, 7, 512)),
        ("ir_18", (7, 7, 512)),
        ("ir_se_50", (7, 7, 512)),
        ("mobilefacenet", (7, 7, 512)),
        ("mobilefacenet_relu6", (7, 7, 512)),
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
def test_the_features_are_those_without_it(train, changes, model_config):
    model = build(model_config(**changes))
    params, stats = drawn(model)
    key = jax.random.key(1)
    features, new = plain(model, train=train)(params, stats, IMAGES, key=key)
    (again, found), new_again = mapped(model, train=train)(
        params, stats, IMAGES, key=key
    )
    jax.tree.map(assert_array_equal, (again, new_again), (features, new))
    assert (found.shape, found.dtype) == ((4, 4, 4, 16), jnp.float32)


@pytest.mark.parametrize("train", [False, True])
def test_the_gradient_of_what_is_added_is_the_map_s(train, model_config):
    """By hand: behind tiny's map are a linear layer and a batch norm."""
    model = build(model_config(batch_norm_groups=2, freeze_batch_norm=True))
    params, stats = drawn(model)
    weights = np.random.default_rng(3).normal(size=(4, 16)).astype(np.float32)

    @jax.jit
    def run(added):
        def total(added):
            (features, found), _ = model.apply_with_map(
                params, stats, IMAGES, train=train, key=None, added=added
            )
            return jnp.sum(features * weights), (features, found)

        return jax.grad(total, has_aux=True)(added)

    _, (_, found) = run(np.zeros((4, 4, 4, 16), np.float32))
    shift = np.random.default_rng(4).normal(size=found.shape).astype(np.float32)
    gradient, (features, moved) = run(shift)
    assert_close_as_sums(moved, found + shift, terms=additions(params))

    kernel, bias = (np.float64(params["fc"][name]) for name in ("kernel", "bias"))
    mean, var = (np.float64(stats["features"][name]) for name in ("mean", "var"))
    factor = 1 / np.sqrt(var + 1e-5)
    flat = np.float64(moved).reshape(4, -1)
    expected = (flat @ kernel + bias - mean) * factor + params["features"]["bias"]
    assert_close_as_sums(features, expected, terms=len(kernel))
    by_hand = (weights * factor) @ kernel.T
    assert_close_as_sums(gradient.reshape(4, -1), by_hand, terms=kernel.shape[1])


def test_the_last_attention_of_a_transformer_reads_it():
    module = FaceTransformer(12, 2, 2, 8, 16, 0.0, jnp.bfloat16, True)
    network = from_module(module, image_side=112, freeze_batch_norm=False)
    params, stats = drawn(network)
    features = jax.jit(network.evaluate)(params, stats, IMAGES[:1])

    @jax.jit
    def run(added):
        def total(added):
            features, found = network.evaluate_with_map(
                params, stats, IMAGES[:1], added
            )
            return jnp.sum(jnp.sin(features)), (features, found)

        return jax.grad(total, has_aux=True)(added)

    gradient, (again, found) = run(np.zeros((1, 14, 14, 16), np.float32))
    assert found.dtype == jnp.float32
    assert_allclose(again, features, rtol=0.02, atol=0.02)  # bfloat16, fused otherwise
    assert (np.abs(gradient).max(-1) > 0).all(), "a patch has no part in the feature"


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
    model_ = build(config)
    (features, found), _ = mapped(model_, train=True)(
        large.params, large.stats, IMAGES, key=None
    )
    expected, _ = plain(model_, train=True)(large.params, large.stats, IMAGES, key=None)
    assert_array_equal(features, expected)
    # What RESIDUAL makes of its map: the mean over the pixels of a channel.
    assert_close_as_sums(found.mean((1, 2)), features, terms=4, scale=abs(found).max())


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
    found = read(model(case, batch=batch), tmp_path)
    network = onnx_backbone.build(found.graph, remat=remat)
    side, channels = size
    shift = np.random.default_rng(0).normal(size=(3, side, side, channels))
    shift = shift.astype(np.float32)
    weights = (found.params, found.stats)

    @jax.jit
    def without(images):
        given = (*weights, images)
        return (
            (network.train(*given, None), network.evaluate(*given)),
            (
                network.train_with_map(*given, None, None),
                network.evaluate_with_map(*given, None),
            ),
        )

    @jax.jit
    def moved(added):
        def total(added):
            (features, maps), _ = network.train_with_map(
                *weights, PICTURES, None, added
            )
            return jnp.sum(jnp.sin(features)), (features, maps)

        return jax.grad(total, has_aux=True)(added)

    plain, (((trained, maps), new), (evaluated, evaluated_maps)) = without(PICTURES)
    # Compiled together they share their parts, so not even the last bit differs.
    jax.tree.map(assert_array_equal, ((trained, new), evaluated), plain)
    assert maps.shape == evaluated_maps.shape == shift.shape
    assert maps.dtype == jnp.float32
    gradient, (features, moved_maps) = moved(shift)
    terms = additions(weights[0])
    assert_close_as_sums(moved_maps, maps + shift, terms=terms)
    assert_close_as_sums(features, tail(moved_maps), terms=terms)
    by_hand = jax.grad(lambda maps: jnp.sum(jnp.sin(tail(maps))))(moved_maps)
    assert_allclose(gradient, by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("remat", [False, True])
def test_an_imported_graph_in_bfloat16(remat, tmp_path):
    found = read(model(RESIDUAL), tmp_path)
    network = onnx_backbone.build(found.graph, dtype=jnp.bfloat16, remat=remat)
    zeros = np.zeros((3, 3, 3, 4), np.float32)
    for added in (None, zeros):
        features, maps = jax.jit(network.evaluate_with_map)(
            found.params, found.stats, PICTURES, added
        )
        assert (features.dtype, maps.dtype) == (jnp.float32, jnp.float32)
        assert_allclose(maps.mean((1, 2)), features, rtol=0.02, atol=0.02)


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
    found = read(model(Case(body, weights), batch=1), tmp_path)
    graph = found.graph
    assert marked(graph, onnx_backbone._shapes(graph), adds=False).marked == name


def test_a_graph_without_pictures_says_so(tmp_path):
    case = Case("r = Reshape (x, one) h = Gemm (r, w)", {
        "one": ints(1, 108), "w": (108, 4)
    })  # fmt: skip
    network = onnx_backbone.build(read(model(case, batch=1), tmp_path).graph)
    params, stats = jax.eval_shape(network.init, jax.random.key(0))
    with pytest.raises(ConfigError, match="has no feature map: no convolution"):
        jax.eval_shape(network.evaluate_with_map, params, stats, PICTURES, None)
