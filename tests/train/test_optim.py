"""Optimizers against hand-written updates in the references' rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax.settings import config as configs
from qface_jax.train import optim

PARAMS = {
    "backbone": {"conv": {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array([0.5])}},
    "head": {"centres": jnp.array([[3.0, 4.0]])},
}
GRADS = jax.tree.map(lambda p: 0.1 * jnp.ones_like(p) + 0.01 * p, PARAMS)


def config(*words):
    return configs.load("demo", [f"--config.{word}" for word in words])


def length(cfg, images=1000):
    return optim.length(cfg, images)


def updates(cfg, steps):
    """Parameters after some updates with the same gradient."""
    tx, _ = optim.build(cfg.optim, length(cfg))
    params, state = PARAMS, tx.init(PARAMS)
    # optax's Adam raises its float decay to the power of its integer count.
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(steps):
            step, state = tx.update(GRADS, state, params)
            params = jax.tree.map(jnp.add, params, step)
    return params


def test_sgd_is_torchs():
    cfg = config(
        "optim.schedule=constant",
        "optim.warmup_steps=0",
        "optim.learning_rate=0.1",
        "optim.weight_decay=0.01",
    )
    got = updates(cfg, 3)

    def by_hand(p, g, decay):
        velocity = 0.0
        for _ in range(3):
            velocity = 0.9 * velocity + g + decay * p
            p = p - 0.1 * velocity
        return p

    conv, grads = PARAMS["backbone"]["conv"], GRADS["backbone"]["conv"]
    np.testing.assert_allclose(
        got["backbone"]["conv"]["kernel"],
        by_hand(np.asarray(conv["kernel"]), np.asarray(grads["kernel"]), 0.01),
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        got["backbone"]["conv"]["bias"],
        by_hand(np.asarray(conv["bias"]), np.asarray(grads["bias"]), 0.0),
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        got["head"]["centres"],
        by_hand(
            np.asarray(PARAMS["head"]["centres"]),
            np.asarray(GRADS["head"]["centres"]),
            0.01,
        ),
        rtol=1e-6,
    )


def test_adamw_decays_apart_from_the_gradient():
    words = ("optim.schedule=constant", "optim.warmup_steps=0", "optim.name=adamw")
    cfg = config(*words, "optim.learning_rate=0.1", "optim.weight_decay=0.01")
    got = updates(cfg, 1)["backbone"]["conv"]
    # The first step of Adam is the sign of the gradient.
    np.testing.assert_allclose(
        got["kernel"], np.array([1.0, -2.0]) * (1 - 0.001) - 0.1, rtol=1e-5
    )
    np.testing.assert_allclose(got["bias"], [0.4], rtol=1e-5)


def test_adagrad_and_adam_move_against_the_gradient():
    for name in ("adam", "adagrad"):
        cfg = config("optim.schedule=constant", "optim.warmup_steps=0",
                     f"optim.name={name}", "optim.weight_decay=0.0")  # fmt: skip
        after = updates(cfg, 1)["backbone"]["conv"]["kernel"]
        assert np.all(after < PARAMS["backbone"]["conv"]["kernel"])


@pytest.mark.parametrize("start", [0.0, 0.1], ids=["PyTorch", "TensorFlow"])
def test_adagrad_has_its_epsilon_outside_the_root(start):
    cfg = config("optim.schedule=constant", "optim.warmup_steps=0", "optim.eps=1.0",
                 "optim.name=adagrad", "optim.weight_decay=0.0",
                 f"optim.initial_accumulator={start}",
                 "optim.learning_rate=0.01")  # fmt: skip
    got = updates(cfg, 5)["head"]["centres"]
    want = np.float64(PARAMS["head"]["centres"])
    g, total = np.float64(GRADS["head"]["centres"]), start
    for _ in range(5):
        total = total + g**2
        want = want - 0.01 * g / (np.sqrt(total) + 1.0)
    np.testing.assert_allclose(got, want, rtol=1e-7)
    inside = 0.01 * g / np.sqrt(total + 1.0)  # as optax has it: another step
    assert np.all(np.abs(inside * (np.sqrt(total) + 1.0) / (0.01 * g) - 1) > 0.1)


def test_clipping_bounds_the_whole_gradient():
    words = ("optim.schedule=constant", "optim.warmup_steps=0", "optim.momentum=0.0")
    cfg = config(*words, "optim.weight_decay=0.0", "optim.clip_norm=0.01",
                 "optim.learning_rate=1.0")  # fmt: skip
    moved = jax.tree.map(jnp.subtract, PARAMS, updates(cfg, 1))
    norm = np.sqrt(sum(float(jnp.sum(x**2)) for x in jax.tree.leaves(moved)))
    np.testing.assert_allclose(norm, 0.01, rtol=1e-4)


@pytest.mark.parametrize(
    ("words", "points"),
    [
        (("optim.schedule=cosine",), {0: 0.0, 5: 0.5, 10: 1.0, 55: 0.5, 100: 0.0}),
        (
            ("optim.schedule=step", "optim.decay_steps=(40,80)"),
            {0: 0.0, 10: 1.0, 39: 1.0, 40: 0.1, 79: 0.1, 80: 0.01},
        ),
        (
            ("optim.schedule=polynomial", "optim.power=1.0", "optim.end_factor=0.1"),
            {5: 0.5, 10: 1.0, 55: 0.55, 100: 0.1},
        ),
        (("optim.schedule=constant",), {5: 0.5, 10: 1.0, 99: 1.0}),
    ],
)
def test_schedules(words, points):
    cfg = config("total_steps=100", "optim.warmup_steps=10",
                 "optim.learning_rate=1.0", *words)  # fmt: skip
    _, rate = optim.build(cfg.optim, length(cfg))
    for step, want in points.items():
        np.testing.assert_allclose(rate(step), want, rtol=1e-5, atol=1e-6)


def test_epochs_are_passes_over_the_data():
    cfg = config("epochs=2.5", "optim.warmup_steps=0", "optim.warmup_epochs=0.5",
                 "optim.schedule=step", "optim.decay_epochs=(1.0,2.0)",
                 "data.batch_size=64")  # fmt: skip
    got = optim.length(cfg, 1000)
    assert got == optim.Length(40, 8, (16, 32))
