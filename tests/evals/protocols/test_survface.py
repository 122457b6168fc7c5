import dataclasses
import json
import shutil

import numpy as np
import pytest

from qface_jax.errors import ConfigError
from qface_jax.evals import results
from qface_jax.evals.protocols import unit_features
from qface_jax.evals.protocols.protocol import EvalSettings
from qface_jax.evals.protocols.surveillance import (
    Answers,
    PairDistances,
    identified,
    verified,
)
from qface_jax.evals.protocols.survface import PARTS, PROTOCOL
from qface_jax.evals.text_table import cells, result_text
from qface_jax.processes.share import ALONE
from qface_jax.report.results import result_context
from support.hosts import on_hosts
from support.mini_benchmarks import FakeEmbedder
from support.protocol_goldens import FOLDER, golden

SEARCH, PAIRS = "Face_Identification_Test_Set", "Face_Verification_Test_Set"
PLACES = {
    f"{SEARCH}/gallery": ("survface_identification", "gallery"),
    f"{SEARCH}/mated_probe": ("survface_identification", "mated"),
    f"{SEARCH}/unmated_probe": ("survface_identification", "unmated"),
    f"{PAIRS}/verification_images": ("survface_verification", "features"),
}
PERCENTS = ("30", "20", "10", "1")


def recorded_names(recording, key):
    name = "names" if key == "features" else f"{key}_names"
    return golden(recording)[name].tolist()


@pytest.fixture
def tree(tmp_path):
    """The recorded lists with an empty file for each image."""
    root = tmp_path / "QMUL-SurvFace"
    shutil.copytree(FOLDER / "data/QMUL-SurvFace", root)
    for folder, place in PLACES.items():
        (root / folder).mkdir()
        for name in recorded_names(*place):
            (root / folder / name).touch()
    return root


def opened(tree, part="all", **changes):
    values = {"path": str(tree), "resize": "stretch"}
    return PROTOCOL.open(EvalSettings(**values | changes), part)


def recorded_features(protocol):
    """The recorded feature of each image of the set, by folder and name."""
    by_file = {}
    for folder, (recording, key) in PLACES.items():
        features = golden(recording)[key]
        for name, feature in zip(recorded_names(recording, key), features, strict=True):
            by_file[f"{folder}/{name}"] = feature
    return np.stack([by_file[file] for file in protocol.images.files])


def first_of(protocol, folder):
    return next(i for i, f in enumerate(protocol.images.files) if folder in f)


def test_the_recorded_numbers(tree, tmp_path):
    protocol = opened(tree)
    searched, pairs = (golden(f"survface_{part}") for part in PARTS[1:])
    embed = FakeEmbedder(recorded_features(protocol))
    result = protocol.evaluate(embed, ALONE)
    found = result.scalars
    assert result.status == "ok" and result.best in found
    for rank in (1, 20):
        tpir = [found[f"tpir{rank}_fpir_{percent}"] for percent in PERCENTS]
        np.testing.assert_allclose(tpir, searched[f"tpir{rank}"], 1e-15)
    auc = searched["auc_of_tpir20_over_fpir"]
    assert found["auc_tpir20"] == pytest.approx(auc, abs=1e-12)
    closed = [found[f"rank_{rank}"] for rank in (1, 5, 10, 20)]
    np.testing.assert_array_equal(closed, searched["closed_set_rank_1_5_10_20"])
    tar = [found[f"tar_far_{percent}"] for percent in ("30", "10", "1", "0.1")]
    np.testing.assert_array_equal(tar, pairs["tar_at_most_30_10_1_01"])
    grid = result.details["verification"]["tar_on_grid"]
    np.testing.assert_allclose(grid, pairs["official_like_tar_at_far_30_10_1_01"])
    folds = pairs["official_like_fold_accuracy"]
    assert found["accuracy"] == pytest.approx(folds.mean(), abs=1e-12)
    assert found["auc"] == pytest.approx(pairs["auc"], abs=1e-12)
    assert found["eer"] == pytest.approx(pairs["eer"], abs=1e-12)
    assert sum(len(request.rows) for request in embed.requests) == protocol.total
    assert result.manifest["whole"] is False
    assert result.manifest["counts"]["gallery_identities"] == 45
    dated = dataclasses.replace(result, date="2026")
    assert results.read(results.write(tmp_path, dated)).scalars == found


