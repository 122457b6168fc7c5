"""Attention and class activation maps against a derivation by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from qface_jax import models
from qface_jax.inference import face_maps
from qface_jax.models import heads
from qface_jax.runs import run_folder
from qface_jax.runs.checkpoint import Checkpoints
from qface_jax.sharded import parallel
from qface_jax.train.state import TrainState
from support.small_run import small

# Squares of one colour, so that the features of two pictures differ.
SQUARES = np.random.default_rng(0).integers(0, 256, (5, 7, 7, 3)).astype(np.uint8)
IMAGES = SQUARES.repeat(16, axis=1).repeat(16, axis=2)


@functools.cache
def weights():
    """Params and statistics of "tiny", and attention parameters for its map."""
    config = small()
    shapes, stats = jax.eval_shape(models.build(config.model).init, jax.random.key(0))
    draw = np.random.default_rng(1).normal
    backbone = jax.tree.map(lambda x: draw(0, 0.3, x.shape).astype(np.float32), shapes)
    stats = jax.tree.map(
        lambda x: np.abs(draw(0, 1, x.shape)).astype(np.float32) + 0.5, stats
    )
    attention = jax.jit(pam(config).init)(jax.random.key(2))
    # Of a seed with which some maps are zero in places, but few of them everywhere.
    centres = np.random.default_rng(2).normal(0, 1, (11, 16)).astype(np.float32)
    return backbone, stats, jax.tree.map(np.asarray, attention), centres


def pam(config):
    group = config.recognizability
    shape = models.feature_map_shape(config.model)
    return heads.perceptibility_attention(
        shape, 16, reduction=group.reduction, kernel_side=group.kernel_side
    )


@functools.cache
def expected(*, centred):
    """Maps of the pictures; float64 behind the feature map, by hand."""
    config, (backbone, stats, attention, centres) = small(), weights()
    run = jax.jit(
        functools.partial(
            models.build(config.model).apply_with_map, train=False, key=None
        )
    )
    pixels = IMAGES.astype(np.float32) / np.float32(127.5) - 1
    (features, maps), _ = run(backbone, stats, pixels)
    f, maps = np.float64(features), np.float64(maps)
    towards = f
    if centred:
        lengths = np.linalg.norm(f, axis=1, keepdims=True)
        z, w = f / lengths, np.float64(centres)
        w /= np.linalg.norm(w, axis=1, keepdims=True)
        cos = z @ w.T
        best = cos.argmax(1)
        towards = (w[best] - cos[np.arange(5), best][:, None] * z) / lengths
    # Behind the map: a linear layer, and a batch norm by its running statistics.
    factor = 1 / np.sqrt(np.float64(stats["features"]["var"]) + 1e-5)
    gradient = (towards * factor) @ np.float64(backbone["fc"]["kernel"]).T
    gradient = gradient.reshape(maps.shape)
    activation = np.einsum("bhwc,bc->bhw", maps, gradient.mean((1, 2)))
    _, attended = jax.jit(pam(config).apply)(attention, np.float32(maps))
    return {
        "attention": np.asarray(attended),
        "activation": np.maximum(activation, 0),
        "contribution": np.maximum((maps * gradient).sum(-1), 0),
    }


def assert_maps(got, want):
    assert list(got) == list(want)
    for name, maps in want.items():
        atol = 1e-5 * maps.max()
        assert_allclose(got[name], maps, rtol=1e-4, atol=atol, err_msg=name)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("centred", [False, True])
def test_maps_by_hand(centred, devices, monkeypatch):
    monkeypatch.setattr(face_maps, "AT_ONCE", 2)  # several batches, the last not full
    monkeypatch.setattr(face_maps, "_CHUNK", 1)
    backbone, stats, attention, centres = weights()
    mesh = parallel.make_mesh(jax.devices()[:devices])
    head = {"prm": {"kernel": np.zeros((16, 1))}}  # of no concern here
    if centred:
        head["centres"] = face_maps._cut_in_rows(centres, mesh)  # 11 rows: padded to 16
    else:
        head["pam"] = attention
    backbone = parallel.replicate(backbone, parallel.shardings(mesh))
    params = {"backbone": backbone, "head": head}
    got = face_maps.maps_of(small(), params, stats, IMAGES, mesh=mesh)
    want = dict(expected(centred=centred))
    assert (want["activation"].max((1, 2)) > 0).sum() > 2
    if centred:
        del want["attention"]
    assert_maps(got, want)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("devices", [1, 8])
def test_the_nearest_centre(devices, dtype, monkeypatch):
    monkeypatch.setattr(face_maps, "_CHUNK", 3)  # does not divide a device's rows
    mesh = parallel.make_mesh(jax.devices()[:devices])
    draw = np.random.default_rng(4).normal
    features = draw(size=(8, 6)).astype(np.float32)
    centres = draw(size=(30, 6)).astype(dtype)
    centres[7] = 0  # as padding is
    rows = face_maps._cut_in_rows(centres, mesh)
    run = jax.jit(functools.partial(face_maps.nearest_centres, mesh=mesh))
    got = run(face_maps._cut_in_rows(features, mesh), rows)
    w = np.float64(np.delete(centres, 7, axis=0))
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    want = w[(np.float64(features) @ w.T).argmax(1)]
    assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    nothing = run(face_maps._cut_in_rows(features, mesh), jnp.zeros_like(rows))
    assert_array_equal(nothing, np.zeros((8, 6)))


def test_the_maps_of_a_run(tmp_path):
    config, (backbone, stats, attention, centres) = small(), weights()
    run_folder.open_or_create(
        tmp_path / "run", config, num_classes=11, data={"images": 48}
    )
    state = TrainState(
        step=jnp.int32(3),
        params=jax.tree.map(
            jnp.asarray,
            {"backbone": backbone, "head": {"centres": centres, "pam": attention}},
        ),
        stats=jax.tree.map(jnp.asarray, stats),
        aux={"margin": {}},
        opt_state=(),
        bad_step=jnp.int32(-1),
    )
    with Checkpoints(tmp_path / "run", keep=1) as checkpoints:
        checkpoints.save(3, state)
    got = face_maps.face_maps(run_folder.read(tmp_path / "run"), IMAGES)
    assert_maps(got, expected(centred=True))


def test_no_picture_is_refused():
    mesh = parallel.make_mesh()
    with pytest.raises(ValueError, match="no picture"):
        face_maps.maps_of(small(), {}, {}, IMAGES[:0], mesh=mesh)
