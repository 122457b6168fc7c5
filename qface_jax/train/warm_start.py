"""Starting from another run's weights: what fits is taken, the rest is named."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from qface_jax.errors import ConfigError
from qface_jax.runs import checkpoint, run_folder
from qface_jax.train.state import CENTRES, TrainState, is_cut


class WarmStart(NamedTuple):
    """What was taken from another run.

    Attributes:
        state: The state with those leaves put in; step 0, new optimizer state.
        taken: Names of the leaves that were taken.
        left: Names of the leaves that stay as initialised, each with the reason.
    """

    state: TrainState
    taken: list[str]
    left: dict[str, str]


def _named(tree: Any) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _merge(ours: Any, theirs: dict[str, Any], refuse: str) -> tuple[Any, list, dict]:
    """Replaces each leaf of `ours` for which `theirs` has an array.

    `refuse` says why class centres are not taken; "": they are.
    """
    taken, left = [], {}

    def pick(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        other = theirs.get(name)
        if refuse and is_cut(path, leaf):
            left[name] = refuse
        elif other is None:
            left[name] = "the other run has none"
        elif other.shape != leaf.shape:
            left[name] = f"has shape {list(other.shape)} there, {list(leaf.shape)} here"
        else:
            taken.append(name)
            return other
        return leaf

    return jax.tree_util.tree_map_with_path(pick, ours), taken, left


def warm_start(state: TrainState, source: Path, *, num_classes: int) -> WarmStart:
    """Returns the fresh state with the backbone, and where it fits the head, of a run.

    The class centres are taken only if the number of classes is the same, other modules
    of the head always. The optimizer's and the objective's state start new.

    Args:
        state: Freshly created state.
        source: Folder of the other run.
        num_classes: Identities of this run's training set.

    Raises:
        ConfigError: if nothing at all could be taken.
    """
    run = run_folder.read(source)
    parts = ("params/backbone", "stats", "params/head")
    like = _named({"params": state.params, "stats": state.stats})
    refuse = ""
    if run.num_classes != num_classes:
        refuse = f"{run.num_classes or 'no'} classes there, {num_classes} here"
        like.pop(f"params/head/{CENTRES}", None)
    _, saved = checkpoint.load_parts(run.path, "last", parts, like=like)
    backbone, taken, left = _merge(
        {"backbone": state.params["backbone"], "stats": state.stats},
        _named({"backbone": saved["params/backbone"], "stats": saved["stats"]}),
        "",
    )
    head, head_taken, head_left = _merge(
        {"head": state.params["head"]}, _named({"head": saved["params/head"]}), refuse
    )
    if not taken:
        raise ConfigError(
            f"{source}: no leaf of its backbone {run.config.model.backbone} fits this "
            "run's; use the same model.backbone and model.embedding_dim"
        )
    merged = state.replace(
        params={"backbone": backbone["backbone"], "head": head["head"]},
        stats=backbone["stats"],
        # Copies: the step takes the whole state over, and no array twice.
        averaged=jax.tree.map(jnp.copy, backbone) if state.averaged else None,
        original=jax.tree.map(jnp.copy, backbone) if state.original else None,
    )
    return WarmStart(merged, taken + head_taken, left | head_left)


def report(result: WarmStart, source: Path) -> str:
    """Returns what was taken and what was not, in a few lines."""
    total = len(result.taken) + len(result.left)
    lines = [f"started from {source}: took {len(result.taken)} of {total} leaves"]
    lines += [f"  new: {name} ({why})" for name, why in list(result.left.items())[:20]]
    if len(result.left) > 20:
        lines.append(f"  and {len(result.left) - 20} more")
    return "\n".join(lines)
