import dataclasses
import json
import shutil

import numpy as np
import pytest
import scipy.io

from qface_jax.errors import ConfigError, DataError
from qface_jax.evals import results
from qface_jax.evals.protocols import unit_features
from qface_jax.evals.protocols.protocol import EvalSettings
from qface_jax.evals.protocols.tinyface import PROTOCOL, PUBLISHED, RANKS
from qface_jax.evals.text_table import cells, result_text
from qface_jax.processes.share import ALONE
from qface_jax.report.results import result_context
from support.hosts import on_hosts
from support.mini_benchmarks import FakeEmbedder, people
from support.protocol_goldens import FOLDER, golden

LISTS = FOLDER / "data/tinyface/Testing_Set"
PLACES = ("gallery", "distractor", "probe")


@pytest.fixture
def tree(tmp_path):
    """The recorded lists with an empty file for each image; returns its root."""
    recorded = golden("tinyface_plain")
    test = tmp_path / "tinyface" / "Testing_Set"
    shutil.copytree(LISTS, test)
    folders = ("Gallery_Match", "Gallery_Distractor", "Probe")
    for folder, place in zip(folders, PLACES, strict=True):
        (test / folder).mkdir()
        for name in recorded[f"{place}_names"]:
            (test / folder / name).touch()
    return tmp_path


def opened(tree, copies="raw", **changes):
    values = {"path": str(tree), "resize": "stretch"}
    return PROTOCOL.open(EvalSettings(**values | changes), copies)


def recorded_features(protocol):
    """The recorded feature of each image of the set, by its name."""
    recorded = golden("tinyface_plain")
    by_name = {}
    for place in PLACES:
        names = recorded[f"{place}_names"].tolist()
        by_name |= dict(zip(names, recorded[place], strict=True))
    names = [file.rpartition("/")[2] for file in protocol.images.files]
    return np.stack([by_name[name] for name in names])


def test_the_recorded_numbers(tree, tmp_path):
    protocol, recorded = opened(tree), golden("tinyface_plain")
    embed = FakeEmbedder(recorded_features(protocol))
    result = protocol.evaluate(embed, ALONE)
    assert result.status == "ok"
    assert result.scalars["map"] == pytest.approx(recorded["cos_map_pessimistic"])
    hits = [result.scalars[f"rank_{k}"] for k in RANKS]
    np.testing.assert_array_equal(hits, recorded["cos_rank_pessimistic"])
    official = [result.details["ties"]["index"][f"rank_{k}"] for k in RANKS]
    np.testing.assert_array_equal(official, recorded["unit_rank_1_5_10_20_50_official"])
    for k in RANKS:  # fewer images to be taken for the mate
        assert result.scalars[f"rank_{k}_no_distractors"] >= result.scalars[f"rank_{k}"]
    assert result.scalars["map_no_distractors"] > result.scalars["map"]
    assert sum(len(request.rows) for request in embed.requests) == protocol.total
    manifest = result.manifest
    assert manifest["whole"] is False and manifest["ties"] == "pessimistic"
    assert manifest["counts"]["distractor"] == 300
    assert manifest["unusable"] == {"gallery": 0, "probes": 0}
    (warning,) = result.warnings
    assert "300 distractor instead of 153,428" in warning
    dated = dataclasses.replace(result, date="2026")
    assert results.read(results.write(tmp_path, dated)).scalars == result.scalars


def test_distractors_have_no_identity_whatever_their_names_say(tree):
    recorded = golden("tinyface_plain")
    ids, probe_ids = (
        recorded[f"{x}_ids"].ravel().tolist() for x in ("gallery", "probe")
    )
    folder = tree / "tinyface/Testing_Set/Gallery_Distractor"
    for file, identity in zip(sorted(folder.iterdir())[::3], ids, strict=False):
        file.rename(folder / f"{identity}_{file.name}")
    protocol = opened(tree)
    labels = [*ids, *[None] * 300, *probe_ids]
    embed = FakeEmbedder(people(labels, noise=0.05))
    result = protocol.evaluate(embed, ALONE)
    # Average precision would fall if some were mates that nobody finds.
    assert result.scalars["map"] == result.scalars["rank_1"] == 1
    # Distractors just like the probes push every mate back.
    features = people(labels, noise=0.05)
    features[len(ids) : len(ids) + len(probe_ids)] = features[-len(probe_ids) :]
    result = protocol.evaluate(FakeEmbedder(features), ALONE)
    assert result.scalars["rank_1"] == 0 < result.scalars["rank_1_no_distractors"]


@pytest.mark.parametrize("hosts", [2, 3])
def test_hosts_that_share_the_images_find_what_one_does(tree, monkeypatch, hosts):
    monkeypatch.setattr(unit_features, "BLOCK", 50)
    protocol = opened(tree)
    features = recorded_features(protocol)
    alone = protocol.evaluate(FakeEmbedder(features, [0, 410, 480]), ALONE)
    embedders = [FakeEmbedder(features, [0, 410, 480]) for _ in range(hosts)]

    def work(share):
        return protocol.evaluate(embedders[share.index], share)

    for result in on_hosts(hosts, work):
        assert results.to_json(result) == results.to_json(alone)
        for name, values in alone.arrays.items():
            np.testing.assert_array_equal(result.arrays[name], values)
    asked = [[request.most for request in embed.requests] for embed in embedders]
    assert all(most == asked[0] for most in asked) and max(asked[0]) <= 50


