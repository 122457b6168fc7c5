"""What the values of a config must fulfil; `config.load` reports every breach."""

import itertools
import math
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

Rule = tuple[Callable[[Any], bool], str]

POSITIVE: Rule = (lambda v: 0 < v < math.inf, "must be > 0 and finite")
NOT_NEGATIVE: Rule = (lambda v: 0 <= v < math.inf, "must be >= 0 and finite")
SEED: Rule = (lambda v: 0 <= v < 2**31, "must be within 0 .. 2^31 - 1")
RADIANS: Rule = (lambda v: 0 <= v < math.pi, "must be within [0, pi)")
SHARE: Rule = (lambda v: 0 <= v <= 1, "must be within [0, 1]")
BELOW_ONE: Rule = (lambda v: 0 <= v < 1, "must be within [0, 1)")
SHARES: Rule = (
    lambda v: len(v) == 2 and 0 < v[0] <= v[1] <= 1,
    "must be (low, high) within (0, 1]",
)
ASPECTS: Rule = (
    lambda v: len(v) == 2 and 0 < v[0] <= v[1] < math.inf,
    "must be (low, high), both > 0",
)
SIDES: Rule = (
    lambda v: len(v) > 0 and all(isinstance(r, int) and 1 <= r <= 112 for r in v),
    "must be sides in px within 1..112",
)
QUALITIES: Rule = (
    lambda v: len(v) == 2 and 1 <= v[0] <= v[1] <= 100,
    "must be (low, high) within 1..100",
)
DTYPES: Rule = (
    lambda v: v in ("float32", "bfloat16"),
    "must be float32 or bfloat16",
)
METRICS: Rule = (
    lambda v: v in ("euclidean", "cosine"),
    "must be euclidean or cosine",
)
INCREASING: Rule = (
    lambda v: all(a < b for a, b in itertools.pairwise(v)),
    "must increase",
)

