"""XQLFW: the recorded accuracies, lost pairs, and lists of other forms."""

import dataclasses
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import GOLDEN
from qface_jax.data_pipelines.sets.benchmark_images import BenchmarkImages
from qface_jax.data_pipelines.sets.xqlfw import LIST_NAME, Xqlfw, open_xqlfw
from qface_jax.errors import ConfigError, DataError
from qface_jax.evals import results
from qface_jax.evals.measures import verification
from qface_jax.evals.protocols.protocol import EvalSettings
from qface_jax.evals.protocols.xqlfw import XqlfwProtocol, open_protocol
from qface_jax.processes.share import ALONE
from support.hosts import on_hosts

LIST = GOLDEN / "protocols" / "data" / "xqlfw" / LIST_NAME
SETTINGS = EvalSettings(flip=False, options={"folder": "xqlfw_aligned_112"})


def write_tree(folder, left_out=(), lines=None):
    """The recorded list, and empty files of its images but for some."""
    text = LIST.read_text() if lines is None else "\n".join(lines)
    (folder / LIST_NAME).write_text(text)
    for row in map(str.split, text.splitlines()):
        full = [row[0], row[1], row[0], row[2]] if len(row) == 3 else row
        for name, number in zip(full[0::2], full[1::2], strict=True):
            file = folder / "xqlfw_aligned_112" / name / f"{name}_{int(number):04d}.jpg"
            if len(full) == 4 and file.stem not in left_out:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
    return folder


def set_of(recorded):
    """The recorded pairs, each image its own."""
    issame, rows = recorded["issame"], np.arange(len(recorded["embeddings"]))
    images = BenchmarkImages("xqlfw", LIST.parent, [f"{row}.jpg" for row in rows])
    counts = {"pairs": len(issame)}
    return Xqlfw(
        images, rows[0::2], rows[1::2], issame, 10, counts, counts, [], []
    )  # fmt: skip


def embedder(features, unusable=()):
    def embed(request):
        rows = np.asarray(request.rows, int)
        bad = np.flatnonzero(np.isin(rows, list(unusable)))
        values = features[rows].copy()
        values[bad] = 0
        return SimpleNamespace(features=values, scores={}, unusable=bad)

    return embed


def evaluate(recorded, unusable=(), share=ALONE):
    protocol = XqlfwProtocol(SETTINGS, set_of(recorded))
    return protocol.evaluate(embedder(recorded["embeddings"], unusable), share)


@pytest.mark.parametrize("name", ["plain", "ties"])
def test_as_recorded(golden, name):
    recorded = golden(f"protocols/xqlfw_{name}")
    result = evaluate(recorded)
    own = result.details["scores"]["cosine"]
    assert own["fold_accuracies"] == recorded["fold_accuracy"].tolist()
    np.testing.assert_allclose(
        own["fold_thresholds"], recorded["fold_thresholds"], rtol=0, atol=1e-12
    )
    assert result.scalars["accuracy"] == recorded["accuracy"]
    assert own["std"] == pytest.approx(recorded["std"], abs=1e-15)
    theirs = result.details["scores"]["euclidean"]
    assert theirs["fold_accuracies"] == recorded["insightface_fold_accuracy"].tolist()
    np.testing.assert_allclose(
        theirs["fold_thresholds"],
        recorded["insightface_fold_thresholds"],
        rtol=0, atol=1e-12,
    )  # fmt: skip
    np.testing.assert_allclose(
        result.arrays["cosine"], recorded["cosine_distance"], rtol=0, atol=1e-6
    )
    assert result.scalars["accuracy_lost_wrong"] == result.scalars["accuracy"]


@pytest.mark.parametrize("name", ["plain", "ties"])
def test_curves_as_recorded(golden, name):
    recorded = golden(f"protocols/xqlfw_{name}")
    first, second = recorded["embeddings"][0::2], recorded["embeddings"][1::2]
    dist = verification.distances(first, second, metric="cosine")
    np.testing.assert_allclose(dist, recorded["cosine_distance"], rtol=0, atol=1e-12)
    folded = verification.cross_validate(
        dist,
        recorded["issame"],
        thresholds=verification.METRICS["cosine"].thresholds(),
        folds=10,
    )
    assert folded.tpr.tolist() == pytest.approx(recorded["mean_tpr"], abs=1e-15)
    assert folded.fpr.tolist() == pytest.approx(recorded["mean_fpr"], abs=1e-15)