def test_the_worst_are_examples(tree):
    """Misses, strangers taken for someone, and pairs; of a template the first image."""
    protocol = opened(tree)
    features = recorded_features(protocol)
    gone = first_of(protocol, "unmated_probe")
    result = protocol.evaluate(FakeEmbedder(features, [0, gone]), ALONE)
    groups = {}
    for example in result.examples:
        groups.setdefault(example.group.split(":")[0], []).append(example)
    assert {name: len(of_group) for name, of_group in groups.items()} == {
        "worst misses": 12, "worst strangers": 12, "worst false matches": 12,
        "worst false non-matches": 12,
    }  # fmt: skip
    gallery, known = protocol._set.gallery_ids, protocol._set.probe_ids
    files, g = protocol.images.files, len(protocol._set.gallery_ids)
    firsts = {int(np.flatnonzero(gallery[1:] == one)[0] + 1) for one in set(gallery)}
    for example in groups["worst misses"]:
        probe, found, mate = example.images
        assert gallery[found] != known[probe - g] == gallery[mate]
        assert {found, mate} <= firsts
    strangers = result.arrays["stranger_score"]
    scores = [example.score for example in groups["worst strangers"]]
    np.testing.assert_allclose(scores, np.sort(strangers)[::-1][:12], atol=1e-6)
    for example in groups["worst strangers"]:
        probe, found = example.images
        assert "unmated_probe" in files[probe] and probe != gone and found in firsts
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    for name, pairs in (
        ("worst false matches", protocol._set.negative),
        ("worst false non-matches", protocol._set.positive),
    ):
        cosines = np.einsum("pd,pd->p", *(unit[side] for side in pairs.T))
        ordered = np.sort(cosines) if "non" in name else np.sort(cosines)[::-1]
        scores = [example.score for example in groups[name]]
        np.testing.assert_allclose(scores, ordered[:12], atol=1e-6)
        listed = set(map(tuple, pairs.tolist()))
        assert all(tuple(example.images) in listed for example in groups[name])


def test_the_numbers_of_other_programs_are_not_made(tree):
    protocol = opened(tree)
    recorded = golden("survface_identification")
    result = protocol.evaluate(FakeEmbedder(recorded_features(protocol)), ALONE)
    tpir = [result.scalars[f"tpir20_fpir_{percent}"] for percent in PERCENTS]
    assert tpir[2] != pytest.approx(recorded["btnet_style_tpir20"][2], abs=0.01)
    # A grid of 1,000 thresholds: near, and not the same.
    difference = np.abs(tpir[:3] - recorded["simkd_tpir20_at_30_20_10"])
    assert 0 < difference.max() < 0.02


@pytest.mark.parametrize("part", PARTS[1:])
def test_each_half_by_itself(tree, part):
    protocol, whole = opened(tree, part), opened(tree)
    features = recorded_features(whole)
    embed = FakeEmbedder(features)
    result = protocol.evaluate(embed, ALONE)
    both = whole.evaluate(FakeEmbedder(features), ALONE)
    assert protocol.name == f"survface_{part}" and result.best in result.scalars
    assert result.scalars.items() < both.scalars.items()
    assert sum(len(request.rows) for request in embed.requests) == protocol.total
    other = "auc" if part == PARTS[1] else "rank_1"
    assert other not in result.scalars


@pytest.mark.parametrize("hosts", [2, 3])
def test_hosts_that_share_the_images_find_what_one_does(tree, monkeypatch, hosts):
    monkeypatch.setattr(unit_features, "BLOCK", 40)
    protocol = opened(tree)
    features, lost = recorded_features(protocol), [3, 200, 250, 500]
    alone = protocol.evaluate(FakeEmbedder(features, lost), ALONE)
    embedders = [FakeEmbedder(features, lost) for _ in range(hosts)]

    def work(share):
        return protocol.evaluate(embedders[share.index], share)

    for result in on_hosts(hosts, work):
        assert result.manifest == alone.manifest
        assert result.scalars == alone.scalars
        for name, values in alone.arrays.items():
            np.testing.assert_allclose(result.arrays[name], values, 0, 1e-6)
    asked = [[request.most for request in embed.requests] for embed in embedders]
    assert all(most == asked[0] for most in asked) and max(asked[0]) <= 40


