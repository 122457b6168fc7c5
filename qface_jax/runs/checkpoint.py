"""Checkpoints of a run; the only file that imports orbax.

`RUN/checkpoints/<step>` are the latest, `RUN/best/<step>` the one with the best score.
Orbax writes aside and renames, so a checkpoint is complete or absent. Orbax checks its
own indices, not the arrays: their digests are saved with them, and compared whenever
arrays are loaded.
"""

import math
import shutil
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from qface_jax.errors import ConfigError, UserError
from qface_jax.processes import agreement, hosts
from qface_jax.runs import digest_record, saved_marker
from qface_jax.runs.checkpoint_writer import CheckpointWriter
from qface_jax.runs.damage import DamagedError, named_damage, named_loss_of_folder
from qface_jax.runs.digest_record import Record
from qface_jax.runs.run_folder import BEST, CHECKPOINTS, DAMAGED, steps_in
from qface_jax.runs.saved_tree import leaves, path_of, refuse_other_tree
from qface_jax.storage.retrying import retrying

State = TypeVar("State")  # a pytree of arrays
policies = ocp.training.preservation_policies
SPARE = 1.1  # share of the state's size that must be free before it is written
STATE, DIGESTS = "state", "digests"  # parts of a checkpoint, by Orbax's names
FALL_BACK = "--config.checkpoint.fall_back=True --allow-config-change"
_unverified: set[Path] = set()  # checkpoints that were said to be so


def _context() -> ocp.Context:
    """Orbax's options: the digests are JSON, which it would take for a pytree."""
    registry = ocp.handlers.local_registry()
    registry.add(ocp.handlers.JsonHandler, checkpointable_name=DIGESTS)
    context = ocp.Context()
    context.checkpointables.registry = registry
    # In the background, its writes wait five minutes for a folder that failed.
    context.asynchronous.create_directories_asynchronously = False
    return context


def _saved_tree(checkpointer: ocp.training.Checkpointer, step: int) -> Any:
    """Returns shapes and types of the saved leaves."""
    saved = checkpointer.metadata(step).metadata
    if not leaves(saved):
        raise ValueError("its metadata names no array")
    return saved


