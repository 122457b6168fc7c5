"""The scalars of a run: TensorBoard events and `metrics.jsonl`.

The only file that imports clu.metric_writers.
"""

import json
import time
from pathlib import Path
from typing import Any

from clu import metric_writers

from qface_jax.atomic_file import replace_file
from qface_jax.runs.run_folder import EVENTS, METRICS


class Metrics:
    """Writes the scalars of a run; use as a context manager."""

    def __init__(self, run: Path, *, first_step: int):
        """Opens the run's logs.

        Args:
            run: Folder of the run.
            first_step: Step from which the run continues; lines after it are dropped,
                since those steps are done again.
        """
        self._path = run / METRICS
        self._drop_after(first_step)
        self._file = self._path.open("a", encoding="utf-8")
        self._events = metric_writers.AsyncMultiWriter(
            [metric_writers.SummaryWriter(str(run / EVENTS))]
        )

    def __enter__(self) -> "Metrics":
        """Returns itself."""
        return self

    def __exit__(self, *unused: Any) -> None:
        """Flushes and closes both logs."""
        self._events.close()
        self._file.close()

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Writes the values of one step to both logs."""
        line = {"step": step, "time": round(time.time(), 3), **values}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self._events.write_scalars(step, values)

    def _drop_after(self, step: int) -> None:
        if not self._path.is_file():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return
        kept = [
            line
            for line in self._path.read_text(encoding="utf-8").splitlines()
            if _step_of(line) <= step
        ]
        replace_file(self._path, "".join(f"{line}\n" for line in kept).encode())


class NoMetrics:
    """Stands in for `Metrics` on every host but the first."""

    def __enter__(self) -> "NoMetrics":
        """Returns itself."""
        return self

    def __exit__(self, *unused: Any) -> None:
        """Nothing to close."""

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Writes nothing: the first host writes for all."""


def _step_of(line: str) -> float:
    """Returns the step of a line; infinity if a crash cut the line short."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
