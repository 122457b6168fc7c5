"""From a config and a data source to everything the loop needs, built once."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from qface_jax import models, objectives
from qface_jax.configs import document
from qface_jax.data_pipelines.degradation.recipe import draws_pairs, params_of
from qface_jax.data_pipelines.device_degradation.batches import degradation
from qface_jax.data_pipelines.sources.source import Source
from qface_jax.data_pipelines.stream import faces
from qface_jax.data_pipelines.stream.pair_plan import PairPlan
from qface_jax.errors import ConfigError
from qface_jax.inference.embedder import Embedder, jit_embed
from qface_jax.objectives.objective import Objective, Snapshot
from qface_jax.processes import hosts
from qface_jax.settings import rate_factors, rules
from qface_jax.sharded import parallel
from qface_jax.train import optim, parameter_groups, state
from qface_jax.train.step import train_step


class Setup(NamedTuple):
    """The parts of a run that do not change.

    Attributes:
        length: Updates of the run and the schedule's landmarks.
        plan: Which records a step takes, where a batch has pairs of images.
        mesh: Mesh over which batch and class centres are cut.
        shard: Shardings on it.
        model: Backbone.
        objective: What is minimised.
        learning_rate: Rate as a function of the updates done.
        create: key -> TrainState.
        abstract: Shapes and shardings of the state.
        init_key: Key of `create`.
        train_key: Key of all chance during training.
        step_fn: Jitted (state, batch, key) -> (state, metrics); takes the state over.
        embedder: state -> what embeds by its model, `eval.batch_size` at a time.
        batches: (first step, end) -> iterator over this host's rows of the batches of
            those steps, counted from 0.
        degrade: Jitted (key, step, images) -> the images that the loss sees, where the
            step degrades them (`degrade.on`); None: `batches` are degraded.
    """

    length: optim.Length
    plan: PairPlan | None
    mesh: Mesh
    shard: parallel.Shardings
    model: models.Model
    objective: Objective
    learning_rate: optax.Schedule
    create: Any
    abstract: state.TrainState
    init_key: jax.Array
    train_key: jax.Array
    step_fn: Any
    embedder: Callable[[state.TrainState], Embedder]
    batches: Callable[[int, int], Iterator[dict[str, np.ndarray]]]
    degrade: Callable[..., jax.Array] | None

    def seen(self, step: int, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns this host's rows of a step, counted from 0, as the loss sees them.

        All hosts call it together.
        """
        if self.degrade is None:
            return rows
        key, number = parallel.replicate((self.train_key, np.int32(step)), self.shard)
        images = parallel.to_device(rows["images"], self.shard.rows)
        images = parallel.LocalRows(self.degrade(key, number, images))
        return rows | {"images": np.asarray(images)}

    def seen_batches(self, start: int, end: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields the rows of `batches` as the loss sees them; all hosts call it."""
        with contextlib.closing(self.batches(start, end)) as batches:
            for step, rows in enumerate(batches, start):
                yield self.seen(step, rows)

    def snapshot(self, now: state.TrainState) -> Snapshot:
        """Returns what the objective's hooks see of a state."""
        return Snapshot(
            int(now.step), now.params, now.stats, now.kept, self.embedder(now)
        )


def check_devices(config: ConfigDict, sizes: tuple[str, ...], mesh: Mesh) -> None:
    """Raises ConfigError where one of the sizes cannot be cut over the devices."""
    problems = rules.device_problems(config, sizes, mesh.size, jax.process_count())
    if problems:
        raise ConfigError("\n".join(["config does not fit the devices", *problems]))


def build(
    config: ConfigDict,
    source: Source,
    mesh: Mesh,
    *,
    model: models.Model | None = None,
) -> Setup:
    """Returns the parts of a run; nothing is allocated or compiled yet.

    Args:
        config: The whole config, validated.
        source: Training data; of what `qface plan` gives only counts are known.
        mesh: Mesh over which batch and class centres are cut; its devices need not be
            there until something is run.
        model: Backbone; None: the one that `config.model` describes.

    Raises:
        ConfigError: a size cannot be cut over the devices.
        DataError: the objective takes pairs, and too few identities have two images.
    """
    check_devices(config, rules.TRAINING_SIZES, mesh)
    shard = parallel.shardings(mesh)
    plan = _pair_plan(config, source)
    images = len(source) if plan is None else plan.images_per_epoch
    length = optim.length(config, images)
    tx, learning_rate = optim.build(config.optim, length)
    if model is None:
        options = document.options_of(config, "backbone", config.model.backbone)
        model = models.build(config.model, devices=mesh.size, options=options)
    objective = objectives.build(config, source.num_classes, mesh)
    create = partial(state.create, model=model, objective=objective, tx=tx)
    init_key, train_key = jax.random.split(jax.random.key(config.seed))
    cut = (*objective.class_rows, *objective.rows)
    abstract = state.abstract_state(create, init_key, shard, cut)
    groups = rate_factors.parse(config.optim.rate_factors)
    parameter_groups.check(groups, abstract.params)
    places = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    degrade = _on_device(config, mesh)
    step_fn = jax.jit(
        partial(
            train_step,
            model=parameter_groups.learning(model, groups),
            objective=objective,
            tx=tx,
            mesh=mesh,
            degrade=degrade,
            accumulation_steps=config.optim.accumulation_steps,
        ),
        in_shardings=(places, shard.rows, shard.replicated),
        out_shardings=(places, shard.replicated),
        donate_argnums=0,
    )
    return Setup(
        length=length,
        plan=plan,
        mesh=mesh,
        shard=shard,
        model=model,
        objective=objective,
        learning_rate=learning_rate,
        create=create,
        abstract=abstract,
        init_key=init_key,
        train_key=train_key,
        step_fn=step_fn,
        embedder=partial(
            Embedder.of_state,
            embed_fn=jit_embed(model, shard),
            shard=shard,
            config=config,
        ),
        batches=partial(_batches, config, source, plan),
        degrade=degrade
        and jax.jit(
            degrade,
            in_shardings=(shard.replicated, shard.replicated, shard.rows),
            out_shardings=shard.rows,
        ),
    )


def _pair_plan(config: ConfigDict, source: Any) -> PairPlan | None:
    """Which records a step takes; None where an epoch takes each once.

    Also None for counts without labels, which `qface plan` gives in place of data.
    """
    if not objectives.entry(config).pairs or not hasattr(source, "labels"):
        return None
    batch_size = config.data.batch_size
    return PairPlan(source.labels(), batch_size=batch_size, seed=config.seed)


def _drawn(config: ConfigDict) -> dict[str, Any]:
    """What is drawn of each record: the recipe, its options, and those of a clean view.

    The last are None where there is none, or the recipe draws both.
    """
    recipe = config.degrade.recipe
    alone = objectives.entry(config).views == 1 or draws_pairs(recipe)
    return {
        "recipe": recipe,
        "params": params_of(config),
        "beside": None if alone else config.degrade.clean,
    }


def _on_device(config: ConfigDict, mesh: Mesh) -> Callable[..., jax.Array] | None:
    """What degrades a batch within the step; None: the hosts do."""
    if config.degrade.on == "host":
        return None
    drawn = _drawn(config)
    return degradation(**drawn, batch_size=config.data.batch_size, mesh=mesh)


def _batches(
    config: ConfigDict, source: Any, plan: PairPlan | None, start: int, end: int
) -> Iterator[dict[str, np.ndarray]]:
    """This host's rows of the batches of steps start .. end - 1."""
    if config.degrade.on == "device":
        drawn = {"recipe": "clean", "params": SimpleNamespace(flip_probability=0.0)}
    else:
        drawn = _drawn(config)
    return faces.stream(
        source,
        **drawn,
        batch_size=config.data.batch_size,
        plan=plan,
        seed=config.seed,
        start_step=start,
        total_steps=end,
        host=hosts.place().index,
        hosts=hosts.place().count,
        workers=config.data.workers,
        resize=config.data.resize,
    )


def fresh_state(setup: Setup) -> state.TrainState:
    """Returns the state before the first step, made where it will live."""
    places = jax.tree.map(lambda leaf: leaf.sharding, setup.abstract)
    return state.jit_create(setup.create, places)(setup.init_key)
