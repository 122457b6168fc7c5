"""A training step for a loop of one's own."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from qface_jax import objectives
from qface_jax.api.model import Model
from qface_jax.errors import ConfigError
from qface_jax.models import IMAGE_SIDE
from qface_jax.planning.plan import Counts
from qface_jax.processes import hosts
from qface_jax.settings import config as configs
from qface_jax.sharded import parallel
from qface_jax.train import start
from qface_jax.train.setup import Setup, build, fresh_state
from qface_jax.train.state import TrainState


class TrainingStep:
    """One update of a state by a batch; `qface_jax.make_step` makes it.

    It is that of `qface train`, bit for bit. What `qface train` does between steps
    (evaluation, checkpoints, the hooks of objective `recognizability`) it does not do.

    Attributes:
        config: Config that it was made of.
        classes: Identities.
        setup: The parts of such a run.
    """

    def __init__(self, config: ConfigDict, classes: int, setup: Setup) -> None:
        """Takes the parts of a run."""
        self.config, self.classes, self.setup = config, classes, setup
        self._key = parallel.replicate(setup.train_key, setup.shard)
        # Where the step degrades, it makes the views itself.
        views = 1 if setup.degrade else objectives.entry(config).views
        of_each = (views,) if views > 1 else ()
        rows = config.data.batch_size // hosts.place().count
        self._shape = (rows, *of_each, IMAGE_SIDE, IMAGE_SIDE, 3)

    def __call__(
        self, state: TrainState, images: np.ndarray, labels: np.ndarray
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Returns the state after one update, and the step's metrics.

        Args:
            state: From `make_step` or this; its memory is taken over.
            images: uint8 [b, 112, 112, 3], RGB, degraded as they shall be, b =
                `config.data.batch_size` (of several hosts, the share of each); of an
                objective of two views [b, 2, 112, 112, 3], the degraded one first.
                With `degrade.on` device the step degrades them: as they were decoded,
                one view of each.
            labels: Identity of each, 0 .. classes - 1; -1: counts for nothing. Integer
                [b].

        Raises:
            ValueError: An array of another type or shape, or a label out of range.
        """
        images, labels = np.asarray(images), np.asarray(labels)
        if images.dtype != np.uint8 or images.shape != self._shape:
            raise ValueError(
                f"images: got {images.dtype} {list(images.shape)}, expected uint8 "
                f"{list(self._shape)}, RGB from 0 to 255; the first number is "
                "data.batch_size of the config"
            )
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            raise ValueError(
                f"labels: got {labels.dtype} {list(labels.shape)}, expected integers "
                f"{list(images.shape[:1])}"
            )
        if labels.min() < -1 or labels.max() >= self.classes:
            raise ValueError(
                f"labels: got {labels.min()} to {labels.max()}, must be within -1 .. "
                f"{self.classes - 1}, as make_step was told {self.classes} classes"
            )
        batch = {"images": images, "labels": labels.astype(np.int32)}
        rows = parallel.to_device(batch, self.setup.shard.rows)
        return self.setup.step_fn(state, rows, self._key)

    def model(self, state: TrainState) -> Model:
        """Returns the model of a state, for use; not while the state is trained on.

        A further step takes the state's memory over, and the model's with it: ask
        again after it.
        """
        step = int(state.step)
        return Model(self.setup.embedder(state), path=Path(f"step {step}"))


def make_step(
    config: str | ConfigDict,
    classes: int,
    *,
    overrides: Sequence[str] = (),
    init_from: str | Path | None = None,
    images: int | None = None,
) -> tuple[TrainState, TrainingStep]:
    """Returns the state before the first step, and the step, for a loop of one's own.

    Args:
        config: Name of a shipped config, a `.py` file, `module:function`, or a config.
        classes: Identities of the training set, at least 1.
        overrides: Keys of the config to change, as "optim.learning_rate=0.02".
        init_from: Folder of a run whose weights, as far as they fit, the state begins
            with, as `qface train --init-from` does.
        images: Of the training set; only a config that counts in epochs needs them.

    Raises:
        ConfigError: Something in the config is unknown or out of range, or does not fit
            the devices.

    For example::

        state, step = qface_jax.make_step("demo", classes=300)
        for images, labels in batches:
            state, metrics = step(state, images, labels)
            print(float(metrics["loss"]))
    """
    if classes < 1:
        raise ConfigError(f"classes: got {classes}, must be at least 1")
    words = [f"{configs.PREFIX}{word}" for word in overrides]
    if isinstance(config, str):
        resolved = configs.load(config, words)
    else:
        resolved = configs.override(config, words)
    if images is None:
        if resolved.epochs is not None:
            raise ConfigError(
                "epochs: this config counts in epochs, which depend on the images of "
                "the training set: give images=N, or overrides epochs=None and "
                "total_steps=N"
            )
        images = resolved.data.batch_size
    counts = Counts(classes, images)
    if init_from is not None:
        init_from = Path(init_from).expanduser()
        resolved = start.resolve(resolved, init_from, init_from)
    if resolved.classifier.centres != "random":
        raise ConfigError(
            f"classifier.centres: is {resolved.classifier.centres}, for which the "
            "images of the training set are needed; give overrides "
            "classifier.centres=random"
        )
    setup = build(resolved, counts, parallel.make_mesh())
    step = TrainingStep(resolved, classes, setup)
    if init_from is None:
        return fresh_state(setup), step
    return start.start_from(resolved, counts, setup, init_from), step
