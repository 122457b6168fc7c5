"""Checkpoints of a run; the only file that imports orbax.

`RUN/checkpoints/<step>` are the latest, `RUN/best/<step>` the one with the best score.
Orbax writes aside and renames, so a checkpoint is complete or absent.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from qface_jax.errors import ConfigError, UserError
from qface_jax.runs.run_folder import BEST, CHECKPOINTS

State = TypeVar("State")  # a pytree of arrays
policies = ocp.training.preservation_policies
SPARE = 1.1  # share of the state's size that must be free before it is written


def _key(entry: Any) -> str:
    """Returns the name of an entry of a path: a dict key, an attribute, a position."""
    for name in ("key", "name", "idx"):
        if hasattr(entry, name):
            return str(getattr(entry, name))
    raise TypeError(f"unexpected pytree path entry {entry!r}")


def _leaves(tree: Any) -> dict[str, Any]:
    return {
        "/".join(_key(entry) for entry in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _describe(leaf: Any) -> str:
    return f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"


def _refuse_other_tree(path: Path, saved: Any, wanted: Any) -> None:
    """Raises ConfigError that names the leaves that differ; Orbax does not."""
    have, want = _leaves(saved), _leaves(wanted)
    lines = [f"  {name}: only in the checkpoint" for name in have if name not in want]
    lines += [f"  {name}: not in the checkpoint" for name in want if name not in have]
    lines += [
        f"  {name}: {_describe(have[name])} saved, {_describe(want[name])} expected"
        for name in want
        if name in have and _describe(have[name]) != _describe(want[name])
    ]
    if lines:
        shown = "\n".join(lines[:8])
        more = f"\n  and {len(lines) - 8} more" if len(lines) > 8 else ""
        raise ConfigError(
            f"{path}: checkpoint of another model or optimizer\n{shown}{more}\n"
            "give another --workdir, or --init-from to take over what fits"
        )


def _saved_tree(checkpointer: ocp.training.Checkpointer, step: int) -> Any:
    """Returns shapes and types of the saved leaves."""
    saved = checkpointer.metadata(step).metadata
    if not _leaves(saved):
        raise ValueError("its metadata names no array")
    return saved


@contextlib.contextmanager
def _named_damage(folder: Path) -> Iterator[None]:
    """Turns whatever Orbax raises on a damaged checkpoint into one message."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        others = sorted(p.name for p in folder.parent.glob("*") if p.name.isdigit())
        others = [name for name in others if name != folder.name]
        instead = f"go on from step {', '.join(others)}" if others else "start again"
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"{folder}: checkpoint is damaged or gone ({reason}); remove that folder "
            f"to {instead}"
        ) from error


