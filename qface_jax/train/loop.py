"""Trains a face recognition model: the order of events, and nothing else."""

import contextlib
import math
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from qface_jax import objectives
from qface_jax.configs import document
from qface_jax.data_pipelines.sources import training as sources
from qface_jax.evals import results
from qface_jax.evals.results import Result
from qface_jax.evals.text_table import percent
from qface_jax.processes import agreement, freed_memory, hosts
from qface_jax.runs import run_folder
from qface_jax.runs.checkpoint import Checkpoints
from qface_jax.sharded import parallel
from qface_jax.train import start
from qface_jax.train.evaluation import Evaluation, EvaluationStopped, evaluate_state
from qface_jax.train.interrupt import Interrupt, Interrupted
from qface_jax.train.monitor import Monitor, announce, refuse_non_finite
from qface_jax.train.quality_sample import QualitySample
from qface_jax.train.run_log import NoLog, RunLog
from qface_jax.train.setup import Setup, build
from qface_jax.train.state import TrainState


def train(
    config: ConfigDict,
    run: Path,
    *,
    mesh: Mesh | None = None,
    init_from: Path | None = None,
    allow_config_change: bool = False,
) -> list[Result]:
    """Trains until the config's last step, going on from the run's last checkpoint.

    Args:
        config: Validated config (`qface_jax.settings.config.load`).
        run: Folder of the run; made if it does not exist.
        mesh: Devices to train on; None: all.
        init_from: Folder of another run whose weights a new run starts with.
        allow_config_change: Go on with a run that was started with another config.

    Returns:
        The last evaluation, one result for each set.

    Raises:
        UserError: for anything that is the user's to mend.
        Interrupted: after SIGINT or SIGTERM, when the state is saved.
    """
    with contextlib.ExitStack() as stack:
        # Open. A start that fails leaves nothing behind: the folder comes last.
        source = sources.training_source(config)
        sources.check_identities(source)
        _refuse_other_run(config, source)
        setup = build(config, source, parallel.make_mesh() if mesh is None else mesh)
        evaluation = Evaluation(config)
        sample = None
        if config.log.quality_images:
            sample = QualitySample(config, setup, source.num_classes, run)
        if hosts.first():
            stack.enter_context(run_folder.lock(run))
        hooks = objectives.hooks(
            config, source=source, mesh=setup.mesh, batches=setup.seen_batches
        )
        warm = None
        if agreement.first_says(not (run / run_folder.CONFIG).is_file()):
            start.check_start(config, init_from)
            if init_from is not None:
                warm = start.start_from(config, source, setup, init_from)
        _open_folder(config, run, source, setup, init_from, allow_config_change)
        checkpoints = stack.enter_context(
            Checkpoints(
                run,
                keep=config.checkpoint.keep,
                fall_back=config.checkpoint.fall_back,
            )
        )
        interrupt = stack.enter_context(Interrupt(agreement.lagged_max(setup.shard)))

        # Restore.
        state = start.first_state(
            config, source, setup, checkpoints, run, init_from, warm
        )
        first, total = int(state.step), setup.length.total_steps
        announce(config, source, setup, first)
        if text := hooks.describe():
            hosts.say(text)
        log = RunLog(config, run, first_step=first) if hosts.first() else NoLog()
        stack.enter_context(log)
        for damaged in checkpoints.fell_back_from:
            log.scalars(first, {"fell_back_from_step": damaged})
        # The pipeline's threads call into Python: they must end before Python does.
        batches = stack.enter_context(contextlib.closing(setup.batches(first, total)))
        key = parallel.replicate(setup.train_key, setup.shard)
        monitor = Monitor(
            first_step=first, total_steps=total, batch_size=config.data.batch_size
        )

        def evaluate(step: int, folder: Path) -> list[Result]:
            """Evaluates the state; a stop meanwhile saves it and ends the run."""
            try:
                values, evaluated = evaluate_state(
                    evaluation,
                    setup,
                    state,
                    run,
                    folder=folder if hosts.first() else None,
                    stop=interrupt.check,
                )
            except EvaluationStopped:
                checkpoints.save(step, state)
                raise Interrupted(interrupt.signal_number, step) from None
            if values and folder == run:
                log.evaluated(step, values, evaluated, evaluation.sets)
            return evaluated

        def measure(step: int) -> None:
            """Logs how norms and probabilities go with the image quality."""
            if sample is not None:
                with monitor.paused():
                    log.scalars(step, sample.measure(state))
                    log.pictures(step)

        if first == 0:
            measure(0)
        if first == 0 and config.eval.before and evaluation.sets:
            with monitor.paused():
                cost = evaluation.cost(setup.embedder(state))
                hosts.say(
                    f"before: evaluates {cost}; --config.eval.max_pairs=N takes fewer "
                    "pairs, --config.eval.before=False does without"
                )
                for result in evaluate(0, results.before(run)):
                    value = percent(result.scalars.get(result.best))
                    hosts.say(f"before: {result.set} {result.best} {value} %")

        # The batch of a step depends only on (seed, step): the two stay in lockstep.
        steps = range(first + 1, total + 1)
        for step, rows in zip(steps, monitor.waiting(batches), strict=True):
            if step == 1 and config.log.pictures:
                log.first_batch(step, setup.seen(0, rows), evaluation.sets)

            # Step.
            if hooks.due(step):
                with monitor.paused():
                    kept, values = hooks.refresh(setup.snapshot(state))
                    state = state.with_kept(kept)
                    log.scalars(step, values)
            batch = parallel.to_device(rows, setup.shard.rows)
            compiling = step == first + 1
            with (
                jax.profiler.StepTraceAnnotation("train", step_num=step),
                jax.transfer_guard("disallow"),
                monitor.first_step() if compiling else contextlib.nullcontext(),
            ):
                state, step_metrics = setup.step_fn(state, batch, key)
            if compiling:
                interrupt.listen()
            last, stop = step == total, interrupt.check()
            save = last or stop or step % config.checkpoint.interval == 0

            # Log.
            if save or step % config.log.interval == 0 or step == 1:
                values = _values(setup, step, step_metrics, checkpoints)
                values |= monitor.window(step)
                log.scalars(step, values)
                hosts.say(monitor.line(step, values))

            # Evaluate.
            if not last and config.eval.interval and step % config.eval.interval == 0:
                with monitor.paused():
                    evaluated = evaluate(step, run)
                    _save_best(config, checkpoints, step, state, evaluated)
                    freed_memory.give_back()
                measure(step)

            # Save.
            if save:
                checkpoints.save(step, state)
                freed_memory.give_back()
            if stop:
                raise Interrupted(interrupt.signal_number, step)

        evaluated = evaluate(total, run)
        _save_best(config, checkpoints, total, state, evaluated)
        measure(total)
        shown = (evaluation.sets[0], evaluated[0]) if evaluated else None
        hooks.draw(run, setup.snapshot(state), shown)
        log.pictures(total)
        return evaluated


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


