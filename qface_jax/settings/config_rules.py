"""What the values of a config must fulfil; `config.load` reports every breach."""

from ml_collections import ConfigDict

from qface_jax.data_pipelines.degradation.recipe import draws_pairs
from qface_jax.errors import ConfigError
from qface_jax.settings.config_ranges import RULES
from qface_jax.tables import RECIPES, SOURCES


def value_problems(config: ConfigDict) -> list[str]:
    """Returns a line for each value that is out of range or does not fit another."""
    from qface_jax.configs.document import flatten

    problems = []
    for path, value in flatten(config):
        holds, text = RULES.get(path, (None, ""))
        if holds is not None and value is not None and not holds(value):
            problems.append(f"{path}: got {value!r}, {text}")
    return problems + _unknown_names(config) + _conflicts(config)


def _unknown_names(config: ConfigDict) -> list[str]:
    """Values that name something must be a key of its table."""
    # The tables live in modules that load JAX and TensorFlow.
    from qface_jax.losses.quality_partition import PAIR_QUALITIES
    from qface_jax.models import BACKBONES, INIT_FROM
    from qface_jax.objectives import OBJECTIVES
    from qface_jax.objectives.qgface import ALL, ENTERING
    from qface_jax.tables import MARGINS, PROTOCOLS
    from qface_jax.train.optim import OPTIMIZERS, SCHEDULES

    choices = [
        ("model.backbone", config.model.backbone, (*BACKBONES, INIT_FROM)),
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
    return problems + _octuplet_conflicts(config)


def _octuplet_conflicts(config: ConfigDict) -> list[str]:
    """What pairs of images ask of the other keys, and the other way round."""
    from qface_jax.train.parameter_groups import parse

    problems, recipe = [], config.degrade.recipe
    pairs = ", ".join(filter(draws_pairs, RECIPES))
    if (config.objective == "octuplet") != draws_pairs(recipe):
        problems.append(
            f"degrade.recipe: got {recipe} with objective {config.objective}; "
            f"objective octuplet goes with {pairs} and with no other"
        )
    if config.objective == "octuplet" and config.data.batch_size % 2:
        problems.append(
            f"data.batch_size: got {config.data.batch_size}, must be even: objective "
            "octuplet takes two images of each identity"
        )
    if config.data.more_paths and config.data.source == "synthetic":
        problems.append("data.more_paths: data.source synthetic has no path")
    try:
        parse(config.optim.rate_factors)
    except ConfigError as error:
        problems.append(str(error))
    return problems


EVALUATION_SIZES = ("eval.batch_size",)
TRAINING_SIZES = ("data.batch_size", "classifier.pad_to", *EVALUATION_SIZES)


def device_problems(
    config: ConfigDict, sizes: tuple[str, ...], devices: int, hosts: int
) -> list[str]:
    """Returns a line for each of the sizes that cannot be cut over the devices."""
    from qface_jax.configs.document import flatten

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
