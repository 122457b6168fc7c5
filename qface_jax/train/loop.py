"""Trains a face recognition model: the order of events, and nothing else."""

import contextlib
import time
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from qface_jax import objectives
from qface_jax.configs import document
from qface_jax.data_pipelines.sources import source as sources
from qface_jax.evals import results
from qface_jax.evals.results import Result
from qface_jax.evals.text_table import percent
from qface_jax.objectives import (
    qgface_pictures,
    recognizability_pictures,
    recognizability_refresh,
)
from qface_jax.processes import agreement, hosts
from qface_jax.report import samples
from qface_jax.runs import run_folder
from qface_jax.runs.checkpoint import Checkpoints
from qface_jax.runs.metrics import Metrics, NoMetrics
from qface_jax.sharded import parallel
from qface_jax.train import batches as training_batches
from qface_jax.train import first_state
from qface_jax.train.announcement import announce
from qface_jax.train.evaluation import (
    Evaluation,
    EvaluationStopped,
    evaluate_state,
)
from qface_jax.train.interrupt import Interrupt, Interrupted
from qface_jax.train.monitor import Monitor, refuse_non_finite
from qface_jax.train.setup import Setup, build
from qface_jax.train.state import TrainState


def train(
    config: ConfigDict,
    run: Path,
    *,
    init_from: Path | None = None,
    allow_config_change: bool = False,
) -> list[Result]:
    """Trains until the config's last step, going on from the run's last checkpoint.

    Args:
        config: Validated config (`qface_jax.settings.config.load`).
        run: Folder of the run; made if it does not exist.
        init_from: Folder of another run whose weights a new run starts with.
        allow_config_change: Go on with a run that was started with another config.

    Returns:
        The last evaluation, one result for each set.

    Raises:
        UserError: for anything that is the user's to mend.
        Interrupted: after SIGINT or SIGTERM, when the state is saved.
    """
    source = sources.training_source(config)
    _refuse_other_run(config, source)
    setup = build(config, source)
    evaluation = Evaluation(config, setup.shard)
    with contextlib.ExitStack() as stack:
        if hosts.first():
            stack.enter_context(run_folder.lock(run))
        # A start that fails leaves nothing behind: weights first, then the folder.
        started = None
        upkeep = recognizability_refresh.build(config, source, setup)
        new = agreement.first_says(not (run / run_folder.CONFIG).is_file())
        if new:
            first_state.check_start(config, init_from)
        if init_from is not None and new:
            started = first_state.start_from(config, source, setup, init_from)
        facts = source.describe()
        if setup.plan is not None:
            facts["images_per_epoch"] = setup.plan.images_per_epoch
        _open_folder(config, run, source, facts, init_from, allow_config_change)
        checkpoints = stack.enter_context(Checkpoints(run, keep=config.checkpoint.keep))
        interrupt = stack.enter_context(Interrupt(agreement.lagged_max(setup.shard)))
        state = first_state.first_state(
            config, source, setup, checkpoints, run, init_from, started
        )
        first = int(state.step)
        announce(config, source, setup, first)
        if upkeep is not None:
            hosts.say(upkeep.describe())
        metrics = Metrics(run, first_step=first) if hosts.first() else NoMetrics()
        stack.enter_context(metrics)
        # The pipeline's threads call into Python: they must end before Python does.
        batches = stack.enter_context(
            contextlib.closing(_batches(config, source, setup, first))
        )
        parts = (evaluation, checkpoints, metrics, interrupt, upkeep)
        loop = _Loop(config, run, source, setup, *parts)
        return loop.go(state, batches)


def _open_folder(config, run, source, data, init_from, allow_config_change) -> None:
    """Process 0 opens the folder, all others see that it is theirs too."""
    if hosts.first():
        run_folder.open_or_create(
            run,
            config,
            num_classes=source.num_classes,
            data=data,
            init_from=init_from,
            allow_config_change=allow_config_change,
        )
    agreement.meet()
    agreement.refuse_difference(
        f"what it sees in {run}: --workdir must be the same folder on all hosts",
        run_folder.fingerprint(run),
    )


def _refuse_other_run(config: ConfigDict, source: Any) -> None:
    """Raises where another process was started with another config or other data."""
    agreement.refuse_difference(
        "its config: give all processes the same --config and --config.KEY=VALUE",
        document.digest(config),
    )
    agreement.refuse_difference(
        f"its training data; here {len(source):,} images of {source.num_classes:,} "
        "identities: data.path must hold the same data on all hosts",
        f"{len(source)} {source.num_classes}",
    )


def _batches(config: ConfigDict, source: Any, setup: Setup, first: int) -> Any:
    return training_batches.stream(
        config,
        source,
        setup.plan,
        start_step=first,
        total_steps=setup.length.total_steps,
    )


