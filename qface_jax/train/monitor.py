"""What a run says: what is trained, how fast it goes, how long it still takes."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
from ml_collections import ConfigDict

from qface_jax import objectives
from qface_jax.errors import UserError
from qface_jax.processes import hosts
from qface_jax.train.setup import Setup
from qface_jax.train.state import NEVER

_REMIND_AFTER = 30.0  # seconds


class TrainingDivergedError(UserError):
    """The loss or a gradient was not finite."""


class Monitor:
    """Times a run's steps, waits for data and evaluations apart."""

    def __init__(self, *, first_step: int, total_steps: int, batch_size: int):
        """Starts the clock.

        Args:
            first_step: Updates done before.
            total_steps: Updates of the whole run.
            batch_size: Images per update, over all devices.
        """
        self._total = total_steps
        self._batch = batch_size
        self._window_step = first_step
        self._window_start = time.perf_counter()
        self._waited = self._paused = 0.0
        self._speed = 0.0

    def waiting(self, batches: Iterator) -> Iterator:
        """Yields the batches, and counts the time until each was there."""
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self._waited += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Takes time that was not training (evaluation) out of the speed."""
        start = time.perf_counter()
        yield
        self._paused += time.perf_counter() - start

    @contextlib.contextmanager
    def first_step(self) -> Iterator[None]:
        """Says that a step is compiled, every half a minute how long already."""
        done = threading.Event()
        start = time.perf_counter()

        def say_so() -> None:
            while not done.wait(_REMIND_AFTER):
                hosts.say(f"still compiling, {clock(time.perf_counter() - start)}")

        hosts.say("compiling (first step); until it is done Ctrl-C ends at once")
        thread = threading.Thread(target=say_so, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        hosts.say(f"compiled in {time.perf_counter() - start:.1f} s")

    def window(self, step: int) -> dict[str, float]:
        """Returns images/s and share of time spent waiting for data since last time."""
        now = time.perf_counter()
        seconds = max(now - self._window_start - self._paused, 1e-9)
        images = (step - self._window_step) * self._batch
        waited = min(self._waited / seconds, 1.0)
        self._window_step, self._window_start = step, now
        self._waited = self._paused = 0.0
        self._speed = images / seconds
        return {"images_per_second": self._speed, "data_wait_share": waited}

    def line(self, step: int, values: dict[str, float]) -> str:
        """Returns the progress line of a step."""
        left = (self._total - step) * self._batch / max(self._speed, 1e-9)
        # Without a classifier: how alike an image is to itself at low resolution.
        name = next((n for n in ("accuracy", "similarity_views") if n in values), "")
        share = f"{name.replace('_', ' ')} {values[name]:.1%}  " if name else ""
        return (
            f"step {step:,}/{self._total:,} ({step / self._total:.0%})  "
            f"loss {values['loss']:.4f}  {share}"
            f"lr {values['learning_rate']:.3g}  {self._speed:,.0f} images/s  "
            f"data wait {values['data_wait_share']:.0%}  ETA {clock(left)}"
        )


def clock(seconds: float) -> str:
    """Returns h:mm:ss."""
    rounded = round(seconds)
    return f"{rounded // 3600}:{rounded // 60 % 60:02}:{rounded % 60:02}"


def refuse_non_finite(metrics: dict[str, float], last_saved: int | None) -> None:
    """Raises TrainingDivergedError if any step so far had a loss that is not finite.

    Args:
        metrics: Of the last step.
        last_saved: Step of the newest checkpoint, all of whose steps were finite.
    """
    bad = int(metrics["bad_step"])
    if bad == NEVER:
        return
    kept = "none was saved yet" if last_saved is None else f"step {last_saved} is kept"
    raise TrainingDivergedError(
        f"step {bad}: loss or gradient is not finite (loss now "
        f"{float(metrics['loss']):.4g}, gradient norm "
        f"{float(metrics['grad_norm']):.4g}); last good checkpoint: {kept}; lower "
        "optim.learning_rate, set optim.clip_norm, or lengthen the warm-up"
    )


def announce(config: ConfigDict, source: Any, setup: Setup, first: int) -> None:
    """Says what is trained on what, on which devices, and from which step on.

    Args:
        config: The whole config.
        source: Training data.
        setup: Parts of the run.
        first: Updates done so far.
    """
    leaves = jax.tree.leaves(setup.abstract.params["backbone"])
    weights = sum(leaf.size for leaf in leaves)
    processes = hosts.place().count
    hosts.say(
        f"{_minimised(config)} with {config.model.backbone} ({weights:,} "
        "weights) on "
        f"{_amount(source, setup)}; "
        f"{setup.mesh.size} {jax.default_backend()} device(s)"
        + (f" of {processes} processes" if processes > 1 else "")
        + f", batch {config.data.batch_size}, {setup.length.total_steps:,} "
        "steps"
        + (f", going on after step {first:,}" if first else "")
        + ("" if config.eval.sets else "; eval.sets is empty: no accuracy, no best")
    )


def _minimised(config: ConfigDict) -> str:
    """Objective and margin; the margin alone where nothing is added to it."""
    reads = objectives.entry(config).reads
    margin = [config.loss.margin] if "loss" in reads else []
    alone = margin and set(reads) <= {"loss", "classifier"}
    return ", ".join(margin if alone else [config.objective, *margin])


def _amount(source: Any, setup: Setup) -> str:
    """How much there is to train on, and what pairs leave out of it."""
    text = f"{len(source):,} images of {source.num_classes:,} identities"
    plan = setup.plan
    if plan is None or not plan.left_out_identities:
        return text
    return (
        f"{text} ({plan.left_out_identities:,} with one image are left out, "
        f"{plan.images:,} images are drawn in pairs)"
    )
