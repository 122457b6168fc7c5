"""`qface quality maps`: from a run and pictures to the sheet."""

import argparse
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from qface_jax import models
from qface_jax.data_pipelines.tools.sample_images import drawn_faces
from qface_jax.data_pipelines.tools.sheet import GAP, LINE
from qface_jax.errors import ConfigError, DataError
from qface_jax.inference import face_maps
from qface_jax.launch.commands.quality import maps
from qface_jax.report.drawings import heat_map
from qface_jax.runs import run_folder
from qface_jax.runs.checkpoint import Checkpoints
from qface_jax.train.state import TrainState
from support.small_run import small


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of fresh weights without head, and a folder of drawn faces."""
    folder, config = tmp_path_factory.mktemp("maps"), small()
    run_folder.open_or_create(
        folder / "run", config, num_classes=12, data={"images": 48}
    )
    shapes = jax.eval_shape(models.build(config.model).init, jax.random.key(0))
    draw = np.random.default_rng(1).uniform
    backbone, stats = jax.tree.map(
        lambda leaf: jnp.asarray(draw(0.05, 0.3, leaf.shape), jnp.float32), shapes
    )
    state = TrainState(
        step=jnp.int32(3),
        params={"backbone": backbone, "head": {}},
        stats=stats,
        aux={},
        opt_state=(),
        bad_step=jnp.int32(-1),
    )
    with Checkpoints(folder / "run", keep=1) as checkpoints:
        checkpoints.save(3, state)
    (folder / "faces" / "deep").mkdir(parents=True)
    for number, picture in enumerate(drawn_faces(3)):
        Image.fromarray(picture).save(folder / "faces" / "deep" / f"{number}.png")
    return folder


def command(*words):
    parser = argparse.ArgumentParser()
    maps.add_arguments(parser)
    return maps.run(parser.parse_args([str(word) for word in words]))


def test_the_sheet_has_each_picture_at_each_resolution(made, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    words = ("--out", out, "--count", 2, "--resolutions", "112,14")
    assert command(made / "run", made / "faces", *words) == 0
    said = capsys.readouterr().out
    assert "2 pictures at 112, 14 px; maps: activation, contribution" in said
    assert str(out) in said
    with Image.open(out) as sheet:
        page = np.asarray(sheet)
    # Two blocks, the first begins with the first picture as it is.
    first = np.asarray(Image.open(made / "faces" / "deep" / "0.png"))
    top, left = GAP + LINE, GAP + 74  # beside the names of the rows
    np.testing.assert_array_equal(page[top : top + 112, left : left + 112], first)
    run = run_folder.read(made / "run")
    (values,) = face_maps.face_maps(run, first[None])["activation"]
    below = page[top + 118 : top + 230, left : left + 112]
    difference = np.abs(below.astype(int) - heat_map.overlay(first, values).astype(int))
    assert difference.max() <= 2  # another batch size, another order of sums
    half = (page.shape[0] - GAP) // 2
    small_ = page[half + top : half + top + 112, left : left + 112]
    assert np.abs(np.diff(small_.astype(int), axis=0)).mean() < (
        np.abs(np.diff(first.astype(int), axis=0)).mean()
    )


def test_models_stand_side_by_side_below_the_same_pictures(made, tmp_path, capsys):
    for place in ("a", "b"):
        shutil.copytree(made / "run", tmp_path / place / "run")
    words = ("--count", 1, "--resolutions", "112", "--out", tmp_path / "sheet.png")
    beside = ("--beside", tmp_path / "b" / "run")
    assert command(tmp_path / "a" / "run", made / "faces", *beside, *words) == 0
    maps_of = [f"{place}/run {name}" for place in "ab"
               for name in ("activation", "contribution")]  # fmt: skip
    assert f"maps: {', '.join(maps_of)}" in capsys.readouterr().out
    with Image.open(tmp_path / "sheet.png") as sheet:
        page = np.asarray(sheet)
    picture = np.asarray(Image.open(made / "faces" / "deep" / "0.png"))
    rows = [page[GAP + LINE + 118 * row :][:112] for row in range(5)]
    starts = range(page.shape[1] - 112)
    (left,) = [x for x in starts if np.array_equal(rows[0][:, x : x + 112], picture)]
    drawn = [row[:, left : left + 112] for row in rows]
    np.testing.assert_array_equal(drawn[1], drawn[3])  # the same weights
    np.testing.assert_array_equal(drawn[2], drawn[4])
    assert not np.array_equal(drawn[1], drawn[2])
    with pytest.raises(ConfigError, match="run is given twice"):
        command(made / "run", made / "faces", "--beside", made / "run", *words)


def test_models_that_prepare_pictures_otherwise_are_refused(made, tmp_path):
    other = small("data.resize=stretch")
    folder = tmp_path / "other"
    run_folder.open_or_create(folder, other, num_classes=12, data={"images": 48})
    with pytest.raises(ConfigError, match=r"data\.resize=stretch"):
        command(made / "run", made / "faces", "--beside", folder, "--out",
                tmp_path / "sheet.png")  # fmt: skip


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (("--resolutions", "112,0"), ConfigError, "--resolutions: got '112,0'"),
        (("--resolutions", "a"), ConfigError, "separated by commas"),
        (("--count", "0"), ConfigError, "--count: got 0, must be at least 1"),
        (("--which", "best"), ConfigError, "has no 'best' checkpoint"),
    ],
)
def test_wrong_words_are_explained(words, error, says, made, tmp_path):
    out = tmp_path / "sheet.png"
    with pytest.raises(error, match=says):
        command(made / "run", made / "faces", "--out", out, *words)
    assert not out.exists()


def test_wrong_paths_are_explained(made, tmp_path):
    with pytest.raises(ConfigError, match="not the folder of a run"):
        command(tmp_path, made / "faces")
    with pytest.raises(DataError, match="no image"):
        command(made / "run", tmp_path)