def _size(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


class Checkpoints:
    """Saves and restores the states of one run.

    Use as a context manager: leaving it waits for the last write.
    """

    def __init__(self, run: Path, *, keep: int, fall_back: bool = False):
        """Opens the run's checkpoints.

        Args:
            run: Folder of the run.
            keep: Number of the latest ones that are kept, besides the best.
            fall_back: Go on from the one before where the newest is damaged.

        Raises:
            ConfigError: if a folder's name is no step.
            UserError: if what is known of them before they are loaded is damaged.
        """
        self._run, self._keep, self._fall_back = run, keep, fall_back
        self.fell_back_from: list[int] = []  # steps of damaged ones that were set aside
        # Read once: what a shared folder shows may lag behind, from host to host.
        self._steps = steps_in(run / CHECKPOINTS)
        best = max(steps_in(run / BEST), default=None)
        self._latest = self._open(CHECKPOINTS, self._steps, keep)
        self._best = self._open(BEST, [] if best is None else [best], 1)
        self._best_score = -math.inf if best is None else self._score_of(best)

    def _open(self, name: str, steps: list[int], keep: int) -> CheckpointWriter:
        folder = self._run / name

        def reopen() -> ocp.training.Checkpointer:
            return ocp.training.Checkpointer(
                folder.absolute(),
                context=_context(),
                preservation_policy=policies.LatestN(keep),
                cleanup_tmp_directories=True,
            )

        with named_damage(folder / str(max(steps, default=""))):
            return CheckpointWriter(folder, reopen)

    def _score_of(self, best: int) -> float:
        """The score of the best checkpoint, which decides whether it is replaced."""
        folder = self._run / BEST / str(best)
        advice = "remove that folder; the next evaluation saves a best one again"
        with named_damage(folder, advice):
            record = _record(self._best.checkpointer, folder, best)
            # An older version left the score to Orbax.
            score = (
                self._best.checkpointer.latest.metrics["score"]
                if record is None
                else record.score
            )
            if not isinstance(score, int | float) or not math.isfinite(score):
                raise ValueError(f"its score is {score!r}, expected a finite number")
        return float(score)

    def __enter__(self) -> "Checkpoints":
        """Returns itself."""
        return self

    def __exit__(self, *unused: Any) -> None:
        """Waits for the last write."""
        with named_loss_of_folder(self._run):
            self._forget(self._latest.close())
            self._mark_saved()
            self._best.close()

    @property
    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, also while it is written; None without one."""
        return self._steps[-1] if self._steps else None

    @property
    def best_score(self) -> float:
        """Score of the best checkpoint; -inf without one."""
        return self._best_score

    def restore_latest(self, abstract: State) -> State | None:
        """Returns the newest state, sharded as `abstract`; None without a checkpoint.

        Every array is compared with its digest. Where the newest one is damaged and the
        run may fall back, that one is moved to RUN/damaged and the one before is taken.

        Raises:
            ConfigError: if it is of another model, naming the leaves that differ.
            UserError: if it is damaged, naming the arrays that are not as saved.
        """
        while (step := self.latest_step) is not None:
            state, record, damage = None, None, None
            try:
                state, record = self._load(step, abstract)
            except DamagedError as error:
                damage = error
            damage = self._agreed(damage)
            if damage is None and record is not None:
                try:
                    with named_damage(self._run / CHECKPOINTS / str(step)):
                        digest_record.refuse_other_values(record, leaves(state))
                except DamagedError as error:
                    damage = error
                damage = self._agreed(damage)
            if damage is None:
                self._mark_saved()
                return state
            del state  # a second one may not fit into memory
            self._set_aside(step, damage)
        return None

    def _load(self, step: int, abstract: State) -> tuple[State, Record | None]:
        folder = self._run / CHECKPOINTS / str(step)
        checkpointer = self._latest.checkpointer
        with named_damage(folder):
            record = retrying(lambda: _record(checkpointer, folder, step), folder)
            saved = retrying(lambda: _saved_tree(checkpointer, step), folder)
            if record is not None:
                digest_record.refuse_other_arrays(record, leaves(saved))
        refuse_other_tree(folder, saved, abstract)
        with named_damage(folder):
            state = retrying(lambda: checkpointer.load(step, abstract), folder)
            return state, record

    def _agreed(self, damage: DamagedError | None) -> DamagedError | None:
        """The damage that any process met, where all of them may fall back from it."""
        if not self._fall_back:
            if damage is not None:
                before = len(self._steps) > 1
                raise DamagedError(
                    f"{damage}"
                    + (f" (as {FALL_BACK} does by itself)" if before else "")
                ) from damage
            return None
        any_met = agreement.any_says(damage is not None)
        if any_met and damage is None:
            return DamagedError("checkpoint is damaged for another process of the run")
        return damage

    def _set_aside(self, step: int, damage: DamagedError) -> None:
        """Moves a damaged checkpoint out of the way, so that its step can be saved."""
        if len(self._steps) < 2:
            raise damage
        aside = self._run / DAMAGED / str(step)
        hosts.say(
            f"warning: {damage}\n"
            f"warning: checkpoint.fall_back is set: going on from step "
            f"{self._steps[-2]}; the damaged one is moved to {aside}, which you may "
            "remove"
        )
        self._latest.close()
        if hosts.first():
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(exist_ok=True)
            (self._run / CHECKPOINTS / str(step)).rename(aside)
        agreement.meet()
        self.fell_back_from.append(self._steps.pop())
        self._latest = self._open(CHECKPOINTS, self._steps, self._keep)

    def save(self, step: int, state: Any) -> None:
        """Starts writing the state; nothing happens if that step is already saved."""
        if self.latest_step != step:
            self._check_space(state)
            self._forget(self._save(self._latest, step, state))
            self._mark_saved()  # the one before, which was waited for
            self._steps.append(step)

    def save_best(self, step: int, state: Any, score: float) -> bool:
        """Saves the state if its score is the best so far; returns whether it is.

        Raises:
            ValueError: the score is no finite number.
        """
        if not math.isfinite(score):
            raise ValueError(f"score: got {score}, expected a finite number")
        if not score > self.best_score:
            return False
        self._check_space(state)
        self._save(self._best, step, state, overwrite=True, score=float(score))
        self._best_score = float(score)
        return True

    def _save(self, writer, step, state, *, overwrite=False, score=None) -> list[int]:
        record = digest_record.to_json(leaves(state), score)
        with named_loss_of_folder(self._run):
            return writer.save(
                step, {STATE: state, DIGESTS: record}, overwrite=overwrite
            )

    def _forget(self, lost: list[int]) -> None:
        self._steps = [step for step in self._steps if step not in lost]

    def _mark_saved(self) -> None:
        if hosts.first() and self.latest_step is not None:
            saved_marker.write(self._run, self.latest_step)

    def _check_space(self, state: Any) -> None:
        need = int(_size(state) * SPARE)
        with named_loss_of_folder(self._run):
            free = shutil.disk_usage(self._run).free
        if free < need:
            raise UserError(
                f"{self._run}: no space for a checkpoint: {free / 2**20:,.0f} MiB "
                f"free, {need / 2**20:,.0f} MiB needed; the last one saved is step "
                f"{self.latest_step}; make room and run the same command again"
            )


def saved_steps(run: Path) -> dict[str, int | None]:
    """Returns the steps of a run's `last` and `best` checkpoint; None without one.

    Raises:
        ConfigError: if a folder's name is no step.
    """
    return {
        which: max(steps_in(run / folder), default=None)
        for which, folder in (("last", CHECKPOINTS), ("best", BEST))
    }


def save_parts(run: Path, tree: dict[str, Any]) -> None:
    """Writes nested dicts of arrays as the run's checkpoint of step 0, and waits.

    Args:
        run: Folder of the run.
        tree: Sub-trees of a state by name. Orbax keeps no branch without leaves.
    """
    record = digest_record.to_json(leaves(tree))
    with ocp.training.Checkpointer(
        (run / CHECKPOINTS).absolute(), context=_context()
    ) as checkpointer:
        checkpointer.save_checkpointables(0, {STATE: tree, DIGESTS: record})


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
        leaves are not read. Those that are, are compared with their digests.

    Raises:
        ConfigError: if the run has no such checkpoint.
        UserError: if it is damaged, naming the arrays that are not as saved.
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
        named_damage(folder / str(step)),
        ocp.training.Checkpointer(
            folder.absolute(), context=_context()
        ) as checkpointer,
    ):
        place = folder / str(step)
        record = retrying(lambda: _record(checkpointer, place, step), place)
        saved = retrying(lambda: _saved_tree(checkpointer, step), place)
        if record is not None:
            digest_record.refuse_other_arrays(record, leaves(saved))

        def wanted(keys, leaf):
            name = path_of(keys)
            inside = any(f"{name}/".startswith(f"{path}/") for path in paths)
            if inside and like is None:
                # A numpy leaf asks for a numpy array: no device layout is needed.
                return np.empty(leaf.shape, leaf.dtype)
            ours = like.get(name) if inside else None
            if ours is None or ours.shape != leaf.shape:
                return ocp.PLACEHOLDER
            # In the saved type, of which the digest is.
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=ours.sharding)

        abstract = jax.tree_util.tree_map_with_path(wanted, saved)
        loaded = retrying(lambda: checkpointer.load(step, abstract), place)
        if record is not None:
            read = {
                name: leaf
                for name, leaf in leaves(loaded).items()
                if leaf is not ocp.PLACEHOLDER
            }
            digest_record.refuse_other_values(record, read)

        def taken(keys, leaf, saved):
            if leaf is ocp.PLACEHOLDER:
                return saved
            name = path_of(keys)
            return leaf if like is None else leaf.astype(like[name].dtype)

        loaded = jax.tree_util.tree_map_with_path(taken, loaded, saved)
    subtrees = {}
    for path in paths:
        tree = loaded
        for name in path.split("/"):
            tree = tree.get(name, {})
        subtrees[path] = tree
    return subtrees


def _record(checkpointer: Any, folder: Path, step: int) -> Record | None:
    """The digests of a checkpoint; None, and said once, where it has none."""
    if not (folder / DIGESTS).is_dir():
        if folder.is_dir() and folder not in _unverified:
            _unverified.add(folder)
            hosts.say(
                f"{folder}: was saved without digests, by an older version: it is not "
                "verified that its arrays are those that were saved"
            )
        return None
    document = checkpointer.load_checkpointables(step, {DIGESTS: None})[DIGESTS]
    return digest_record.from_json(document)
