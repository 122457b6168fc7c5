"""Writes a model as a file for other programs, and compares the two before it stays."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qface_jax.data_pipelines.tools import sample_images
from qface_jax.errors import ConfigError, DataError
from qface_jax.export import interface as interfaces
from qface_jax.export.subject import (
    FLOAT16,
    FLOAT32,
    INT8,
    PRECISIONS,
    Format,
    Request,
    Runner,
    Subject,
)
from qface_jax.storage.atomic_file import replace_file, replacing
from qface_jax.tables import EXPORT_FORMATS
from qface_jax.weights import parity
from qface_jax.weights.parity import Compared

# Largest difference of an output, as a share of its norm, that a file may have.
TOLERANCES = {FLOAT32: 1e-4, FLOAT16: 2e-2, INT8: 0.25}
_PICTURES = 16  # of each kind that are compared


class Exported(NamedTuple):
    """A file that was written.

    Attributes:
        path: Where it is.
        format: What it is.
        differences: Output -> how far it is from the model's.
        facts: What a user of the file has to know.
    """

    path: Path
    format: Format
    differences: Mapping[str, list[Compared]]
    facts: dict[str, Any]


def format_of(path: Path, name: str | None) -> tuple[str, Format]:
    """Returns a format and its name.

    Args:
        path: Of the file to write, whose ending says it where nothing else does.
        name: Of `tables.EXPORT_FORMATS`, or `module:object`; None: by the ending.

    Raises:
        ConfigError: There is no such format, or the ending is another's.
    """
    endings = {EXPORT_FORMATS[key].ending: key for key in EXPORT_FORMATS}
    if name is None:
        if path.suffix not in endings:
            raise ConfigError(
                f"{path}: its ending is that of no format; end it in "
                f"{', '.join(endings)}, or name a format"
            )
        name = endings[path.suffix]
    if path.suffix in endings and endings[path.suffix] != name:
        raise ConfigError(
            f"{path}: ends as a file of format {endings[path.suffix]}, got format "
            f"{name}; end it in {EXPORT_FORMATS[name].ending}"
        )
    return name, EXPORT_FORMATS[name]


def pictures_of(path: Path | None, resize: str) -> dict[str, np.ndarray]:
    """Returns the images that a file is compared on, kind -> uint8 [n, 112, 112, 3].

    Args:
        path: Of face images; None: drawn faces.
        resize: Of images that are not 112 px.
    """
    pictures = {"random": parity.random_images(_PICTURES)}
    if path is None:
        pictures["drawn faces"] = sample_images.drawn_faces(_PICTURES)
    else:
        pictures["faces"] = sample_images.sample(path, _PICTURES, resize)
    return pictures


def check(subject: Subject, chosen: Format, request: Request, path: Path) -> None:
    """Raises ConfigError where it cannot be exported so, before any work."""
    interfaces.check(request.interface)
    if request.precision not in PRECISIONS:
        raise ConfigError(
            f"precision: got {request.precision!r}, must be one of "
            f"{', '.join(PRECISIONS)}"
        )
    if request.precision not in chosen.precisions:
        raise ConfigError(
            f"precision: got {request.precision}, but {chosen.title} is written in "
            f"{' or '.join(chosen.precisions)}"
        )
    if chosen.max_bytes is not None and subject.nbytes > chosen.max_bytes:
        raise ConfigError(
            f"{path}: {subject.nbytes:,} bytes of weights, but a file of format "
            f"{chosen.title} holds {chosen.max_bytes:,}; leave the class centres out "
            "(only .safetensors holds any number)"
        )
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; give a file")
    chosen.check(subject, request)


def export(
    subject: Subject,
    path: Path,
    chosen: Format,
    request: Request,
    *,
    pictures: Mapping[str, np.ndarray],
    tolerance: float | None = None,
    judge: Callable[[Runner], None] = lambda runner: None,
) -> Exported:
    """Writes a file aside, runs it by its own runtime, compares, and renames it.

    Beside it PATH.json says what it takes and returns, and how far it is from the
    model.

    Args:
        subject: The model.
        path: File to write or replace.
        chosen: What is written.
        request: How.
        pictures: Kind -> images that it is compared on, uint8 [n, 112, 112, 3].
        tolerance: Largest difference of an output, as a share of its norm; None: that
            of the precision in TOLERANCES.
        judge: Gets the file, run by its own runtime, before it is renamed.

    Raises:
        ConfigError: The format does not carry the model.
        DataError: The file differs from the model by more, and was not written.
    """
    check(subject, chosen, request, path)
    limit = TOLERANCES[request.precision] if tolerance is None else tolerance
    with replacing(path) as aside:
        chosen.write(subject, request, aside)
        runner = chosen.open(aside, subject, request)
        differences = _differences(subject, request, runner, pictures)
        _refuse(path, differences, limit)
        judge(runner)
    facts = json.loads(subject.metadata(request.interface))
    facts |= {
        "format": chosen.title,
        "precision": request.precision,
        "differences": {
            name: [one._asdict() for one in compared]
            for name, compared in differences.items()
        },
    }
    text = json.dumps(facts, indent=1)
    replace_file(path.with_name(f"{path.name}.json"), f"{text}\n".encode())
    return Exported(path, chosen, differences, facts)


def _differences(
    subject: Subject,
    request: Request,
    runner: Runner,
    pictures: Mapping[str, np.ndarray],
) -> dict[str, list[Compared]]:
    interface = request.interface
    model = subject.runner(interface)
    batch = interface.batch
    batches = parity.BATCHES if batch is None else (batch,)
    kinds = dict(pictures)
    if request.precision == INT8:
        kinds.pop("random", None)  # outside the ranges that faces calibrate

    def output(run: Runner, name: str) -> Callable[[np.ndarray], np.ndarray]:
        return lambda pixels: np.reshape(run(pixels)[name], (len(pixels), -1))

    return {
        name: parity.compare(
            output(runner, name),
            output(model, name),
            kinds,
            batches=batches,
            lengths_count=True,
        )
        for name in interface.outputs
    }


def _refuse(
    path: Path, differences: Mapping[str, list[Compared]], limit: float
) -> None:
    beyond = [
        f"  {name}: {one} (image {one.worst})"
        for name, compared in differences.items()
        for one in compared
        if not one.difference <= limit
    ]
    if beyond:
        raise DataError(
            f"{path}: the exported file differs from the model by more than {limit:g} "
            "of an output's norm\n"
            + "\n".join(beyond)
            + "\nnothing was written; allow a larger --tolerance if that is enough"
        )
