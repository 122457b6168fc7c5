"""The shipped recipes of the octuplet loss are those of the paper."""

import pytest

from qface_jax.configs import document
from qface_jax.settings import config as configs
from qface_jax.train import optim

SHARED = {
    "objective": "octuplet",
    "model.backbone": "init_from",
    "degrade.recipe": "octuplet",
    "degrade.octuplet.sides": (7, 14, 28),
    "degrade.octuplet.antialias": True,
    "octuplet.metric": "euclidean",
    "octuplet.terms": ("hhh", "hll", "lhh", "lll"),
    "optim.weight_decay": 0.0,
    "optim.rate_factors": (),
    "eval.before": True,
}
# Section 4.2: raw features, margin 25; nothing of ours beyond it.
PAPER = SHARED | {
    "octuplet.margin": 25.0,
    "octuplet.normalize": False,
    "octuplet.keep_high_weight": 0.0,
    "octuplet.keep_low_weight": 0.0,
    "model.freeze_batch_norm": False,
    "eval.resolutions": (112, 56, 28, 14, 7),
    "eval.max_pairs": 0,
    "eval.metric": "cosine",
    "eval.flip": False,
}
ADAGRAD = {
    "optim.name": "adagrad", "optim.eps": 1.0, "optim.learning_rate": 0.01,
    "optim.schedule": "step", "optim.decay_factor": 0.1,
    "optim.decay_epochs": (2.0, 4.0, 5.0), "epochs": 6.0, "data.batch_size": 256,
}  # fmt: skip
ONCE = {"optim.schedule": "constant", "epochs": 1.0, "data.batch_size": 64}
RECIPES = {
    "octuplet_r50": ADAGRAD,
    "octuplet_mobilenet": ADAGRAD,
    "octuplet_magface_r50": ONCE | {"optim.name": "sgd", "optim.learning_rate": 0.001},
    "octuplet_face_transformer": ONCE
    | {"optim.name": "adamw", "optim.learning_rate": 5e-4, "optim.eps": 1e-8},
}


def values(name, *words):
    loaded = configs.load(name, ["--config.data.path=somewhere", *words])
    return dict(document.flatten(loaded))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_the_papers_numbers(name):
    assert values(name).items() >= (PAPER | RECIPES[name]).items()


def test_the_recipe_for_small_data_keeps_close_to_the_original():
    found = values("octuplet_small")
    assert found.items() >= SHARED.items()
    assert found["octuplet.normalize"] and found["model.freeze_batch_norm"]
    assert (
        min(found["octuplet.keep_high_weight"], found["octuplet.keep_low_weight"]) > 0
    )
    assert found["data.batch_size"] >= 64  # below it hurts, as the paper says
    assert found["eval.max_pairs"] == 1_000


def test_the_rate_falls_after_epochs_2_4_and_5():
    """An epoch is a pass over the images that are drawn in pairs."""
    config = configs.load("octuplet_r50", ["--config.data.path=somewhere"])
    length = optim.length(config, 2560)
    assert (length.total_steps, length.decay_steps) == (60, (20, 40, 50))
    rate = optim.schedule(config.optim, length)
    found = [float(rate(step)) for step in (0, 19, 20, 39, 40, 49, 50, 59)]
    assert found == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_every_shipped_octuplet_config_is_valid():
    names = [name for name in configs.shipped() if name.startswith("octuplet_")]
    assert {*RECIPES, "octuplet_small"} <= set(names)
    for name in names:
        config = configs.load(
            name, ["--config.data.source=auto", "--config.data.path=somewhere"]
        )
        assert config.is_locked
