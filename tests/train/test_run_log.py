"""What a run logs for TensorBoard and as a table, read back from its files."""

import csv
import shutil

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from qface_jax.evals import results
from qface_jax.evals.calibration import pair_scores
from qface_jax.report import evaluation_log
from qface_jax.train import loop
from support.power_cut import train_until_cut
from support.small_run import small


@pytest.fixture(scope="module")
def events(whole_run):
    """Name -> (steps, tensors), of the run's TensorBoard files."""
    return read(whole_run[0])


def read(run):
    accumulator = EventAccumulator(
        str(run / "tensorboard"), size_guidance={"tensors": 0}
    )
    accumulator.Reload()
    return {
        name: (
            [event.step for event in accumulator.Tensors(name)],
            [make_ndarray(event.tensor_proto) for event in accumulator.Tensors(name)],
        )
        for name in accumulator.Tags()["tensors"]
    }


def table(run):
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def decoded(picture):
    """Size and picture of a summary of one picture, whose PNG comes last."""
    import tensorflow as tf

    width, height, png = picture
    return (int(height), int(width)), tf.io.decode_png(png).numpy()


def test_scalars_are_in_the_table_and_in_the_events(whole_run, events):
    run, _, (result,) = whole_run
    rows = table(run)
    assert [row["step"] for row in rows if row["name"] == "loss"] == list("12346")
    of_table = {(row["name"], int(row["step"])): float(row["value"]) for row in rows}
    assert len(of_table) == len(rows)
    for name, value in results.scalars(result).items():
        assert of_table[f"synthetic/{name}", 6] == value
    steps, losses = events["loss"]
    assert steps == [1, 2, 3, 4, 6]
    wanted = [of_table["loss", step] for step in steps]
    np.testing.assert_allclose(losses, wanted, rtol=1e-6)


def test_norms_and_similarities_are_histograms(whole_run, events):
    _, _, (result,) = whole_run
    counts = {}
    for name in evaluation_log.histograms(result):
        steps, (buckets,) = events[name]
        assert steps == [6]
        counts[name] = buckets[:, 2].sum()
    images, pairs = 2 * len(result.arrays["issame"]), len(result.arrays["issame"])
    for side in (112, 14):
        norms = result.arrays[f"norms_{side}"]
        name = f"synthetic/feature norm, by resolution/{side} px"
        assert counts[name] == images
        _, (buckets,) = events[name]
        low, high = buckets[0, 0], buckets[-1, 1]
        np.testing.assert_allclose((low, high), (norms.min(), norms.max()), rtol=1e-5)
        for kind in ("cross", "same"):
            name = f"synthetic/cosine, {kind}, {side} px"
            both = counts[f"{name}/mated"], counts[f"{name}/non-mated"]
            assert both == (result.arrays["issame"].sum(), pairs - both[0])
            scores = pair_scores(result)[kind, side]
            _, (buckets,) = events[f"{name}/mated"]
            np.testing.assert_allclose(buckets[0, 0], scores.genuine.min(), atol=1e-6)


def test_the_pictures_of_the_report_are_there(whole_run, events):
    run, _, (result,) = whole_run
    for step, name in (
        (1, "train_batch"),
        (1, "evaluation"),
        (1, "gst"),
        (6, "pairs_synthetic"),
    ):
        steps, (picture,) = events[f"samples/{name}"]
        size, pixels = decoded(picture)
        assert steps == [step]
        with Image.open(run / "samples" / f"{name}.png") as sheet:
            np.testing.assert_array_equal(pixels, np.asarray(sheet.convert("RGB")))
        assert pixels.shape == (*size, 3)
    figures = evaluation_log.figures(result)
    assert {"synthetic/Accuracy over resolution",
            "synthetic/ROC, cross-resolution"} <= set(figures)  # fmt: skip
    for name, drawn in figures.items():
        steps, (picture,) = events[name]
        _, pixels = decoded(picture)
        assert steps == [6]
        np.testing.assert_array_equal(pixels, drawn)
        # On the card of the light theme, and something is drawn on it.
        assert (pixels[0, 0] == 255).all() and (pixels < 128).any()
        assert min(pixels.shape[:2]) > 300


def test_a_resumed_run_has_the_table_of_an_undisturbed_one(whole_run, tmp_path):
    run, _, _ = whole_run
    config = small("log.pictures=False")
    train_until_cut(config, tmp_path / "run")
    with (tmp_path / "run" / "metrics.csv").open("a") as file:
        file.write("3,lo")  # the power failed while it was written
    loop.train(config, tmp_path / "run")
    clocks = ("images_per_second", "data_wait_share")

    def comparable(rows):
        return [row for row in rows if row["name"] not in clocks]

    assert comparable(table(tmp_path / "run")) == comparable(table(run))
    logged = read(tmp_path / "run")
    assert "synthetic/feature norm, by resolution/14 px" in logged
    assert not any(name.startswith("samples/") for name in logged)
    assert not any("ROC" in name for name in logged)


def test_a_run_that_is_finished_has_each_row_once(whole_run, tmp_path):
    run, config, _ = whole_run
    shutil.copytree(run, tmp_path / "run")
    loop.train(config, tmp_path / "run")
    assert table(tmp_path / "run") == table(run)


def test_without_a_table(tmp_path):
    loop.train(small("log.csv=False", "total_steps=1", "eval.sets=()"), tmp_path)
    assert not (tmp_path / "metrics.csv").exists()
    assert (tmp_path / "metrics.jsonl").is_file()
