"""What a training step needs per device, from compiling it for devices not there.

The step is compiled ahead of time for a mesh of virtual devices; nothing is allocated.
The compiler of this machine's CPU does it, so temporary memory on another accelerator
can differ by its own layouts and scratch space; what is stored is exact.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from qface_jax.models import IMAGE_SIDE
from qface_jax.train import state as states
from qface_jax.train.setup import Setup, build


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
    """Bytes per device and the size of the run.

    Attributes:
        items: Bytes by what they are for.
        peak: Bytes that a step needs at once: all stored and temporary memory.
        batch_size: Images per step over all devices.
        total_steps: Updates of the whole run.
    """

    items: dict[str, int]
    peak: int
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


def _abstract_batch(config: ConfigDict, setup: Setup) -> dict[str, Any]:
    rows = config.data.batch_size
    shape = (rows, IMAGE_SIDE, IMAGE_SIDE, 3)
    return {
        "images": jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=setup.shard.rows),
        "labels": jax.ShapeDtypeStruct((rows,), jnp.int32, sharding=setup.shard.rows),
    }


def _abstract_key(setup: Setup) -> Any:
    key = setup.train_key
    return jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=setup.shard.replicated)


def _class_side(config: ConfigDict, setup: Setup, batch: dict[str, Any]) -> int:
    """Temporary bytes of loss and gradient above the features."""
    features = jax.ShapeDtypeStruct(
        (config.data.batch_size, config.model.embedding_dim),
        jnp.float32,
        sharding=setup.shard.rows,
    )
    objective = setup.objective

    def loss(features, head, batch, aux, key):
        sample = objective.sample(batch, key)
        rows = states.take_rows(head, sample, setup.mesh)

        def value(features, rows):
            return objective.loss(features, rows, batch, aux, sample)[0]

        return jax.grad(value, argnums=(0, 1))(features, rows)

    abstract = setup.abstract
    compiled = (
        jax.jit(loss)
        .lower(
            features, abstract.params["head"], batch, abstract.aux, _abstract_key(setup)
        )
        .compile()
        .memory_analysis()
    )
    return compiled.temp_size_in_bytes + compiled.output_size_in_bytes


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
    abstract, batch = setup.abstract, _abstract_batch(config, setup)
    compiled = setup.step_fn.lower(abstract, batch, _abstract_key(setup)).compile()
    memory = compiled.memory_analysis()
    centres, backbone = _split(abstract.params)
    centre_state, backbone_state = _split(abstract.opt_state)
    class_side = min(_class_side(config, setup, batch), memory.temp_size_in_bytes)
    items = {
        "backbone parameters and statistics": backbone + _per_device(abstract.stats),
        "backbone optimizer state": backbone_state,
        "class centres": centres,
        "class centres' optimizer state": centre_state,
        "logits and centre gradients, temporary": class_side,
        "activations and all else, temporary": memory.temp_size_in_bytes - class_side,
        "batch": _per_device(batch),
    }
    peak = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )
    return Plan(items, peak, config.data.batch_size, setup.length.total_steps)


def advice(found: Plan, config: ConfigDict, budget: int) -> list[str]:
    """Returns what to change so that a step fits into `budget` bytes per device."""
    if found.peak <= budget:
        return []
    items, over = found.items, found.peak - budget
    activations = items["activations and all else, temporary"]
    head = sum(size for name, size in items.items() if "centre" in name)
    lines = [f"does not fit: {size(over)} too much on each device"]
    if not config.model.remat and activations > over / 4:
        lines.append(
            "--config.model.remat=true recomputes activations instead of keeping them"
        )
    if config.model.dtype == "float32" and activations > over / 4:
        lines.append("--config.model.dtype=bfloat16 halves most activations")
    if activations > over:
        lines.append("a smaller --config.data.batch_size shrinks the activations")
    if config.classifier.sample_rate == 1.0 and head > over / 4:
        lines.append(
            "--config.classifier.sample_rate=0.1 (Partial FC) shrinks the gradients of "
            "the class centres"
        )
    lines.append("more --devices shrink the class centres and their state")
    return lines


def size(count: int) -> str:
    """Returns bytes in a unit that reads well."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:,.4g} {unit}"
        count /= 1024
    return f"{count:,.2f} GiB"


def table(found: Plan) -> str:
    """Returns the plan as text."""
    width = max(map(len, found.items))
    lines = [f"{name:<{width}}  {size(count):>10}" for name, count in
             found.items.items()]  # fmt: skip
    lines.append(f"{'peak per device':<{width}}  {size(found.peak):>10}")
    lines.append(
        f"global batch {found.batch_size:,} images, {found.total_steps:,} steps"
    )
    return "\n".join(lines)
