"""What a run carries from step to step, as one pytree; one checkpoint holds it."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int

from qface_jax.models import Model
from qface_jax.objectives.objective import Objective
from qface_jax.sharded import class_sample
from qface_jax.sharded.class_sample import ClassSample
from qface_jax.sharded.parallel import Shardings

CENTRES = "centres"  # parameters of this name, and their optimizer state, are sharded
QUEUE = "queue"  # and so is what the objective keeps under this name
NEVER = -1


@flax.struct.dataclass
class TrainState:
    """State of a run.

    Attributes:
        step: Updates done so far, int32 [].
        params: `backbone` and `head` parameters.
        stats: Running statistics of the backbone's batch norms.
        aux: State of the objective: norm statistics and the like.
        opt_state: State of the optimizer.
        bad_step: First step whose loss or gradient was not finite, int32 []; -1: none.
        averaged: `backbone` and `stats` of the encoder averaged over the steps; None
            where the objective has none.
        original: `backbone` and `stats` at the start, where the objective compares
            with them; else None.
    """

    step: Int[Array, ""]
    params: dict[str, Any]
    stats: Any
    aux: Any
    opt_state: Any
    bad_step: Int[Array, ""]
    averaged: Any = None
    original: Any = None


def create(
    key: jax.Array,
    *,
    model: Model,
    objective: Objective,
    tx: optax.GradientTransformation,
) -> TrainState:
    """Returns the state before the first step; a pure function of the key."""
    backbone_key, head_key = jax.random.split(key)
    backbone, stats = model.init(backbone_key)
    head, aux = objective.init(head_key)
    params = {"backbone": backbone, "head": head}
    encoder = {"backbone": backbone, "stats": stats}
    return TrainState(
        step=jnp.int32(0),
        params=params,
        stats=stats,
        aux=aux,
        opt_state=tx.init(params),
        bad_step=jnp.int32(NEVER),
        averaged=None if objective.encoder_decay is None else encoder,
        original=encoder if objective.compares_with_start else None,
    )


def average(old: Any, new: Any, *, step: Int[Array, ""], decay: float | None) -> Any:
    """Returns the moving average of a tree, m old + (1 - m) new; None where it is None.

    m = min(decay, (1 + step) / (10 + step)), so that the first steps, which hardly
    resemble what follows, are forgotten soon.

    Args:
        old: Average so far.
        new: Values after this step.
        step: Updates done before it.
        decay: m in the long run, within [0, 1).
    """
    if old is None:
        return None
    early = (1.0 + step) / (10.0 + step)
    keep = jnp.minimum(jnp.float32(decay), early.astype(jnp.float32))
    return jax.tree.map(lambda a, b: keep * a + (1.0 - keep) * b, old, new)


def jit_create(create_fn: Any, places: TrainState) -> Any:
    """Returns the jitted (key) -> state that makes each leaf where it will live.

    Args:
        create_fn: (key) -> state, as `create`.
        places: Sharding of each leaf.
    """
    # It runs once. On CPUs most of it would be spent on optimising code for one draw
    # after another, longer than the whole training step takes to compile.
    quick = {"xla_backend_optimization_level": 1}
    options = quick if jax.default_backend() == "cpu" else None
    return jax.jit(create_fn, out_shardings=places, compiler_options=options)


def is_cut(path: tuple, leaf: Any) -> bool:
    """Whether a leaf has a row for each class: the centres and their optimizer state.

    The optimizer's state repeats the parameters' names, so one rule finds both.
    """
    return _stands_under(CENTRES, path) and leaf.ndim > 0


def _stands_under(name: str, path: tuple) -> bool:
    return name in [getattr(entry, "key", None) for entry in path]


def state_shardings(abstract: TrainState, shardings: Shardings) -> TrainState:
    """Returns where each leaf lives: centres and queue cut in rows, all else whole."""

    def place(path, leaf):
        queued = _stands_under(QUEUE, path) and leaf.ndim > 0
        cut = queued or is_cut(path, leaf)
        return shardings.rows if cut else shardings.replicated

    return jax.tree_util.tree_map_with_path(place, abstract)


def abstract_state(create_fn: Any, key: jax.Array, shardings: Shardings) -> TrainState:
    """Returns shapes, types and shardings of the state, without any memory."""
    abstract = jax.eval_shape(create_fn, key)
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=place
        ),
        abstract,
        state_shardings(abstract, shardings),
    )


def take_rows(tree: Any, sample: ClassSample | None, mesh: Mesh) -> Any:
    """Returns the tree with the sampled rows of each leaf that has a row per class.

    Args:
        tree: Parameters, optimizer state, or both.
        sample: Sampled classes; None: the tree as it is.
        mesh: Mesh over which those leaves are cut.
    """
    if sample is None:
        return tree
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            class_sample.take(sample, leaf, mesh) if is_cut(path, leaf) else leaf
        ),
        tree,
    )


def put_rows(tree: Any, rows: Any, sample: ClassSample | None, mesh: Mesh) -> Any:
    """Returns `rows`, with each leaf that `take_rows` cut put back into that of `tree`.

    Rows that were not sampled stay as they are, bit for bit.
    """
    if sample is None:
        return rows
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf, new: (
            class_sample.put(sample, leaf, new, mesh) if is_cut(path, leaf) else new
        ),
        tree,
        rows,
    )
