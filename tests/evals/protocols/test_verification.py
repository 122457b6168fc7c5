import json
import pickle
import re
import shutil

import numpy as np
import pytest

from qface_jax.configs.document import split_benchmark
from qface_jax.data_pipelines.sets import pair_sets
from qface_jax.errors import ConfigError, DataError
from qface_jax.evals import results
from qface_jax.evals.measures import verification
from qface_jax.evals.protocols.protocol import EvalSettings
from qface_jax.evals.protocols.verification_rows import rows_of
from qface_jax.evals.text_table import result_text
from qface_jax.inference.embedder import Embedder
from qface_jax.processes.share import ALONE
from qface_jax.report.examples import write_examples
from qface_jax.tables import PROTOCOLS
from qface_jax.train import evaluation
from support.hosts import on_hosts
from support.image_files import encoded, noise
from support.mini_benchmarks import expected, mini
from support.published_lists import write_agedb, write_cfp


def score_of(toy, pair_set, side_first, side_second):
    """Score of the pairs with the two images at the sides given."""
    first = np.concatenate([toy.embed(b) for b in pair_set.batches(side_first)])[0::2]
    second = np.concatenate([toy.embed(b) for b in pair_set.batches(side_second)])[1::2]
    dist = verification.distances(first, second, metric="euclidean")
    return verification.score(dist, pair_set.issame, metric="euclidean", folds=10)


def test_the_right_images_are_degraded(toy):
    pair_set, result = toy.pairs(), toy.evaluate()
    assert [row.side for row in rows_of(result)] == [112, 28, 7]
    for row in rows_of(result):
        assert row.cross == score_of(toy, pair_set, 112, row.side)
        assert row.same == score_of(toy, pair_set, row.side, row.side)
    full, _, smallest = rows_of(result)
    assert full.cross == full.same
    assert smallest.cross != smallest.same
    # First image degraded would give another answer: the test can tell.
    assert smallest.cross != score_of(toy, pair_set, 7, 112)


def test_means_are_over_all_resolutions(toy):
    result = toy.evaluate()
    cross = [row.cross.accuracy for row in rows_of(result)]
    same = [row.same.accuracy for row in rows_of(result)]
    assert result.scalars["mean_cross"] == pytest.approx(np.mean(cross))
    assert result.scalars["mean_same"] == pytest.approx(np.mean(same))
    assert result.scalars["mean_cross"] != result.scalars["mean_same"]


def test_every_image_is_embedded_once_per_resolution(toy):
    calls = []

    def counting(images):
        calls.append(len(images))
        return toy.embed(images)

    toy.evaluate(embed=counting, flip=True)
    assert calls == [16] * (2 * 5 * len(toy.sides))


def test_the_protocol_is_recorded(toy):
    result = toy.evaluate(flip=True, metric="cosine", folds=5, antialias=False)
    protocol = result.manifest
    assert (protocol["pairs"], protocol["same"], protocol["different"]) == (40, 20, 20)
    assert (protocol["folds"], protocol["metric"]) == (5, "cosine")
    assert protocol["thresholds"] == "0 to 2 (exclusive), step 0.001"
    assert protocol["flip"] is True and "mirror" in protocol["embedding"]
    assert protocol["antialias"] is False and protocol["colour_order"] == "RGB"
    assert "second image" in protocol["cross"]
    assert protocol["set"] == {"source": "toy", "seed": 0}
    assert result.checkpoint == {"path": "checkpoints/30", "step": 30}
    assert result.config_hash == "0123abcd"
    assert {"python", "numpy", "jax"} <= set(result.versions)


def test_collapsed_embeddings_are_named_and_warned_of(toy, capsys):
    result = toy.evaluate(embed=lambda images: np.ones((len(images), 8), np.float32))
    assert result.status == "collapsed"
    assert "at 112 px: the embeddings are (almost) the same" in result.message
    assert "warning: toy: at 112 px" in capsys.readouterr().err
    assert rows_of(result)[0].cross.accuracy == 0.5


def test_collapse_at_one_resolution_names_it(toy):
    def partly(images):
        features = toy.embed(images)
        features[images[:, 0, 0, 1] == 7] = 1.0
        return features

    result = toy.evaluate(embed=partly)
    assert [row.status for row in rows_of(result)] == ["ok", "ok", "collapsed"]
    assert result.status == "collapsed" and result.message.startswith("at 7 px")


