"""`qface data preview`: of a config, and judged by a run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from qface_jax import models
from qface_jax.data_pipelines.tools.preview import HIGH, LOW
from qface_jax.inference.picture_quality import judge_by
from qface_jax.launch import main
from qface_jax.losses.norm_stats import NormStats
from qface_jax.runs import run_folder
from qface_jax.runs.checkpoint import Checkpoints
from qface_jax.train.state import TrainState
from support.small_run import small, words

# About those of the features of `weights`, so that qualities spread around 0.5.
STATISTICS = {"mean": 4.0, "std": 1.0}


@functools.cache
def weights():
    """Fresh weights, and running statistics with which the features are not huge."""
    backbone, stats = jax.jit(models.build(small().model).init)(jax.random.key(0))
    return backbone, jax.tree.map(lambda leaf: 4 * leaf, stats)


def made(path, config, aux):
    """A run folder with a checkpoint of those weights."""
    facts = {"images": 48}
    run_folder.open_or_create(path, config, num_classes=12, data=facts)
    backbone, stats = weights()
    state = TrainState(
        step=jnp.int32(3),
        params={"backbone": backbone, "head": {}},
        stats=stats,
        aux=aux,
        opt_state=(),
        bad_step=jnp.int32(-1),
    )
    with Checkpoints(path, keep=1) as checkpoints:
        checkpoints.save(3, state)
    return path


def statistics(**changes):
    return NormStats(**{k: jnp.float32(v) for k, v in (STATISTICS | changes).items()})


@pytest.fixture(scope="module")
def pairs_run(tmp_path_factory):
    config = small("objective=qgface", "degrade.recipe=qgface", "seed=5")
    aux = {"margin": statistics(mean=90.0), "quality": statistics()}
    return made(tmp_path_factory.mktemp("runs") / "pairs", config, aux)


@pytest.fixture(scope="module")
def adaface_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "views"
    return made(path, small(), {"margin": statistics()})


def noise(count):
    shape = (count, 112, 112, 3)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def by_hand(config, images, *, concentration):
    apply = models.build(config.model).apply
    floats = images.astype(np.float32) / 127.5 - 1
    forward = jax.jit(lambda *inputs: apply(*inputs, train=False, key=None)[0])
    features = forward(*weights(), floats)
    norms = np.linalg.norm(np.asarray(features), axis=1)
    standardised = (norms - STATISTICS["mean"]) / (STATISTICS["std"] + 1e-3)
    return (np.clip(concentration * standardised, -1, 1) + 1) / 2


def test_quality_is_that_of_the_run(pairs_run):
    found = run_folder.read(pairs_run)
    config = small("objective=qgface", "qgface.concentration=0.2")
    images = noise(6)
    images[3:] //= 4
    images[5] = 0
    verdict = judge_by(found, config, views=2)(
        images[:2], images[2:].reshape(2, 2, 112, 112, 3)
    )
    expected = by_hand(found.config, images, concentration=0.2)
    got = np.concatenate([verdict.u_originals, verdict.u_drawn.ravel()])
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert np.ptp(got) > 0.1
    assert (0 < got).all()
    assert (got < 1).all()
    assert verdict.facts[0] == (
        f"u by {pairs_run}, step 3: norms 4 +- 1, concentration 0.2"
    )


@pytest.mark.parametrize("partition", ["min", "max"])
def test_pairs_are_partitioned_as_in_training(pairs_run, partition):
    config = small("objective=qgface", f"qgface.partition={partition}")
    images = noise(4)
    images[1:] //= np.array([2, 6, 40], np.uint8)[:, None, None, None]
    expected = by_hand(config, images, concentration=0.333)
    config.unlock()
    config.qgface.threshold = float(np.sort(expected)[1:3].mean())
    k, q = np.array([0, 3]), np.array([[1, 3], [1, 2]])
    verdict = judge_by(run_folder.read(pairs_run), config, views=2)(
        images[k], images[q]
    )
    lower = getattr(np, f"{partition}imum")
    u_p = lower(expected[q], expected[k][:, None])
    np.testing.assert_array_equal(verdict.low, u_p <= config.qgface.threshold)
    assert len(np.unique(verdict.low)) == 2
    assert f"{partition}(u_q, u_k)" in verdict.facts[1]


def frames(path):
    """How many red and green frames a sheet has, and its height."""
    with Image.open(path) as sheet:
        page = np.asarray(sheet.convert("RGB"))
    area = 116**2 - 112**2
    counts = [(page == colour).all(axis=2).sum() / area for colour in (LOW, HIGH)]
    return *(round(count) for count in counts), page.shape[0]


def preview(out, *arguments):
    return main.main(["data", "preview", f"--out={out}", "--count=2", *arguments])


def test_a_run_judges_its_own_pairs(tmp_path, capsys, pairs_run):
    out = tmp_path / "sheet.png"
    checkpoint = f"--checkpoint={pairs_run}"
    assert preview(out, checkpoint) == 0
    assert capsys.readouterr().out == f"preview: {out}\n"
    red, green, _ = frames(out)
    assert red + green == 2 * 7
    assert preview(out, checkpoint, "--config.qgface.threshold=1.0") == 0
    assert frames(out)[:2] == (14, 0)


def test_an_adaface_run_judges_single_views_and_pairs(tmp_path, adaface_run):
    out, checkpoint = tmp_path / "sheet.png", f"--checkpoint={adaface_run}"
    assert preview(out, checkpoint, "--config.qgface.threshold=1.0") == 0
    views = frames(out)
    assert views[:2] == (14, 0)
    assert preview(out, checkpoint, "--config.objective=qgface") == 0
    red, green, height = frames(out)
    assert red + green == 14
    assert height > views[2]  # one line more


def test_another_config_is_shown_as_the_run_judges_it(tmp_path, adaface_run):
    out = tmp_path / "sheet.png"
    data = [word for word in words() if ".data.synthetic" in word]
    assert preview(out, f"--checkpoint={adaface_run}", "--config=demo", *data) == 0
    assert sum(frames(out)[:2]) == 14


def test_a_config_alone_is_shown_without_a_verdict(tmp_path):
    out = tmp_path / "sheet.png"
    assert preview(out, "--config=demo", *words("objective=qgface")) == 0
    assert frames(out)[:2] == (0, 0)


PAIRS = ("objective=octuplet", "degrade.recipe=octuplet")


def test_views_that_a_recipe_draws_are_judged_one_by_one(tmp_path, adaface_run):
    out, checkpoint = tmp_path / "sheet.png", f"--checkpoint={adaface_run}"
    assert preview(out, checkpoint, *words(*PAIRS, "qgface.threshold=1.0")[-3:]) == 0
    assert frames(out)[:2] == (2 * 14, 0)


def test_the_recipe_of_pairs_is_shown_with_its_own_views(tmp_path, capsys):
    out = tmp_path / "sheet.png"
    data = [word for word in words() if ".data." in word]
    given = ["--config.data.source=synthetic", *data]
    assert preview(out, "--config=octuplet_small", *given) == 0
    assert capsys.readouterr().out == f"preview: {out}\n"
    red, green, height = frames(out)
    assert (red, green) == (0, 0)
    assert height > 4 * 112  # two lines of each picture
    assert preview(out, "--config=octuplet_small", *given, "--config.seed=9") == 0
    assert preview(out, "--config=demo", *words("objective=octuplet")) == 2
    assert "with objective octuplet; an objective that takes" in capsys.readouterr().err


def test_what_cannot_be_judged_is_refused(tmp_path, capsys, adaface_run):
    out = tmp_path / "sheet.png"
    assert preview(out) == 2
    assert "give --config=NAME, or --checkpoint=RUN" in capsys.readouterr().err
    checkpoint = f"--checkpoint={adaface_run}"
    assert preview(out, checkpoint, "--config.model.backbone=iresnet18") == 2
    assert "the run is as it was trained" in capsys.readouterr().err
    run = made(tmp_path / "run", small("loss.margin=arcface"), {"margin": ()})
    assert preview(out, f"--checkpoint={run}") == 2
    assert "which keep no statistics of the feature norms" in capsys.readouterr().err
    empty = tmp_path / "empty"
    run_folder.open_or_create(empty, small(), num_classes=12, data={"images": 48})
    assert preview(out, f"--checkpoint={empty}") == 2
    assert "has no 'last' checkpoint yet" in capsys.readouterr().err
    assert not out.exists()


def test_help_says_what_the_frames_mean(capsys):
    with pytest.raises(SystemExit) as stop:
        main.main(["data", "preview", "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert "--checkpoint RUN" in said
    assert "qgface.threshold" in said