RULES: dict[str, Rule] = {
    "seed": SEED,
    "total_steps": POSITIVE,
    "epochs": POSITIVE,
    "model.embedding_dim": POSITIVE,
    "model.dropout": BELOW_ONE,
    "model.dtype": DTYPES,
    "model.batch_norm_groups": NOT_NEGATIVE,
    "loss.scale": POSITIVE,
    "loss.sphereface.margin": (lambda v: v >= 1, "must be >= 1"),
    "loss.cosface.margin": SHARE,
    "loss.arcface.margin": RADIANS,
    "loss.curricularface.margin": RADIANS,
    "loss.curricularface.ema_new_weight": SHARE,
    "loss.magface.l_a": POSITIVE,
    "loss.magface.l_margin": RADIANS,
    "loss.magface.u_margin": RADIANS,
    "loss.magface.lambda_g": NOT_NEGATIVE,
    "loss.adaface.margin": SHARE,
    "loss.adaface.concentration": NOT_NEGATIVE,
    "loss.adaface.ema_new_weight": SHARE,
    "qgface.threshold": SHARE,
    "qgface.concentration": NOT_NEGATIVE,
    "qgface.ema_new_weight": SHARE,
    "qgface.queue_size": NOT_NEGATIVE,
    "qgface.encoder_decay": BELOW_ONE,
    "qgface.scale": POSITIVE,
    "qgface.weight": NOT_NEGATIVE,
    "qgface.chunk": POSITIVE,
    "classifier.chunk": POSITIVE,
    "classifier.dtype": DTYPES,
    "classifier.pad_to": POSITIVE,
    "classifier.sample_rate": (lambda v: 0 < v <= 1, "must be within (0, 1]"),
    "data.batch_size": POSITIVE,
    "data.drop_small_identities": NOT_NEGATIVE,
    "data.workers": NOT_NEGATIVE,
    "data.synthetic.identities": POSITIVE,
    "data.synthetic.seed": SEED,
    "data.synthetic.images_per_identity": POSITIVE,
    "degrade.clean.flip_probability": SHARE,
    "degrade.adaface.flip_probability": SHARE,
    "degrade.adaface.crop_probability": SHARE,
    "degrade.adaface.crop_area": SHARES,
    "degrade.adaface.crop_aspect": ASPECTS,
    "degrade.adaface.rescale_probability": SHARE,
    "degrade.adaface.rescale_side": SHARES,
    "degrade.adaface.photometric_probability": SHARE,
    "degrade.adaface.photometric_strength": SHARE,
    "degrade.resolution.flip_probability": SHARE,
    "degrade.resolution.probability": SHARE,
    "degrade.resolution.sides": SIDES,
    "degrade.resolution.jpeg_probability": SHARE,
    "degrade.resolution.jpeg_quality": QUALITIES,
    "degrade.qgface.flip_probability": SHARE,
    "degrade.qgface.rescale_probability": SHARE,
    "degrade.qgface.rescale_side": SHARES,
    "degrade.qgface.jpeg_probability": SHARE,
    "degrade.qgface.jpeg_quality": QUALITIES,
    "degrade.qgface.crop_probability": SHARE,
    "degrade.qgface.crop_area": SHARES,
    "degrade.qgface.crop_aspect": ASPECTS,
    "degrade.qgface.photometric_probability": SHARE,
    "degrade.qgface.photometric_strength": SHARE,
    "degrade.qgface.rotation_probability": SHARE,
    "degrade.qgface.rotation_degrees": (
        lambda v: 0 <= v <= 180,
        "must be within 0 .. 180",
    ),
    "optim.learning_rate": POSITIVE,
    "optim.weight_decay": NOT_NEGATIVE,
    "optim.momentum": BELOW_ONE,
    "optim.b1": BELOW_ONE,
    "optim.b2": BELOW_ONE,
    "optim.eps": POSITIVE,
    "optim.accumulation_steps": POSITIVE,
    "optim.clip_norm": POSITIVE,
    "optim.warmup_steps": NOT_NEGATIVE,
    "optim.warmup_epochs": NOT_NEGATIVE,
    "optim.decay_steps": INCREASING,
    "optim.decay_epochs": INCREASING,
    "optim.decay_factor": POSITIVE,
    "optim.power": POSITIVE,
    "optim.end_factor": SHARE,
    "eval.interval": NOT_NEGATIVE,
    "eval.resolutions": (
        lambda v: SIDES[0](v) and len(set(v)) == len(v) and 112 in v,
        "must be different sides in px within 1..112, and 112 among them",
    ),
    "eval.folds": (lambda v: v >= 2, "must be >= 2"),
    "eval.metric": METRICS,
    "eval.batch_size": POSITIVE,
    "eval.best_metric": (
        lambda v: v in ("mean_cross", "mean_same"),
        "must be mean_cross or mean_same",
    ),
    "eval.synthetic.identities": (lambda v: v >= 2, "must be >= 2"),
    "eval.synthetic.pairs": POSITIVE,
    "eval.synthetic.seed": SEED,
    "checkpoint.interval": POSITIVE,
    "checkpoint.keep": POSITIVE,
    "log.interval": POSITIVE,
}


def value_problems(config: ConfigDict) -> list[str]:
    """Returns a line for each value that is out of range or does not fit another."""
    from qface_jax.config import flatten

    problems = []
    for path, value in flatten(config):
        holds, text = RULES.get(path, (None, ""))
        if holds is not None and value is not None and not holds(value):
            problems.append(f"{path}: got {value!r}, {text}")
    return problems + _unknown_names(config) + _conflicts(config)


def _unknown_names(config: ConfigDict) -> list[str]:
    """Values that name something must be a key of its table."""
    # The tables live in modules that load JAX and TensorFlow.
    from qface_jax.data_pipelines.degrade import RECIPES
    from qface_jax.data_pipelines.sources import SOURCES
    from qface_jax.evals.protocols import PROTOCOLS
    from qface_jax.losses.margin_family import MARGINS
    from qface_jax.losses.quality_partition import PAIR_QUALITIES
    from qface_jax.models import BACKBONES
    from qface_jax.train.objectives import OBJECTIVES
    from qface_jax.train.objectives.qgface import ALL, ENTERING
    from qface_jax.train.optim import OPTIMIZERS, SCHEDULES

    choices = [
        ("model.backbone", config.model.backbone, BACKBONES),
        ("objective", config.objective, OBJECTIVES),
        ("loss.margin", config.loss.margin, MARGINS),
        ("qgface.queue", config.qgface.queue, ENTERING),
        ("qgface.partition", config.qgface.partition, (*PAIR_QUALITIES, ALL)),
        ("data.source", config.data.source, SOURCES),
        ("degrade.recipe", config.degrade.recipe, RECIPES),
        ("eval.protocol", config.eval.protocol, PROTOCOLS),
        ("optim.name", config.optim.name, OPTIMIZERS),
        ("optim.schedule", config.optim.schedule, SCHEDULES),
    ]
    return [
        f"{path}: got {value!r}, must be one of {', '.join(sorted(table))}"
        for path, value, table in choices
        if value not in table
    ]


