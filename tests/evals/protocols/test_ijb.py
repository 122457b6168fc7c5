"""IJB-B and IJB-C as a whole: recorded features in, the recorded rates out."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from qface_jax import options, tables
from qface_jax.errors import DataError
from qface_jax.evals import results
from qface_jax.evals.measures.open_set import tpir_at_fpir
from qface_jax.evals.measures.search import ranks
from qface_jax.evals.protocols import ijb, ijb_search
from qface_jax.evals.protocols.protocol import EvalSettings
from qface_jax.evals.text_table import exponent, result_text
from qface_jax.processes.share import ALONE
from support.hosts import on_hosts
from support.ijb_tree import edit, miniatures, recorded_tree
from support.protocol_goldens import golden

BENCHMARKS = ("ijbb", "ijbc")
FARS = [exponent(far) for far in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)]


def open_protocol(benchmark, path, **changes):
    values = options.defaults(tables.PROTOCOLS[benchmark].options).to_dict()
    own = {key: changes.pop(key) for key in list(changes) if key in values}
    settings = EvalSettings(path=str(path), options=values | own, **changes)
    return tables.PROTOCOLS[benchmark].open(settings, benchmark)


def embedder(plain, mirrored, unusable=(), asked=None):
    """Answers requests out of features of all images of the set."""

    def embed(request):
        rows = np.asarray(request.rows, np.int64)
        assert len(rows) <= request.most
        if asked is not None:
            asked.append(rows)
        bad = np.flatnonzero(np.isin(rows, list(unusable)))
        parts = [plain[rows], None if mirrored is None else mirrored[rows]]
        for part in parts:
            if part is not None:
                part[bad] = 0
        fused = parts[0] if mirrored is None else parts[0] + parts[1]
        return SimpleNamespace(
            features=fused, plain=parts[0], mirrored=parts[1], scores={}, unusable=bad
        )

    return embed


@pytest.fixture(scope="module", params=BENCHMARKS)
def case(request, tmp_path_factory):
    """Name of the benchmark, its folder, recorded 1:1 and 1:N."""
    name = request.param
    return SimpleNamespace(
        name=name,
        root=recorded_tree(name, tmp_path_factory.mktemp(name)),
        pairs=golden(f"{name}_verification"),
        search=golden(f"{name}_identification"),
    )


def run(case, *, share=ALONE, unusable=(), asked=None, **changes):
    protocol = open_protocol(case.name, case.root, **changes)
    mirrored = case.pairs["embeddings_flip"] if changes.get("flip", True) else None
    embed = embedder(case.pairs["embeddings"], mirrored, unusable, asked)
    return protocol.evaluate(embed, share)


@pytest.fixture(scope="module")
def result(case):
    return run(case)


def test_every_variant_has_the_recorded_rates(case, result):
    every = {one["variant"]: one for one in result.details["verification"]}
    assert len(every) == 8 and result.details["verification"][0]["variant"] == "N1D1F1"
    for name, one in every.items():
        for rule, key in (("at_most", "tar_at_most"), ("published", "tar")):
            tars = [point["tar"] for point in one[rule]]
            assert tars == list(case.pairs[f"{key}_{name}"]), (name, rule)
        assert one["auc"] == pytest.approx(case.pairs[f"auc_{name}"], abs=1e-12)


def test_the_scalars_are_of_the_default_variant(case, result):
    for rule, part in (("tar_at_most", ""), ("tar", "published_")):
        tars = [result.scalars[f"tar_{part}{far}"] for far in FARS]
        assert tars == list(case.pairs[f"{rule}_N1D1F1"])
    assert result.best in result.scalars and result.status == "ok"
    assert all(one.scalar in result.scalars for one in result.headlines)
    assert set(result.series[0].scalars) <= set(result.scalars)


def test_discarding_goes_by_the_length_of_the_worse_template(case, result):
    pairs = case.pairs
    fused = np.float64(pairs["embeddings"]) + pairs["embeddings_flip"]
    fused *= pairs["detector_score"][:, None]
    length = {}
    for template in np.unique(pairs["template_ids"]):
        rows = pairs["template_ids"] == template
        media = pairs["media_ids"][rows]
        means = [fused[rows][media == medium].mean(axis=0) for medium in set(media)]
        length[template] = np.linalg.norm(np.mean(means, axis=0))
    genuine = pairs["pair_label"].astype(bool)
    worse = np.array(
        [
            min(length[a], length[b])
            for a, b in zip(pairs["pair_t1"], pairs["pair_t2"], strict=True)
        ]
    )[genuine]
    scores = pairs["score_N1D1F1"]
    impostors = np.sort(scores[~genuine])[::-1]
    missed = scores[genuine] <= impostors[int(0.01 * len(impostors))]
    ascending, compared = np.sort(worse), 0
    for share, rate in zip(
        result.arrays["discarded"], result.arrays["discard_fnmr"], strict=True
    ):
        dropped = int(share * len(worse) + 1e-9)
        if dropped and ascending[dropped - 1] == ascending[dropped]:
            continue  # pairs of one template leave together
        assert rate == pytest.approx(missed[worse >= ascending[dropped]].mean())
        compared += 1
    assert compared > 10 and missed.any()
    assert "discard" in [curve.kind for curve in result.curves]


def test_identification_has_the_recorded_rates(case, result):
    recorded = case.search
    tops = [result.scalars[f"rank_{rank}"] for rank in (1, 5, 10)]
    assert tops == list(recorded["mean_top_1_5_10"])
    union = [result.scalars[f"rank_{rank}_union"] for rank in (1, 5, 10)]
    assert union == list(recorded["union_gallery_top_1_5_10_adaface"])
    places = [list(recorded["fpirs"]).index(fpir) for fpir in (0.01, 0.1)]
    for part, key in (("", "mean_tpir_at_most"), ("published_", "mean_tpir")):
        rates = [result.scalars[f"tpir_{part}{fpir}"] for fpir in (0.01, 0.1)]
        np.testing.assert_allclose(rates, recorded[key][places], rtol=0, atol=1e-12)
        wrong = recorded["wrong_adaface_and_ijb_1n_tpir_at_0.01_0.1"]
        assert np.abs(rates - wrong).min() > 1e-4
    first = result.details["search"][0]
    for number, one in enumerate(first["galleries"], start=1):
        assert one["mated"] == recorded[f"g{number}_mated_probes"]
        assert one["hits"] == list(recorded[f"g{number}_top_counts_1_5_10"])
        for rule, end in (("at_most", "_at_most"), ("published", "")):
            points = one[rule]
            for name in ("tpir", "fpir_reached"):
                wanted = recorded[f"g{number}_{name}{end}"][places]
                assert [point[name] for point in points] == list(wanted)
            limits = [point["threshold"] for point in points]
            wanted = recorded[f"g{number}_threshold{end}"][places]
            np.testing.assert_allclose(limits, wanted, rtol=0, atol=1e-5)


def galleries(case):
    """Search results of the recorded templates in each gallery, with their mates."""
    recorded = case.search
    names = ("gallery1", "gallery2", "probes")
    vectors = np.concatenate([recorded[name] for name in names])
    ends = np.cumsum([len(recorded[name]) for name in names])
    *both, probes = (
        ijb_search.Enrolled(np.arange(start, end), recorded[f"{key}_subjects"], 0)
        for start, end, key in zip(
            [0, *ends], ends, ("gallery1", "gallery2", "probe"), strict=False
        )
    )
    results, _ = ijb_search.search_galleries(vectors, both, probes, ALONE)
    for number, (gallery, found) in enumerate(zip(both, results, strict=True), 1):
        yield number, found, np.isin(probes.subjects, gallery.subjects)


def test_ranks_and_alarms_of_each_gallery_are_the_recorded_ones(case):
    recorded = case.search
    for number, found, mated in galleries(case):
        np.testing.assert_array_equal(ranks(found)[mated], recorded[f"g{number}_ranks"])
        np.testing.assert_allclose(
            np.sort(found.nonmate[~mated]),
            np.sort(recorded[f"g{number}_nonmated_max"]),
            rtol=0,
            atol=1e-9,
        )


@pytest.mark.parametrize(
    ("key", "rank", "rule"),
    [
        ("tpir_at_most", 1, "at_most"),
        ("tpir", 1, "published"),
        ("tpir5_at_most", 5, "at_most"),
        ("tpir20_at_most", 20, "at_most"),
    ],
)
def test_open_set_rates_at_every_recorded_point(case, key, rank, rule):
    recorded, rates = case.search, []
    for number, found, mated in galleries(case):
        points = tpir_at_fpir(
            found.mate[mated],
            ranks(found)[mated],
            found.nonmate[~mated],
            recorded["fpirs"],
            rank=rank,
            rule=rule,
        )
        rates.append([point.tpir for point in points])
        assert rates[-1] == list(recorded[f"g{number}_{key}"])
    if rank == 1:
        end = "_at_most" if rule == "at_most" else ""
        np.testing.assert_allclose(
            np.mean(rates, axis=0), recorded[f"mean_tpir{end}"], rtol=0, atol=1e-12
        )


def test_the_published_curve_over_fpir(case):
    grid = case.search["class_far_grid"]
    rates = [
        [
            point.tpir
            for point in tpir_at_fpir(
                found.mate[mated],
                ranks(found)[mated],
                found.nonmate[~mated],
                grid,
                rule="published",
            )
        ]
        for _, found, mated in galleries(case)
    ]
    np.testing.assert_allclose(
        np.mean(rates, axis=0), case.search["class_mean_tpir_grid"], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("count", [2, 3])
def test_hosts_together_find_what_one_finds(case, result, count, monkeypatch):
    monkeypatch.setattr(ijb, "BLOCK", 100)
    asked = [[] for _ in range(count)]
    found = on_hosts(
        count, lambda share: run(case, share=share, asked=asked[share.index])
    )
    for one in found:
        assert results.to_json(one) == results.to_json(result)
        assert one.arrays.keys() == result.arrays.keys()
        for name, values in one.arrays.items():
            np.testing.assert_array_equal(values, result.arrays[name])
    assert len({len(requests) for requests in asked}) == 1
    rows = np.concatenate([rows for requests in asked for rows in requests])
    np.testing.assert_array_equal(np.sort(rows), np.arange(len(rows)))
    assert all(len(rows) <= 100 for requests in asked for rows in requests)


def test_a_result_can_be_written_and_read(result, tmp_path):
    path = results.write(tmp_path, result)
    assert results.read(path).scalars == result.scalars
    text = result_text(result)
    assert "N0D0F0" in text and "TPIR@0.01" in text and "at most the named one" in text
    manifest = result.manifest
    assert manifest["whole"] is False and manifest["variant"] == "N1D1F1"
    counts = manifest["counts"]
    assert f"images: got {counts['images']}, published are" in result.warnings[0]
    for curve in result.curves:
        for line in curve.lines:
            assert len(result.arrays[line.y])
    for table in result.tables:
        for row in [*table.rows, *([table.footer] if table.footer else [])]:
            assert len(row) == len(table.columns)


def test_options_choose_the_variant_and_the_rule(case):
    found = run(case, norm=False, detector=False, flip=False, rule="published")
    names = [one["variant"] for one in found.details["verification"]]
    assert names[0] == "N0D0F0" and sorted(names) == [
        "N0D0F0", "N0D1F0", "N1D0F0", "N1D1F0"
    ]  # fmt: skip
    tars = [found.scalars[f"tar_{far}"] for far in FARS]
    assert tars == list(case.pairs["tar_N0D0F0"])
    assert "tar_published_1e-4" not in found.scalars
    assert found.manifest["feature_norm"] == "divided out"


def test_without_1n_lists_there_is_1_to_1(case, result, tmp_path):
    root = recorded_tree(case.name, tmp_path)
    for path in (root / "meta").glob("*.csv"):
        path.unlink()
    found = run(
        SimpleNamespace(**vars(case) | {"root": root}),
        identification=False,
    )
    assert found.scalars == {
        name: value
        for name, value in result.scalars.items()
        if name.startswith(("tar", "auc", "eer"))
    }
    with pytest.raises(DataError, match="cannot be read"):
        open_protocol(case.name, root)


def test_unusable_images_are_counted_and_never_help(case, result):
    protocol = open_protocol(case.name, case.root)
    lists = protocol._lists
    template = int(lists.probes.templates[0])
    rows = np.flatnonzero(lists.templates == template)
    found = run(case, unusable=rows)
    assert found.manifest["unusable"] == len(rows)
    assert found.manifest["templates_without_image"] == 1
    assert found.scalars["rank_10"] <= result.scalars["rank_10"]
    assert any("have no usable image" in text for text in found.warnings)
    assert any(f"{len(rows)} of " in text for text in found.warnings)
    pairs = (lists.left == template) | (lists.right == template)
    genuine = int((pairs & lists.genuine).sum())
    assert genuine and found.scalars["tar_1e-1"] <= 1 - genuine / lists.genuine.sum()
    # Nobody is dropped.
    assert found.details["search"][0]["probes"] == len(lists.probes.templates)


def test_a_set_of_unreadable_images_scores_nothing(case):
    every = range(len(case.pairs["embeddings"]))
    found = run(case, unusable=every)
    assert found.status == "collapsed" and "no image" in found.message
    assert found.scalars["tar_1e-1"] == 0 and found.scalars["rank_10"] == 0


def test_a_collapsed_model_scores_nothing(case):
    protocol = open_protocol(case.name, case.root)
    ones = np.ones_like(case.pairs["embeddings"])
    found = protocol.evaluate(embedder(ones, ones), ALONE)
    assert found.status == "collapsed"
    assert found.scalars["tar_1e-4"] == 0 and found.scalars["rank_1"] == 0
    assert found.scalars["auc"] == 0.5


def test_nan_features_are_said_and_not_scored(case):
    protocol = open_protocol(case.name, case.root)
    broken = case.pairs["embeddings"].copy()
    broken[[3, 70]] = np.nan
    found = protocol.evaluate(embedder(broken, broken), ALONE)
    assert found.status == "non_finite" and found.scalars == {}
    assert found.message.startswith(
        f"NaN or infinite features of 2 of {len(broken)} images"
    )


def test_the_worst_pairs_are_named(case, result):
    scores, genuine = case.pairs["score_N1D1F1"], case.pairs["pair_label"] == 1
    pairs = result.details["worst"]
    matches = [one["score"] for one in pairs["false_matches"]]
    np.testing.assert_allclose(matches, np.sort(scores[~genuine])[::-1][:12], atol=1e-5)
    misses = [one["score"] for one in pairs["false_nonmatches"]]
    np.testing.assert_allclose(misses, np.sort(scores[genuine])[:12], atol=1e-5)
    template = case.pairs["template_ids"]
    for one in pairs["false_matches"]:
        assert [template[row] for row in one["images"]] == one["templates"]
        assert one["files"] == [f"{row + 1}.jpg" for row in one["images"]]
    groups = [example.group for example in result.examples]
    assert groups == ["worst false matches"] * 12 + ["worst false non-matches"] * 12
    assert [example.score for example in result.examples[:12]] == matches


def test_pairs_of_one_kind_are_refused(case, tmp_path):
    root = recorded_tree(case.name, tmp_path)
    pairs = root / "meta" / f"{case.name}_template_pair_label.txt"
    edit(pairs, lambda lines: [line for line in lines if line.endswith(" 1")])
    with pytest.raises(DataError, match="pairs have one label, expected pairs of one"):
        open_protocol(case.name, root)


def test_missing_images_are_said(case, tmp_path):
    root = recorded_tree(case.name, tmp_path)
    (root / "loose_crop" / "7.jpg").unlink()
    found = run(SimpleNamespace(**vars(case) | {"root": root}), unusable=[6])
    assert any("not in " in text and ": 1 of " in text for text in found.warnings)
    assert any("(7.jpg)" in text for text in found.warnings)
    assert found.manifest["whole"] is False


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_the_miniatures_are_opened_and_searched_whole(benchmark):
    """With features that know the subject: everybody is found."""
    mini = miniatures()
    expected = json.loads((mini / "expected_counts.json").read_text())[benchmark]
    protocol = open_protocol(benchmark, mini / benchmark)
    assert protocol.total == expected["images"] == len(protocol.images)
    assert protocol.images.landmarks.shape == (protocol.total, 5, 2)
    assert len(protocol.images.fetch([0])[0]) > 100
    lists = protocol._lists
    subject = np.zeros(len(lists.template_ids), np.int64)
    for one in (*lists.galleries, lists.probes):
        subject[one.templates] = one.subjects
    people, number = np.unique(subject, return_inverse=True)
    rng = np.random.default_rng(0)
    plain = (10 * np.eye(len(people), 64)[number[lists.templates]]).astype(np.float32)
    plain += rng.normal(0, 0.1, plain.shape).astype(np.float32)
    found = protocol.evaluate(embedder(plain, plain), ALONE)
    for name in ("tar_1e-6", "auc", "rank_1", "tpir_0.01", "rank_1_union"):
        assert found.scalars[name] == 1.0
    assert found.details["search"][0]["probes"] == expected["probe_templates"]
    first = found.details["verification"][0]
    assert first["genuine"] == expected["genuine"]
    assert first["genuine"] + first["impostor"] == expected["pairs"]
