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

NEVER = -1
# Encoders that an objective keeps under these names are fields of the state, not in
# `aux`: that is where checkpoints have them.
ENCODERS = ("averaged", "original")


@flax.struct.dataclass
class TrainState:
    """State of a run.

    Attributes:
        step: Updates done so far, int32 [].
        params: `backbone` and `head` parameters.
        stats: Running statistics of the backbone's batch norms.
        aux: State of the objective, but the encoders: norm statistics and the like.
        opt_state: State of the optimizer.
        bad_step: First step whose loss or gradient was not finite, int32 []; -1: none.
        averaged: Encoder {"backbone", "stats"} that the objective keeps, or None; such
            as an average over the steps.
        original: Likewise; such as that of the start.
    """

    step: Int[Array, ""]
    params: dict[str, Any]
    stats: Any
    aux: Any
    opt_state: Any
    bad_step: Int[Array, ""]
    averaged: Any = None
    original: Any = None

    @property
    def encoder(self) -> dict[str, Any]:
        """Weights that turn images into features."""
        return {"backbone": self.params["backbone"], "stats": self.stats}

    @property
    def kept(self) -> dict[str, Any]:
        """Whole state of the objective, encoders among it."""
        encoders = {name: getattr(self, name) for name in ENCODERS}
        return self.aux | {k: v for k, v in encoders.items() if v is not None}

    def with_kept(self, kept: dict[str, Any]) -> "TrainState":
        """Returns this state with another one of the objective."""
        encoders = {name: kept.get(name) for name in ENCODERS}
        aux = {name: value for name, value in kept.items() if name not in ENCODERS}
        return self.replace(aux=aux, **encoders)


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
    head, kept = objective.init(head_key)
    params = {"backbone": backbone, "head": head}
    state = TrainState(
        step=jnp.int32(0),
        params=params,
        stats=stats,
        aux={},
        opt_state=tx.init(params),
        bad_step=jnp.int32(NEVER),
    )
    return state.with_kept(objective.start(kept, state.encoder))


def jit_create(create_fn: Any, places: TrainState) -> Any:
    """Returns the jitted (key) -> state that makes each leaf where it will live.

    Args:
        create_fn: (key) -> state, as `create`.
        places: Sharding of each leaf.
    """
    # It runs once. On CPUs most of it would be spent on optimising code for one draw
    # after another, longer than the whole training step takes to compile.
    device = jax.tree.leaves(places)[0].mesh.devices.flat[0]
    quick = {"xla_backend_optimization_level": 1}
    options = quick if device.platform == "cpu" else None
    return jax.jit(create_fn, out_shardings=places, compiler_options=options)


def is_under(names: tuple[str, ...], path: tuple, leaf: Any) -> bool:
    """Returns whether a leaf is an array below an entry of one of the names.

    The optimizer's state repeats the parameters' names, so one rule finds both.
    """
    keys = [getattr(entry, "key", None) for entry in path]
    return leaf.ndim > 0 and any(name in keys for name in names)


def state_shardings(
    abstract: TrainState, shardings: Shardings, cut: tuple[str, ...]
) -> TrainState:
    """Returns where each leaf lives.

    Args:
        abstract: Shapes of the state.
        shardings: Shardings on the mesh.
        cut: Names below which arrays are cut in rows; all else is on every device.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            shardings.rows if is_under(cut, path, leaf) else shardings.replicated
        ),
        abstract,
    )


def abstract_state(
    create_fn: Any, key: jax.Array, shardings: Shardings, cut: tuple[str, ...]
) -> TrainState:
    """Returns shapes, types and shardings of the state, without any memory.

    Args:
        create_fn: key -> state, as `create`.
        key: Any key.
        shardings: Shardings on the mesh.
        cut: As in `state_shardings`.
    """
    abstract = jax.eval_shape(create_fn, key)
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=place
        ),
        abstract,
        state_shardings(abstract, shardings, cut),
    )


def take_rows(
    tree: Any, sample: ClassSample | None, mesh: Mesh, names: tuple[str, ...]
) -> Any:
    """Returns the tree with the sampled rows of each leaf that has a row per class.

    Args:
        tree: Parameters, optimizer state, or both.
        sample: Sampled classes; None: the tree as it is.
        mesh: Mesh over which those leaves are cut.
        names: Names of those parameters, `Objective.class_rows`.
    """
    if sample is None:
        return tree
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            class_sample.take(sample, leaf, mesh)
            if is_under(names, path, leaf)
            else leaf
        ),
        tree,
    )


def put_rows(
    tree: Any,
    rows: Any,
    sample: ClassSample | None,
    mesh: Mesh,
    names: tuple[str, ...],
) -> Any:
    """Returns `rows`, with each leaf that `take_rows` cut put back into that of `tree`.

    Rows that were not sampled stay as they are, bit for bit.
    """
    if sample is None:
        return rows
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf, new: (
            class_sample.put(sample, leaf, new, mesh)
            if is_under(names, path, leaf)
            else new
        ),
        tree,
        rows,
    )
