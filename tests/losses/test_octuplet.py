"""The octuplet loss: recordings, a plain derivation, its edges."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax.losses import distance, octuplet
from support.closeness import assert_close_in_norm
from support.octuplet_case import batch, plain

RTOL = 1e-5
MARGIN = 0.5
PLAIN = {"margin": MARGIN, "metric": "euclidean", "normalize": False}
METRICS = [(m, n) for m in distance.METRICS for n in (False, True)]


@cache
def compiled(**settings):
    """One program for all tests with these settings."""
    loss = partial(octuplet.octuplet_loss, **settings)
    return jax.jit(jax.value_and_grad(loss, (0, 1)))


@cache
def compiled_triplets(**settings):
    return jax.jit(partial(octuplet.triplets, **settings))


def value_and_grads(arrays, **settings):
    """The loss and its gradient with respect to both views."""
    value, grads = compiled(**settings)(*map(jnp.asarray, arrays))
    assert np.isfinite(value) and all(np.all(np.isfinite(g)) for g in grads)
    return float(value), grads


@pytest.mark.parametrize("number", range(8))
def test_golden(number, golden):
    record = golden(f"octuplet_{number}")
    size = len(record["labels"])
    high, low = record["embeddings"][:size], record["embeddings"][size:]
    value, grads = value_and_grads(
        (high, low, record["labels"].astype(np.int32)),
        margin=float(record["margin"]),
        metric=str(record["metric"]),
        terms=tuple(map(bool, record["terms"])),
    )
    np.testing.assert_allclose(value, record["loss"], rtol=RTOL)
    assert_close_in_norm(np.concatenate(grads), record["grad"], RTOL)


@pytest.mark.parametrize("metric, normalize", METRICS)
def test_float64(metric, normalize):
    """The loss, its terms and what is logged, with padding between the rows."""
    high, low, labels = batch()
    labels[[0, 5]] = -1
    labels[labels == 2] = 3
    settings = {"margin": MARGIN, "metric": metric, "normalize": normalize}
    terms, hardest = plain(high, low, labels, **settings)
    arrays = [jnp.asarray(a) for a in (high, low, labels)]
    found = compiled_triplets(**settings)(*arrays)
    np.testing.assert_allclose(octuplet.total(found), terms.sum(), rtol=RTOL)
    got = octuplet.describe(found, octuplet.TERMS)
    lacking = np.isnan(hardest[0, :, 0]).mean()
    np.testing.assert_allclose(got["without_positive"], lacking, rtol=1e-6)
    assert got["without_negative"] == 0
    for index, name in enumerate(octuplet.TERMS):
        np.testing.assert_allclose(got[f"loss_{name}"], terms[index], rtol=RTOL)
        for column, kind in enumerate(("positive", "negative")):
            np.testing.assert_allclose(
                got[f"distance_{kind}_{name}"],
                np.nanmean(hardest[index, :, column]),
                rtol=RTOL,
            )
        losing = hardest[index, :, 0] - hardest[index, :, 1] + MARGIN > 0
        np.testing.assert_allclose(got[f"active_{name}"], losing.mean(), rtol=1e-6)


@pytest.mark.parametrize("metric, normalize", METRICS)
def test_gradient(metric, normalize):
    """Along random directions, against differences of the float64 loss."""
    *views, labels = batch()
    settings = {"margin": MARGIN, "metric": metric, "normalize": normalize}
    _, grads = value_and_grads((*views, labels), **settings)
    rng = np.random.default_rng(1)
    for _ in range(4):
        directions = [rng.normal(size=view.shape) for view in views]
        ends = [
            plain(
                *(
                    np.float64(v) + step * d
                    for v, d in zip(views, directions, strict=True)
                ),
                labels,
                **settings,
            )[0].sum()
            for step in (1e-5, -1e-5)
        ]
        slope = sum(
            np.sum(np.float64(g) * d) for g, d in zip(grads, directions, strict=True)
        )
        np.testing.assert_allclose(
            slope, (ends[0] - ends[1]) / 2e-5, rtol=1e-4, atol=1e-5
        )


def test_one_term_alone():
    """Another view than those of the term has no gradient."""
    arrays = batch()
    want, _ = plain(*arrays, margin=MARGIN)
    terms = (True, False, False, False)
    value, grads = value_and_grads(arrays, margin=MARGIN, terms=terms)
    np.testing.assert_allclose(value, want[0], rtol=RTOL)
    assert np.any(grads[0]) and not np.any(grads[1])


def test_plain_and_compiled_agree():
    arrays = [jnp.asarray(a) for a in batch()]
    value, _ = value_and_grads(arrays, **PLAIN)
    loss = octuplet.octuplet_loss(*arrays, margin=MARGIN)
    np.testing.assert_allclose(loss, value, rtol=1e-6)


@pytest.mark.parametrize("metric, normalize", METRICS)
def test_identical_embeddings(metric, normalize):
    """All distances are 0 and every term is the margin, without NaN."""
    high, _, labels = batch()
    same = np.broadcast_to(high[:1], high.shape)
    value, _ = value_and_grads(
        (same, same, labels), margin=MARGIN, metric=metric, normalize=normalize
    )
    np.testing.assert_allclose(value, 4 * MARGIN, rtol=1e-5)


@pytest.mark.parametrize("metric", distance.METRICS)
def test_zero_features(metric):
    high, low, labels = batch()
    for arrays in ((0 * high, 0 * low, labels), (high, 0 * low, labels)):
        value, _ = value_and_grads(
            arrays, margin=MARGIN, metric=metric, normalize=False
        )
        want, _ = plain(*arrays, margin=MARGIN, metric=metric)
        np.testing.assert_allclose(value, want.sum(), rtol=RTOL)


def test_distance_zero_between_the_views():
    """A view that equals another has the plain loss and a finite gradient."""
    high, _, labels = batch()
    high[labels == 1] = high[labels == 1][:1]
    value, _ = value_and_grads((high, high, labels), **PLAIN)
    want, _ = plain(high, high, labels, margin=MARGIN)
    np.testing.assert_allclose(value, want.sum(), rtol=RTOL)


def test_a_small_distance_keeps_its_digits():
    """Distances are not differences of large squares."""
    high, low, labels = batch(norm=1e3)
    first, second = np.flatnonzero(labels == 0)
    high[second] = high[first]
    high[second, 0] += 1e-2
    _, hardest = plain(high, low, labels, margin=MARGIN)
    found = compiled_triplets(**PLAIN)(*map(jnp.asarray, (high, low, labels)))
    np.testing.assert_allclose(found.positive.T, hardest[..., 0], rtol=RTOL)


def test_one_identity_only():
    """Without a negative nothing is lost, and it is told."""
    high, low, labels = batch()
    labels[:] = 4
    value, grads = value_and_grads((high, low, labels), **PLAIN)
    assert value == 0 and not np.any(grads[0]) and not np.any(grads[1])
    found = compiled_triplets(**PLAIN)(*map(jnp.asarray, (high, low, labels)))
    told = octuplet.describe(found, octuplet.TERMS)
    assert told["without_negative"] == 1 and told["without_positive"] == 0


def test_no_positive():
    high, low, labels = batch(identities=16, each=1)
    value, grads = value_and_grads((high, low, labels), **PLAIN)
    assert value == 0 and not np.any(grads[0]) and not np.any(grads[1])


def test_margin_zero():
    """Nothing is lost where identities are apart, and only there."""
    high, low, labels = batch(norm=50.0)
    assert value_and_grads((high, low, labels), margin=0.0)[0] == 0
    high, low, labels = batch(norm=0.1)
    want, _ = plain(high, low, labels, margin=0.0)
    value, _ = value_and_grads((high, low, labels), margin=0.0)
    np.testing.assert_allclose(value, want.sum(), rtol=RTOL)


def test_padding_changes_nothing():
    high, low, labels = batch()
    value, grads = value_and_grads((high, low, labels), **PLAIN)
    padded = [np.concatenate([a, 3 * a[:5]]) for a in (high, low)]
    labels = np.concatenate([labels, np.full(5, -1, np.int32)])
    got, got_grads = value_and_grads((*padded, labels), **PLAIN)
    np.testing.assert_allclose(got, value, rtol=1e-6)
    for a, b in zip(got_grads, grads, strict=True):
        assert_close_in_norm(a[:-5], b, RTOL)
        assert not np.any(a[-5:])
    nothing, _ = value_and_grads((*padded, np.full_like(labels, -1)), **PLAIN)
    assert nothing == 0


def test_order_of_the_batch_does_not_matter():
    arrays = batch()
    value, _ = value_and_grads(arrays, **PLAIN)
    order = np.random.default_rng(1).permutation(len(arrays[2]))
    moved, _ = value_and_grads([a[order] for a in arrays], **PLAIN)
    np.testing.assert_allclose(moved, value, rtol=1e-6)


@pytest.mark.parametrize(
    "wrong, told",
    [({"metric": "manhattan"}, "metric: got 'manhattan'"),
     ({"terms": (False,) * 4}, "terms: got"), ({"terms": (True,)}, "terms: got")],
)  # fmt: skip
def test_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        octuplet.octuplet_loss(*map(jnp.asarray, batch()), margin=1.0, **wrong)
