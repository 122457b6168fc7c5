"""What an imported backbone was trained on, and batch norms that stay as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from qface_jax.errors import ConfigError
from qface_jax.models import build
from support.closeness import additions, assert_close_as_sums

IMAGES = jax.random.uniform(
    jax.random.key(5), (4, 112, 112, 3), minval=-1.0, maxval=1.0
)


@pytest.fixture(scope="module")
def weights(model_config):
    params, stats = jax.jit(build(model_config()).init)(jax.random.key(0))
    # Not 0 and 1, which a normalisation by them could not be told from none by.
    return params, jax.tree.map(lambda leaf: leaf * 0.5 + 0.3, stats)


def evaluate(config, weights, images):
    model = build(config)
    return jax.jit(lambda p, s, x: model.apply(p, s, x, train=False, key=None)[0])(
        *weights, images
    )


def test_images_are_changed_to_what_the_backbone_was_trained_on(model_config, weights):
    mean, std = np.array([123.7, 116.3, 103.5]), np.array([58.4, 57.1, 57.4])
    config = model_config(
        input_mean=tuple(mean), input_std=tuple(std), color_order="BGR"
    )
    got = evaluate(config, weights, IMAGES)
    pixels = np.asarray(IMAGES, np.float64) * 127.5 + 127.5
    changed = ((pixels - mean) / std)[..., ::-1].astype(np.float32)
    expected = evaluate(model_config(), weights, jnp.asarray(changed))
    assert_close_as_sums(got, expected, terms=additions(weights[0]))


def test_the_usual_images_cost_nothing(model_config, weights):
    def program(config):
        model = build(config)
        return str(
            jax.make_jaxpr(lambda p, s, x: model.apply(p, s, x, train=False, key=None))(
                *weights, IMAGES
            )
        )

    assert " rev[" in program(model_config(color_order="BGR"))
    assert " rev[" not in program(model_config())
    shifted = program(model_config(input_mean=(127.0,) * 3, input_std=(128.0,) * 3))
    assert shifted.count(" mul ") == program(model_config()).count(" mul ") + 1


def test_frozen_batch_norms_stay_as_they_are(model_config, weights):
    model = build(model_config(freeze_batch_norm=True))

    @jax.jit
    def run(params, stats):
        def loss(params):
            features, new = model.apply(params, stats, IMAGES, train=True, key=None)
            return jnp.sum(jnp.sin(features)), (features, new)

        return jax.grad(loss, has_aux=True)(params)

    gradients, (features, stats) = run(*weights)
    expected = evaluate(model_config(), weights, IMAGES)
    assert_close_as_sums(features, expected, terms=additions(weights[0]))
    jax.tree.map(assert_array_equal, stats, weights[1])
    # Their scales and biases still learn.
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients))


def test_frozen_batch_norms_let_dropout_be(model_config, weights):
    model = build(model_config(freeze_batch_norm=True, dropout=0.5, remat=True))
    run = jax.jit(lambda key: model.apply(*weights, IMAGES, train=True, key=key)[0])
    first, other = run(jax.random.key(0)), run(jax.random.key(1))
    assert np.abs(first - other).max() > 0.01


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"color_order": "GRB"},
            r"model.color_order: got 'GRB', must be RGB or BGR",
        ),
        (
            {"input_mean": (1.0, 2.0)},
            r"model.input_mean: got \(1.0, 2.0\), must be three",
        ),
        ({"input_std": (1.0, 0.0, 1.0)}, r"model.input_std: got .*, must be .* > 0"),
    ],
)
def test_a_convention_that_cannot_be_is_refused(changes, says, model_config):
    with pytest.raises(ConfigError, match=says):
        build(model_config(**changes))
