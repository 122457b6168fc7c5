"""StableHLO: a program of `jax.export`, which JAX alone runs, on any platform."""

from pathlib import Path

import jax
import numpy as np
from jax import export

from qface_jax.errors import DataError
from qface_jax.export.interface import BATCH
from qface_jax.export.subject import (
    FLOAT32,
    MESSAGE_BYTES,
    Format,
    Request,
    Runner,
    Subject,
)

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def _write(subject: Subject, request: Request, path: Path) -> None:
    interface = request.interface
    (free,) = export.symbolic_shape(BATCH)
    batch = free if interface.batch is None else interface.batch
    images = jax.ShapeDtypeStruct((batch, *interface.image_shape), interface.dtype)
    compiled = jax.jit(subject.function(interface))
    exported = export.export(compiled, platforms=PLATFORMS)(images)
    path.write_bytes(exported.serialize())


def _open(path: Path, subject: Subject, request: Request) -> Runner:
    try:
        exported = export.deserialize(bytearray(path.read_bytes()))
    except ValueError as error:
        raise DataError(f"{path}: jax.export cannot read it: {error}") from error

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        outputs = exported.call(request.interface.arranged(pixels, subject.network))
        return {name: np.asarray(values) for name, values in outputs.items()}

    return run


STABLEHLO = Format(
    title="StableHLO",
    ending=".stablehlo",
    precisions=(FLOAT32,),
    check=lambda subject, request: None,
    write=_write,
    open=_open,
    max_bytes=MESSAGE_BYTES,
)
