"""What an imported graph promises as a backbone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from numpy.testing import assert_allclose, assert_array_equal

from qface_jax.errors import ConfigError
from qface_jax.models import blocks, build
from qface_jax.models.onnx import backbone as onnx_backbone
from qface_jax.models.onnx.graph import Graph
from qface_jax.models.onnx.sections import narrow_parts
from support.closeness import assert_trees_close
from support.onnx_cases import ALL
from support.onnx_model import SIDE, Case, ints, model, read, reference

IMAGES = np.random.default_rng(7).uniform(-2, 2, (3, SIDE, SIDE, 3)).astype(np.float32)
NORM = {"scale": (4,), "bias": (4,), "mean": (4,), "var": (4,)}
# Two blocks of a residual network, with shape arithmetic between them.
RESIDUAL = Case(
    "c = Conv <strides = [2,2], pads = [1,1,1,1]> (x, w, b) "
    "n = BatchNormalization (c, scale, bias, mean, var) p = PRelu (n, slope) "
    "d = Conv <pads = [1,1,1,1]> (p, v) a = Add (p, d) "
    "e = Conv <pads = [1,1,1,1]> (a, v) "
    "m = BatchNormalization (e, scale2, bias2, mean, var) r = Relu (m) o = Add (a, r) "
    "t = Shape (o) q = Slice (t, zero, two) k = Concat <axis = 0> (q, rest) "
    "u = Reshape (o, k) h = ReduceMean (u, last)",
    {
        "w": (4, 3, 3, 3), "b": (4,), "slope": (4, 1, 1), "v": (4, 4, 3, 3), **NORM,
        "scale2": (4,), "bias2": (4,), "zero": ints(0), "two": ints(2),
        "rest": ints(-1), "last": ints(2),
    },
)  # fmt: skip


@pytest.fixture(scope="module")
def residual(tmp_path_factory):
    return read(model(RESIDUAL), tmp_path_factory.mktemp("residual"))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A network of 112 px pictures, as the factory takes them."""
    body = RESIDUAL.body.replace("strides = [2,2]", "strides = [16,16]")
    proto = model(RESIDUAL._replace(body=body), batch=1, side=112)
    return read(proto, tmp_path_factory.mktemp("large"))


@pytest.fixture
def configured(large, model_config):
    def make(**changes):
        graph, length = large.graph.pack(), large.embedding_dim
        imported = {"backbone": "onnx", "graph": graph, "embedding_dim": length}
        return model_config(**imported | changes)

    return make


def train(network, case, images=IMAGES):
    """Features, statistics and gradients of a training step."""

    @jax.jit
    def run(params, stats, images):
        def loss(params):
            features, new = network.apply(params, stats, images, train=True)
            return jnp.sum(jnp.sin(features)), (features, new)

        return jax.grad(loss, has_aux=True)(params)

    gradients, (features, stats) = run(case.params, case.stats, images)
    return features, stats, gradients


def test_batch_norm_is_ours(tmp_path):
    body = "c = Conv (x, w) h = BatchNormalization (c, scale, bias, mean, var)"
    case = read(model(Case(body, {"w": (4, 3, 1, 1), **NORM})), tmp_path)
    layer = blocks.BatchNorm()
    name = "BatchNormalization_1"
    variables = {"params": case.params[name], "batch_stats": case.stats[name]}
    kernel = case.params["Conv_0"]["kernel"]

    @jax.jit
    def ours(images):
        maps = jnp.einsum("bhwi,io->bhwo", images, kernel[0, 0])
        trained = layer.apply(variables, maps, True, mutable=["batch_stats"])
        return trained, layer.apply(variables, maps, False)

    (expected, new), evaluated = ours(IMAGES)
    features, stats, _ = train(onnx_backbone.build(case.graph), case)
    assert_allclose(
        features, expected.transpose(0, 3, 1, 2).reshape(3, -1), rtol=1e-5, atol=1e-5
    )
    assert_trees_close(stats[name], new["batch_stats"], 1e-6)
    frozen = onnx_backbone.build(case.graph, freeze_batch_norm=True)
    features, stats, _ = train(frozen, case)
    assert_allclose(
        features, evaluated.transpose(0, 3, 1, 2).reshape(3, -1), rtol=1e-5, atol=1e-5
    )
    jax.tree.map(assert_array_equal, stats, case.stats)


def test_layers_that_share_stored_statistics_have_their_own(residual):
    assert len(jax.tree.leaves(residual.stats)) == 4
    _, stats, _ = train(onnx_backbone.build(residual.graph), residual)
    first, second = jax.tree.leaves_with_path(stats)[::2]
    assert np.abs(first[1] - second[1]).max() > 1e-3


def test_remat_changes_nothing_but_the_memory(residual):
    plain = onnx_backbone.build(residual.graph)
    again = onnx_backbone.build(residual.graph, remat=True)
    assert_trees_close(train(again, residual), train(plain, residual), 1e-6)
    parts = narrow_parts(residual.graph.nodes, {residual.graph.output})
    assert [first for first, _ in parts[1:]] == [end for _, end in parts[:-1]]
    assert (parts[0][0], parts[-1][1]) == (0, len(residual.graph.nodes))
    # Cut behind the first block, where one map passes on.
    assert 5 in {end for _, end in parts}

    def program(network):
        def loss(params):
            return jnp.sum(network.apply(params, residual.stats, IMAGES)[0])

        return str(jax.make_jaxpr(jax.grad(loss))(residual.params))

    assert "remat" in program(again)
    assert "remat" not in program(plain)


