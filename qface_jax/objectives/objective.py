"""What an objective is: what is minimised, and what it does beside the steps."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
from ml_collections import ConfigDict

from qface_jax.options import Option
from qface_jax.sharded.class_sample import ClassSample

if TYPE_CHECKING:
    # A config is checked without what embeds pictures.
    from qface_jax.inference.embedder import Embedder


class Encoders(NamedTuple):
    """Images to features within a step; what a loss encodes, it asks for here.

    Images are uint8 [b, h, w, 3], or [b, v, h, w, 3] with v views of each.

    Attributes:
        train: (backbone parameters, images, feature_map=False) -> (features
            [b, (v,) d], new running statistics). With `feature_map` the features are
            (features, last feature map of the backbone [b, (v,) h, w, c]).
        evaluate: (encoder, images) -> features [b, (v,) d] by other weights, as in an
            evaluation and without gradient. An encoder is {"backbone": parameters,
            "stats": running statistics}.
    """

    train: Callable[..., tuple[Any, Any]]
    evaluate: Callable[..., jax.Array]


class Context(NamedTuple):
    """What a loss may look at besides parameters and batch; nothing has a gradient.

    Attributes:
        state: State of the objective before the step.
        head: Head parameters as they are stored, with the rows of all classes.
        sample: Classes that this step sees; None: all.
        key: Key of the chance inside the loss.
    """

    state: dict[str, Any]
    head: dict[str, Any]
    sample: ClassSample | None
    key: jax.Array


class Outcome(NamedTuple):
    """What a loss says besides its value.

    Attributes:
        stats: Running statistics of the backbone, from `Encoders.train`.
        state: State of the objective after the step.
        metrics: Name -> scalar for the log.
    """

    stats: Any
    state: dict[str, Any]
    metrics: dict[str, jax.Array]


def _no_sample(batch: Any, key: jax.Array) -> None:
    return None


def _unchanged(state: dict[str, Any], *unused: Any) -> dict[str, Any]:
    return state


class Objective(NamedTuple):
    """What is minimised: pure functions.

    Of the state, encoders under "averaged" and "original" are at the top level of a
    checkpoint; everything else is below "aux" there.

    Attributes:
        init: key -> (head parameters, state); two dicts of pytrees of arrays.
        loss: (encode: Encoders, params, batch, context: Context) -> (loss [], Outcome).
            `params` are {"backbone", "head"}, the head's class rows those of the
            sample; `batch` holds "images" and "labels" int32 [b], -1 for padding.
        sample: (batch, key) -> the classes that a step sees, or None for all of them.
        start: (state, encoder) -> the state of a run that starts with that encoder.
        advance: (state, encoder, updates done before) -> the state after a step that
            led to that encoder.
        class_rows: Names of head parameters with a row for each class. They, and what
            the optimizer keeps of them, are cut over the devices and sampled.
        rows: Names of entries of the state whose arrays are cut over the devices.
    """

    init: Callable[..., tuple[dict[str, Any], dict[str, Any]]]
    loss: Callable[..., tuple[jax.Array, Outcome]]
    sample: Callable[..., ClassSample | None] = _no_sample
    start: Callable[..., dict[str, Any]] = _unchanged
    advance: Callable[..., dict[str, Any]] = _unchanged
    class_rows: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()


class Snapshot(NamedTuple):
    """A model between two steps.

    Attributes:
        step: Updates done.
        params: {"backbone", "head"}, on the devices.
        stats: Running statistics of the backbone.
        state: State of the objective.
        embedder: Embeds by the running statistics, and scores by `state`.
    """

    step: int
    params: dict[str, Any]
    stats: Any
    state: dict[str, Any]
    embedder: "Embedder"


class Hooks:
    """What an objective does beside the steps; here, nothing. All hosts call all."""

    def describe(self) -> str:
        """Returns a line to say before the first step; "" for none."""
        return ""

    def due(self, step: int) -> bool:
        """Returns whether the state is refreshed before this step, counted from 1."""
        return False

    def refresh(self, model: Snapshot) -> tuple[dict[str, Any], dict[str, float]]:
        """Returns the refreshed state of the objective, and scalars for the log.

        A pure function of the model, so that a resumed run goes the same way.
        """
        return model.state, {}

    def draw(
        self, run: Path, model: Snapshot, evaluated: tuple[Any, Any] | None
    ) -> None:
        """Draws pictures of the trained model for the report.

        Args:
            run: Folder of the run; the first host writes.
            model: After the last step.
            evaluated: First evaluation set and its result; None without sets.
        """


def _no_problems(config: ConfigDict, options: dict[str, Any]) -> list[str]:
    return []


def _no_hooks(config: ConfigDict, options: dict[str, Any], **unused: Any) -> Hooks:
    return Hooks()


class ObjectiveEntry(NamedTuple):
    """An objective in `tables.OBJECTIVES`.

    Its builders get the whole config, since a classifier reads other groups too, and
    the values of its own options beside it.

    Attributes:
        build: (config, options, num_classes, mesh) -> Objective.
        options: Name -> option of its own group of the config.
        reads: Groups of the config that it reads besides model and data, its own among
            them. Of an objective that reads "loss" the margin is named and drawn.
        views: Pictures of each image in a batch.
        pairs: Whether a batch has two images of each of its identities.
        problems: (config, options) -> a line for each value that does not go with
            another.
        hooks: (config, options, source=, mesh=, batches=) -> Hooks. `source` is the
            training data, `batches` (first step, end) -> iterator over this host's rows
            of the batches of those steps, counted from 0, as the loss sees them; all
            hosts go through it together.
        norm_statistics: Entry of its state with statistics of the feature norms, None
            where it keeps none.
    """

    build: Callable[..., Objective]
    options: Mapping[str, Option] = {}
    reads: tuple[str, ...] = ()
    views: int = 1
    pairs: bool = False
    problems: Callable[..., list[str]] = _no_problems
    hooks: Callable[..., Hooks] = _no_hooks
    norm_statistics: str | None = None
