"""QGFace: every setting of its ablations, at the paper's size and at the demo's.

`qgface_e` is the proposed one. `qface ablation` trains and compares the settings of a
table (`configs/ablations/qgface.py`). At the paper's size give VGGFace2 with
--config.data.path=DIR (the folder with train.rec and train.idx) and the folder of the
.bin files with --config.eval.path=DIR.

Settings of objective qgface see two views of every image, so a step costs about twice
as much as one of the same batch under objective classification. The paper compares
them so, epoch for epoch, and so do these.

The paper does not say how many views of an image settings B and D see. Its numbers do:
on IJB-B, settings that have the sharp view beside the degraded one reach 87 to 91 (C, E
and those of Tables II and III), A, which has AdaFace's augmentation alone, 74. So B
(70.45) has one view, as A, and D (89.50; HQ 95.46, d3 100) has two, both classified.
The other readings are `b_two_views` and `d_one_view`, all of whose images are degraded.

References:
    QGFace: Quality-Guided Joint Training For Mixed-Quality Face Recognition, sec. IV-A
    to IV-D. Backbone and dropout are those of its published net.py.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from ml_collections import ConfigDict

from qface_jax.configs import adaface, base, demo

# The proposed one: both losses, partitioned by quality, proxy-updated queue.
PROPOSED = {"objective": "qgface", "degrade.recipe": "qgface"}

ALONE = {"qgface.queue": "none"}  # classification without the contrastive loss

# Name -> the keys that a setting changes in `paper_recipe` or in the demo.
SETTINGS: dict[str, dict[str, Any]] = {
    # Table I: augmentation, quality partition, contrastive loss.
    "baseline": {"degrade.recipe": "clean"},
    "a": {"degrade.recipe": "adaface"},
    "b": PROPOSED | ALONE | {"degrade.recipe": "adaface", "qgface.views": 1},
    "c": PROPOSED | {"degrade.recipe": "adaface"},
    "d": PROPOSED | ALONE | {"qgface.partition": "none"},
    "e": PROPOSED,
    # The other readings of B and D, see the top.
    "b_two_views": PROPOSED | ALONE | {"degrade.recipe": "adaface"},
    "d_one_view": {"degrade.recipe": "qgface"},
    # Table II: what the queries are told apart from; e has the proxy-updated queue.
    "queue_none": PROPOSED | ALONE,
    "queue_batch": PROPOSED | {"qgface.queue": "batch"},
    "queue_momentum": PROPOSED | {"qgface.queue": "momentum"},
    # Table III: the threshold of the partition; e has 0.2.
    "threshold_none": PROPOSED | {"qgface.partition": "none"},
    "threshold_01": PROPOSED | {"qgface.threshold": 0.1},
    "threshold_03": PROPOSED | {"qgface.threshold": 0.3},
}


def paper_recipe() -> ConfigDict:
    """Returns what all settings share in the paper: ResNet-34 on VGGFace2."""
    config = base.get_config()
    config.epochs = 12.0
    config.model.backbone = "ir_34"
    config.model.dropout = 0.4
    config.data.source = "auto"
    config.data.batch_size = 512
    config.optim.learning_rate = 0.2
    config.optim.schedule = "step"
    config.optim.decay_epochs = (6.0, 9.0)
    config.eval.sets = adaface.LFW_FAMILY
    config.eval.interval = 10_000
    config.checkpoint.interval = 2_000
    return config


def setting(recipe: Callable[[], ConfigDict], name: str) -> ConfigDict:
    """Returns a setting of the ablations.

    Args:
        recipe: What all settings share.
        name: Key of SETTINGS.
    """
    config = recipe()
    config.update_from_flattened_dict(SETTINGS[name])
    return config


CONFIGS: dict[str, Callable[[], ConfigDict]] = {
    f"{family}_{name}": partial(setting, recipe, name)
    for family, recipe in (("qgface", paper_recipe), ("qgface_demo", demo.demo))
    for name in SETTINGS
}
