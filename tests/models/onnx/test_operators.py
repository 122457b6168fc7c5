"""Every operator of an imported graph against onnxruntime."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from qface_jax.models.onnx import backbone as onnx_backbone
from qface_jax.models.onnx.operators import OPERATORS
from support.onnx_cases import ALL, NETWORKS
from support.onnx_model import SIDE, model, read, reference

IMAGES = np.random.default_rng(7).uniform(-2, 2, (3, SIDE, SIDE, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Every case as read from a file, its graph packed and unpacked."""
    folder = tmp_path_factory.mktemp("onnx")
    return {name: read(model(case), folder) for name, case in ALL.items()}


@pytest.fixture(scope="module")
def features(imported):
    """Features of all cases and gradients, in one program; of networks at batch 1."""
    networks = {
        name: onnx_backbone.build(case.graph.pack()) for name, case in imported.items()
    }
    params = {name: case.params for name, case in imported.items()}

    def evaluate(params, images, names):
        return {
            name: networks[name].apply(params[name], imported[name].stats, images)[0]
            for name in names
        }

    def loss(params, images):
        features = evaluate(params, images, ALL)
        return sum(jnp.sum(jnp.sin(value)) for value in features.values()), features

    graded = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    # The program is large and runs once.
    quick = {"xla_backend_optimization_level": 0}
    compiled = graded.lower(params, IMAGES).compile(compiler_options=quick)
    gradients, three = compiled(params, IMAGES)
    alone = jax.jit(functools.partial(evaluate, names=NETWORKS))
    return alone(params, IMAGES[:1]), three, gradients


@pytest.mark.parametrize("name", ALL)
def test_features_are_those_of_onnxruntime(name, imported, features):
    one, three, _ = features
    expected = reference(model(ALL[name]), IMAGES)
    assert imported[name].embedding_dim == expected[0].size
    assert_allclose(three[name], expected, rtol=2e-5, atol=2e-5)
    if name in one:
        assert_allclose(one[name], expected[:1], rtol=2e-5, atol=2e-5)


def test_gradients_are_finite(features):
    for path, leaf in jax.tree_util.tree_leaves_with_path(features[2]):
        assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)


def test_all_operators_are_tested():
    bodies = " ".join(case.body for case in ALL.values())
    assert {name for name in OPERATORS if f" {name} " not in bodies} == set()


def test_every_operator_takes_bfloat16(imported):
    for case in imported.values():
        network = onnx_backbone.build(case.graph, dtype=jnp.bfloat16)
        images = jnp.asarray(IMAGES)
        features, _ = jax.eval_shape(network.apply, case.params, case.stats, images)
        assert (features.shape[0], features.dtype) == (3, jnp.float32)
