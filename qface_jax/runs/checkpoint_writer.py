"""Writes checkpoints in the background, and again where storage fails for a moment."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from qface_jax.errors import UserError
from qface_jax.processes import hosts
from qface_jax.storage.retrying import is_transient, retrying

_PATIENCE = 60.0  # s of waiting for a write before each word about it
_LOST_IN_A_ROW = 3  # then the run ends: it would go on without any


class _Pending(NamedTuple):
    step: int
    parts: dict[str, Any]
    overwrite: bool
    response: Any


class CheckpointWriter:
    """One folder of checkpoints, of which one at a time is written.

    The arrays of a checkpoint are copied from the devices before `save` returns, and
    written after it. Where that fails, and the run has replaced the arrays meanwhile,
    that checkpoint is lost and the next one is written in its place; where they are
    still there, as at the end of a run, it is written again. On several hosts a write
    that failed for one of them ends the run, from which it goes on when started again.
    """

    def __init__(self, folder: Path, reopen: Callable[[], Any]):
        """Opens the folder.

        Args:
            folder: For messages.
            reopen: Returns Orbax's checkpointer of the folder; removes what was left
                half-written.
        """
        self._folder, self._reopen = folder, reopen
        self._pending: _Pending | None = None
        self._lost_in_a_row = 0
        self.checkpointer = retrying(reopen, folder)

    def save(
        self, step: int, parts: dict[str, Any], *, overwrite: bool = False
    ) -> list[int]:
        """Waits for the write before, and starts writing.

        Args:
            step: Of the checkpoint.
            parts: What it consists of, by name: pytrees of arrays, or JSON.
            overwrite: Replace a checkpoint of the same step.

        Returns:
            Steps of checkpoints that were lost meanwhile, one at most.

        Raises:
            UserError: the storage keeps failing.
        """
        lost = self.settle()

        def start() -> Any:
            return self.checkpointer.save_checkpointables_async(
                step, parts, force=True, overwrite=overwrite
            )

        response = self._again(start) if _is_alone() else start()
        self._pending = _Pending(step, parts, overwrite, response)
        return lost

    def settle(self) -> list[int]:
        """Waits for the last write; returns the step of a checkpoint that was lost."""
        pending, self._pending = self._pending, None
        if pending is None or pending.response is None:
            return []
        try:
            self._wait_for(pending)
        except Exception as error:
            if not is_transient(error) or not _is_alone():
                raise
            return self._mended(pending, error)
        self._lost_in_a_row = 0
        return []

    def close(self) -> list[int]:
        """Waits for the last write and closes the folder; returns as `settle`."""
        try:
            lost = self.settle()
        except BaseException:
            self._shut()
            raise
        if error := self._shut():
            reason = str(error).splitlines()[0][:200]
            hosts.say(
                f"warning: {self._folder}: {reason}; the last checkpoint is whole, an "
                "older one may not have been removed"
            )
        return lost

    def _wait_for(self, pending: _Pending) -> None:
        """Waits without a limit, as storage may be back later, and says so."""
        began = time.monotonic()
        while True:
            asked = time.monotonic()
            try:
                pending.response.result(timeout=_PATIENCE)
                return
            except TimeoutError:
                now = time.monotonic()
                if now - asked < _PATIENCE:  # it is the write's own error
                    raise
                hosts.say(
                    f"{self._folder}: step {pending.step:,} is still being written; "
                    f"waiting for the storage ({(now - began) / 60:.0f} min)"
                )

    def _mended(self, pending: _Pending, error: Exception) -> list[int]:
        if not _is_gone(pending.parts):

            def write() -> None:
                self.checkpointer.save_checkpointables(
                    pending.step, pending.parts, force=True, overwrite=True
                )

            retrying(self._open_again, self._folder)
            self._again(write)
            self._lost_in_a_row = 0
            return []
        self._lost_in_a_row += 1
        reason = str(error).splitlines()[0][:200]
        text = f"{self._folder}: step {pending.step:,} could not be saved ({reason})"
        if self._lost_in_a_row == _LOST_IN_A_ROW:
            raise UserError(
                f"{text}, nor the {_LOST_IN_A_ROW - 1} checkpoints before it: the "
                "storage fails; mend it and run the same command again"
            ) from error
        hosts.say(f"warning: {text}; what follows is saved in its place")
        retrying(self._open_again, self._folder)
        return [pending.step]

    def _again(self, call: Callable[[], Any]) -> Any:
        return retrying(call, self._folder, before_again=self._open_again)

    def _open_again(self) -> None:
        """Begins anew: Orbax takes no step twice, and keeps the error of a write."""
        self._shut()
        self.checkpointer = self._reopen()

    def _shut(self) -> Exception | None:
        """Closes the folder; returns an error of storage, as of a write before."""
        try:
            self.checkpointer.close()
        except Exception as error:
            if not is_transient(error):
                raise
            return error
        return None


def _is_alone() -> bool:
    return jax.process_count() == 1


def _is_gone(parts: dict[str, Any]) -> bool:
    """Whether a step of the training has taken over the memory of an array."""
    return any(
        isinstance(leaf, jax.Array) and leaf.is_deleted()
        for leaf in jax.tree.leaves(parts)
    )
