"""The Face Transformer: its size, its arithmetic in float64, its names."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from qface_jax.models import build, face_transformer
from support.closeness import additions, assert_close_as_sums

HEADS, HEAD_WIDTH, WIDTH, PIXELS = 2, 3, 8, 32
DEPTH = {8: 2, 12: 1}  # by the side of a patch
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, PIXELS, PIXELS, 3))
IMAGES = IMAGES.astype(np.float32)
# "gelu" is x times the normal distribution function, not its approximation by tanh.
gelu = np.vectorize(lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))))


def small(side=12, *, dropout=0.0, dtype=jnp.float32, remat=False):
    backbone = face_transformer.build(
        *(side, DEPTH[side], HEADS, HEAD_WIDTH),
        embedding_dim=WIDTH, dropout=dropout, dtype=dtype, remat=remat,
    )  # fmt: skip
    return backbone.network(image_side=PIXELS, freeze_batch_norm=False)


@functools.cache
def initial(side):
    """Parameters, none of them at a value that hides its part."""
    shapes, _ = jax.eval_shape(small(side).init, jax.random.key(1))
    rng = np.random.default_rng(2)

    def value(leaf):
        deviation = 0.5 if leaf.ndim == 1 else leaf.shape[0] ** -0.5
        return (deviation * rng.normal(size=leaf.shape)).astype(np.float32)

    return jax.tree.map(value, shapes)


@functools.cache
def features_and_gradient(network):
    @jax.jit
    def run(params):
        def loss(params):
            features, _ = network.apply(params, {}, IMAGES)
            weights = jnp.cos(jnp.arange(features.size, dtype=jnp.float32))
            return jnp.sum(features * weights.reshape(features.shape)), features

        grads, features = jax.grad(loss, has_aux=True)(params)
        return features, grads

    return run


def norm(x, p):
    centred = x - x.mean(-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return centred / scale * p["scale"] + p["bias"]


def patches(image, side):
    """Rows of [row, column, channel] vectors, those beyond the edge are zeros."""
    wide = np.pad(image, ((side - 8,) * 2, (side - 8,) * 2, (0, 0)))
    starts = range(0, wide.shape[0] - side + 1, 8)
    return np.array(
        [wide[y : y + side, x : x + side].reshape(-1) for y in starts for x in starts]
    )


def attend(x, p):
    qkv = x @ p["to_qkv"]["kernel"]
    q, k, v = np.split(qkv, 3, axis=-1)
    heads = []
    for head in range(HEADS):
        columns = slice(head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH)
        # The width of a token, not of a head, as in the reference.
        dots = np.exp(q[:, columns] @ k[:, columns].T / math.sqrt(WIDTH))
        heads.append(dots / dots.sum(-1, keepdims=True) @ v[:, columns])
    return np.concatenate(heads, -1) @ p["to_out_0"]["kernel"] + p["to_out_0"]["bias"]


def feed_forward(x, p):
    hidden = gelu(x @ p["net_0"]["kernel"] + p["net_0"]["bias"])
    return hidden @ p["net_3"]["kernel"] + p["net_3"]["bias"]


def plain(image, side, params):
    """One image in float64."""
    p = jax.tree.map(np.float64, params)
    embedding = p["patch_to_embedding"]
    x = patches(np.float64(image), side) @ embedding["kernel"] + embedding["bias"]
    x = np.concatenate([p["cls_token"][0], x]) + p["pos_embedding"][0]
    for index in range(DEPTH[side]):
        for part, layer in enumerate((attend, feed_forward)):
            inside = p["transformer"][f"layers_{index}_{part}"]["fn"]
            x = x + layer(norm(x, inside["norm"]), inside["fn"])
    return norm(x[0], p["mlp_head_0"])


@pytest.mark.parametrize("side", [8, 12])
def test_float64(side):
    params = initial(side)
    features, grads = features_and_gradient(small(side))(params)
    want = np.array([plain(image, side, params) for image in IMAGES])
    assert_close_as_sums(features, want, terms=additions(params))
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(leaf).all() and np.any(leaf), jax.tree_util.keystr(path)


@pytest.mark.parametrize("side", [8, 12])
def test_gradient_of_the_patches(side):
    """Along a random direction, against a difference of the float64 arithmetic."""
    params = initial(side)
    _, grads = features_and_gradient(small(side))(params)
    direction = np.random.default_rng(3).normal(size=(side * side * 3, WIDTH))
    weights = np.cos(np.arange(2 * WIDTH)).reshape(2, WIDTH)
    ends = []
    for step in (1e-5, -1e-5):
        moved = jax.tree.map(np.float64, params)
        moved["patch_to_embedding"]["kernel"] += step * direction
        features = np.array([plain(image, side, moved) for image in IMAGES])
        ends.append(np.sum(features * weights))
    slope = np.sum(grads["patch_to_embedding"]["kernel"] * direction)
    assert_allclose(slope, (ends[0] - ends[1]) / 2e-5, rtol=1e-3)


def test_remat_changes_nothing():
    params = initial(12)
    want = features_and_gradient(small())(params)
    got = features_and_gradient(small(remat=True))(params)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_close():
    params = initial(12)
    want, _ = features_and_gradient(small())(params)
    got, _ = jax.jit(small(dtype=jnp.bfloat16).apply)(params, {}, IMAGES)
    assert got.dtype == jnp.float32
    assert 1e-5 < np.abs(got - want).max() < 0.2


def test_dropout_in_training_and_by_the_key():
    params = initial(12)
    want, _ = features_and_gradient(small())(params)
    dropping = small(dropout=0.3)
    evaluated, _ = jax.jit(dropping.apply)(params, {}, IMAGES)
    assert_close_as_sums(evaluated, want, terms=additions(params))

    @jax.jit
    def train(seed):
        key = jax.random.key(seed)
        return dropping.apply(params, {}, IMAGES, train=True, key=key)[0]

    first, again, other = (train(seed) for seed in (0, 0, 1))
    assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.05


@pytest.mark.parametrize(
    "backbone, side", [("face_transformer", 8), ("face_transformer_p12s8", 12)]
)
def test_the_published_size(backbone, side, model_config):
    """Counted on paper: 63.2 and 63.3 million, as the publication has it."""
    d, mlp, tokens = 512, 2048, 14 * 14 + 1
    attention = 2 * d + 3 * d * d + (d * d + d)
    hidden = 2 * d + (d * mlp + mlp) + (mlp * d + d)
    patch = side * side * 3 * d + d
    want = patch + d + tokens * d + 20 * (attention + hidden) + 2 * d
    model = build(model_config(backbone=backbone, embedding_dim=d, dropout=0.1))
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == want
    assert stats == {}
    paths = {
        "/".join(entry.key for entry in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    assert paths["transformer/layers_0_0/fn/norm/scale"] == (512,)
    assert paths["transformer/layers_19_0/fn/fn/to_qkv/kernel"] == (512, 1536)
    assert paths["transformer/layers_19_0/fn/fn/to_out_0/bias"] == (512,)
    assert paths["transformer/layers_3_1/fn/fn/net_0/kernel"] == (512, 2048)
    assert paths["transformer/layers_3_1/fn/fn/net_3/kernel"] == (2048, 512)
    assert "transformer/layers_0_0/fn/fn/to_qkv/bias" not in paths
    assert paths["patch_to_embedding/kernel"] == (side * side * 3, 512)
    assert paths["pos_embedding"] == (1, 197, 512)
    assert paths["cls_token"] == (1, 1, 512)
    assert paths["mlp_head_0/scale"] == (512,)


def test_a_training_call_needs_no_statistics(model_config):
    """Also where the batch is cut into groups, which are for batch norms."""
    config = model_config(backbone="face_transformer", batch_norm_groups=2)
    model = build(config)
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((4, 112, 112, 3), jnp.float32)
    features, new = jax.eval_shape(
        lambda p, s, x: model.apply(p, s, x, train=True, key=None),
        params,
        stats,
        images,
    )
    assert features.shape == (4, 16) and new == {}
