"""From a config and a data source to everything the loop needs, built once."""

from functools import partial
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from qface_jax import models, objectives
from qface_jax.data_pipelines.sources.source import Source
from qface_jax.data_pipelines.stream.pair_plan import PairPlan
from qface_jax.errors import ConfigError
from qface_jax.settings import config_rules
from qface_jax.sharded import parallel
from qface_jax.train import batches, optim, parameter_groups, state
from qface_jax.train.step import embed_step, train_step


class Setup(NamedTuple):
    """The parts of a run that do not change.

    Attributes:
        length: Updates of the run and the schedule's landmarks.
        plan: Which records a step takes, where a batch has pairs of images.
        mesh: Mesh of all devices.
        shard: Shardings on it.
        model: Backbone.
        objective: What is minimised.
        learning_rate: Rate as a function of the updates done.
        create: key -> TrainState.
        abstract: Shapes and shardings of the state.
        init_key: Key of `create`.
        train_key: Key of all chance during training, on the devices.
        step_fn: Jitted (state, batch, key) -> (state, metrics); takes the state over.
        embed_fn: Jitted (backbone, stats, images) -> features, each on its device.
    """

    length: optim.Length
    plan: PairPlan | None
    mesh: Mesh
    shard: parallel.Shardings
    model: models.Model
    objective: objectives.Objective
    learning_rate: optax.Schedule
    create: Any
    abstract: state.TrainState
    init_key: jax.Array
    train_key: jax.Array
    step_fn: Any
    embed_fn: Any


def check_devices(config: ConfigDict, sizes: tuple[str, ...]) -> None:
    """Raises ConfigError where one of the sizes cannot be cut over the devices."""
    problems = config_rules.device_problems(
        config, sizes, jax.device_count(), jax.process_count()
    )
    if problems:
        raise ConfigError("\n".join(["config does not fit the devices", *problems]))


def build_embedder(model: models.Model, shard: parallel.Shardings) -> Any:
    """Returns jitted (backbone, stats, images uint8 [b, ...]) -> features [b, d]."""
    return jax.jit(partial(embed_step, apply=model.apply), out_shardings=shard.rows)


def build(config: ConfigDict, source: Source) -> Setup:
    """Returns the parts of a run; nothing is allocated or compiled yet."""
    check_devices(config, config_rules.TRAINING_SIZES)
    mesh = parallel.make_mesh()
    shard = parallel.shardings(mesh)
    plan = batches.pair_plan(config, source)
    images = len(source) if plan is None else plan.images_per_epoch
    length = optim.length(config, images)
    tx, learning_rate = optim.build(config.optim, length)
    model = models.build(config.model, devices=mesh.size)
    objective = objectives.build(config, source.num_classes, mesh)
    create = partial(state.create, model=model, objective=objective, tx=tx)
    init_key, train_key = jax.random.split(jax.random.key(config.seed))
    abstract = state.abstract_state(create, init_key, shard)
    groups = parameter_groups.parse(config.optim.rate_factors)
    parameter_groups.check(groups, abstract.params)
    places = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    apply = model.apply_with_map if objective.takes_feature_map else model.apply
    step_fn = jax.jit(
        partial(
            train_step,
            apply=parameter_groups.learning(apply, groups),
            objective=objective,
            tx=tx,
            mesh=mesh,
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
        train_key=parallel.replicate(train_key, shard),
        step_fn=step_fn,
        embed_fn=build_embedder(model, shard),
    )


def fresh_state(setup: Setup) -> state.TrainState:
    """Returns the state before the first step, made where it will live."""
    places = jax.tree.map(lambda leaf: leaf.sharding, setup.abstract)
    return state.jit_create(setup.create, places)(setup.init_key)