def _size(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


class Checkpoints:
    """Saves and restores the states of one run.

    Use as a context manager: leaving it waits for the last write.
    """

    def __init__(self, run: Path, *, keep: int):
        """Opens the run's checkpoints.

        Args:
            run: Folder of the run.
            keep: Number of the latest ones that are kept, besides the best.
        """
        self._run = run
        self._latest = ocp.training.Checkpointer(
            (run / CHECKPOINTS).absolute(),
            preservation_policy=policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )
        self._best = ocp.training.Checkpointer(
            (run / BEST).absolute(),
            preservation_policy=policies.LatestN(1),
            cleanup_tmp_directories=True,
        )
        # Read once: what a shared folder shows may lag behind, from host to host.
        latest, best = self._latest.latest, self._best.latest
        self._latest_step = None if latest is None else latest.step
        self._best_score = -np.inf if best is None else float(best.metrics["score"])

    def __enter__(self) -> "Checkpoints":
        """Returns itself."""
        return self

    def __exit__(self, *unused: Any) -> None:
        """Waits for the last write."""
        self._latest.close()
        self._best.close()

    @property
    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, also while it is written; None without one."""
        return self._latest_step

    @property
    def best_score(self) -> float:
        """Score of the best checkpoint; -inf without one."""
        return self._best_score

    def restore_latest(self, abstract: State) -> State | None:
        """Returns the newest state, sharded as `abstract`; None without a checkpoint.

        Raises:
            ConfigError: if it is of another model, naming the leaves that differ.
            UserError: if it is damaged.
        """
        step = self.latest_step
        if step is None:
            return None
        folder = self._run / CHECKPOINTS / str(step)
        with _named_damage(folder):
            saved = _saved_tree(self._latest, step)
        _refuse_other_tree(folder, saved, abstract)
        with _named_damage(folder):
            return self._latest.load(step, abstract)

    def save(self, step: int, state: Any) -> None:
        """Starts writing the state; nothing happens if that step is already saved."""
        if self.latest_step != step:
            self._check_space(state)
            self._latest.save_async(step, state, force=True)
            self._latest_step = step

    def save_best(self, step: int, state: Any, score: float) -> bool:
        """Saves the state if its score is the best so far; returns whether it is."""
        if not score > self.best_score:
            return False
        self._check_space(state)
        self._best.save_async(
            step, state, force=True, overwrite=True, metrics={"score": float(score)}
        )
        self._best_score = float(score)
        return True

    def _check_space(self, state: Any) -> None:
        need = int(_size(state) * SPARE)
        free = shutil.disk_usage(self._run).free
        if free < need:
            raise UserError(
                f"{self._run}: no space for a checkpoint: {free / 2**20:,.0f} MiB "
                f"free, {need / 2**20:,.0f} MiB needed; the last one saved is step "
                f"{self.latest_step}; make room and run the same command again"
            )


def saved_steps(run: Path) -> dict[str, int | None]:
    """Returns the steps of a run's `last` and `best` checkpoint; None without one."""
    steps = {}
    for which, folder in (("last", CHECKPOINTS), ("best", BEST)):
        names = [p.name for p in (run / folder).glob("*") if p.name.isdigit()]
        steps[which] = max(map(int, names), default=None)
    return steps


def save_parts(run: Path, tree: dict[str, Any]) -> None:
    """Writes nested dicts of arrays as the run's checkpoint of step 0, and waits.

    Args:
        run: Folder of the run.
        tree: Sub-trees of a state by name. Orbax keeps no branch without leaves.
    """
    with ocp.training.Checkpointer((run / CHECKPOINTS).absolute()) as checkpointer:
        checkpointer.save(0, tree)


def load_parts(
    run: Path,
    which: str,
    paths: tuple[str, ...],
    *,
    like: dict[str, Any] | None = None,
) -> tuple[int, dict]:
    """Returns sub-trees of a saved state, in this host's memory or on the devices.

    Args:
        run: Folder of the run.
        which: "last" or "best".
        paths: Of the sub-trees, such as "params/backbone".
        like: Path of a leaf -> an array of this run. A saved leaf of its shape comes
            is loaded in its type and onto its devices, so that no host holds all
            class centres; of other leaves only shape and type are returned.

    Returns:
        The checkpoint's step, and a dict from each path to its nested dicts of arrays:
        NumPy's, or as `like` says; {} where the checkpoint has no such sub-tree. Other
        leaves are not read.

    Raises:
        ConfigError: if the run has no such checkpoint.
        UserError: if it is damaged.
    """
    step = saved_steps(run)[which]
    if step is None:
        raise ConfigError(f"{run}: has no '{which}' checkpoint yet")
    folder = run / (CHECKPOINTS if which == "last" else BEST)
    try:
        return step, _load_parts(folder, step, paths, like)
    except UserError:
        # A run in progress replaces its checkpoints: take the new one.
        newer = saved_steps(run)[which]
        if newer in (step, None):
            raise
    return newer, _load_parts(folder, newer, paths, like)


def _load_parts(folder, step, paths, like) -> dict:
    with (
        _named_damage(folder / str(step)),
        ocp.training.Checkpointer(folder.absolute()) as checkpointer,
    ):
        saved = _saved_tree(checkpointer, step)

        def wanted(keys, leaf):
            name = "/".join(_key(entry) for entry in keys)
            inside = any(f"{name}/".startswith(f"{path}/") for path in paths)
            if inside and like is None:
                # A numpy leaf asks for a numpy array: no device layout is needed.
                return np.empty(leaf.shape, leaf.dtype)
            ours = like.get(name) if inside else None
            if ours is None or ours.shape != leaf.shape:
                return ocp.PLACEHOLDER
            return jax.ShapeDtypeStruct(leaf.shape, ours.dtype, sharding=ours.sharding)

        abstract = jax.tree_util.tree_map_with_path(wanted, saved)
        loaded = checkpointer.load(step, abstract)
        loaded = jax.tree.map(
            lambda leaf, saved: saved if leaf is ocp.PLACEHOLDER else leaf,
            loaded,
            saved,
        )
    subtrees = {}
    for path in paths:
        tree = loaded
        for name in path.split("/"):
            tree = tree.get(name, {})
        subtrees[path] = tree
    return subtrees