def test_non_finite_embeddings_give_no_numbers(toy, capsys):
    def broken(images):
        features = toy.embed(images)
        features[(images[:, 0, 0, 1] == 7) & (images[:, 0, 0, 2] == 4)] = np.nan
        return features

    result = toy.evaluate(embed=broken)
    assert result.status == "non_finite"
    assert "1 of 80 images" in result.message and "(images 4)" in result.message
    full, _, smallest = rows_of(result)
    assert (smallest.cross, smallest.same, smallest.norms) == (None, None, None)
    assert full.cross is not None
    assert "mean_cross" not in result.scalars
    assert "NaN or infinite" in capsys.readouterr().err


def test_non_finite_at_112_leaves_no_cross_resolution(toy):
    def broken(images):
        features = toy.embed(images)
        features[images[:, 0, 0, 1] == 112] = np.inf
        return features

    result = toy.evaluate(embed=broken)
    assert all(row.cross is None for row in rows_of(result))
    assert rows_of(result)[1].same is not None


@pytest.mark.parametrize(
    ("resolutions", "words"),
    [
        ((56, 28), "must contain 112"),
        ((112, 28, 28), "different sides"),
        ((112, 0), "from 1 to 112"),
        ((112, 224), "from 1 to 112"),
        ((), "must contain 112"),
    ],
)
def test_wrong_resolutions(toy, resolutions, words):
    with pytest.raises(ConfigError, match=words):
        toy.evaluate(resolutions=resolutions)


def test_wrong_folds_are_found_before_the_long_work(toy):
    def never(images):
        raise AssertionError("embedded although the folds do not fit")

    with pytest.raises(ConfigError, match=r"eval\.folds"):
        toy.evaluate(embed=never, folds=41)


def test_folds_of_one_kind_are_refused_when_the_set_is_opened(toy, monkeypatch):
    pairs = toy.pairs()
    pairs.issame = np.arange(40) // 10 % 2 == 0
    monkeypatch.setattr(pair_sets, "open_pair_set", lambda *_: pairs)
    opened = PROTOCOLS["verification"].open
    with pytest.raises(ConfigError, match=r"8 of the 10 contiguous folds of toy .*=2"):
        opened(EvalSettings(), "toy.bin")
    assert opened(EvalSettings(folds=2), "toy.bin").folds == 2


@pytest.mark.parametrize(("asked", "own", "used"), [(0, 0, 10), (0, 4, 4), (5, 4, 5)])
def test_folds_of_the_set(toy, asked, own, used):
    pairs = toy.pairs()
    pairs.folds = own
    result = toy.evaluate(pairs, folds=asked)
    assert result.manifest["folds"] == used
    assert len(rows_of(result)[0].cross.fold_accuracies) == used


def test_a_stream_that_ends_early(toy):
    pair_set = toy.pairs()
    pair_set.batches = lambda side, share: iter([np.zeros((16, 112, 112, 3), np.uint8)])
    with pytest.raises(DataError, match="got 16, expected 80"):
        toy.evaluate(pair_set)


def test_protocol_table():
    assert {"verification", "scface", "xqlfw"} <= set(PROTOCOLS)
    assert callable(PROTOCOLS["verification"].open)


@pytest.mark.parametrize(
    ("entry", "benchmark"),
    [
        ("synthetic", ("verification", "synthetic")),
        ("verification=lfw.bin", ("verification", "lfw.bin")),
        ("tinyface=/data/tiny=face", ("tinyface", "/data/tiny=face")),
        ("my_lab.protocols:mine=DIR", ("my_lab.protocols:mine", "DIR")),
        ("mine.py:rank=DIR", ("mine.py:rank", "DIR")),
        ("pairs.txt::folder", ("verification", "pairs.txt::folder")),
        ("pairs.txt::a=b", ("verification", "pairs.txt::a=b")),
        ("verification=pairs.txt::a=b", ("verification", "pairs.txt::a=b")),
        ("./a=b.bin", ("verification", "./a=b.bin")),
    ],
)
def test_benchmarks(entry, benchmark):
    assert split_benchmark(entry, "verification") == benchmark


LOST = {5: "no picture", 20: "no picture", 21: "missing"}  # images; pairs 2 and 10


def losing(toy):
    pairs = toy.pairs()
    pairs.failures = LOST
    return pairs


