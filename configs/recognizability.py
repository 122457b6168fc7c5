"""Recognizability: fine-tuning for very low resolution, with a score of quality.

The recipes of Table 5 take the model of another run, an iResNet-50 or a MobileFaceNet:
`qface train --config=recognizability_r50_tinyface --init-from=RUN`, RUN made by `qface
import` or trained here. Give the training set, a folder with a folder of images per
identity, with --config.data.path=DIR, and unrecognizable images of your own with
--config.recognizability.ui_path=DIR; without them they are made of training images.

References:
    Chai, Ng, Low, Park, Teoh. Recognizability Embedding Enhancement for Very
    Low-Resolution Face Recognition and Quality Estimation. CVPR 2023, supplement, sec.
    B and Table 5.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ml_collections import ConfigDict

from qface_jax.configs import base, demo
from qface_jax.tables import INIT_FROM


class Setting(NamedTuple):
    """A column of Table 5.

    Attributes:
        batch_size: Images per step.
        epochs: Passes over the training set.
        decay_epoch: After which the rates are a tenth; None: within no epoch of these.
        head_rate: Learning rate of the class centres.
        weight_decay: L2, added to the gradient.
        dropout: In the backbone.
    """

    batch_size: int
    epochs: float
    decay_epoch: float | None
    head_rate: float
    weight_decay: float
    dropout: float


SETTINGS = {
    "tinyface": Setting(64, 15.0, 12.0, 1e-3, 1e-4, 0.2),
    # The table has a decay after epoch 12 of 6.
    "scface": Setting(64, 6.0, None, 1e-3, 1e-4, 0.2),
    "survface": Setting(100, 30.0, 6.0, 5e-4, 1e-3, 0.4),
}
# Backbone -> its rate, that of the class centres (None: the setting's), of the PAM.
BACKBONES = {"r50": (1e-5, None, 1e-3), "mobilefacenet": (1e-4, 1e-3, 1e-2)}
# What each setting is judged on, below eval.path.
BENCHMARKS = {
    "tinyface": ("tinyface=aligned",),
    "scface": ("scface=SCface_database",),
    "survface": ("survface=all",),
}
REGRESSION_RATE = 1e-4
UI_IMAGES = 11_707  # of the paper's set of unrecognizable images, all of which it takes


def rates(
    config: ConfigDict,
    backbone: float,
    head: float,
    attention: float,
    regression: float = REGRESSION_RATE,
) -> None:
    """Sets the learning rate of each module."""
    config.optim.learning_rate = head
    config.optim.rate_factors = tuple(
        f"{module}={rate / head:g}"
        for module, rate in (
            ("backbone", backbone),
            ("head/pam", attention),
            ("head/prm", regression),
        )
    )


def shared() -> ConfigDict:
    """Returns what all recipes have in common: sec. B of the supplement."""
    config = base.get_config()
    config.objective = "recognizability"
    config.model.backbone = INIT_FROM
    config.model.freeze_batch_norm = True
    config.loss.margin = "arcface"
    config.loss.arcface.margin = 0.45
    config.degrade.recipe = "recognizability"
    config.optim.name = "adam"
    config.optim.schedule = "constant"
    return config


def paper(backbone: str, data: str) -> ConfigDict:
    """Returns a recipe of Table 5.

    Args:
        backbone: Key of BACKBONES.
        data: Key of SETTINGS.
    """
    config, setting = shared(), SETTINGS[data]
    backbone_rate, head_rate, attention_rate = BACKBONES[backbone]
    rates(config, backbone_rate, head_rate or setting.head_rate, attention_rate)
    config.epochs = setting.epochs
    config.model.dropout = setting.dropout
    config.data.source = "auto"
    config.data.resize = "stretch"
    config.recognizability.ui_images = UI_IMAGES
    config.data.batch_size = setting.batch_size
    config.optim.weight_decay = setting.weight_decay
    if setting.decay_epoch is not None:
        config.optim.schedule = "step"
        config.optim.decay_epochs = (setting.decay_epoch,)
    # Judged at the end, on pictures prepared as those of the training.
    config.eval.sets = BENCHMARKS[data]
    config.eval.interval = 0
    return config


def small() -> ConfigDict:
    """Returns the recipe for a few thousand sharp images: half an hour on a desk.

    Sharp pictures are shrunk at random, the class centres start at the means of the
    given model's features, and the regression, which has a few hundred steps only,
    learns faster and drops less. The attention learns slower than in Table 5: at 1e-2
    it closed within the first steps and never opened again.
    """
    config = shared()
    rates(config, backbone=1e-4, head=1e-3, attention=1e-3, regression=1e-3)
    config.recognizability.regression_dropout = 0.5
    config.recognizability.ui_images = 256
    config.recognizability.refresh_interval = 10
    config.total_steps = 600
    config.classifier.centres = "class_means"
    config.data.source = "auto"
    config.data.drop_small_identities = 4
    config.degrade.recognizability.low_probability = 0.8
    config.degrade.recognizability.low_sides = (7, 10, 14, 20, 28, 56)
    config.optim.weight_decay = 1e-4
    config.eval.sets = ("lfw_open.bin",)
    # Of its 1,200 pairs, 300 are of one person, 300 of two, and so again.
    config.eval.folds = 2
    config.eval.before = True
    config.checkpoint.interval = 50
    config.log.interval = 10
    return config


def demo_recipe() -> ConfigDict:
    """Returns the recipe from scratch on synthetic faces, some minutes on 2 cores."""
    config = demo.demo()
    config.objective = "recognizability"
    config.loss.margin = "arcface"
    config.degrade.recipe = "recognizability"
    config.degrade.recognizability.low_probability = 0.5
    config.recognizability.regression_dropout = 0.0
    config.recognizability.ui_images = 256
    return config


CONFIGS: dict[str, Callable[[], ConfigDict]] = {
    f"recognizability_{backbone}_{data}": partial(paper, backbone, data)
    for backbone in BACKBONES
    for data in SETTINGS
} | {"recognizability_small": small, "recognizability_demo": demo_recipe}
