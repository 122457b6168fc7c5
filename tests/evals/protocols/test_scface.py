"""SCface's protocols: the recorded rates, and what damage does to them."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import GOLDEN
from qface_jax.data_pipelines.sets import scface as scface_set
from qface_jax.data_pipelines.sets.benchmark_images import BenchmarkImages
from qface_jax.errors import DataError
from qface_jax.evals import results
from qface_jax.evals.protocols.protocol import EvalSettings
from qface_jax.evals.protocols.scface import ScfaceProtocol, open_protocol
from qface_jax.evals.protocols.scface_search import (
    COMBINED,
    RANKS,
    SEARCHES,
    search_distances,
    verify,
)
from qface_jax.processes.share import ALONE
from support.hosts import on_hosts

LIST = GOLDEN / "protocols" / "data" / "scface" / "all.txt"
WORDS = {3: "close", 2: "medium", 1: "far", COMBINED: "combined"}
SETTINGS = EvalSettings(flip=False, options={"ties": "pessimistic"})


@pytest.fixture(scope="module")
def recorded(golden):
    return golden("protocols/scface")


def opened(annotations, notes=(), expected=None):
    """The set as of annotations, without files."""
    used = np.isin(annotations.cameras, (scface_set.MUGSHOT, *scface_set.VISIBLE))
    rows = annotations.part(np.flatnonzero(used))
    images = BenchmarkImages(
        "scface", LIST.parent, rows.stems, landmarks=rows.landmarks
    )
    counts = scface_set.counts_of(annotations)
    return scface_set.Scface(
        images, rows, counts, expected or counts, [], list(notes)
    ), np.flatnonzero(used)


@pytest.fixture(scope="module")
def whole(recorded):
    """The set of the recording, and its features in the order of the images."""
    annotations = scface_set.read_annotations(LIST)
    assert annotations.stems == recorded["stems"].tolist()
    scface, used = opened(annotations)
    return scface, recorded["features"][used]


def embedder(features, unusable=()):
    def embed(request):
        rows = np.asarray(request.rows, int)
        bad = np.flatnonzero(np.isin(rows, list(unusable)))
        values = features[rows].copy()
        values[bad] = 0
        return SimpleNamespace(features=values, scores={}, unusable=bad)

    return embed


def evaluate(scface, features, unusable=(), share=ALONE):
    protocol = ScfaceProtocol(SETTINGS, scface)
    return protocol.evaluate(embedder(features, unusable), share)


def test_the_recorded_ranks(whole, recorded):
    result = evaluate(*whole)
    assert result.status == "ok" and not result.warnings
    assert "ArcFace template" in result.manifest["aligner"]
    keys = {"a": "all130", "b130": "test80_gallery130", "b80": "test80_gallery80"}
    for one in SEARCHES:
        expected = recorded[f"{keys[one.key]}_rank_1_5_10_20_by_distance"]
        for found, rates in zip(
            result.details["searches"][one.key], expected, strict=True
        ):
            distance = found["distance"]
            count = recorded[f"{keys[one.key]}_probes_d{distance}"]
            assert found["probes"] == count
            assert (np.array(found["hits"]) / count == rates).all()
            for rank, rate in zip(recorded["ranks"], rates, strict=True):
                name = f"{one.key}_rank{rank}_d{distance}"
                assert result.scalars[name] == rate
    np.testing.assert_allclose(
        recorded["qgface_all130_rank_1_5_10_20_by_distance"],
        recorded["all130_rank_1_5_10_20_by_distance"],
        atol=1e-7,  # QGFace's are float32
    )
    assert recorded["ranks"].tolist() == list(RANKS)


def test_the_worst_frames_stand_beside_whom_they_found(whole):
    scface, features = whole
    rows = scface.rows
    gone = int(np.flatnonzero(rows.cameras != scface_set.MUGSHOT)[0])
    result = evaluate(scface, features, unusable=[gone])
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    lowest = -1.0
    for example in result.examples:
        frame, found, mate = example.images
        assert rows.cameras[frame] != scface_set.MUGSHOT and frame != gone
        assert rows.cameras[[found, mate]].tolist() == [scface_set.MUGSHOT] * 2
        assert rows.subjects[found] != rows.subjects[frame] == rows.subjects[mate]
        margin = unit[frame] @ (unit[mate] - unit[found])
        assert lowest - 1e-6 <= margin <= 1e-6
        lowest = margin
        mugshots = rows.cameras == scface_set.MUGSHOT
        others = unit[mugshots & (rows.subjects != rows.subjects[frame])]
        assert example.score == pytest.approx((others @ unit[frame]).max(), abs=1e-6)
    assert len(result.examples) == 12


def test_similarities_of_matched_and_nearest_unmatched_mugshots(whole):
    """QGFace's Fig. 6, from the whole matrix of cosines."""
    scface, features = whole
    rows = scface.rows
    result = evaluate(scface, features)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    mugshots = rows.cameras == scface_set.MUGSHOT
    titles = [curve.title for curve in result.curves if curve.kind == "histogram"]
    assert len(titles) == 3
    for distance in scface_set.DISTANCES:
        probes = ~mugshots & (rows.distances == distance)
        cos = np.einsum("pd,gd->pg", unit[probes], unit[mugshots])
        own = rows.subjects[probes][:, None] == rows.subjects[mugshots]
        matched, unmatched = cos[own], np.where(own, -2, cos).max(1)
        kept = result.arrays[f"matched_d{distance}"]
        np.testing.assert_allclose(np.sort(kept), np.sort(matched), atol=1e-6)
        kept = result.arrays[f"unmatched_d{distance}"]
        np.testing.assert_allclose(np.sort(kept), np.sort(unmatched), atol=1e-6)
        gap = result.scalars[f"a_gap_d{distance}"]
        assert gap == pytest.approx(matched.mean() - unmatched.mean(), abs=1e-6)
        assert sum(title.endswith(f"gap {gap:.3f}") for title in titles) == 1


