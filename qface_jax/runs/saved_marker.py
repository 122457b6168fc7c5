"""RUN/.saved: the step of a checkpoint that was complete, which outlives the folder.

By it, and by the log, a run whose checkpoints were moved away is told from one that was
stopped before it had saved any.
"""

from pathlib import Path

from qface_jax.errors import ConfigError
from qface_jax.runs.metrics_log import last_logged_step
from qface_jax.runs.run_folder import CHECKPOINTS, METRICS
from qface_jax.storage.atomic_file import replace_file

NAME = ".saved"


def write(run: Path, step: int) -> None:
    """Notes that the checkpoint of a step is complete."""
    replace_file(run / NAME, f"{step}\n".encode())


def refuse_lost_checkpoints(run: Path, interval: int) -> None:
    """Raises ConfigError where a run without a checkpoint must have had one.

    Args:
        run: Folder of a run that has a `config.json` and no checkpoint.
        interval: Updates between checkpoints. The log of a run that was killed while it
            wrote its first one ends at most at twice of that.
    """
    logged = last_logged_step(run / METRICS)
    marked = (run / NAME).is_file()
    if not marked and (logged is None or logged <= 2 * interval):
        return
    log = (
        f"its log ends at step {logged:,}"
        if logged is not None
        else "it has saved some"
    )
    raise ConfigError(
        f"{run}: {log}, but {CHECKPOINTS} has no checkpoint to go on from: they were "
        f"moved or removed; put them back into {run / CHECKPOINTS}, or, to begin again "
        f"from step 0, give another --workdir or remove {run}"
    )
