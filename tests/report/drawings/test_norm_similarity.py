import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax.configs import base
from qface_jax.losses import norm_stats, quality_partition
from qface_jax.report.drawings import norm_similarity
from qface_jax.report.pictures import read_samples

MEAN, STD = 20.0, 5.0


def group(**changes):
    qgface = base.get_config().qgface
    qgface.update(changes)
    return qgface


def pairs(count=2000):
    rng = np.random.default_rng(0)
    norms_q, norms_k = rng.normal(14, 4, count), rng.normal(22, 3, count)
    positive = np.tanh(norms_q / 20) + rng.normal(0, 0.05, count)
    return {
        "norms_q": norms_q.astype(np.float32),
        "norms_k": norms_k.astype(np.float32),
        "positive": positive.astype(np.float32),
        "negative": rng.normal(0, 0.1, (count, 3)).astype(np.float32),
    }


def write(run, qgface=None, **changes):
    return norm_similarity.write(
        run, norm_mean=MEAN, norm_std=STD, qgface=qgface or group(), **pairs() | changes
    )


def test_pairs_are_counted_where_they_lie():
    found = norm_similarity.histogram(
        np.array([1.0, 3.0, 2.0]),
        np.array([5.0, 2.0, 4.0]),
        np.array([-1.0, 0.5, 1.0000001]),
        bins=4,
    )
    np.testing.assert_allclose(found.norm_edges, [1, 1.25, 1.5, 1.75, 2])
    np.testing.assert_allclose(found.cos_edges, [-1, -0.5, 0, 0.5, 1])
    expected = np.zeros((4, 4), int)
    expected[0, 0] = 1
    expected[3, 3] = 2  # an edge belongs to the bin above it, the last to its own
    np.testing.assert_array_equal(found.counts, expected)


@pytest.mark.parametrize(
    ("partition", "norms"), [("min", 1), ("mean", 3), ("max", 5), ("none", 1)]
)
def test_the_norm_is_that_of_the_partition(partition, norms):
    found = norm_similarity.histogram(
        np.array([1.0]), np.array([5.0]), np.array([0.0]), partition=partition, bins=1
    )
    np.testing.assert_allclose(found.norm_edges, [norms - 0.5, norms + 0.5])


@pytest.mark.parametrize(
    ("norms", "cosines", "counted"),
    [
        ([], [], 0),
        ([7.0] * 5, [0.25] * 5, 5),
        ([np.nan, 7.0, np.inf], [0.1, np.nan, 0.3], 1),  # infinite norms are clipped
    ],
)
def test_odd_values_are_counted_without_warnings(norms, cosines, counted):
    found = norm_similarity.histogram(
        np.array(norms, np.float32), np.array(norms), np.array(cosines)
    )
    assert found.counts.sum() == counted
    assert np.all(np.diff(found.norm_edges) > 0)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="got 2 norms_q, 1 norms_k and 2 cosines"):
        norm_similarity.histogram(np.ones(2), np.ones(1), np.ones(2))


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("concentration", [0.333, 0.7])
def test_the_line_is_where_the_partition_parts(threshold, concentration):
    border = norm_similarity.threshold_norm(
        group(threshold=threshold, concentration=concentration),
        norm_mean=MEAN, norm_std=STD,
    )  # fmt: skip
    stats = norm_stats.NormStats(jnp.float32(MEAN), jnp.float32(STD))
    beside = jnp.array([border - 0.01, border + 0.01], jnp.float32)
    u = quality_partition.quality(
        norm_stats.norm_hat(stats, beside, concentration=concentration)
    )
    kept = quality_partition.is_recognisable(u, threshold=threshold)
    assert kept.tolist() == [False, True]


@pytest.mark.parametrize(
    "changes",
    [
        {"partition": "none"},
        {"concentration": 0.0},
        {"threshold": 1.0},
        {"concentration": 0.01},  # the norm would be negative
    ],
)
def test_no_line_where_nothing_parts(changes):
    line = norm_similarity.threshold_norm(
        group(**changes), norm_mean=MEAN, norm_std=STD
    )
    assert line is None


def test_the_clipping_is_that_of_the_losses():
    assert norm_similarity.MIN_NORM == norm_stats.MIN_NORM
    assert norm_similarity.MAX_NORM == norm_stats.MAX_NORM
    assert {*quality_partition.PAIR_QUALITIES, "none"} == {*norm_similarity.PAIR_NORMS}


def test_the_picture_shows_what_it_is_given(tmp_path):
    path = write(tmp_path)
    assert path == tmp_path / "samples" / "norm_similarity.png"
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    (picture,) = read_samples(path.parent).pictures  # of the report
    assert picture.caption == "norm similarity"
    before = path.read_bytes()
    assert write(tmp_path, group(partition="none")).read_bytes() != before
    assert write(tmp_path, negative=np.ones(9)).read_bytes() != before


@pytest.mark.parametrize(("count", "value"), [(0, 0.0), (1, np.nan), (3, 1.0)])
def test_few_or_equal_values_are_drawn_without_warnings(tmp_path, count, value):
    same = np.full(count, value, np.float32)
    path = write(tmp_path, norms_q=same, norms_k=same, positive=same, negative=same)
    assert path.read_bytes().startswith(b"\x89PNG")
