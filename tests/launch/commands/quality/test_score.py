"""`qface quality score`: good and bad images, by runs that know more and less."""

import csv
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from qface_jax import models
from qface_jax.data_pipelines.sources.image_list import open_images
from qface_jax.data_pipelines.stream import decoding, picture
from qface_jax.inference.embedder import Embedder
from qface_jax.inference.score_images import score_rows
from qface_jax.launch import main
from qface_jax.runs import run_folder
from qface_jax.runs.checkpoint import Checkpoints
from qface_jax.sharded import parallel
from qface_jax.train.state import TrainState
from support.image_files import encoded, noise
from support.small_run import small

LENGTH = 16
RNG = np.random.default_rng(0)
CENTRE = RNG.normal(size=LENGTH)
CENTRE /= np.linalg.norm(CENTRE)
KERNEL, BIAS = RNG.normal(size=(LENGTH, 1)), np.array([0.7])


@functools.cache
def weights():
    """Fresh weights, with statistics that keep the features small."""
    backbone, stats = jax.jit(models.build(small().model).init)(jax.random.key(0))
    return backbone, jax.tree.map(lambda leaf: 4 * leaf, stats)


def made(path, *, knows, spoil=False):
    """A run folder with a checkpoint of those weights."""
    facts = {"images": 48}
    run_folder.open_or_create(path, small(), num_classes=12, data=facts)
    backbone, stats = weights()
    if spoil:
        backbone = jax.tree.map(lambda leaf: leaf * jnp.float32(np.nan), backbone)
    ui = {"centre": CENTRE, "mean": np.zeros(()), "std": np.ones(())}
    ui, prm = jax.tree.map(jnp.float32, (ui, {"kernel": KERNEL, "bias": BIAS}))
    state = TrainState(
        step=jnp.int32(3),
        params={"backbone": backbone, "head": {"prm": prm} if knows else {}},
        stats=stats,
        aux={"margin": ()} | ({"ui": ui} if knows else {}),
        opt_state=(),
        bad_step=jnp.int32(-1),
    )
    with Checkpoints(path, keep=1) as checkpoints:
        checkpoints.save(3, state)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return {
        "all": made(root / "all", knows=True),
        "plain": made(root / "plain", knows=False),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Nine good images, three that are none."""
    root = tmp_path_factory.mktemp("images")
    (root / "deep").mkdir()
    jpeg = encoded(noise(112, 112, 0), "JPEG")
    contents = {
        "broken.jpg": jpeg[: len(jpeg) // 2],
        "empty.jpg": b"",
        "text.jpg": b"no picture",
        "deep/web.webp": encoded(noise(112, 112, 1), "WEBP"),
        "grey.png": encoded(noise(112, 112, 2)[..., 0]),
        "tiny.png": encoded(noise(20, 16, 3)),
        "wide.png": encoded(noise(60, 30, 4)),
        **{f"{n}.png": encoded(noise(112, 112, n) // n) for n in range(5, 10)},
    }
    for name, content in contents.items():
        (root / name).write_bytes(content)
    return root


BAD = {"broken.jpg", "empty.jpg", "text.jpg"}


def score(run, images, *words):
    words = [str(word) for word in (run, images, *words)]
    return main.main(["quality", "score", *words])


def read(path):
    with path.open(newline="") as file:
        return {line["name"]: line for line in csv.DictReader(file)}


def features_of(folder, names, resize="crop"):
    """By hand: decoded one by one, embedded together."""

    def pixels(name):
        data = (folder / name).read_bytes()
        plain = picture.read(data).encoded
        return decoding.decode(tf.constant(plain), resize).numpy()

    images = np.stack([pixels(name) for name in names])
    apply = models.build(small().model).apply
    forward = jax.jit(lambda *inputs: apply(*inputs, train=False, key=None)[0])
    floats = images.astype(np.float32) / 127.5 - 1
    return np.asarray(forward(*weights(), floats), np.float64)


def ers_of(features, centre):
    cos = features @ centre / np.linalg.norm(features, axis=1)
    return np.minimum(1 - cos, 1)


def column(lines, names, key):
    return np.array([float(lines[name][key]) for name in names])


def test_every_image_has_a_line_and_every_good_one_its_scores(
    runs, folder, tmp_path, capsys
):
    out, sheet = tmp_path / "new" / "scores.csv", tmp_path / "sheet.png"
    status = score(
        runs["all"], folder, f"--out={out}", f"--sheet={sheet}", "--batch-size=5"
    )
    assert status == 0
    lines = read(out)
    assert len(lines) == 12
    bad = {name for name, line in lines.items() if line["status"] != "ok"}
    assert bad == BAD
    for name in BAD:
        assert lines[name]["status"] == "not_an_image"
        assert lines[name]["norm"] == lines[name]["ers"] == lines[name]["ri"] == ""
        assert lines[name]["message"]
    good = sorted(lines.keys() - BAD)
    features = features_of(folder, good)
    norms = np.linalg.norm(features, axis=1)
    np.testing.assert_allclose(column(lines, good, "norm"), norms, rtol=1e-4)
    np.testing.assert_allclose(
        column(lines, good, "ers"), ers_of(features, CENTRE), atol=1e-4
    )
    index = features @ KERNEL[:, 0] + BIAS
    np.testing.assert_allclose(
        column(lines, good, "ri"), index, atol=1e-3 * np.abs(index).max()
    )
    assert (lines["tiny.png"]["width"], lines["tiny.png"]["height"]) == ("20", "16")
    said = capsys.readouterr()
    assert f"{runs['all']}: checkpoint of step 3 (last)" in said.out
    assert "images: 12 (ok 9, not_an_image 3)" in said.out
    assert "rank correlation of ERS and RI: " in said.out
    assert said.out.endswith(f"scores: {out}\nsheet: {sheet}\n")
    assert "scoring: 12/12 images (100%) in " in said.err
    with Image.open(sheet) as page:
        assert page.size[0] == 6 + 4 * 118  # lowest and highest four of nine
        assert page.size[1] > 4 * 112


def test_a_run_without_more_scores_by_the_norm(runs, folder, tmp_path, capsys):
    out, sheet = tmp_path / "scores.csv", tmp_path / "sheet.png"
    assert score(runs["plain"], folder, f"--out={out}", f"--sheet={sheet}") == 0
    lines = read(out)
    assert {(line["ers"], line["ri"]) for line in lines.values()} == {("", "")}
    said = capsys.readouterr().out
    assert "--unrecognizable=PATH" in said
    assert "rank correlation" not in said
    assert sheet.is_file()


def test_unrecognizable_images_give_a_centre(runs, folder, tmp_path):
    others = tmp_path / "uis"
    others.mkdir()
    names = ["5.png", "6.png", "text.jpg"]
    for name in names:
        (others / name).write_bytes((folder / name).read_bytes())
    out = tmp_path / "scores.csv"
    command = [f"--out={out}", f"--unrecognizable={others}"]
    assert score(runs["plain"], folder, *command) == 0
    lines = read(out)
    found = features_of(folder, names[:2])
    centre = (found / np.linalg.norm(found, axis=1, keepdims=True)).sum(axis=0)
    centre /= np.linalg.norm(centre)
    good = sorted(lines.keys() - BAD)
    np.testing.assert_allclose(
        column(lines, good, "ers"), ers_of(features_of(folder, good), centre), atol=1e-4
    )


def test_stretch_shows_the_whole_picture(runs, folder, tmp_path):
    out = tmp_path / "scores.csv"
    wide = folder / "wide.png"
    norms = {}
    for resize in ("crop", "stretch"):
        command = [f"--out={out}", f"--resize={resize}"]
        assert score(runs["plain"], wide, *command) == 0
        norms[resize] = column(read(out), ["wide.png"], "norm")
        features = features_of(folder, ["wide.png"], resize)
        np.testing.assert_allclose(
            norms[resize], np.linalg.norm(features, axis=1), rtol=1e-4
        )
    assert norms["crop"] != norms["stretch"]


def test_the_batch_does_not_matter(runs, folder):
    run, images = run_folder.read(runs["all"]), open_images(folder)
    mesh = parallel.make_mesh()
    small_batch, large = (
        [
            list(row.scores.values())
            for row in score_rows(
                Embedder.from_run(run, "last", mesh, batch_size=size), images
            )
        ]
        for size in (1, 64)
    )
    for one, other in zip(small_batch, large, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_features_that_are_not_finite_are_said(folder, tmp_path, capsys):
    run, out = made(tmp_path / "run", knows=True, spoil=True), tmp_path / "scores.csv"
    assert score(run, folder, f"--out={out}") == 2
    lines = read(out)
    counts = [line["status"] for line in lines.values()]
    assert (counts.count("non_finite"), counts.count("not_an_image")) == (9, 3)
    said = capsys.readouterr()
    assert "images: 12 (non_finite 9, not_an_image 3)" in said.out
    assert "none of the 12 images could be scored" in said.err
    command = [f"--out={out}", f"--unrecognizable={folder}"]
    assert score(run, folder, *command) == 2
    assert "0 of 12 images could be embedded" in capsys.readouterr().err


def test_what_cannot_be_done_is_refused(runs, folder, tmp_path, capsys):
    out = f"--out={tmp_path / 'scores.csv'}"
    assert score(runs["all"], tmp_path / "missing", out) == 2
    assert "missing: no such file or folder" in capsys.readouterr().err
    assert score(folder, folder, out) == 2
    assert "not the folder of a run" in capsys.readouterr().err
    assert score(runs["all"], folder, out, "--which=best") == 2
    assert "has no 'best' checkpoint yet" in capsys.readouterr().err
    for word in ("--out", "--sheet"):
        assert score(runs["all"], folder, out, f"{word}={tmp_path}") == 2
        assert f"{word}: {tmp_path} is a folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    with pytest.raises(SystemExit):
        score(runs["all"], folder, out, "--batch-size=0")