def test_a_probe_that_cannot_be_read_is_a_miss(tree):
    protocol = opened(tree)
    features = recorded_features(protocol)
    whole = protocol.evaluate(FakeEmbedder(features), ALONE)
    g = len(protocol.images) - 101
    lost = [g, g + 1, g + 2]
    result = protocol.evaluate(FakeEmbedder(features, lost), ALONE)
    before, after = (r.arrays["average_precision"] for r in (whole, result))
    assert np.all(before[:3] > 0) and np.all(after[:3] == 0)
    np.testing.assert_array_equal(before[3:], after[3:])
    assert np.all(result.arrays["rank"][:3] == g + 1)  # behind the whole gallery
    assert result.manifest["unusable"] == {"gallery": 0, "probes": 3}
    assert "3 images could not be read: counted as missed" in result.warnings


def test_the_worst_probes_stand_beside_whom_they_found(tree):
    protocol = opened(tree)
    features = recorded_features(protocol)
    g = len(protocol.images) - 101
    result = protocol.evaluate(FakeEmbedder(features, [g]), ALONE)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    gallery, probes = protocol._set.gallery_ids, protocol._set.probe_ids
    scores = np.einsum("pd,gd->pg", unit[g:], unit[:g])
    mates = gallery == probes[:, None]
    margin = np.where(mates, scores, -9).max(1) - np.where(mates, -9, scores).max(1)
    worst = [row for row in np.argsort(margin, kind="stable") if row][:12]
    assert len(result.examples) == 12 and margin[worst].max() < 0
    for row, example in zip(worst, result.examples, strict=True):
        other = np.where(mates[row], -9, scores[row])
        mate = np.where(mates[row], scores[row], -9)
        assert example.images == [g + row, other.argmax(), mate.argmax()]
        assert example.score == pytest.approx(other.max(), abs=1e-6)
    assert {one.group for one in result.examples} == {
        "worst misses: the probe, whom it found, its true mate"
    }


def test_a_collapsed_model_scores_nothing(tree):
    protocol = opened(tree)
    same = np.ones((len(protocol.images), 8))
    result = protocol.evaluate(FakeEmbedder(same), ALONE)
    assert result.status == "collapsed"
    assert [result.scalars[f"rank_{k}"] for k in RANKS] == [0] * 5
    assert result.scalars["map"] < 0.02
    assert result.details["ties"]["optimistic"]["rank_1"] == 1


def test_features_that_are_no_numbers_give_no_result(tree):
    protocol = opened(tree)
    features = recorded_features(protocol)
    features[7, 3] = np.inf
    result = protocol.evaluate(FakeEmbedder(features), ALONE)
    assert (result.status, result.scalars, result.tables) == ("non_finite", {}, [])


def test_nothing_readable_scores_nothing(tree):
    protocol = opened(tree)
    everything = range(len(protocol.images))
    features = recorded_features(protocol)
    result = protocol.evaluate(FakeEmbedder(features, everything), ALONE)
    assert result.status == "collapsed" and result.scalars["rank_50"] == 0
    assert result.message == "no image could be read: nothing can be compared"


def test_the_rule_for_ties_is_an_option(tree):
    protocol = opened(tree, options={"ties": "optimistic"})
    same = np.ones((len(protocol.images), 8))
    result = protocol.evaluate(FakeEmbedder(same), ALONE)
    assert result.scalars["rank_1"] == 1 and result.manifest["ties"] == "optimistic"


def test_published_rows_stand_beside_ours(tree):
    protocol = opened(tree)
    result = protocol.evaluate(FakeEmbedder(recorded_features(protocol)), ALONE)
    table = next(table for table in result.tables if table.title == "Published")
    assert len(table.rows) == 1 + len(PUBLISHED)
    assert cells(table, table.rows[1])[2:] == ["68.21", "71.54"]
    assert table.rows[0][2] == result.scalars["rank_1"]


def test_everything_is_shown(tree):
    protocol = opened(tree)
    result = protocol.evaluate(FakeEmbedder(recorded_features(protocol)), ALONE)
    shown = result_context(result)
    assert shown["not_drawn"] == [] and len(shown["figures"]) == len(result.curves) == 2
    printed = result_text(result)
    assert "tinyface_raw: 101 probes, 408 gallery images" in printed
    assert "Published" not in printed


def test_raw_pictures_are_resized_as_a_whole(tree):
    protocol = opened(tree, resize="crop")
    result = protocol.evaluate(FakeEmbedder(recorded_features(protocol)), ALONE)
    assert any("set --config.eval.resize=stretch" in line for line in result.warnings)
    assert result.manifest["resize"] == "crop" and result.manifest["aligner"] == "none"
    json.dumps(result.manifest, allow_nan=False)


def test_a_set_without_probes_of_known_people_is_all_misses(tree):
    path = tree / "tinyface/Testing_Set/probe_img_ID_pairs.mat"
    lists = scipy.io.loadmat(path)
    strangers = lists["probe_ids"] * 0 + 60000
    kept = {"probe_set": lists["probe_set"], "probe_ids": strangers}
    scipy.io.savemat(path, kept)
    protocol = opened(tree)
    features = people([None] * len(protocol.images), noise=1)
    result = protocol.evaluate(FakeEmbedder(features), ALONE)
    assert result.scalars["map"] == result.scalars["rank_50"] == 0
    assert (
        "101 probes without a mate in the gallery: counted as missed" in result.warnings
    )


def test_what_cannot_be_opened(tree):
    with pytest.raises(ConfigError, match="got 'x' as a set of TinyFace, must be raw"):
        opened(tree, "x")
    with pytest.raises(DataError, match=r"no folder .*aligned_pad_0\.1_pad_high; it"):
        opened(tree, "aligned")
