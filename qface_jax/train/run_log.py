"""What a run in training writes for its readers: scalars, histograms and pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from qface_jax import objectives
from qface_jax.configs import document
from qface_jax.evals.protocols.protocol import ImageSet
from qface_jax.evals.results import Result
from qface_jax.report import evaluation_log, examples, samples
from qface_jax.runs.metrics import Metrics


class RunLog:
    """The logs of a run, written by the first host; use as a context manager."""

    def __init__(self, config: ConfigDict, run: Path, *, first_step: int):
        """Opens the logs.

        Args:
            config: The whole config.
            run: Folder of the run.
            first_step: Step from which the run continues.
        """
        self._config, self._run = config, run
        self._metrics = Metrics(run, first_step=first_step, table=config.log.csv)
        self._sheets = evaluation_log.Sheets(run) if config.log.pictures else None

    def __enter__(self) -> "RunLog":
        """Returns itself."""
        return self

    def __exit__(self, *unused: Any) -> None:
        """Flushes and closes the logs."""
        self._metrics.close()

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Writes the values of a step."""
        self._metrics.scalars(step, values)

    def first_batch(self, step: int, rows: dict, sets: Sequence[ImageSet]) -> None:
        """Draws what the network sees, where the config asks for pictures.

        Args:
            step: That sees the batch.
            rows: This host's rows of the batch.
            sets: Images of the benchmarks.
        """
        if self._sheets is None:
            return
        config, run = self._config, self._run
        samples.write_batch(run, rows)
        if "loss" in objectives.entry(config).reads:
            name = config.loss.margin
            options = document.options_of(config, "margin", name)
            samples.write_gst(run, name, options, config.loss.scale)
        if sets:
            samples.write_resolutions(
                run,
                sets[0],
                config.eval.resolutions,
                antialias=config.eval.antialias,
                resize=config.data.resize,
            )
        self.pictures(step)

    def evaluated(
        self,
        step: int,
        values: dict[str, float],
        evaluated: Sequence[Result],
        sets: Sequence[ImageSet],
    ) -> None:
        """Writes what an evaluation yielded.

        Args:
            step: That was evaluated.
            values: Scalars of all sets.
            evaluated: Result of each set.
            sets: Images of each set.
        """
        self.scalars(step, values)
        resize = self._config.eval.resize or self._config.data.resize
        for result, images in zip(evaluated, sets, strict=True):
            self._metrics.histograms(step, evaluation_log.histograms(result))
            if self._sheets is not None:
                self._metrics.pictures(step, evaluation_log.figures(result))
                examples.write_examples(self._run, result, images, resize)
        self.pictures(step)

    def pictures(self, step: int) -> None:
        """Writes the pictures that were drawn into RUN/samples since the last call."""
        if self._sheets is not None:
            self._metrics.pictures(step, self._sheets.new())


class NoLog:
    """Stands in for `RunLog` on every host but the first, which writes for all."""

    def __enter__(self) -> "NoLog":
        """Returns itself."""
        return self

    def __exit__(self, *unused: Any) -> None:
        """Nothing to close."""

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Writes nothing."""

    def first_batch(self, step: int, rows: dict, sets: Sequence[ImageSet]) -> None:
        """Draws nothing."""

    def evaluated(
        self,
        step: int,
        values: dict[str, float],
        evaluated: Sequence[Result],
        sets: Sequence[ImageSet],
    ) -> None:
        """Writes nothing."""

    def pictures(self, step: int) -> None:
        """Writes nothing."""