def test_bfloat16_is_close_to_float32(residual):
    half = onnx_backbone.build(residual.graph, dtype=jnp.bfloat16)
    features, stats, gradients = train(half, residual)
    expected, *_ = train(onnx_backbone.build(residual.graph), residual)
    leaves = jax.tree.leaves((features, stats, gradients))
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)
    difference = np.abs(features - expected).max() / np.abs(expected).max()
    assert 1e-5 < difference < 2e-2


@pytest.mark.parametrize(
    "body",
    [
        "h = Reshape (x, one)",
        "t = Reshape (x, rows) u = Softmax (t) h = Reshape (u, one)",
        "c = Concat <axis = 1> (x, w) h = Reshape (c, all)",
    ],
)
def test_a_graph_for_one_image_takes_any_batch(body, tmp_path):
    weights = {"one": ints(1, 108), "rows": ints(18, 6), "all": ints(1, -1)}
    case = Case(body, {**weights, "w": (1, 2, SIDE, SIDE)})
    proto = model(case, batch=1)
    case = read(proto, tmp_path)
    network = onnx_backbone.build(case.graph)
    got, _ = jax.jit(network.apply)(case.params, case.stats, IMAGES)
    each = [reference(proto, IMAGES[row : row + 1]) for row in range(3)]
    assert_allclose(got, np.concatenate(each), rtol=1e-6, atol=1e-6)


def test_pictures_with_channels_last(tmp_path):
    proto = model(Case("t = Transpose <perm = [0,3,1,2]> (x) h = Conv (t, w)", {
        "w": (2, 3, 3, 3)
    }))  # fmt: skip
    for size, axis in zip((SIDE, SIDE, 3), (1, 2, 3), strict=True):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
    case = read(proto, tmp_path)
    assert case.graph.input_shape == (SIDE, SIDE, 3)
    network = onnx_backbone.build(case.graph)
    got, _ = jax.jit(network.apply)(case.params, case.stats, IMAGES)
    expected = reference(proto, IMAGES.transpose(0, 2, 3, 1))
    assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_convolutions_move_no_maps(residual):
    """Channels are last from the picture to the end."""
    network = onnx_backbone.build(residual.graph)
    program = jax.make_jaxpr(network.apply)(residual.params, residual.stats, IMAGES)
    # For the reshape to [b, c, h * w], which ONNX takes channels first; and the slopes.
    assert str(program).count("transpose[") == 2


def test_dropout_in_training_only_and_by_the_key(tmp_path):
    case = read(model(ALL["Dropout opset 7"]), tmp_path)
    network = onnx_backbone.build(case.graph)
    train = functools.partial(network.apply, case.params, {}, IMAGES, train=True)
    run = jax.jit(lambda key: train(key=key)[0])
    first, again, other = (run(jax.random.key(seed)) for seed in (0, 0, 1))
    assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    dropped = first == 0
    assert 0.3 < dropped.mean() < 0.5
    assert (dropped[0] != dropped[1]).any()
    with pytest.raises(ValueError, match=r"drops out at rate 0.4.* got key None"):
        train()


def test_a_packed_graph_is_the_graph(residual):
    packed = residual.graph.pack()
    again = Graph.unpack(packed)
    assert again.pack() == packed
    assert again.nodes == residual.graph.nodes
    assert again.weights == residual.graph.weights
    assert again.constants.keys() == residual.graph.constants.keys()
    for name, array in residual.graph.constants.items():
        assert_array_equal(again.constants[name], array)
        assert again.constants[name].dtype == array.dtype
    with pytest.raises(ConfigError, match=r"model.graph: got 3 characters"):
        Graph.unpack("abc")


def test_initial_values_have_the_shapes_of_the_file(residual):
    params, stats = jax.jit(onnx_backbone.build(residual.graph).init)(jax.random.key(0))
    shapes = functools.partial(jax.tree.map, np.shape)
    assert shapes(params) == shapes(residual.params)
    assert shapes(stats) == shapes(residual.stats)
    assert 0.1 < np.std(params["Conv_0"]["kernel"]) < 0.5
    assert_array_equal(params["Conv_0"]["bias"], np.zeros(4))
    assert_array_equal(params["PRelu_2"]["negative_slope"], np.full((4, 1, 1), 0.25))


def test_the_factory_builds_it_for_one_and_eight_devices(large, configured):
    images = np.random.default_rng(0).uniform(-1, 1, (16, 112, 112, 3))
    images = images.astype(np.float32)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    for groups in (1, 8):
        model_ = build(configured(batch_norm_groups=groups))
        run = jax.jit(functools.partial(model_.apply, train=True, key=None))
        one = run(large.params, large.stats, images)
        weights = jax.device_put((large.params, large.stats), NamedSharding(mesh, P()))
        eight = run(*weights, jax.device_put(images, NamedSharding(mesh, P("data"))))
        assert_trees_close(eight, one, 1e-5)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"embedding_dim": 7}, "model.embedding_dim: got 7, must be 4"),
        ({"dropout": 0.5}, "model.dropout: got 0.5, must be 0.0"),
        ({"graph": ""}, "model.graph: got 0 characters"),
    ],
)
def test_what_does_not_fit_the_graph_is_refused(changes, says, configured):
    with pytest.raises(ConfigError, match=says):
        build(configured(**changes))


def test_a_graph_of_another_picture_size_is_refused(residual, configured):
    with pytest.raises(ConfigError, match="takes images of 6 px"):
        build(configured(graph=residual.graph.pack()))
