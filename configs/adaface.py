"""AdaFace's own recipes: three backbones, each on five training sets.

The paper trains on MS1MV2, MS1MV3 and WebFace4M; models on CASIA-WebFace and VGGFace2
come with its published code. The rows of its tables are in `adaface_tables.py`.

Give the data with --config.data.path=DIR (the folder with train.rec and train.idx) and
the folder of the .bin files with --config.eval.path=DIR.

Optimizer, schedule and augmentation are those of the paper, sec. 4.1, with the
landmarks of its released scripts: the published 24 epochs plus two for the
augmentations.
"""

from collections.abc import Callable
from functools import partial

from ml_collections import ConfigDict

from qface_jax.configs import base

BACKBONES = {"r18": "ir_18", "r50": "ir_50", "r100": "ir_101"}
DATA = ("casia", "vggface2", "ms1mv2", "ms1mv3", "webface4m")
LFW_FAMILY = ("lfw.bin", "agedb_30.bin", "cfp_fp.bin", "calfw.bin", "cplfw.bin")


def recipe(backbone: str) -> ConfigDict:
    """Returns the paper's recipe for a backbone.

    Args:
        backbone: A key of qface_jax.tables.BACKBONES.
    """
    config = base.get_config()
    config.epochs = 26.0
    config.model.backbone = backbone
    config.model.dropout = 0.4
    config.data.source = "auto"
    config.data.batch_size = 512
    config.degrade.recipe = "adaface"
    config.optim.learning_rate = 0.1
    config.optim.schedule = "step"
    config.optim.decay_epochs = (12.0, 20.0, 24.0)
    config.eval.sets = LFW_FAMILY
    config.eval.interval = 10_000
    config.checkpoint.interval = 2_000
    return config


def lfw() -> ConfigDict:
    """Returns AdaFace on a few thousand real crops (LFW), small enough for a desk."""
    config = recipe("ir_18")
    config.epochs = 30.0
    config.data.batch_size = 64
    # An identity with one image teaches no likeness.
    config.data.drop_small_identities = 2
    config.optim.schedule = "cosine"
    config.optim.decay_epochs = ()
    config.optim.warmup_epochs = 2.0
    config.eval.sets = ("lfw_open.bin",)
    # Of its 1,200 pairs, 300 are of one person, 300 of two, and so again.
    config.eval.folds = 2
    config.eval.interval = 0
    config.checkpoint.interval = 500
    return config


CONFIGS: dict[str, Callable[[], ConfigDict]] = {
    f"adaface_{depth}_{data}": partial(recipe, backbone)
    for depth, backbone in BACKBONES.items()
    for data in DATA
} | {"adaface_r18_lfw": lfw}