def test_the_recorded_list(golden, tmp_path):
    recorded = golden("protocols/xqlfw_plain")
    xqlfw = open_xqlfw(write_tree(tmp_path))
    assert xqlfw.issame.tolist() == recorded["issame"].tolist()
    assert xqlfw.folds == 10 and xqlfw.missing == []
    lines = [line.split() for line in LIST.read_text().splitlines()[1:]]
    stems = [file.removesuffix(".jpg") for file in xqlfw.images.files]
    for line, first, second in zip(lines, xqlfw.first, xqlfw.second, strict=True):
        other = line[2] if len(line) == 4 else line[0]
        assert stems[first] == f"{line[0]}/{line[0]}_{int(line[1]):04d}"
        assert stems[second] == f"{other}/{other}_{int(line[-1]):04d}"
    assert "not the published one: 600 pairs instead of 6,000" in xqlfw.notes[0]
    assert len(stems) == len(set(stems)) == len(xqlfw.images)


def test_lost_pairs(golden):
    """Left out of thresholds and tests, and beside it counted as wrong."""
    recorded = golden("protocols/xqlfw_plain")
    gone = [5, 122, 123, 700, 1199]  # images; pairs 2, 61, 350, 599
    result = evaluate(recorded, unusable=gone)
    lost = np.isin(np.arange(600), [2, 61, 350, 599])
    dist, issame = recorded["cosine_distance"], recorded["issame"]
    fold, grid = np.arange(600) // 60, np.arange(0, 2, 0.001)
    right = (dist < grid[:, None]) == issame
    accuracies, wrong = [], []
    for f in range(10):
        best = np.argmax(right[:, (fold != f) & ~lost].sum(axis=1))
        inside = (fold == f) & ~lost
        accuracies.append(right[best, inside].mean())
        wrong.append(right[best, inside].sum() / 60)
    score = result.details["scores"]["cosine"]
    assert score["fold_accuracies"] == pytest.approx(accuracies, abs=1e-15)
    assert result.scalars["accuracy"] == pytest.approx(np.mean(accuracies))
    assert result.scalars["accuracy_lost_wrong"] == pytest.approx(np.mean(wrong))
    assert result.scalars["accuracy_lost_wrong"] < result.scalars["accuracy"]
    assert result.manifest["lost_pairs"] == 4 and result.manifest["whole"] is False
    assert "4 of 600 pairs are lost with 5 of 1,200 images" in result.warnings[-1]


