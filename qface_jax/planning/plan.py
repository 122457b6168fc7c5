"""What a training step needs per device, from compiling it for devices not there.

The step is compiled ahead of time for a mesh of devices that need not exist; nothing is
allocated, and what is stored is exact. For TPUs their own compiler does it. Else it is
that of this machine's CPU, so temporary memory on an accelerator can differ by its own
layouts and scratch space: a CPU computes bfloat16 in float32 and recomputes early what
`model.remat` drops, so what these two save in activations hardly shows. Work and bytes
sent are those of the compiled program: another compiler may join or cut collectives,
but has the same arrays to move.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from qface_jax import models, objectives
from qface_jax.objectives.objective import Context, Encoders
from qface_jax.planning import compiled_cost, memory_traffic
from qface_jax.planning.compiled_cost import Cost
from qface_jax.train import state as states
from qface_jax.train import step as steps
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
        step: Work and traffic of a step.
        class_side: The part of it above the features: loss and gradients.
        moved: Bytes that a step moves between a device's memory and its core; None
            where the compiler is that of a CPU.
        batch_size: Images per step over all devices.
        total_steps: Updates of the whole run.
    """

    items: dict[str, int]
    peak: int
    creation: int
    step: Cost
    class_side: Cost
    moved: int | None
    batch_size: int
    total_steps: int


def _per_device(tree: Any) -> int:
    """Bytes of a tree of abstract arrays on one device."""
    return sum(
        int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def _split(tree: Any, class_rows: tuple[str, ...]) -> tuple[int, int]:
    """Bytes on one device of the leaves with a row per class, and of all others."""
    cut, others = [], []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        (cut if states.is_under(class_rows, path, leaf) else others).append(leaf)
    return _per_device(cut), _per_device(others)


def _abstract_batch(config: ConfigDict, setup: Setup) -> dict[str, Any]:
    """Shapes of the batch that a step is given."""
    views = 1 if setup.degrade else objectives.entry(config).views
    return _abstract_images(config, setup, views)


def _abstract_seen(config: ConfigDict, setup: Setup) -> dict[str, Any]:
    """Shapes of the batch that the loss sees."""
    return _abstract_images(config, setup, objectives.entry(config).views)


def _abstract_images(config: ConfigDict, setup: Setup, views: int) -> dict[str, Any]:
    rows = config.data.batch_size
    axes = (rows, views) if views > 1 else (rows,)
    shape = (*axes, models.IMAGE_SIDE, models.IMAGE_SIDE, 3)
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


class _Encoded(NamedTuple):
    """What a loss has encoded, in the order in which it asked.

    Attributes:
        learned: Outputs of `Encoders.train`, without the statistics.
        fixed: Outputs of `Encoders.evaluate`.
    """

    learned: list[Any]
    fixed: list[Any]


def _shapes_encoded(setup: Setup, batch: Any, key: Any) -> _Encoded:
    """Shapes of what the loss has encoded in a step."""
    shapes = _Encoded([], [])

    def keep(into, rows):
        into.append(
            jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(
                    leaf.shape, leaf.dtype, sharding=setup.shard.rows
                ),
                rows,
            )
        )

    def run(state, batch, key):
        encode = steps.encoders(setup.model, state.stats, key, 1, setup.mesh)

        def train(*arguments, **named):
            features, stats = encode.train(*arguments, **named)
            keep(shapes.learned, features)
            return features, stats

        def evaluate(*arguments):
            features = encode.evaluate(*arguments)
            keep(shapes.fixed, features)
            return features

        head = state.params["head"]
        sample = setup.objective.sample(batch, key)
        rows = states.take_rows(head, sample, setup.mesh, setup.objective.class_rows)
        context = Context(state.kept, head, sample, key)
        params = state.params | {"head": rows}
        return setup.objective.loss(Encoders(train, evaluate), params, batch, context)

    jax.eval_shape(run, setup.abstract, batch, key)
    return shapes


def compile_class_side(config: ConfigDict, setup: Setup) -> jax.stages.Compiled:
    """Returns the compiled loss and gradients above the features, of a whole step.

    From features [b, d] and the centres to the gradients of both; with Partial FC the
    draw of the classes is part of it. The update of the centres is not.
    """
    objective = setup.objective
    batch, key = _abstract_seen(config, setup), _abstract_key(setup)

    def loss(encoded, head, batch, kept, key):
        sample = objective.sample(batch, key)
        rows = states.take_rows(head, sample, setup.mesh, objective.class_rows)

        def value(learned, rows):
            features, others = iter(learned), iter(encoded.fixed)
            encode = Encoders(
                train=lambda *unused, **named: (next(features), {}),
                evaluate=lambda *unused: next(others),
            )
            params = {"backbone": {}, "head": rows}
            context = Context(kept, jax.lax.stop_gradient(head), sample, key)
            return objective.loss(encode, params, batch, context)[0]

        return jax.grad(value, argnums=(0, 1))(encoded.learned, rows)

    head, kept = setup.abstract.params["head"], setup.abstract.kept
    encoded = _shapes_encoded(setup, batch, key)
    return jax.jit(loss).lower(encoded, head, batch, kept, key).compile()


def compile_creation(setup: Setup) -> jax.stages.Compiled:
    """Returns the compiled program that makes the state of a new run."""
    places = jax.tree.map(lambda leaf: leaf.sharding, setup.abstract)
    created = states.jit_create(setup.create, places)
    return created.lower(setup.init_key).compile()


def _is_tpu(mesh: Mesh) -> bool:
    return mesh.devices.flat[0].platform == "tpu"


def plan(
    config: ConfigDict,
    mesh: Mesh,
    *,
    num_classes: int,
    images: int,
    say: Callable[[str], None] = lambda text: None,
) -> Plan:
    """Compiles the training step for the devices of a mesh and reads its needs.

    Args:
        config: Validated config.
        mesh: Devices that the step is compiled for.
        num_classes: Identities of the training set.
        images: Its images, for the number of steps.
        say: Told what is being compiled.

    Raises:
        ConfigError: if a size cannot be cut over the devices.
    """
    setup = build(config, Counts(num_classes, images), mesh)
    say("the training step (1 of 3)")
    abstract, compiled = setup.abstract, compile_step(config, setup)
    text = compiled.as_text()
    class_rows = setup.objective.class_rows
    memory = compiled.memory_analysis()
    centres, backbone = _split(abstract.params, class_rows)
    centre_state, backbone_state = _split(abstract.opt_state, class_rows)
    say("its class side (2 of 3)")
    above = compile_class_side(config, setup)
    say("the making of the state (3 of 3)")
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
        STATE: _per_device(abstract.kept),
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
        step=compiled_cost.read(text),
        class_side=compiled_cost.read(above.as_text()),
        moved=memory_traffic.read(text) if _is_tpu(mesh) else None,
        batch_size=config.data.batch_size,
        total_steps=setup.length.total_steps,
    )