class _Loop:
    """The parts that the loop's events need, and the events."""

    def __init__(
        self,
        config,
        run,
        source,
        setup,
        evaluation,
        checkpoints,
        metrics,
        interrupt,
        upkeep,
    ):
        self._config, self._run, self._source = config, run, source
        self._setup, self._evaluation = setup, evaluation
        self._checkpoints, self._metrics = checkpoints, metrics
        self._interrupt, self._upkeep = interrupt, upkeep
        self._monitor: Monitor | None = None

    def go(self, state: TrainState, batches: Any) -> list[Result]:
        """Runs the steps that are left, in this order: step, log, evaluate, save."""
        config, total = self._config, self._setup.length.total_steps
        first = int(state.step)
        self._monitor = Monitor(
            first_step=first,
            total_steps=total,
            batch_size=config.data.batch_size,
        )
        if first == 0 and config.eval.before and self._evaluation.sets:
            self._evaluate_before(state)
        # The batch of a step depends only on (seed, step): the two stay in lockstep.
        steps = range(first + 1, total + 1)
        for step, rows in zip(steps, self._monitor.waiting(batches), strict=True):
            if step == 1:
                self._picture(rows)
            if self._upkeep is not None and self._upkeep.due(step):
                state = self._refresh(step, state)
            batch = parallel.to_device(rows, self._setup.shard.rows)
            with (
                jax.profiler.StepTraceAnnotation("train", step_num=step),
                jax.transfer_guard("disallow"),
            ):
                state, metrics = self._setup.step_fn(
                    state, batch, self._setup.train_key
                )
            last, stop = step == total, self._interrupt.check()
            save = last or stop or step % config.checkpoint.interval == 0
            if save or step % config.log.interval == 0 or step == 1:
                self._log(step, metrics)
            if not last and _due(step, config.eval.interval):
                self._evaluate(step, state)
            if save:
                self._checkpoints.save(step, state)
            if stop:
                raise Interrupted(self._interrupt.signal_number, step)
        found = self._evaluate(total, state)
        if "quality" in state.aux:
            self._draw_pairs(state)
        if self._upkeep is not None:
            sets = self._evaluation.sets
            shown = (sets[0], found[0]) if sets else (None, None)
            parts = (self._config, self._source, self._setup)
            recognizability_pictures.draw(self._run, *parts, state, *shown)
        return found

    def _refresh(self, step: int, state: TrainState) -> TrainState:
        """Renews what the objective knows of unrecognizable images, before a step."""
        start = time.perf_counter()
        state, values = self._upkeep.refresh(state)
        self._metrics.scalars(step, values)
        self._monitor.pause(time.perf_counter() - start)
        return state

    def _draw_pairs(self, state: TrainState) -> None:
        """Draws how alike the training pairs are, for the report."""
        found = qgface_pictures.embed_pairs(
            self._config, self._source, self._setup, state
        )
        if hosts.first():
            qgface_pictures.draw(self._run, self._config, found, state)

    def _picture(self, rows: dict) -> None:
        """Draws what the network sees, for the report."""
        if not hosts.first():
            return
        samples.write_batch(self._run, rows)
        if not objectives.takes_pairs(self._config):
            samples.write_gst(self._run, self._config.loss)
        if self._evaluation.sets:
            samples.write_resolutions(self._run, self._evaluation.sets[0], self._config)

    def _log(self, step: int, metrics: dict) -> None:
        """Writes the step's metrics; raises where a step so far was not finite."""
        values = {name: float(v) for name, v in jax.device_get(metrics).items()}
        refuse_non_finite(values, self._checkpoints.latest_step)
        del values["bad_step"]
        values["learning_rate"] = float(self._setup.learning_rate(step - 1))
        values |= self._monitor.window(step)
        self._metrics.scalars(step, values)
        hosts.say(self._monitor.line(step, values))

    def _evaluate_before(self, state: TrainState) -> None:
        """Evaluates what training starts from, for the report to compare with."""
        start = time.perf_counter()
        _, found = self._judge(0, state, results.before(self._run))
        for result in found:
            value = percent(result.scalars.get(result.best))
            hosts.say(f"before: {result.set} {result.best} {value} %")
        self._monitor.pause(time.perf_counter() - start)

    def _judge(self, step: int, state: TrainState, folder: Path) -> tuple[dict, list]:
        """Scalars and results of the state; a stop saves it first."""
        try:
            return evaluate_state(
                self._evaluation,
                self._setup,
                state,
                self._run,
                folder=folder if hosts.first() else None,
                stop=self._interrupt.check,
            )
        except EvaluationStopped:
            self._checkpoints.save(step, state)
            raise Interrupted(self._interrupt.signal_number, step) from None

    def _evaluate(self, step: int, state: TrainState) -> list[Result]:
        """Evaluates the state, and saves it aside if it is the best so far."""
        start = time.perf_counter()
        values, found = self._judge(step, state, self._run)
        if values:
            self._metrics.scalars(step, values)
        best_metric = self._config.eval.best_metric
        score = results.best(found[0], best_metric) if found else None
        if score is not None and self._checkpoints.save_best(step, state, score):
            hosts.say(
                f"step {step:,}: best {self._config.eval.best_metric} {score:.2%}"
            )
        self._monitor.pause(time.perf_counter() - start)
        return found


def _due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0
