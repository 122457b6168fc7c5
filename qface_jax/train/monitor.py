"""How fast a run goes, how long it still takes, and the line that says so."""

import time
from collections.abc import Iterator

from qface_jax.errors import UserError
from qface_jax.sharded.arrays import Metrics
from qface_jax.train.state import NEVER


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

    def pause(self, seconds: float) -> None:
        """Takes time that was not training (evaluation) out of the speed."""
        self._paused += seconds

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
        name = "accuracy" if "accuracy" in values else "similarity_views"
        said = f"{name.replace('_', ' ')} {values[name]:.1%}"
        return (
            f"step {step:,}/{self._total:,} ({step / self._total:.0%})  "
            f"loss {values['loss']:.4f}  {said}  "
            f"lr {values['learning_rate']:.3g}  {self._speed:,.0f} images/s  "
            f"data wait {values['data_wait_share']:.0%}  ETA {clock(left)}"
        )


def clock(seconds: float) -> str:
    """Returns h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def refuse_non_finite(metrics: Metrics, last_saved: int | None) -> None:
    """Raises TrainingDivergedError if any step so far had a loss that is not finite.

    Args:
        metrics: Metrics of the last step, fetched.
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
