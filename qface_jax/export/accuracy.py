"""Verification accuracy of an exported file, beside that of its model."""

from collections.abc import Iterator
from typing import NamedTuple

from qface_jax.errors import DataError
from qface_jax.evals import results
from qface_jax.evals.results import Result
from qface_jax.export.interface import EMBEDDING, Interface
from qface_jax.export.subject import Runner, Subject
from qface_jax.inference.embedder import Embedder
from qface_jax.train.evaluation import Evaluation

_BATCH = 64  # images of a call, where the file takes any number


class Accuracy(NamedTuple):
    """One rate of an evaluation.

    Attributes:
        label: What it is of, such as "cross 14 px".
        model: Of the model, from 0 to 1.
        file: Of the exported file.
    """

    label: str
    model: float
    file: float


def opened(pairs: str, subject: Subject, *, folds: int = 0) -> Evaluation:
    """Opens a set of pairs, before there is anything to evaluate.

    Args:
        pairs: The set, as in `eval.sets`.
        subject: The model.
        folds: Of the accuracy; 0: those that the set is published with, else 10.

    Raises:
        ConfigError: There is no such set, or it does not fit the folds.
        DataError: It cannot be read.
    """
    config = subject.config.copy_and_resolve_references()
    with config.unlocked():
        config.eval.sets = (pairs,)
        config.eval.flip = False
        config.eval.folds = folds
    return Evaluation(config.lock())


def compare(
    evaluation: Evaluation, subject: Subject, interface: Interface, runner: Runner
) -> list[Accuracy]:
    """Returns the accuracies of a model and of its file at every resolution.

    Both give the embeddings of the interface; mirror images are added where it says so.

    Args:
        evaluation: From `opened`.
        subject: The model.
        interface: Of the file.
        runner: The file, run by its own runtime.

    Raises:
        DataError: The features are degenerate.
    """
    model, file = (
        _result(evaluation, run, subject, interface)
        for run in (subject.runner(interface), runner)
    )
    return list(_rates(model, file))


def _result(
    evaluation: Evaluation, run: Runner, subject: Subject, interface: Interface
) -> Result:
    embedder = Embedder(
        lambda images: run(images)[EMBEDDING],
        interface.batch or _BATCH,
        resize=subject.config.data.resize,
        antialias=subject.config.eval.antialias,
    )
    (result,) = evaluation.run(embedder, checkpoint={})
    if result.status != "ok":
        raise DataError(f"{result.set}: {result.message}")
    return result


def _rates(model: Result, file: Result) -> Iterator[Accuracy]:
    for series in results.series(model):
        for label, scalar in zip(series.labels, series.scalars, strict=True):
            yield Accuracy(
                f"{series.name} {label}".strip(),
                model.scalars[scalar],
                file.scalars[scalar],
            )
