"""Sizes of public training sets, for plans of configs that are named after them."""

from qface_jax.errors import ConfigError
from qface_jax.planning.plan import Counts

# Of the cleaned RecordIO packs that InsightFace hands out.
PUBLISHED = {
    "casia": Counts(10_572, 490_623),
    "ms1mv2": Counts(85_742, 5_822_653),
    "ms1mv3": Counts(93_431, 5_179_510),
    "webface4m": Counts(205_990, 4_235_242),
    "glint360k": Counts(360_232, 17_091_657),
}
IMAGES_PER_CLASS = 20  # where only the classes are known


def counts(config: str, classes: int | None, images: int | None) -> Counts:
    """Returns how many classes and images a plan is made for.

    Args:
        config: Name of the config, as `adaface_r100_webface4m`.
        classes: As given; None for those of the set that the name ends with.
        images: Likewise.

    Raises:
        ConfigError: if neither says it.
    """
    if classes is not None:
        return Counts(classes, images or IMAGES_PER_CLASS * classes)
    published = PUBLISHED.get(config.rpartition("_")[2])
    if published is None:
        raise ConfigError(
            f"--classes is missing: {config!r} is not named after a set of known size "
            f"({', '.join(PUBLISHED)})"
        )
    return published if images is None else Counts(published.num_classes, images)
