"""The shipped recipes of recognizability are those of the supplement's Table 5."""

import pytest

from qface_jax.configs import document
from qface_jax.errors import ConfigError
from qface_jax.settings import config as configs
from qface_jax.settings import rate_factors
from qface_jax.train import optim, parameter_groups

SHARED = {
    "objective": "recognizability",
    "model.backbone": "init_from",
    "model.freeze_batch_norm": True,
    "loss.margin": "arcface",
    "loss.scale": 64.0,
    "loss.arcface.margin": 0.45,
    "optim.name": "adam",
    "recognizability.index_weight": 5.0,
    "recognizability.diversion_weight": 2.0,
    "recognizability.attention_weight": 1.0,
    "recognizability.smooth_l1_beta": 0.75,
    "degrade.recipe": "recognizability",
    "degrade.recognizability.rotation_degrees": 10.0,
    "degrade.recognizability.rescale_sides": (64, 100),
}
PAPER = SHARED | {
    "recognizability.regression_dropout": 0.9,
    "degrade.recognizability.low_probability": 0.0,
    "data.resize": "stretch",
}
DATA = {
    "tinyface": {"data.batch_size": 64, "epochs": 15.0, "optim.weight_decay": 1e-4,
                 "optim.decay_epochs": (12.0,), "model.dropout": 0.2},
    "scface": {"data.batch_size": 64, "epochs": 6.0, "optim.weight_decay": 1e-4,
               "optim.schedule": "constant", "model.dropout": 0.2},
    "survface": {"data.batch_size": 100, "epochs": 30.0, "optim.weight_decay": 1e-3,
                 "optim.decay_epochs": (6.0,), "model.dropout": 0.4},
}  # fmt: skip
# Learning rates of backbone, class centres, PAM and PRM.
RATES = {
    ("r50", "tinyface"): (1e-5, 1e-3, 1e-3, 1e-4),
    ("r50", "scface"): (1e-5, 1e-3, 1e-3, 1e-4),
    ("r50", "survface"): (1e-5, 5e-4, 1e-3, 1e-4),
    ("mobilefacenet", "tinyface"): (1e-4, 1e-3, 1e-2, 1e-4),
    ("mobilefacenet", "scface"): (1e-4, 1e-3, 1e-2, 1e-4),
    ("mobilefacenet", "survface"): (1e-4, 1e-3, 1e-2, 1e-4),
}


def load(backbone, data):
    name = f"recognizability_{backbone}_{data}"
    return configs.load(name, ["--config.data.path=somewhere"])


@pytest.mark.parametrize(("backbone", "data"), RATES)
def test_a_recipe_has_the_papers_numbers(backbone, data):
    found = dict(document.flatten(load(backbone, data)))
    assert found.items() >= (PAPER | DATA[data]).items()


@pytest.mark.parametrize(("backbone", "data"), RATES)
def test_each_module_learns_at_its_own_rate(backbone, data):
    config = load(backbone, data)
    params = {
        "backbone": {"layers_0": {"kernel": 0}},
        "head": {"centres": 0, "pam": {"kernel": 0}, "prm": {"kernel": 0}},
    }
    groups = rate_factors.parse(config.optim.rate_factors)
    parameter_groups.check(groups, params)
    factors = parameter_groups.factors(groups, params)
    head = factors["head"]
    found = [
        config.optim.learning_rate * factor
        for factor in (
            factors["backbone"]["layers_0"]["kernel"],
            head["centres"],
            head["pam"]["kernel"],
            head["prm"]["kernel"],
        )
    ]
    assert found == pytest.approx(RATES[backbone, data])


def test_the_rate_falls_after_the_epoch_of_the_table():
    config = load("r50", "tinyface")
    length = optim.length(config, 640)
    assert (length.total_steps, length.decay_steps) == (150, (120,))


def test_the_recipe_for_small_data_shrinks_sharp_pictures():
    config = configs.load("recognizability_small", ["--config.data.path=somewhere"])
    found = dict(document.flatten(config))
    assert found.items() >= SHARED.items()
    assert found["degrade.recognizability.low_probability"] > 0
    assert found["classifier.centres"] == "class_means"


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("recognizability.index_weight=-1", "must be >= 0"),
        ("recognizability.epsilon=0", "must be > 0"),
        ("recognizability.threshold=1e999", "must be finite"),
        ("recognizability.smooth_l1_beta=0", "must be > 0"),
        ("recognizability.regression_dropout=1.0", "must be within [0, 1)"),
        ("recognizability.index_of=z", "must be features or unit"),
        ("recognizability.diversion_moves=head", "must be both or features"),
        ("recognizability.regression_moves=head", "must be both or regression"),
        ("recognizability.target=log", "must be plain or bounded"),
        ("recognizability.kernel_side=4", "must be odd"),
        ("recognizability.attention_error=max", "must be mean or sum"),
        ("recognizability.ui_images=1", "must be >= 2"),
        ("recognizability.refresh_interval=0", "must be > 0"),
        ("classifier.centres=zeros", "must be random or class_means"),
        ("data.resize=pad", "must be crop or stretch"),
        ("eval.discard_fmr=0.0", "must be within (0, 1)"),
        ("degrade.recognizability.low_sides=()", "must be sides in px"),
        ("degrade.unrecognizable.blur_sigma=(3.0,1.0)", "must be (low, high)"),
    ],
)
def test_what_is_wrong_is_said(word, says):
    with pytest.raises(ConfigError) as error:
        configs.load("demo", [f"--config.{word}"])
    (problem,) = str(error.value).splitlines()[1:]
    assert problem.strip().startswith(word.partition("=")[0])
    assert says in problem
