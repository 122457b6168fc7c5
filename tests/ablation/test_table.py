import functools
import json

import numpy as np
import pytest

from qface_jax.ablation import table as ablation
from qface_jax.ablation import table_text
from qface_jax.configs.ablations import ABLATIONS
from qface_jax.evals import results
from qface_jax.runs import run_folder
from qface_jax.settings import config as configs
from support.ablation_runs import result, write_run

SEEDS = (0, 1, 2)
TABLE = ABLATIONS["qgface3"]  # No, 0.1, 0.2 (proposed), 0.3; reference: No
SUFFIX = {setting.label: setting.config for setting in TABLE.settings}


@pytest.fixture(scope="module", autouse=True)
def outside_git():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_folder, "commit", lambda: None)  # 0.1 s a run
        yield


def train(workdir, label, seed, accuracies, overrides=None, **changes):
    """Writes a run of a row and returns its folder."""
    name = f"qgface_demo_{SUFFIX[label]}"
    config = configs.shipped()[name]()
    config.seed = seed
    config.update_from_flattened_dict(overrides or {})
    folder = workdir / ablation.run_name(name, seed)
    write_run(folder, config, accuracies, **changes)
    return folder


def collected(workdir, seeds=SEEDS):
    return ablation.collect(
        "qgface3", TABLE, "demo", seeds, workdir,
        lambda config, images: config.total_steps,
    )  # fmt: skip


@pytest.fixture
def trained(tmp_path):
    return functools.partial(train, tmp_path)


@pytest.fixture
def collect(tmp_path):
    return functools.partial(collected, tmp_path)


