"""What the octuplet paper fine-tunes, trained here, and its study of margin and batch.

`octuplet_start_r50` and `octuplet_start_mobilenet` are the baselines of its Table 1:
ResNet-50 and MobileNetV2, trained with ArcFace on MS1MV2. The paper names network,
loss, data and length of the features (512); optimizer, schedule and dropout are those
of ArcFace's own paper. BT-M and ST-M are the two that see several resolutions, by the
abstract of Knoche et al.: half of each batch degraded, or both resolutions of each
image with a cosine distance between their features. Their sides are those of the
octuplet loss; how ST-M1 and ST-M2 differ is not in the papers at hand, so there is one.

Give MS1MV2 with --config.data.path=DIR and the folder of the .bin files with
--config.eval.path=DIR; fine-tune with
`qface train --config=octuplet_r50 --init-from=RUN`.

References:
    Knoche et al., "Octuplet Loss: Make Face Recognition Robust to Image Resolution", FG
    2023, Table 1, sections 2.2, 4.4 and 4.5.3. Deng, Guo, Xue, Zafeiriou, "ArcFace:
    Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019, section 3.1.
    Knoche, Hörmann, Rigoll, "Susceptibility to Image Resolution in Face Recognition and
    Trainings Strategies", arXiv 2107.03769.
"""

from collections.abc import Callable
from functools import partial

from ml_collections import ConfigDict

from qface_jax.configs import adaface, base, octuplet

SIDES = (7, 14, 28)  # px, of the octuplet loss' section 3.3


def arcface(backbone: str) -> ConfigDict:
    """Returns ArcFace's recipe on MS1MV2, with the paper's way of evaluation.

    Args:
        backbone: A key of qface_jax.tables.BACKBONES.
    """
    config = base.get_config()
    config.total_steps = 180_000
    config.model.backbone = backbone
    config.model.embedding_dim = 512
    config.model.dropout = 0.4
    config.loss.margin = "arcface"
    config.data.source = "auto"
    config.data.batch_size = 512
    config.degrade.recipe = "clean"
    config.optim.learning_rate = 0.1
    config.optim.schedule = "step"
    config.optim.decay_steps = (100_000, 160_000)
    config.eval.sets = adaface.LFW_FAMILY
    config.eval.metric = "cosine"
    config.eval.flip = False
    config.eval.interval = 10_000
    config.checkpoint.interval = 2_000
    return config


def arcface_demo() -> ConfigDict:
    """Returns the same on synthetic faces, a few minutes on two cores."""
    config = octuplet.demo_start()
    config.loss.margin = "arcface"
    return config


def batch_training(start: Callable[[], ConfigDict]) -> ConfigDict:
    """Returns BT-M: half of the images, on average, at a side of SIDES.

    Args:
        start: The recipe on clean images.
    """
    config = start()
    config.degrade.recipe = "resolution"
    config.degrade.resolution.probability = 0.5
    config.degrade.resolution.sides = SIDES
    return config


def siamese_training(start: Callable[[], ConfigDict]) -> ConfigDict:
    """Returns ST-M: each image as it is and at a side of SIDES.

    A step sees as many images as that of BT-M: half as many different ones, twice.

    Args:
        start: The recipe on clean images.
    """
    config = start()
    config.objective = "siamese"
    config.data.batch_size //= 2
    config.degrade.recipe = "resolution"
    config.degrade.resolution.probability = 1.0
    config.degrade.resolution.sides = SIDES
    return config


def with_margin(
    recipe: Callable[[], ConfigDict], margin: float, batch_size: int
) -> ConfigDict:
    """Returns a row of the study of margin and batch size, Fig. 4.

    Args:
        recipe: What all rows share; its features are not normalised after this.
        margin: m of the Euclidean distance.
        batch_size: B; the images of a step before they are degraded.
    """
    config = recipe()
    config.octuplet.metric = "euclidean"
    config.octuplet.normalize = False
    config.octuplet.margin = float(margin)
    config.data.batch_size = batch_size
    return config


# Fig. 4 spans margins from 1 to 500 and batches from 64 images on; 25 and 256 are the
# paper's choice. The other places of its axes are not in the text.
MARGINS = (1, 5, 10, 25, 50, 100, 250, 500)
BATCHES = (64, 128, 256)
_FAMILIES = (("octuplet", octuplet.adagrad), ("octuplet_demo", octuplet.demo_recipe))
_R50 = partial(arcface, "resnet50")

CONFIGS: dict[str, Callable[[], ConfigDict]] = {
    "octuplet_start_r50": _R50,
    "octuplet_start_mobilenet": partial(arcface, "mobilenet_v2"),
    "octuplet_starts_arcface": _R50,
    "octuplet_starts_btm": partial(batch_training, _R50),
    "octuplet_starts_stm": partial(siamese_training, _R50),
    "octuplet_demo_starts_arcface": arcface_demo,
    "octuplet_demo_starts_btm": partial(batch_training, arcface_demo),
    "octuplet_demo_starts_stm": partial(siamese_training, arcface_demo),
} | {
    f"{family}_margins_m{margin}_b{batch_size}": partial(
        with_margin, recipe, margin, batch_size
    )
    for family, recipe in _FAMILIES
    for batch_size in BATCHES
    for margin in MARGINS
}