def test_protocol_c_beside_bob(whole, recorded):
    scface, features = whole
    vectors = features / np.linalg.norm(features, axis=1, keepdims=True)
    for distance, word in WORDS.items():
        verified = verify(vectors.astype(np.float64), scface.rows, distance)
        for group in ("dev", "eval"):
            facts = getattr(verified, group)
            key = f"bob_{word}_{group}"
            assert facts["probes"] == recorded[f"{key}_probes"]
            assert facts["rank1"] == pytest.approx(recorded[f"{key}_rank1"], abs=1e-9)
            difference = facts["eer"] - recorded[f"{key}_eer"]
            print(f"{word} {group}: EER {facts['eer']:.5f}, bob {-difference:+.5f}")
            assert abs(difference) < 1e-6
        assert verified.pairs == (
            len(scface_set.VISIBLE) * 43 * (3 if distance == COMBINED else 1),
            facts["probes"] * 42,
        )


def test_threshold_is_of_the_dev_group(whole):
    scface, features = whole
    vectors = features / np.linalg.norm(features, axis=1, keepdims=True)
    vectors = vectors.astype(np.float64)
    before = verify(vectors, scface.rows, 2)
    other = vectors.copy()
    other[scface.rows.subjects >= 88] *= -1
    other[(scface.rows.subjects >= 88) & (scface.rows.cameras > 0)] *= -1
    after = verify(other, scface.rows, 2)
    assert after.threshold == before.threshold and after.fnmr > before.fnmr + 0.5


def test_two_hosts_are_one(whole):
    scface, features = whole
    alone = evaluate(scface, features, unusable=[3, 2000])
    for result in on_hosts(
        2, lambda share: evaluate(scface, features, [3, 2000], share=share)
    ):
        assert results.to_json(result) == results.to_json(alone)


def test_unusable_images_are_never_found(whole):
    scface, features = whole
    rows = scface.rows
    probe = rows.stems.index("060_cam3_3")
    mugshot = rows.stems.index("061_frontal")
    before = evaluate(scface, features)
    result = evaluate(scface, features, unusable=[probe, mugshot])
    old = before.details["searches"]["b80"][2]
    new = result.details["searches"]["b80"][2]
    assert new["probes"] == old["probes"] == 400
    # Its own frame, and the five of the person whose mugshot is gone, at every rank.
    assert new["cmc"][-1] == (400 - 6) / 400
    assert result.manifest["unusable"] == 2 and result.manifest["whole"] is False
    assert (
        "missing, unreadable or not to be aligned: 2 of 2,080 images"
        in result.warnings[-1]
    )
    assert "061_frontal" in result.warnings[-1]


def test_ties_are_not_hits(whole):
    scface, features = whole
    same = np.ones_like(features)
    result = evaluate(scface, same)
    assert result.status == "collapsed"
    assert result.scalars["a_rank1_d1"] == 0
    assert "score exactly the same" in result.warnings[-1]
    vectors = same / np.linalg.norm(same, axis=1, keepdims=True)
    found = search_distances(vectors, scface.rows, SEARCHES[0], ties="optimistic")
    assert found[0].hits == [650] * 4


def test_features_that_are_not_finite(whole):
    scface, features = whole
    broken = features.copy()
    broken[7] = np.nan
    result = evaluate(scface, broken)
    assert result.status == "non_finite" and result.scalars == {}


def test_less_than_the_whole_set_is_named(recorded):
    annotations = scface_set.read_annotations(LIST)
    part = annotations.part(np.flatnonzero(annotations.subjects % 2 == 0))
    scface, used = opened(part, ["half"], scface_set.PUBLISHED_COUNTS)
    features = recorded["features"][annotations.subjects % 2 == 0][used]
    result = evaluate(scface, features)
    assert result.manifest["whole"] is False and result.warnings[0] == "half"
    assert result.details["searches"]["a"][0]["probes"] == 325


def test_an_empty_gallery_is_refused():
    annotations = scface_set.read_annotations(LIST)
    part = annotations.part(np.flatnonzero(annotations.cameras != 0))
    with pytest.raises(DataError, match="got no mugshot of subjects 001 to 130"):
        ScfaceProtocol(SETTINGS, opened(part)[0])
    part = annotations.part(
        np.flatnonzero((annotations.subjects < 51) | (annotations.cameras == 0))
    )
    with pytest.raises(DataError, match="got no frame of subjects 051 to 130"):
        ScfaceProtocol(SETTINGS, opened(part)[0])


def test_where_there_is_nothing(tmp_path):
    settings = dataclasses.replace(SETTINGS, path=str(tmp_path))
    with pytest.raises(DataError, match="is not SCface"):
        open_protocol(settings, "scface")
