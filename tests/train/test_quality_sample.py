"""The sample of training images whose norms, probabilities and quality are logged."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from qface_jax.data_pipelines.sources import training as sources
from qface_jax.errors import ConfigError
from qface_jax.losses import brisque
from qface_jax.objectives.classification import unit
from qface_jax.report import training_log
from qface_jax.report.pictures import read_samples
from qface_jax.sharded import parallel
from qface_jax.train import loop
from support.small_run import final_state, small

WORDS = ("log.quality_images=20", "eval.interval=3", "log.pictures=True",
         "log.interval=6")  # fmt: skip


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    run = tmp_path_factory.mktemp("sampled") / "run"
    config = small(*WORDS)
    loop.train(config, run)
    return run, config


def points(run):
    files = sorted((run / "quality").iterdir())
    return [dict(np.load(file)) for file in files]


def logged(run, name):
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["name"] == name]
    return {int(row["step"]): float(row["value"]) for row in rows}


def test_it_is_measured_at_every_evaluation(sampled):
    run, _ = sampled
    measured = points(run)
    assert [int(point["step"]) for point in measured] == [0, 3, 6]
    for point in measured:
        assert all(len(point[name]) == 20 for name in point if name != "step")
        np.testing.assert_array_equal(point["quality"], measured[0]["quality"])
    assert np.any(measured[0]["norms"] != measured[2]["norms"])


def test_the_log_has_pearson_correlations(sampled):
    run, _ = sampled
    for name, key in (("norm", "norms"), ("probability", "probabilities")):
        values = logged(run, f"quality_correlation_{name}")
        for point in points(run):
            want = stats.pearsonr(point[key], point["quality"]).statistic
            assert values[int(point["step"])] == pytest.approx(want, abs=1e-5)


def test_the_values_are_those_of_the_last_state(sampled):
    run, config = sampled
    state, last = final_state(config, run), points(run)[-1]
    setup = loop.build(config, sources.training_source(config), parallel.make_mesh())
    batches = list(setup.batches(0, 2))
    images = np.concatenate([rows["images"] for rows in batches])[:20]
    labels = np.concatenate([rows["labels"] for rows in batches])[:20]
    np.testing.assert_array_equal(last["labels"], labels)
    np.testing.assert_allclose(
        last["quality"], brisque.quality(jnp.asarray(images)), atol=2e-3
    )
    embedder = setup.embedder(state)
    features = np.concatenate(
        [embedder(images[i : i + 10]).wait().plain for i in (0, 10)]
    )
    np.testing.assert_allclose(
        last["norms"], np.linalg.norm(features, axis=1), rtol=1e-4
    )
    centres = np.float64(state.params["head"]["centres"])[:12]
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    logits = 64.0 * np.float64(unit(jnp.asarray(features))) @ centres.T
    logits -= logits.max(axis=1, keepdims=True)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    want = shares[np.arange(20), labels]
    np.testing.assert_allclose(last["probabilities"], want, rtol=1e-3, atol=1e-5)


def test_it_is_drawn(sampled):
    run, _ = sampled
    for name in ("quality_correlation", "quality_trajectories"):
        assert (run / "samples" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    panels = training_log.panels(training_log.read_log(run / "metrics.jsonl"))
    (panel,) = [p for p in panels if p.title == "Correlation with image quality"]
    assert len(panel.lines) == 2
    captions = [picture.caption for picture in read_samples(run / "samples").pictures]
    assert {"quality correlation", "quality trajectories"} <= set(captions)


def test_the_sample_changes_nothing_in_training(sampled, tmp_path):
    run, config = sampled
    without = small(*(word for word in WORDS if "quality" not in word))
    loop.train(without, tmp_path / "run")
    for a, b in zip(
        jax.tree.leaves(final_state(config, run).params),
        jax.tree.leaves(final_state(without, tmp_path / "run").params),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    assert not (tmp_path / "run" / "quality").exists()


def test_without_class_centres_it_is_refused(tmp_path):
    config = small("objective=octuplet", "degrade.recipe=octuplet", WORDS[0])
    with pytest.raises(
        ConfigError, match=r"log\.quality_images: got 20 with objective"
    ):
        loop.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
