"""The logs of a run: `metrics.jsonl`, `metrics.csv` and TensorBoard events.

`metrics.jsonl` has all scalars, a line for each call. `metrics.csv` is the same as a
table, a row for each scalar, so that its columns stay when scalars are added.
TensorBoard has histograms and pictures besides. The only file that imports
clu.metric_writers.
"""

import csv
import io
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from clu import metric_writers

from qface_jax.runs import metrics_log
from qface_jax.runs.metrics_log import Event
from qface_jax.runs.run_folder import EVENTS, METRICS, TABLE
from qface_jax.storage.atomic_file import replace_file
from qface_jax.storage.files import make_folder, open_to_append
from qface_jax.storage.retrying import retrying

COLUMNS = ("step", "name", "value")


class Metrics:
    """Writes the logs of a run, until they are closed."""

    def __init__(self, run: Path, *, first_step: int, table: bool = True):
        """Opens the run's logs.

        Args:
            run: Folder of the run.
            first_step: Step from which the run continues; lines after it are dropped,
                since those steps are done again.
            table: Whether to write `metrics.csv`.
        """
        make_folder(run)
        self._path = run / METRICS
        self._table_path = run / TABLE if table else None
        self._first_step = first_step
        self._open(lambda event: event.step <= first_step)
        self._events = metric_writers.AsyncMultiWriter(
            [metric_writers.SummaryWriter(str(run / EVENTS))]
        )

    def close(self) -> None:
        """Flushes and closes all logs."""
        self._events.close()
        self._close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the values of one step to all logs."""
        if step == self._first_step:
            # Of a run that was finished, or stopped in its last evaluation: done again.
            self._close()
            self._open(
                lambda event: event.step != step or not values.keys() & event.values
            )
        event = {"step": step, "time": round(time.time(), 3), **values}
        line = (json.dumps(event) + "\n").encode()
        retrying(lambda: self._file.write(line), self._path)
        if self._table is not None:
            retrying(lambda: self._table.write(_rows([event])), self._table_path)
        self._events.write_scalars(step, values)

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Writes the distributions of values, of any shape, to TensorBoard."""
        self._events.write_histograms(step, values)

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Writes pictures, uint8 [h, w, 3] each, to TensorBoard."""
        self._events.write_images(step, pictures)

    def _open(self, keep: Callable[[Event], bool]) -> None:
        """Opens the files to go on with them, with the events to keep in them.

        A line that is no event, as one that a crash cut short, is dropped. Nothing is
        buffered, so that a call writes all its lines or, when the process is killed,
        none.
        """
        read = metrics_log.events(self._path)
        kept = [event.to_json() for event in read if event and keep(event)]
        text = "".join(json.dumps(event) + "\n" for event in kept)
        replace_file(self._path, text.encode())
        self._file = open_to_append(self._path)
        self._table = None
        if self._table_path is not None:
            # Of the other file, which may be from a run that wrote no table so far.
            header = (",".join(COLUMNS) + "\n").encode()
            replace_file(self._table_path, header + _rows(kept))
            self._table = open_to_append(self._table_path)

    def _close(self) -> None:
        self._file.close()
        if self._table is not None:
            self._table.close()


def _rows(events: list[dict[str, Any]]) -> bytes:
    """Returns events as rows of the table, one for each scalar."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for event in events:
        writer.writerows(
            (event["step"], name, value)
            for name, value in event.items()
            if name not in ("step", "time")
        )
    return text.getvalue().encode()
