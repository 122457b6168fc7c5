"""Checkpoints that cannot be read or written, or are not what was saved.

Whatever a library raises then becomes one message.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from qface_jax.errors import UserError, origins
from qface_jax.runs.quiet_orbax import quiet_orbax
from qface_jax.runs.run_folder import CONFIG, steps_in
from qface_jax.storage.retrying import is_transient


class DamagedError(UserError):
    """A checkpoint cannot be read, or is not what was saved."""


@contextlib.contextmanager
def named_damage(folder: Path, advice: str = "") -> Iterator[None]:
    """Turns whatever Orbax raises on a damaged checkpoint into one message.

    Args:
        folder: Of the checkpoint.
        advice: How to mend it; "": remove it, and which others there are to go on from.

    Raises:
        DamagedError: naming the folder, the reason and how to mend it.
        UserError: the storage fails, so that nothing is known of the checkpoint.
    """
    try:
        quiet_orbax()
        yield
    except UserError:
        raise
    except Exception as error:
        if not advice:
            others = [str(n) for n in steps_in(folder.parent) if str(n) != folder.name]
            instead = (
                f"go on from step {', '.join(others)}" if others else "start again"
            )
            advice = f"remove that folder to {instead}"
        reason = _reason(error)
        if is_transient(error):
            raise UserError(
                f"{folder}: cannot be read now ({error}): the storage fails; the "
                "checkpoint may be whole: keep it, and run the same command again"
            ) from error
        raise DamagedError(
            f"{folder}: checkpoint is damaged or gone ({reason}); {advice}"
        ) from error


@contextlib.contextmanager
def named_loss_of_folder(run: Path) -> Iterator[None]:
    """Says so where a checkpoint could not be written because its run is gone.

    Raises:
        UserError: the run has no `config.json` any more.
    """
    try:
        quiet_orbax()
        yield
    except UserError:
        raise
    except Exception as error:
        if (run / CONFIG).is_file():
            raise
        reason = _reason(error)
        raise UserError(
            f"{run}: was removed or moved while the run was at work, and no checkpoint "
            f"can be saved there ({reason}); put it back, or start again"
        ) from error


def _reason(error: BaseException) -> str:
    """The first line of what was at the bottom of an error."""
    *_, first = origins(error, contexts=False)
    return (str(first) or type(first).__name__).splitlines()[0][:300]
