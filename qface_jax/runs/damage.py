"""Checkpoints that cannot be read, or are not what was saved: one message for all."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from qface_jax.errors import UserError
from qface_jax.runs.quiet_loading import quiet_loading
from qface_jax.runs.run_folder import steps_in


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
    """
    try:
        with quiet_loading():
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
        root = error
        while root.__cause__ is not None:
            root = root.__cause__
        reason = (str(root) or type(root).__name__).splitlines()[0][:300]
        raise DamagedError(
            f"{folder}: checkpoint is damaged or gone ({reason}); {advice}"
        ) from error
