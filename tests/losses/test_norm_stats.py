import jax
import jax.numpy as jnp
import numpy as np

from qface_jax.losses import norm_stats


def test_against_float64():
    rng = np.random.default_rng(0)
    stats, mean, std = norm_stats.init(), 20.0, 100.0
    for _ in range(5):
        norms = rng.uniform(0, 130, 16)
        clipped = np.clip(norms, 1e-3, 100)
        mean = 0.01 * clipped.mean() + 0.99 * mean
        std = 0.01 * clipped.std(ddof=1) + 0.99 * std
        stats = norm_stats.update(stats, jnp.asarray(norms, jnp.float32))
        want = np.clip((clipped - mean) / (std + 1e-3) * 0.333, -1, 1)
        got = norm_stats.norm_hat(stats, jnp.asarray(norms, jnp.float32))
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose([stats.mean, stats.std], [mean, std], rtol=1e-6)


def test_padding_rows_do_not_count():
    norms = jnp.array([3.0, 50.0, 8.0, 99.0])
    valid = jnp.array([True, False, True, False])
    got = norm_stats.update(norm_stats.init(), norms, valid)
    want = norm_stats.update(norm_stats.init(), norms[jnp.array([0, 2])])
    np.testing.assert_allclose([got.mean, got.std], [want.mean, want.std], rtol=1e-6)


def test_a_single_sample_leaves_the_statistics():
    before = norm_stats.init()
    after = norm_stats.update(before, jnp.array([7.0]))
    assert (after.mean, after.std) == (before.mean, before.std)
    nothing = norm_stats.update(before, jnp.array([7.0, 8.0]), jnp.zeros(2, bool))
    assert (nothing.mean, nothing.std) == (before.mean, before.std)


def test_no_gradient_and_finite_at_zero_norm():
    def quality(features):
        norms = norm_stats.feature_norms(features)
        stats = norm_stats.update(norm_stats.init(), norms)
        return jnp.sum(norm_stats.norm_hat(stats, norms))

    features = jnp.zeros((4, 3)).at[0, 0].set(5.0)
    value, slope = jax.value_and_grad(quality)(features)
    assert jnp.isfinite(value)
    np.testing.assert_array_equal(slope, jnp.zeros((4, 3)))