def test_images_that_cannot_be_read(tree):
    protocol = opened(tree)
    features = recorded_features(protocol)
    whole = protocol.evaluate(FakeEmbedder(features), ALONE).scalars
    mated, stranger, pair = (
        first_of(protocol, name) for name in ("mated", "unmated", "verification")
    )
    lost = [0, *range(mated, mated + 60), stranger, *range(pair, pair + 100)]
    result = protocol.evaluate(FakeEmbedder(features, lost), ALONE)
    assert result.manifest["unusable"] == {
        "gallery": 1, "mated_probe": 60, "unmated_probe": 1, "verification_images": 100
    }  # fmt: skip
    assert "162 images could not be read: counted as missed" in result.warnings
    # Ranks have the same count of probes below them, sixty of which are lost.
    assert result.scalars["rank_20"] <= (134 - 60) / 134 < whole["rank_20"]
    assert result.scalars["tar_far_30"] < whole["tar_far_30"]


def test_a_template_without_a_readable_image_is_found_by_nobody(tree):
    protocol = opened(tree)
    features = recorded_features(protocol)
    ids = golden("survface_identification")
    number = ids["mated_ids"].ravel()[0]
    lost = np.flatnonzero(ids["gallery_ids"].ravel() == number)
    mates = int(np.sum(ids["mated_ids"] == number))
    result = protocol.evaluate(FakeEmbedder(features, lost), ALONE)
    assert result.scalars["rank_20"] == (134 - mates) / 134


def test_a_collapsed_model_scores_nothing(tree):
    protocol = opened(tree)
    same = np.ones((len(protocol.images), 8))
    result = protocol.evaluate(FakeEmbedder(same), ALONE)
    assert result.status == "collapsed"
    zeros = [n for n in result.scalars if n.startswith(("tpir", "rank_", "tar_"))]
    assert len(zeros) == 20 and all(result.scalars[name] == 0 for name in zeros)
    assert result.scalars["auc"] == 0.5


def test_features_that_are_no_numbers_give_no_result(tree):
    protocol = opened(tree)
    features = recorded_features(protocol)
    features[7, 3] = np.nan
    result = protocol.evaluate(FakeEmbedder(features), ALONE)
    assert result.status == "non_finite"
    assert "rank_1" not in result.scalars and "auc" in result.scalars


def test_a_rank_above_the_watch_list_asks_for_the_score_alone():
    mate, rank = np.array([0.9, 0.5, 0.4]), np.array([1, 3, 2])
    answers = Answers(mate, rank, np.array([0.45, 0.1, 0.0, 0.2, 0.3]))
    section = identified(answers, people=3)
    assert section.scalars["tpir20_fpir_20"] == 1
    assert section.scalars["tpir1_fpir_20"] == 1 / 3
    # 1 % of five strangers is none: the threshold lies just above the best of them.
    assert section.scalars["tpir20_fpir_1"] == 2 / 3
    assert section.warnings == [
        f"5 probes without a mate cannot tell {fpir} from 0" for fpir in (0.01, 0.1)
    ]


def test_without_strangers_there_are_ranks_alone():
    answers = Answers(np.array([0.9]), np.array([2]), np.empty(0))
    section = identified(answers, people=3)
    assert section.scalars == {"rank_1": 0, "rank_5": 1, "rank_10": 1, "rank_20": 1}
    assert [headline.scalar for headline in section.headlines] == ["rank_1"]
    assert [curve.kind for curve in section.curves] == ["histogram"]
    assert section.warnings == ["no probes without a mate"]
    json.dumps(section.details, allow_nan=False)


def test_few_pairs_give_no_accuracy():
    section = verified(PairDistances(np.full(9, 0.5), np.full(20, 1.5)))
    assert "accuracy" not in section.scalars and section.scalars["auc"] == 1
    assert "no accuracy: ten folds need ten pairs of each kind" in section.warnings


def test_published_rows_stand_beside_ours(tree):
    protocol = opened(tree)
    result = protocol.evaluate(FakeEmbedder(recorded_features(protocol)), ALONE)
    first, second = (table for table in result.tables if table.title == "Published")
    assert cells(first, first.rows[1])[1:] == ["-", "-", "13.20", "-"]
    assert cells(second, second.rows[1])[1:3] == ["75.09", "52.74"]
    intervals = [table for table in result.tables if table.columns[-1].title == "of"]
    assert [len(table.rows) for table in intervals] == [16, 4]


def test_everything_is_shown(tree):
    protocol = opened(tree)
    result = protocol.evaluate(FakeEmbedder(recorded_features(protocol)), ALONE)
    shown = result_context(result)
    assert shown["not_drawn"] == [] and len(shown["figures"]) == len(result.curves) == 3
    printed = result_text(result)
    assert "identification: 45 people, 134 mated and 180 unmated probes" in printed


def test_there_is_no_other_part(tree):
    with pytest.raises(ConfigError, match="got 'x' as a set of SurvFace, must be one"):
        opened(tree, "x")