def test_the_worst_pairs_are_examples(golden):
    recorded = golden("protocols/xqlfw_plain")
    cosine, issame = 1 - recorded["cosine_distance"], recorded["issame"]
    worst = int(np.argmin(np.where(issame, cosine, 9)))
    result = evaluate(recorded, unusable=[2 * worst])
    groups = {"worst false matches": ~issame, "worst false non-matches": issame}
    for group, chosen in groups.items():
        shown = [one for one in result.examples if one.group == group]
        left = np.sort(np.delete(cosine, worst)[np.delete(chosen, worst)])
        expected = left[:12] if "non" in group else left[::-1][:12]
        np.testing.assert_allclose([one.score for one in shown], expected, atol=1e-6)
        for one in shown:
            first, second = one.images
            assert second == first + 1 and chosen[first // 2]
    counted = [one.ylabel for one in result.curves if one.kind == "histogram"]
    assert counted == ["pairs, %"]


def test_nothing_lost_is_the_plain_score(golden):
    recorded = golden("protocols/xqlfw_plain")
    dist, issame = recorded["cosine_distance"], recorded["issame"]
    plain = verification.score(dist, issame, metric="cosine", folds=10)
    none = np.zeros(600, bool)
    assert plain == verification.score(
        dist, issame, metric="cosine", folds=10, lost=none
    )


def test_a_fold_without_pairs(golden):
    recorded = golden("protocols/xqlfw_plain")
    with pytest.raises(DataError, match=r"got no usable pair of fold 2 of 10.* 120 of"):
        evaluate(recorded, unusable=range(120, 240))


def test_two_hosts_are_one(golden):
    recorded = golden("protocols/xqlfw_plain")
    alone = results.to_json(evaluate(recorded, [7]))
    for result in on_hosts(3, lambda share: evaluate(recorded, [7], share)):
        assert results.to_json(result) == alone


def test_collapsed_and_not_finite(golden):
    recorded = golden("protocols/xqlfw_plain")
    same = evaluate(recorded | {"embeddings": np.ones((1200, 4))})
    assert same.status == "collapsed" and same.scalars["accuracy"] == 0.5
    broken = recorded["embeddings"].copy()
    broken[3] = np.inf
    result = evaluate(recorded | {"embeddings": broken})
    assert result.status == "non_finite" and result.scalars == {}


def test_missing_images_are_named(tmp_path):
    lines = LIST.read_text().splitlines()
    name, first, _ = lines[1].split()
    stem = f"{name}_{int(first):04d}"
    xqlfw = open_xqlfw(write_tree(tmp_path, left_out=[stem]))
    assert [xqlfw.images.files[row] for row in xqlfw.missing] == [f"{name}/{stem}.jpg"]
    (note,) = (note for note in xqlfw.notes if note.startswith("not in "))
    assert stem in note


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["10\t1", "A\t1\t2", "A\t1\tB"], "line 3 is 'A 1 B', expected 'name i j'"),
        (["10\t1"], "holds no pair"),
        (["A\t1\t2", "A\t3\t4"], "2 of 2 pairs are of one person, expected both"),
    ],
)
def test_damaged_lists(tmp_path, lines, words):
    write_tree(tmp_path, lines=lines[:0] or ["A 1 2", "A 3 4"])
    (tmp_path / LIST_NAME).write_text("\n".join(lines))
    settings = dataclasses.replace(SETTINGS, path=str(tmp_path))
    with pytest.raises(DataError, match=re.escape(words)):
        open_protocol(settings, "xqlfw")


def test_what_is_not_there(tmp_path):
    settings = dataclasses.replace(SETTINGS, path=str(tmp_path))
    with pytest.raises(DataError, match=r"xqlfw_pairs\.txt: cannot be read: No such"):
        open_protocol(settings, "xqlfw")
    (tmp_path / LIST_NAME).write_text("A\t1\t2\nA\t1\tB\t2\n")
    with pytest.raises(DataError, match=r"no such folder.*--config.eval.xqlfw.folder"):
        open_protocol(settings, "xqlfw")
    (tmp_path / "xqlfw_aligned_112").mkdir()
    with pytest.raises(DataError, match="got none of the 3 images"):
        open_protocol(settings, "xqlfw")


def test_the_aligner_is_named(tmp_path):
    write_tree(tmp_path)
    assert "MTCNN" in open_xqlfw(tmp_path).images.describe()["aligner"]
    plan = {"aligner": "least squares", "detector": {"name": "YuNet"}}
    report = tmp_path / "xqlfw_aligned_112" / "align.json"
    report.write_text(json.dumps({"plan": plan}))
    aligner = open_xqlfw(tmp_path).images.describe()["aligner"]
    assert aligner == "least squares; landmarks: YuNet"
    (tmp_path / "xqlfw_aligned_112").rename(tmp_path / "photographs")
    (tmp_path / "photographs" / "align.json").unlink()
    opened = open_xqlfw(tmp_path, folder="photographs")
    assert opened.images.describe()["aligner"] == "none"


def test_folds_that_do_not_fit(tmp_path):
    write_tree(tmp_path, lines=["A 1 2", "A 1 B 2"])
    settings = dataclasses.replace(SETTINGS, path=str(tmp_path))
    with pytest.raises(ConfigError, match=r"eval\.folds: got 10"):
        open_protocol(settings, "xqlfw")


def test_a_pair_listed_again_is_counted(tmp_path):
    note = "xqlfw_pairs.txt: {} listed again, and scored again"
    assert note.format("125 pairs") in open_xqlfw(write_tree(tmp_path)).notes
    path = tmp_path / "xqlfw_pairs.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1]]))
    assert note.format("126 pairs") in open_xqlfw(tmp_path).notes