def test_lost_pairs_are_left_out_and_counted_as_wrong(toy):
    whole, result = toy.evaluate(), toy.evaluate(losing(toy))
    gone = np.isin(np.arange(40), [2, 10])
    pairs = toy.pairs()
    for row in rows_of(result):
        first, second = (
            np.concatenate([toy.embed(b) for b in pairs.batches(side)])[k::2]
            for k, side in enumerate((112, row.side))
        )
        dist = verification.distances(first, second, metric="euclidean")
        assert row.cross == verification.score(
            dist, pairs.issame, metric="euclidean", folds=10, lost=gone
        )
        of_fold = np.array(row.cross.fold_accuracies)
        of_fold[[0, 2]] *= 3 / 4
        name = f"cross_{row.side}_lost_wrong"
        assert result.scalars[name] == pytest.approx(of_fold.mean())
    wrong = [result.scalars[f"cross_{side}_lost_wrong"] for side in toy.sides]
    assert result.scalars["mean_cross_lost_wrong"] == pytest.approx(np.mean(wrong))
    assert not any("lost_wrong" in name for name in whole.scalars)
    manifest = result.manifest
    assert (manifest["lost_pairs"], manifest["unusable"]) == (2, 3)
    assert manifest["whole"] is False and whole.manifest["whole"] is True
    assert "2 of 40 pairs are lost with 3 of 80 images" in result.warnings[0]
    text = result_text(result)
    assert "20 different, 2 lost)" in text and "Lost pairs counted as wrong" in text
    assert "lost" not in result_text(whole)
    labels = [headline.label for headline in result.headlines]
    assert labels[-1] == "mean, cross-resolution, lost pairs wrong"
    read = results.from_json(json.loads(json.dumps(results.to_json(result))), {})
    assert read == result


def test_arrays_and_norms_are_of_the_pairs_that_are_left(toy):
    whole, result = toy.evaluate(), toy.evaluate(losing(toy))
    kept = ~np.isin(np.arange(40), [2, 10])
    for name, values in whole.arrays.items():
        if name.startswith(("issame", "cross", "same", "norm")):
            left = kept if len(values) == 40 else np.repeat(kept, 2)
            np.testing.assert_array_equal(result.arrays[name], values[left])
    assert result.arrays["lost"].tolist() == (~kept).tolist()
    usable = ~np.isin(np.arange(80), list(LOST))
    norms = whole.arrays["norms_7"][usable]
    assert rows_of(result)[-1].norms["mean"] == pytest.approx(norms.mean(), rel=1e-6)


def test_hosts_lose_the_same_pairs(toy):
    alone = results.to_json(toy.evaluate(losing(toy)))
    for result in on_hosts(3, lambda share: toy.evaluate(losing(toy), share=share)):
        found = results.to_json(result)
        for changing in ("date", "images_per_second"):
            found[changing] = alone[changing]
        assert found == alone


def test_a_fold_without_usable_pairs_ends_the_evaluation(toy):
    pairs = toy.pairs()
    pairs.failures = dict.fromkeys(range(8, 16), "missing")
    with pytest.raises(DataError, match=r"toy: got no usable pair of fold 2 of 10"):
        toy.evaluate(pairs)


def test_the_worst_pairs_are_examples(toy):
    result = toy.evaluate(losing(toy))
    dist = result.arrays["same_112"]
    issame, kept = result.arrays["issame"], np.flatnonzero(~result.arrays["lost"])
    groups = {"worst false matches": False, "worst false non-matches": True}
    for group, kind in groups.items():
        shown = [one for one in result.examples if one.group == group]
        cosines = np.sort(1 - dist[issame == kind] / 2)
        worst = cosines[:12] if kind else cosines[::-1][:12]
        np.testing.assert_allclose([one.score for one in shown], worst, atol=1e-6)
        for one in shown:
            first, second = one.images
            assert second == first + 1 and first // 2 in kept


def colours(images):
    """A feature of each picture: its pixels, made small."""
    small = images.reshape(-1, 8, 14, 8, 14, 3).mean(axis=(2, 4))
    return small.reshape(len(images), -1).astype(np.float32) - 127


def judged(protocol, settings):
    return evaluation.evaluate(protocol, settings, Embedder(colours, 16), share=ALONE)


def test_a_broken_picture_in_a_bin_file(tmp_path):
    """Twelve pairs: images of equal and of different noise."""
    pictures = [encoded(noise(112, 112, seed)) for seed in range(24)]
    for pair in range(0, 12, 2):
        pictures[2 * pair + 1] = pictures[2 * pair]
    pictures[6], pictures[9] = b"no picture", pictures[9][:3000]
    path = tmp_path / "set.bin"
    path.write_bytes(pickle.dumps((pictures, [True, False] * 6)))
    settings = EvalSettings(
        path=str(tmp_path), folds=3, flip=False, resolutions=(112, 28)
    )
    protocol = PROTOCOLS["verification"].open(settings, "set.bin")
    for _ in range(2):  # as during training
        result = judged(protocol, settings)
        assert result.scalars["mean_cross"] == 1
        assert result.scalars["mean_cross_lost_wrong"] == pytest.approx(10 / 12)
        assert result.manifest["lost_pairs"] == 2
    assert sorted(protocol.images.failures) == [6, 9]
    write_examples(tmp_path, result, protocol.images, "crop")
    assert (tmp_path / "samples" / "pairs_set.png").is_file()


