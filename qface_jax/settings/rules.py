"""What the values of a config must fulfil; `config.load` reports every breach."""

from collections.abc import Iterator

from ml_collections import ConfigDict

from qface_jax import tables
from qface_jax.configs.document import flatten, options_of
from qface_jax.errors import ConfigError
from qface_jax.options import Option
from qface_jax.settings.rate_factors import parse


def value_problems(config: ConfigDict, known: dict[str, Option]) -> list[str]:
    """Returns a line for each value that is out of range or does not fit another.

    Args:
        config: Config whose values have the right types.
        known: Option of each of its keys.
    """
    problems = []
    for path, value in flatten(config):
        option = known.get(path)
        if option is None or option.wrong_type(value):
            continue
        if problem := option.wrong_value(value):
            problems.append(f"{path}: {problem}")
    return [
        *problems,
        *_schedule_problems(config),
        *_data_problems(config),
        *_entry_problems(config),
    ]


def _schedule_problems(config: ConfigDict) -> Iterator[str]:
    optim = config.optim
    if config.epochs is None:
        if optim.warmup_steps >= config.total_steps:
            yield (
                f"optim.warmup_steps: got {optim.warmup_steps}, "
                f"must be < total_steps {config.total_steps}"
            )
        if optim.warmup_epochs is not None or optim.decay_epochs:
            yield "optim.*_epochs: set `epochs` too, or use optim.*_steps"
        if any(s <= optim.warmup_steps for s in optim.decay_steps):
            yield (
                f"optim.decay_steps: got {optim.decay_steps}, "
                f"must lie after optim.warmup_steps {optim.warmup_steps}"
            )
    else:
        if optim.warmup_steps or optim.decay_steps:
            yield "optim.*_steps: `epochs` is set, use optim.*_epochs"
        if (optim.warmup_epochs or 0) >= config.epochs:
            yield (
                f"optim.warmup_epochs: got {optim.warmup_epochs}, must be < epochs "
                f"{config.epochs}"
            )
        if any(e <= (optim.warmup_epochs or 0) for e in optim.decay_epochs):
            yield (
                f"optim.decay_epochs: got {optim.decay_epochs}, "
                f"must lie after optim.warmup_epochs {optim.warmup_epochs}"
            )
    if optim.schedule == "step" and not (optim.decay_steps or optim.decay_epochs):
        yield "optim.schedule: step needs decay_steps or decay_epochs"
    if config.classifier.dtype == "bfloat16" and optim.name != "sgd":
        yield (
            f"classifier.dtype: got bfloat16 with optim.name {optim.name}, expected "
            "sgd: sums of squared gradients do not survive 8 bits; use sgd, or float32"
        )
    try:
        parse(optim.rate_factors)
    except ConfigError as error:
        yield str(error)


def _data_problems(config: ConfigDict) -> Iterator[str]:
    data, recipe = config.data, config.degrade.recipe
    if data.source in tables.SOURCES:
        needs_path = tables.SOURCES[data.source].needs_path
        if needs_path and not data.path:
            yield (
                f"data.path: got '', data.source {data.source} needs a folder or "
                "file: give --config.data.path=..."
            )
        for key in ("path", "more_paths"):
            if data[key] and not needs_path:
                yield (
                    f"data.{key}: got {data[key]!r}, but data.source {data.source} "
                    "reads no path: give --config.data.source=auto as well"
                )
    if recipe not in tables.RECIPES or config.objective not in tables.OBJECTIVES:
        return
    if config.degrade.on == "device" and tables.RECIPES[recipe].draw_on_device is None:
        fitting = [
            name
            for name in tables.RECIPES
            if tables.RECIPES[name].draw_on_device is not None
        ]
        yield (
            f"degrade.on: got device with degrade.recipe {recipe}, which has no form "
            f"for the device; {', '.join(fitting)} have one; or set degrade.on=host"
        )
    pairs = tables.OBJECTIVES[config.objective].pairs
    if pairs != (tables.RECIPES[recipe].views == 2):
        fitting = [name for name in tables.RECIPES if tables.RECIPES[name].views == 2]
        yield (
            f"degrade.recipe: got {recipe} with objective {config.objective}; an "
            f"objective that takes pairs of images goes with {', '.join(fitting)} or "
            "another recipe that draws both views, and no other objective does"
        )
    if pairs and data.batch_size % 2:
        yield (
            f"data.batch_size: got {data.batch_size}, must be even: objective "
            f"{config.objective} takes two images of each identity"
        )


def _entry_problems(config: ConfigDict) -> Iterator[str]:
    """What the margins and objectives themselves ask of their options."""
    margins = dict.fromkeys((*tables.MARGINS, config.loss.margin))
    for name in margins:
        if name in tables.MARGINS:
            values = options_of(config, "margin", name)
            place = "own.margin" if tables.is_external(name) else f"loss.{name}"
            for problem in tables.MARGINS[name].problems(values):
                yield f"{place}.{problem}"
    objectives = dict.fromkeys((*tables.OBJECTIVES, config.objective))
    for name in objectives:
        if name in tables.OBJECTIVES:
            values = options_of(config, "objective", name)
            yield from tables.OBJECTIVES[name].problems(config, values)


EVALUATION_SIZES = ("eval.batch_size",)
TRAINING_SIZES = ("data.batch_size", "classifier.pad_to", *EVALUATION_SIZES)


def device_problems(
    config: ConfigDict, sizes: tuple[str, ...], devices: int, hosts: int
) -> list[str]:
    """Returns a line for each of the sizes that cannot be cut over the devices."""
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


def _part_problems(config: ConfigDict, devices: int) -> Iterator[str]:
    """A line for each way of cutting the batch further that leaves a remainder."""
    batch, steps = config.data.batch_size, config.optim.accumulation_steps
    groups = config.model.batch_norm_groups or devices
    if steps > 1 and batch % (devices * steps):
        yield (
            f"data.batch_size: got {batch}, must be a multiple of {devices * steps}: "
            f"{devices} devices x optim.accumulation_steps {steps}"
        )
    if batch % (steps * groups):
        yield (
            f"data.batch_size: got {batch}, must be a multiple of {steps * groups}: "
            f"optim.accumulation_steps {steps} x {groups} groups of "
            f"model.batch_norm_groups {config.model.batch_norm_groups}"
        )
    elif steps * groups > 1 and batch == steps * groups:
        yield (
            f"data.batch_size: got {batch}, must be at least {2 * batch}: batch norm "
            f"needs 2 images of each of {steps} parts (optim.accumulation_steps) x "
            f"{groups} groups (model.batch_norm_groups)"
        )
