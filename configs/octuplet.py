"""Octuplet fine-tuning: the recipes of the paper, and the one for small data sets.

Each takes the model of another run: `qface train --config=octuplet --init-from=RUN`,
RUN made by `qface import` or trained here. Give the training set with
--config.data.path=DIR and the folder of the .bin files with --config.eval.path=DIR.

The sets are evaluated before the first step and after the last. octuplet_small takes
1,000 pairs of each, the same ones (`eval.max_pairs`); all of them are evaluated by
`qface eval --checkpoint=RUN --config.eval.max_pairs=0`.

References:
    Knoche et al., Octuplet Loss: Make Face Recognition Robust to Image Resolution, FG
    2023, section 4.2.
"""

from collections.abc import Callable
from functools import partial

from ml_collections import ConfigDict

from qface_jax.configs import adaface, base, demo
from qface_jax.tables import INIT_FROM


def recipe() -> ConfigDict:
    """Returns what all recipes of the paper share."""
    config = base.get_config()
    config.objective = "octuplet"
    config.model.backbone = INIT_FROM
    config.data.source = "auto"
    config.degrade.recipe = "octuplet"
    config.optim.weight_decay = 0.0
    config.eval.sets = adaface.LFW_FAMILY
    # As in section 4.2 and in XQLFW's code.
    config.eval.metric = "cosine"
    config.eval.flip = False
    config.eval.before = True
    config.eval.interval = 10_000
    config.checkpoint.interval = 2_000
    return config


def adagrad() -> ConfigDict:
    """Returns the recipe of ArcFace's ResNet-50 and of MobileNetV2."""
    config = recipe()
    config.epochs = 6.0
    config.data.batch_size = 256
    config.optim.name = "adagrad"
    config.optim.eps = 1.0
    config.optim.learning_rate = 0.01
    config.optim.schedule = "step"
    config.optim.decay_epochs = (2.0, 4.0, 5.0)
    return config


def small() -> ConfigDict:
    """Returns the recipe for a few thousand images: half an hour on a desk computer.

    The features are normalised, so that it fits models of any length of features, and
    kept close to those of the original model, so that high resolution is not lost.
    More steps, and larger batches, gain more.
    """
    config = recipe()
    config.total_steps = 300
    config.model.freeze_batch_norm = True
    config.data.batch_size = 64
    config.octuplet.normalize = True
    config.octuplet.margin = 0.5
    config.octuplet.keep_high_weight = 5.0
    config.octuplet.keep_low_weight = 5.0
    config.optim.name = "adam"
    config.optim.learning_rate = 3e-4
    config.eval.max_pairs = 1_000
    config.eval.sets = ("lfw_open.bin",)
    # Of its 1,200 pairs, 300 are of one person, 300 of two, and so again.
    config.eval.folds = 2
    config.eval.interval = 0
    config.checkpoint.interval = 50
    config.log.interval = 10
    return config


def magface() -> ConfigDict:
    """Returns the recipe of MagFace's iResNet-50."""
    config = recipe()
    config.epochs = 1.0
    config.data.batch_size = 64
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.001
    config.optim.schedule = "constant"
    return config


def face_transformer() -> ConfigDict:
    """Returns the recipe of FaceTransformer."""
    config = recipe()
    config.epochs = 1.0
    config.model.dropout = 0.1
    config.data.batch_size = 64
    config.optim.name = "adamw"
    config.optim.learning_rate = 5e-4
    config.optim.schedule = "constant"
    return config


# Table 4, upper part: which terms count. Name -> `octuplet.terms`.
TERMS: dict[str, tuple[str, ...]] = {
    "all": ("hhh", "hll", "lhh", "lll"),
    "hhh": ("hhh",),
    "hll": ("hll",),
    "lhh": ("lhh",),
    "lll": ("lll",),
    "hhh_hll": ("hhh", "hll"),
    "hhh_lhh": ("hhh", "lhh"),
    "hhh_lll": ("hhh", "lll"),
    "hll_lhh": ("hll", "lhh"),
    "no_lll": ("hhh", "hll", "lhh"),
    "no_lhh": ("hhh", "hll", "lll"),
    "no_hll": ("hhh", "lhh", "lll"),
    "no_hhh": ("hll", "lhh", "lll"),
}
# Table 4, lower part: what the distance is. Name -> metric, whether features are
# normalised, margin. The paper has 25 for the first and says of the others only that
# they were chosen for each; these are of the size of the distances, not tuned.
METRICS: dict[str, tuple[str, bool, float]] = {
    "euclidean": ("euclidean", False, 25.0),
    "euclidean_unit": ("euclidean", True, 0.5),
    "squared": ("euclidean_squared", False, 625.0),
    "squared_unit": ("euclidean_squared", True, 1.0),
    "cosine": ("cosine", True, 0.5),
}


def demo_start() -> ConfigDict:
    """Returns what the demo's ablation fine-tunes: the demo on clean pictures."""
    config = demo.demo()
    config.degrade.recipe = "clean"
    return config


def demo_recipe() -> ConfigDict:
    """Returns the ablation's recipe on synthetic faces, a minute or two."""
    config = small()
    config.update_from_flattened_dict(
        {"data.source": "synthetic", "data.batch_size": 64, "total_steps": 200}
    )
    config.data.synthetic = demo.demo().data.synthetic
    # The loss alone, as in the paper.
    config.octuplet.keep_high_weight = 0.0
    config.octuplet.keep_low_weight = 0.0
    config.eval.sets = ("synthetic",)
    config.eval.before = False
    return config


def with_terms(base_recipe: Callable[[], ConfigDict], name: str) -> ConfigDict:
    """Returns a row of the ablation.

    Args:
        base_recipe: What all rows share.
        name: Key of TERMS.
    """
    config = base_recipe()
    config.octuplet.terms = TERMS[name]
    return config


def with_metric(base_recipe: Callable[[], ConfigDict], name: str) -> ConfigDict:
    """Returns a row of the ablation of the distance.

    Args:
        base_recipe: What all rows share.
        name: Key of METRICS.
    """
    config = base_recipe()
    config.octuplet.metric, normalize, config.octuplet.margin = METRICS[name]
    config.octuplet.normalize = normalize
    return config


CONFIGS: dict[str, Callable[[], ConfigDict]] = {
    "octuplet_small": small,
    "octuplet_r50": adagrad,
    "octuplet_mobilenet": adagrad,
    "octuplet_magface_r50": magface,
    "octuplet_face_transformer": face_transformer,
    "octuplet_demo_start": demo_start,
} | {
    f"{family}_{kind}_{name}": partial(row, base_recipe, name)
    for family, base_recipe in (("octuplet", adagrad), ("octuplet_demo", demo_recipe))
    for kind, row, names in (
        ("terms", with_terms, TERMS),
        ("metrics", with_metric, METRICS),
    )
    for name in names
}
