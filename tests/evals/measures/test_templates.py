"""Template vectors against the published programs, and against their definition."""

import itertools

import numpy as np
import pytest

from qface_jax.evals.measures import rates
from qface_jax.evals.measures.pair_scores import scorer
from qface_jax.evals.measures.templates import (
    FUSIONS,
    VARIANTS,
    Variant,
    fuse,
    medium_weights,
    plan,
    pool,
)
from qface_jax.evals.measures.unit import unit
from qface_jax.processes.share import ALONE, Share
from support.protocol_goldens import golden

BENCHMARKS = ("ijbb", "ijbc")
NAMES = [variant.name for variant in VARIANTS]
PUBLISHED = ("N1D1F1", "N0D1F1", "N1D0F1")  # whose template vectors are recorded


@pytest.fixture(scope="module", params=BENCHMARKS)
def recorded(request):
    return golden(f"{request.param}_verification")


def pooled(recorded, most=50, share=ALONE):
    """Returns template numbers ascending, and unit vectors [variants, t, d]."""
    numbers, templates = np.unique(recorded["template_ids"], return_inverse=True)
    weights = medium_weights(templates, recorded["media_ids"])
    parts = []
    for _, rows, starts in plan(templates, share, most=most).blocks:
        sums = pool(
            recorded["embeddings"][rows],
            recorded["embeddings_flip"][rows],
            starts,
            VARIANTS,
            weights=weights[rows],
            detector=recorded["detector_score"][rows],
        )
        parts.append(np.stack([unit(variant) for variant in sums]))
    return numbers, np.concatenate(parts, axis=1)


def scored(recorded):
    """Returns the scores of the pairs by variant."""
    numbers, vectors = pooled(recorded)
    score = scorer(
        *(np.searchsorted(numbers, recorded[side]) for side in ("pair_t1", "pair_t2"))
    )
    return {
        name: score(variant) for name, variant in zip(NAMES, vectors, strict=True)
    }  # fmt: skip


def test_the_names_are_those_of_the_recording():
    assert sorted(NAMES) == sorted(
        f"N{n}D{d}F{f}" for n in (0, 1) for d in (0, 1) for f in (0, 1)
    )
    assert Variant().name == "N1D1F1"


@pytest.mark.parametrize("name", PUBLISHED)
def test_template_vectors_are_the_recorded_ones(recorded, name):
    numbers, vectors = pooled(recorded)
    np.testing.assert_array_equal(numbers, recorded["template_order"])
    np.testing.assert_allclose(
        vectors[NAMES.index(name)],
        recorded[f"template_features_{name}"],
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize("name", NAMES)
def test_scores_and_rates_are_the_recorded_ones(recorded, name):
    scores = scored(recorded)[name]
    np.testing.assert_allclose(scores, recorded[f"score_{name}"], rtol=0, atol=1e-5)
    kinds = rates.split(scores, recorded["pair_label"] == 1)
    for key, rule in (
        ("tar_at_most", "at_most"),
        ("tar", "nearest_vertex"),
        ("tar_nearest_all", "nearest"),
    ):
        points = rates.tar_at_far(kinds, recorded["fars"], rule=rule)
        assert [point.tar for point in points] == list(recorded[f"{key}_{name}"]), rule
        if rule == "nearest_vertex" and f"cvl_threshold_{name}" in recorded:
            limits = [point.threshold for point in points]
            np.testing.assert_allclose(
                limits, recorded[f"cvl_threshold_{name}"], rtol=0, atol=1e-5
            )
    np.testing.assert_allclose(
        rates.auc(kinds), recorded[f"auc_{name}"], rtol=0, atol=1e-12
    )


def test_a_medium_number_is_of_one_template_alone(recorded):
    templates, media = recorded["template_ids"], recorded["media_ids"]
    weights = medium_weights(templates, media)
    for i in range(0, len(weights), 7):
        same = (templates == templates[i]) & (media == media[i])
        assert weights[i] == 1 / same.sum()
    shared = [m for m in np.unique(media) if len(set(templates[media == m])) > 1]
    assert shared, "the recording has a medium number in two templates"


@pytest.mark.parametrize("most", [1, 17, 10_000])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_templates_are_the_same_to_the_bit_however_they_are_cut(recorded, most, count):
    whole = pooled(recorded, most=64)[1]
    parts = [pooled(recorded, most, Share(i, count))[1] for i in range(count)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_hosts_ask_equally_often_and_for_every_image_once(count):
    templates = np.random.default_rng(0).permutation(np.repeat(np.arange(9), range(9)))
    templates = np.unique(templates, return_inverse=True)[1]
    plans = [plan(templates, Share(i, count), most=6) for i in range(count)]
    assert len({len(part.blocks) for part in plans}) == 1
    assert all(part.most == plans[0].most for part in plans)
    rows = [block.rows for part in plans for block in part.blocks]
    np.testing.assert_array_equal(
        np.sort(np.concatenate(rows)), np.arange(len(templates))
    )
    for k, most in enumerate(plans[0].most):
        assert max(len(part.blocks[k].rows) for part in plans) == most
    for part in plans:
        for first, rows, starts in part.blocks:
            for t, (start, stop) in enumerate(itertools.pairwise(starts)):
                assert np.all(templates[rows[start:stop]] == first + t)


def test_an_image_without_a_feature_adds_nothing():
    plain = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]])
    sums = pool(
        plain,
        plain,
        np.array([0, 2, 3]),
        VARIANTS,
        weights=np.ones(3),
        detector=np.full(3, 0.5),
    )
    expected = {"N1D1F1": 3.0, "N0D0F0": 0.6, "N0D1F1": 0.3, "N1D0F0": 3.0}
    for name, first in expected.items():
        assert sums[NAMES.index(name), 0, 0] == pytest.approx(first)
    assert np.all(sums[:, 1] == 0)


def test_without_mirror_images_no_variant_may_add_them():
    with pytest.raises(ValueError, match="mirror image"):
        pool(
            np.ones((1, 2)),
            None,
            np.array([0, 1]),
            [Variant()],
            weights=np.ones(1),
            detector=np.ones(1),
        )


@pytest.mark.parametrize("mode", FUSIONS)
def test_fused_features_are_the_recorded_ones(mode):
    recorded = golden("fusion")
    fused, norms = fuse(recorded["unit"], recorded["norms"], mode)
    np.testing.assert_allclose(fused, recorded[mode], rtol=0, atol=1e-6)
    np.testing.assert_allclose(norms, recorded[f"{mode}_norm"], rtol=1e-6)


def test_an_unknown_fusion_is_refused():
    with pytest.raises(ValueError, match="must be one of pre_norm_vector_add"):
        fuse(np.ones((2, 1, 1)), np.ones((2, 1, 1)), "sum")
