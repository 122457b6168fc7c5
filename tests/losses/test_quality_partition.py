"""Who is classified and who is contrasted, and means that survive nobody."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax.losses import quality_partition as partition


def test_the_threshold_is_on_the_scale_of_the_quality():
    norm_hat = jnp.array([-1.0, -0.7, -0.6, -0.5, 1.0])
    u = partition.quality(norm_hat)
    np.testing.assert_allclose(u, [0.0, 0.15, 0.2, 0.25, 1.0], atol=1e-7)
    kept = partition.is_recognisable(jnp.array([0.19, 0.2, 0.21]), threshold=0.2)
    assert kept.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("pair_quality", "contrasted"),
    [
        ("min", [True, True, False, True]),
        ("mean", [False, True, False, True]),
        ("max", [False, False, False, True]),
    ],
)
def test_the_quality_of_a_pair(pair_quality, contrasted):
    u_q = jnp.array([0.1, 0.1, 0.5, 0.2])
    u_k = jnp.array([0.9, 0.25, 0.5, 0.1])
    got = partition.is_contrasted(u_q, u_k, threshold=0.2, pair_quality=pair_quality)
    assert got.tolist() == contrasted


def test_an_unknown_pair_quality_is_refused():
    with pytest.raises(ValueError, match="min, mean, max"):
        partition.is_contrasted(
            jnp.zeros(1), jnp.zeros(1), threshold=0.2, pair_quality="median"
        )


def test_sums_are_divided_by_the_whole_count():
    values = jnp.array([1.0, 2.0, jnp.inf, 4.0])
    kept = jnp.array([True, False, True, True])
    valid = jnp.array([True, True, False, True])
    mean, share = partition.kept_mean(values, kept, valid)
    np.testing.assert_allclose([mean, share], [5 / 3, 2 / 3], rtol=1e-6)


@pytest.mark.parametrize("valid", [True, False])
def test_nobody_kept_is_zero_with_a_zero_gradient(valid):
    def loss(values):
        rows = jnp.full(3, valid)
        return partition.kept_mean(values, jnp.zeros(3, bool), rows)[0]

    value, grad = jax.value_and_grad(loss)(jnp.array([1.0, jnp.nan, jnp.inf]))
    assert value == 0.0 and not np.any(grad)