def _conflicts(config: ConfigDict) -> list[str]:
    """Values that are each right but do not go together."""
    problems = []
    optim, magface = config.optim, config.loss.magface
    if config.epochs is None:
        if optim.warmup_steps >= config.total_steps:
            problems.append(
                f"optim.warmup_steps: got {optim.warmup_steps}, "
                f"must be < total_steps {config.total_steps}"
            )
        if optim.warmup_epochs is not None or optim.decay_epochs:
            problems.append("optim.*_epochs: set `epochs` too, or use optim.*_steps")
        if any(s <= optim.warmup_steps for s in optim.decay_steps):
            problems.append(
                f"optim.decay_steps: got {optim.decay_steps}, "
                f"must lie after optim.warmup_steps {optim.warmup_steps}"
            )
    else:
        if optim.warmup_steps or optim.decay_steps:
            problems.append("optim.*_steps: `epochs` is set, use optim.*_epochs")
        if (optim.warmup_epochs or 0) >= config.epochs:
            problems.append(
                f"optim.warmup_epochs: got {optim.warmup_epochs}, must be < epochs "
                f"{config.epochs}"
            )
        if any(e <= (optim.warmup_epochs or 0) for e in optim.decay_epochs):
            problems.append(
                f"optim.decay_epochs: got {optim.decay_epochs}, "
                f"must lie after optim.warmup_epochs {optim.warmup_epochs}"
            )
    if optim.schedule == "step" and not (optim.decay_steps or optim.decay_epochs):
        problems.append("optim.schedule: step needs decay_steps or decay_epochs")
    if config.classifier.dtype == "bfloat16" and optim.name != "sgd":
        problems.append(
            f"classifier.dtype: got bfloat16 with optim.name {optim.name}, expected "
            "sgd: sums of squared gradients do not survive 8 bits; use sgd, or float32"
        )
    if config.qgface.queue == "batch" and not config.qgface.supervised_mask:
        problems.append(
            "qgface.supervised_mask: got False with qgface.queue batch, expected True: "
            "every view would be its own negative"
        )
    if magface.u_a <= magface.l_a:
        problems.append(
            f"loss.magface.u_a: got {magface.u_a}, must be > l_a {magface.l_a}"
        )
    if config.data.source != "synthetic" and not config.data.path:
        problems.append(
            f"data.path: got '', data.source {config.data.source} needs a folder or "
            "file: give --config.data.path=..."
        )
    return problems


EVALUATION_SIZES = ("eval.batch_size",)
TRAINING_SIZES = ("data.batch_size", "classifier.pad_to", *EVALUATION_SIZES)


def device_problems(
    config: ConfigDict, sizes: tuple[str, ...], devices: int, hosts: int
) -> list[str]:
    """Returns a line for each of the sizes that cannot be cut over the devices."""
    from qface_jax.config import flatten

    problems, values = [], dict(flatten(config))
    for path in sizes:
        value = values[path]
        if value % devices:
            problems.append(
                f"{path}: got {value}, must be a multiple of the {devices} devices "
                f"({hosts} host(s))"
            )
    if "data.batch_size" in sizes:
        problems += _part_problems(config, devices)
    return problems


def _part_problems(config: ConfigDict, devices: int) -> list[str]:
    """A line for each way of cutting the batch further that leaves a remainder."""
    batch, steps = config.data.batch_size, config.optim.accumulation_steps
    groups = config.model.batch_norm_groups or devices
    problems = []
    if steps > 1 and batch % (devices * steps):
        problems.append(
            f"data.batch_size: got {batch}, must be a multiple of {devices * steps}: "
            f"{devices} devices x optim.accumulation_steps {steps}"
        )
    if batch % (steps * groups):
        problems.append(
            f"data.batch_size: got {batch}, must be a multiple of {steps * groups}: "
            f"optim.accumulation_steps {steps} x {groups} groups of "
            f"model.batch_norm_groups {config.model.batch_norm_groups}"
        )
    elif steps * groups > 1 and batch == steps * groups:
        problems.append(
            f"data.batch_size: got {batch}, must be at least {2 * batch}: batch norm "
            f"needs 2 images of each of {steps} parts (optim.accumulation_steps) x "
            f"{groups} groups (model.batch_norm_groups)"
        )
    return problems