def accuracies(label, seed):
    """Distinct numbers that fall with the side; 0.2 is the best at 7 px alone."""
    rng = np.random.default_rng([seed, *label.encode()])
    base = {"No": 0.9, "0.1": 0.8, "0.2": 0.7, "0.3": 0.6}[label]
    at_7 = 0.95 if label == "0.2" else base - 0.2
    noise = rng.uniform(0, 0.02, 3)
    return dict(zip((112, 14, 7), np.array([base, base - 0.1, at_7]) + noise,
                    strict=True))  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What is found where all runs are finished."""
    workdir = tmp_path_factory.mktemp("runs")
    for label in SUFFIX:
        for seed in SEEDS:
            train(workdir, label, seed, accuracies(label, seed))
    return collected(workdir)


def test_means_and_spreads_are_those_of_numpy(found):
    assert found.sets == ["synthetic"]
    assert list(found.conditions("synthetic")) == ["112 px", "14 px", "7 px"]
    assert found.notes == []
    for label in SUFFIX:
        for side in (112, 14, 7):
            values = [accuracies(label, seed)[side] for seed in SEEDS]
            got = found.row(label).statistics("synthetic", f"cross_{side}")
            np.testing.assert_allclose(got.mean, np.mean(values), rtol=1e-12)
            np.testing.assert_allclose(got.std, np.std(values, ddof=1), rtol=1e-9)
            assert got.n == 3


def test_one_value_has_no_spread_and_none_has_no_mean():
    assert ablation.statistics([0.5]) == (0.5, None, 1)
    assert ablation.statistics([]) is None


def test_differences_are_taken_seed_by_seed(trained, collect):
    for seed, (ours, theirs) in enumerate([(0.5, 0.4), (0.9, 0.7), (0.6, None)]):
        trained("0.2", seed, {112: ours})
        if theirs is not None:
            trained("No", seed, {112: theirs})
    found = collect()
    gap = ablation.difference(
        found.row("0.2"), found.row("No"), "synthetic", "cross_112"
    )
    np.testing.assert_allclose(gap.mean, 0.15)
    np.testing.assert_allclose(gap.std, np.std([0.1, 0.2], ddof=1))
    assert gap.n == 2


def test_claims_follow_from_the_numbers(found):
    at_14, at_7, at_112 = table_text.claims(found)
    ours, theirs = (
        np.array([[accuracies(label, s)[side] for s in SEEDS] for side in (112, 14, 7)])
        for label in ("0.2", "No")
    )
    gaps = 100 * (ours - theirs)
    shown = [f"{gap.mean():+.2f} ± {gap.std(ddof=1):.2f} (n 3)." for gap in gaps]
    assert at_112 == f"0.2 - No at 112 px: {shown[0]}"
    assert at_14.startswith("14 px, cross-resolution: 0.2 ")
    assert " is not the best of 4 rows; best is No " in at_14
    assert at_14.endswith(f"; 0.2 - No: {shown[1]}")
    assert " is the best of 4 rows; next is No " in at_7
    assert at_7.endswith(f"; 0.2 - No: {shown[2]}")


def test_claims_say_what_is_missing(trained, collect):
    assert table_text.claims(collect()) == [
        "No run is finished: nothing can be said yet."
    ]
    trained("No", 0, {112: 0.9, 7: 0.5})
    assert table_text.claims(collect()) == [
        "7 px: no finished run of 0.2 to compare.",
        "0.2 - No at 112 px: no seed is finished in both.",
    ]
    trained("0.2", 1, {112: 0.9, 7: 0.5})
    assert table_text.claims(collect()) == [
        "7 px, cross-resolution: 0.2 50.00 is the best of 2 rows; next is No 50.00; "
        "0.2 - No: no seed is finished in both.",
        "0.2 - No at 112 px: no seed is finished in both.",
    ]


def test_what_is_not_finished_is_left_out_and_named(trained, collect, tmp_path):
    trained("No", 0, {112: 0.9})
    trained("No", 1, {112: 0.9}, step=500)  # in the middle of training
    trained("0.1", 0, {112: 0.9}, config_hash="of another evaluation")
    cut = trained("0.1", 1, {112: 0.9})
    (cut / "eval" / "synthetic.json").write_text("{")
    broken = tmp_path / "qgface_demo_e-seed0"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    found = collect(seeds=(0, 1))
    assert [len(row.values) for row in found.rows] == [1, 0, 0, 0]
    assert found.notes[0] == (
        "not finished, hence not in the table: qgface_demo_threshold_none (seed 1); "
        "qgface_demo_threshold_01 (seed 0, 1); qgface_demo_e (seed 0, 1); "
        "qgface_demo_threshold_03 (seed 0, 1)"
    )
    assert str(cut / "eval" / "synthetic.json") in found.notes[1]
    assert f"{broken / 'config.json'}: is no run's config" in found.notes[2]
    assert len(found.notes) == 3


def test_results_with_other_settings_are_not_the_runs_own(trained, collect, tmp_path):
    folder = trained("No", 0, {112: 0.9, 7: 0.6})

    def add(name, accuracy, **settings):
        changed = {key: {"got": value, "run": 0} for key, value in settings.items()}
        fields = {"settings": settings, "changed": changed, "protocol": "p"}
        step = {"step": configs.shipped()["qgface_demo_threshold_none"]().total_steps}
        made = result(name, {112: accuracy, 7: accuracy}, checkpoint=step, **fields)
        return results.write(folder, made)

    # Of a set of the run, and of sets that were added: with one result, and with two.
    add("synthetic", 0.1, flip=1)
    add("added", 0.7, flip=1)
    files = sorted(add("twice", 0.3, flip=flip).name for flip in (1, 2))
    found = collect(seeds=(0,))
    row = found.row("No")
    assert row.by_seed("synthetic", "cross_112") == {0: 0.9}
    assert row.by_seed("added", "cross_112") == {0: 0.7}
    assert row.by_seed("twice", "cross_112") == {}
    (note,) = [note for note in found.notes if "several settings" in note]
    assert note.startswith("qgface_demo_threshold_none-seed0: twice was evaluated with")
    assert all(file in note for file in files)
    # Without its own result the run is not finished, whatever else there is.
    (folder / "eval" / "synthetic.json").unlink()
    assert collect(seeds=(0,)).row("No").values == {}


def test_a_run_of_a_version_with_fewer_keys_is_finished(trained, collect):
    folder = trained("No", 0, {112: 0.9}, config_hash="of fewer keys")
    assert collect(seeds=(0,)).row("No").values == {}
    written = json.loads((folder / "config.json").read_text())
    written["config_digest"] = "of fewer keys"
    (folder / "config.json").write_text(json.dumps(written))
    assert list(collect(seeds=(0,)).row("No").values) == [0]


def test_a_collapsed_run_is_seen(trained, collect):
    trained("No", 0, {112: 0.9, 7: 0.6})
    trained("No", 1, {112: 0.8, 7: None})
    found = collect(seeds=(0, 1))
    assert found.row("No").statistics("synthetic", "cross_7").n == 1
    assert "60.00 (n 1)" in table_text.text(found)
    assert (
        "qgface_demo_threshold_none-seed1: synthetic: 7 px: all features are alike"
        in found.notes
    )


def test_the_mean_is_over_the_sets_that_the_table_declares(trained, collect):
    first, *others = TABLE.mean_sets
    shipped = {"eval.sets": tuple(f"{name}.bin" for name in TABLE.mean_sets)}
    folder = trained("No", 0, {112: 0.9, 7: 0.6}, shipped, sets=(first,))
    config = run_folder.read(folder).config
    write_run(folder, config, {112: 0.7, 7: 0.5}, sets=(*others, "added"))
    trained("0.2", 0, {112: 0.8, 7: 0.8}, shipped, sets=(*TABLE.mean_sets, "added"))
    found = collect(seeds=(0,))
    mean = "mean of lfw, agedb_30, cfp_fp, cplfw, calfw"
    assert found.sets == [mean, *sorted(("added", *TABLE.mean_sets))]
    at_112 = found.row("No").by_seed(mean, "cross_112")[0]
    np.testing.assert_allclose(at_112, (0.9 + 4 * 0.7) / 5)  # not with the added one
    same = found.row("No").by_seed(mean, "mean_same")[0]
    np.testing.assert_allclose(same, (0.75 + 4 * 0.6) / 5)
    shown = table_text.text(found)
    assert f"{mean}:" in shown
    assert shown.count("|  SCface d1 ") == 1  # beside the mean alone


def test_without_one_of_its_sets_there_is_no_mean(trained, collect):
    both = {"eval.sets": ("lfw.bin", "calfw.bin")}
    trained("No", 0, {112: 0.9}, both, sets=("lfw", "calfw"))
    found = collect(seeds=(0,))
    assert found.sets == ["calfw", "lfw"]
    assert found.notes[-1] == (
        "no mean: the table's is of lfw, agedb_30, cfp_fp, cplfw, calfw, and not all "
        "runs were evaluated on agedb_30, cfp_fp, cplfw"
    )


def test_a_set_of_two_is_awaited(trained, collect):
    trained("No", 0, {112: 0.9}, {"eval.sets": ("lfw.bin", "calfw.bin")}, sets=("lfw",))
    assert collect(seeds=(0,)).row("No").values == {}


def test_runs_that_do_not_compare_are_named(trained, collect, tmp_path):
    for label in ("No", "0.1", "0.2"):
        trained(label, 0, {112: 0.9}, {"optim.learning_rate": 0.05, "data.path": label})
    assert collect(seeds=(0,)).notes[1:] == []
    changes = {"optim.learning_rate": 0.05, "optim.momentum": 0.5}
    trained("0.3", 0, {112: 0.9}, changes)
    assert collect(seeds=(0,)).notes == [
        "NOT COMPARABLE, some runs were trained with other overrides than the rest: "
        "qgface_demo_threshold_03-seed0 optim.momentum=0.5"
    ]
    folder = trained("0.2", 1, {112: 0.9}, {"optim.learning_rate": 0.05})
    document = json.loads((folder / "config.json").read_text())
    document["num_classes"] = 11
    (folder / "config.json").write_text(json.dumps(document))
    assert "qgface_demo_e-seed1 640 images of 11 identities" in "".join(collect().notes)
    trained("0.1", 0, {112: 0.9}, {"optim.learning_rate": 0.05, "data.path": "0.1"},
            manifest={"flip": False})  # fmt: skip
    assert any(
        "NOT COMPARABLE, synthetic was evaluated by different protocols" in note
        for note in collect(seeds=(0,)).notes
    )


def test_the_written_table_holds_ours_and_the_papers(found, tmp_path):
    paths = table_text.write(found, tmp_path / "tables")
    assert sorted(file.name for file in (tmp_path / "tables").iterdir()) == [
        "qgface3.json",
        "qgface3.md",
    ]
    lines = paths[0].read_text().splitlines()
    (header,) = [line for line in lines if line.startswith("| row ")]
    assert header.count("paper: ") == len(TABLE.columns) == 11
    (row,) = [line for line in lines if line.startswith("| 0.3 ")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    values = 100 * np.array([accuracies("0.3", seed)[112] for seed in SEEDS])
    assert cells[2:4] == ["3", f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"]
    assert cells[-11:-5] == ["88.92", "99.54", "100.00", "68.51", "89.33", "94.95"]
    document = json.loads(paths[1].read_text())
    (ours,) = [row for row in document["rows"] if row["label"] == "0.2"]
    assert ours["config"] == "qgface_demo_e"
    assert ours["paper"]["SCface d1"] == 92.31
    at_7 = ours["sets"]["synthetic"]["cross_7"]
    assert list(at_7["by_seed"]) == ["0", "1", "2"]
    np.testing.assert_allclose(at_7["mean"], np.mean(list(at_7["by_seed"].values())))
    assert document["claims"] == table_text.claims(found)


def test_the_printed_table_keeps_the_paper_apart(collect):
    shown = table_text.text(collect())
    rows = [line for line in shown.splitlines() if "  |  " in line]
    assert len({line.index("  |  ") for line in rows}) == 1
    assert rows[0].endswith("the paper, other test sets")
    ours, _ = rows[-1].split("  |  ")
    assert ours.split() == ["0.3", "threshold", "0.3", "0"]
    assert "OTHER test sets" in shown