def _open_folder(
    config: ConfigDict,
    run: Path,
    source: Any,
    setup: Setup,
    init_from: Path | None,
    allow_config_change: bool,
) -> None:
    """Process 0 opens the folder, all others see that it is theirs too."""
    data = source.describe()
    if setup.plan is not None:
        data["images_per_epoch"] = setup.plan.images_per_epoch
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


def _values(
    setup: Setup, step: int, metrics: dict, checkpoints: Checkpoints
) -> dict[str, float]:
    """The step's metrics as numbers; raises where a step so far was not finite."""
    values = {name: float(v) for name, v in jax.device_get(metrics).items()}
    refuse_non_finite(values, checkpoints.latest_step)
    del values["bad_step"]
    values["learning_rate"] = float(setup.learning_rate(step - 1))
    return values


def _save_best(
    config: ConfigDict,
    checkpoints: Checkpoints,
    step: int,
    state: TrainState,
    evaluated: list[Result],
) -> None:
    """Saves the state aside if the first set's result is the best so far."""
    if not evaluated:
        return
    name = config.eval.best_metric or evaluated[0].best
    score = results.best(evaluated[0], name)
    if score is None:
        return
    if not math.isfinite(score):
        hosts.say(f"step {step:,}: {name} is {score}, which makes no best checkpoint")
    elif checkpoints.save_best(step, state, score):
        hosts.say(f"step {step:,}: best {name} {score:.2%}")
