"""What a training step needs per device, from compiling it for devices not there.

The step is compiled ahead of time for a mesh of virtual devices; nothing is allocated.
The compiler of this machine's CPU does it, so temporary memory on another accelerator
can differ by its own layouts and scratch space; what is stored is exact. It computes
bfloat16 in float32 and recomputes early what `model.remat` drops, so what these two
save in activations hardly shows. Work and bytes sent are those of the compiled program:
another compiler may join or cut collectives, but has the same arrays to move.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from qface_jax import models, objectives
from qface_jax.planning import compiled_cost
from qface_jax.planning.compiled_cost import Cost
from qface_jax.train import state as states
from qface_jax.train.setup import Setup, build

# Names of `Plan.items` that the advice asks for.
CLASS_SIDE = "logits and centre gradients, temporary"
ACTIVATIONS = "activations and all else, temporary"
STATE = "statistics, queue, other encoders"


class Counts(NamedTuple):
    """Stands in for a data set of which only the counts are known.

    Attributes:
        num_classes: Identities.
        images: Images.
    """

    num_classes: int
    images: int

    def __len__(self) -> int:
        return self.images


class Plan(NamedTuple):
    """What a step needs on each device, and the size of the run.

    Attributes:
        items: Bytes by what they are for.
        peak: Bytes that a step needs at once: all stored and temporary memory.
        creation: Bytes that making the state takes, before the first step.
        whole: Work and traffic of a step.
        class_side: The part of it above the features: loss and gradients.
        batch_size: Images per step over all devices.
        total_steps: Updates of the whole run.
    """

    items: dict[str, int]
    peak: int
    creation: int
    whole: Cost
    class_side: Cost
    batch_size: int
    total_steps: int


def _per_device(tree: Any) -> int:
    """Bytes of a tree of abstract arrays on one device."""
    return sum(
        int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def _split(tree: Any) -> tuple[int, int]:
    """Bytes on one device of the leaves with a row per class, and of all others."""
    cut, whole = [], []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        (cut if states.is_cut(path, leaf) else whole).append(leaf)
    return _per_device(cut), _per_device(whole)


def _views(config: ConfigDict) -> tuple[int, ...]:
    """The axis of a batch's views, where there are several of each image."""
    views = objectives.views(config)
    return (views,) if views > 1 else ()


def _abstract_batch(config: ConfigDict, setup: Setup) -> dict[str, Any]:
    rows = config.data.batch_size
    shape = (rows, *_views(config), models.IMAGE_SIDE, models.IMAGE_SIDE, 3)
    return {
        "images": jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=setup.shard.rows),
        "labels": jax.ShapeDtypeStruct((rows,), jnp.int32, sharding=setup.shard.rows),
    }


def _abstract_key(setup: Setup) -> Any:
    key = setup.train_key
    return jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=setup.shard.replicated)


def compile_step(config: ConfigDict, setup: Setup) -> jax.stages.Compiled:
    """Returns the compiled training step of a run."""
    batch = _abstract_batch(config, setup)
    return setup.step_fn.lower(setup.abstract, batch, _abstract_key(setup)).compile()


def compile_class_side(config: ConfigDict, setup: Setup) -> jax.stages.Compiled:
    """Returns the compiled loss and gradients above the features, of a whole step.

    From features [b, d] and the centres to the gradients of both; with Partial FC the
    draw of the classes is part of it. The update of the centres is not.
    """
    rows, length = config.data.batch_size, config.model.embedding_dim

    def abstract(shape):
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=setup.shard.rows)

    features: Any = abstract((rows, *_views(config), length))
    objective = setup.objective
    if objective.takes_feature_map:
        shape = models.feature_map_shape(config.model)
        features = (features, abstract((rows, *shape)))

    def loss(features, head, batch, aux, key):
        sample = objective.sample(batch, key)
        rows = states.take_rows(head, sample, setup.mesh)

        def value(features, rows):
            centres = head.get("centres")
            given = (features, rows, batch, aux, sample, centres, key)
            return objective.loss(*given)[0]

        return jax.grad(value, argnums=(0, 1))(features, rows)

    head, aux = setup.abstract.params["head"], setup.abstract.aux
    batch, key = _abstract_batch(config, setup), _abstract_key(setup)
    if objective.compares_with_start:
        batch["original"] = abstract((rows, length))
    return jax.jit(loss).lower(features, head, batch, aux, key).compile()


def compile_creation(setup: Setup) -> jax.stages.Compiled:
    """Returns the compiled program that makes the state of a new run."""
    places = jax.tree.map(lambda leaf: leaf.sharding, setup.abstract)
    created = states.jit_create(setup.create, places)
    return created.lower(setup.init_key).compile()


def plan(config: ConfigDict, *, num_classes: int, images: int) -> Plan:
    """Compiles the training step for all devices of this process and reads its needs.

    Args:
        config: Validated config.
        num_classes: Identities of the training set.
        images: Its images, for the number of steps.

    Raises:
        ConfigError: if a size cannot be cut over the devices.
    """
    setup = build(config, Counts(num_classes, images))
    abstract, compiled = setup.abstract, compile_step(config, setup)
    memory = compiled.memory_analysis()
    centres, backbone = _split(abstract.params)
    centre_state, backbone_state = _split(abstract.opt_state)
    above = compile_class_side(config, setup)
    needed, made = above.memory_analysis(), compile_creation(setup).memory_analysis()
    class_side = min(
        needed.temp_size_in_bytes + needed.output_size_in_bytes,
        memory.temp_size_in_bytes,
    )
    items = {
        "backbone parameters and statistics": backbone + _per_device(abstract.stats),
        "backbone optimizer state": backbone_state,
        "class centres": centres,
        "class centres' optimizer state": centre_state,
        STATE: _per_device((abstract.aux, abstract.averaged, abstract.original)),
        CLASS_SIDE: class_side,
        ACTIVATIONS: memory.temp_size_in_bytes - class_side,
        "batch": _per_device(_abstract_batch(config, setup)),
    }
    peak = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )
    return Plan(
        items=items,
        peak=peak,
        creation=made.output_size_in_bytes + made.temp_size_in_bytes,
        whole=compiled_cost.read(compiled.as_text()),
        class_side=compiled_cost.read(above.as_text()),
        batch_size=config.data.batch_size,
        total_steps=setup.length.total_steps,
    )