@pytest.mark.parametrize(
    ("write", "name", "counts"),
    [
        (write_agedb, "agedb_30", {"folds": 4, "pairs": 4}),
        (write_cfp, "cfp_fp", {"folds": 4, "pairs": 2}),
    ],
)
def test_published_lists(tmp_path, write, name, counts):
    write(tmp_path, **counts)
    for seed, path in enumerate(sorted(tmp_path.rglob("*.jpg"))):
        path.write_bytes(encoded(noise(112, 112, seed)))
    gone = next(tmp_path.rglob("*.jpg"))
    gone.unlink()
    settings = EvalSettings(path=str(tmp_path), folds=0, flip=False, resolutions=(112,))
    protocol = PROTOCOLS["verification"].open(settings, name)
    assert protocol.folds == 4
    result = judged(protocol, settings)
    assert result.set == name and result.manifest["folds"] == 4
    assert result.manifest["whole"] is False and result.manifest["lost_pairs"] >= 1
    warnings = " ".join(result.warnings)
    assert re.search(r"16 pairs instead of [67],000", warnings)
    assert gone.stem in warnings and "pairs are lost with" in warnings


def test_the_miniature_list_with_an_image_missing_and_one_broken(tmp_path):
    root = tmp_path / "xqlfw"
    shutil.copytree(mini("xqlfw") / "xqlfw_aligned_112", root / "crops")
    shutil.copy(mini("xqlfw") / "xqlfw_pairs.txt", root)
    settings = EvalSettings(
        path=str(root), folds=0, metric="cosine", flip=False, resolutions=(112,)
    )
    spec = "xqlfw_pairs.txt::crops"
    whole = judged(PROTOCOLS["verification"].open(settings, spec), settings)
    assert whole.manifest["pairs"] == expected("xqlfw")["pairs"]
    assert whole.manifest["folds"] == expected("xqlfw")["folds"]
    assert whole.manifest["whole"] is True
    (again,) = whole.warnings
    assert "5 pairs listed again" in again
    missing, broken = sorted((root / "crops").rglob("*.jpg"))[::100]
    missing.unlink()
    broken.write_bytes(broken.read_bytes()[:500])
    lines = (root / "xqlfw_pairs.txt").read_text().splitlines()[1:]
    lost = sum(any(holds(line, file) for file in (missing, broken)) for line in lines)
    protocol = PROTOCOLS["verification"].open(settings, spec)
    result = judged(protocol, settings)
    assert result.manifest["lost_pairs"] == lost > 0
    assert result.manifest["whole"] is False
    assert missing.stem in result.warnings[0]
    write_examples(tmp_path, result, protocol.images, "crop")
    assert (tmp_path / "samples" / "pairs_xqlfw_pairs.png").is_file()


def holds(line, file):
    """Whether a line `name i j` or `name i other j` names a file."""
    names = line.split()
    full = [names[0], names[1], names[0], names[2]] if len(names) == 3 else names
    stems = [f"{full[k]}_{int(full[k + 1]):04d}" for k in (0, 2)]
    return file.stem in stems


def test_a_fold_without_images_is_refused_when_the_set_is_opened(tmp_path):
    write_cfp(tmp_path, folds=3, pairs=2)
    for person in ("003", "004"):  # whom fold 3 begins with
        shutil.rmtree(tmp_path / "Data" / "Images" / person)
    settings = EvalSettings(path=str(tmp_path), folds=0)
    with pytest.raises(DataError, match="cfp_ff: got no usable pair of fold 3 of 3"):
        PROTOCOLS["verification"].open(settings, "cfp_ff")


def test_a_part_of_the_pairs():
    drawn = {"identities": 4, "pairs": 40, "seed": 1}
    part = EvalSettings(resolutions=(112, 14), folds=2, max_pairs=8, synthetic=drawn)
    opened = PROTOCOLS["verification"].open(part, "synthetic")
    assert opened.total == 2 * 2 * 8
    assert opened.describe()["same"] == 4
