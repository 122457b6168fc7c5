"""ONNX: for onnxruntime and what reads its files; float32, float16 or int8."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from qface_jax.errors import ConfigError, DataError
from qface_jax.export import onnx_network
from qface_jax.export.interface import EMBEDDING, IMAGES
from qface_jax.export.onnx_interface import wrapped
from qface_jax.export.onnx_network import onnx_package
from qface_jax.export.subject import (
    FLOAT16,
    INT8,
    MESSAGE_BYTES,
    PRECISIONS,
    Format,
    Request,
    Runner,
    Subject,
)
from qface_jax.weights import parity

_PER_CHANNEL = 13  # opset from which weights have a scale for each channel
_QUANTIZED = ("Conv", "Gemm", "MatMul")
# Ranges of the activations: the union of the images' own, which the oddest image sets,
# or their mean, which clips some. Whose embeddings are closer is taken.
_RANGES = ({}, {"CalibMovingAverage": True})
_METADATA = "qface"  # key of the JSON that says what the file takes and returns


def _check(subject: Subject, request: Request) -> None:
    onnx_network.check(subject)
    if request.precision == INT8 and request.images is None:
        raise ConfigError(
            "precision int8: needs images that the ranges of the activations are "
            "taken from; give some faces as the model will see them"
        )


def _write(subject: Subject, request: Request, path: Path) -> None:
    onnx = onnx_package()
    model = wrapped(
        onnx,
        onnx_network.network_of(subject),
        request.interface,
        subject.network,
        subject.config.model.embedding_dim,
        subject.centres,
    )
    facts = {_METADATA: subject.metadata(request.interface)}
    onnx.helper.set_model_props(model, facts)
    if request.precision == FLOAT16:
        model = _halved(model)
    if request.precision == INT8:
        _quantize(onnx, model, subject, request, path)
    else:
        onnx.save(model, str(path))
    onnx.checker.check_model(str(path))


def _halved(model: Any) -> Any:
    """Returns a model that computes in float16; what goes in and out stays."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    halved = convert_float_to_float16(
        model, keep_io_types=True, node_block_list=_around(model)
    )
    # It appends its casts at the end.
    OnnxModel.graph_topological_sort(halved.graph)
    return halved


def _around(model: Any) -> list[str]:
    """Names of the nodes after the network: lengths are summed in full precision."""
    return [node.name for node in model.graph.node if "/" not in node.name]


def _quantize(
    onnx: Any, model: Any, subject: Subject, request: Request, path: Path
) -> None:
    """Writes the model with int8 weights and activations, by static quantisation."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    images = request.interface.arranged(request.images, subject.network)
    size = request.interface.batch or 1
    if onnx_network.opset_of(model) < _PER_CHANNEL:
        model = onnx_network.raised(onnx, model, _PER_CHANNEL)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole, folded = Path(folder) / "whole.onnx", Path(folder) / "folded.onnx"
        onnx.save(model, str(whole))
        quant_pre_process(str(whole), str(folded), skip_symbolic_shape=True)
        exact = _embeddings(folded, images, size)
        distances = []
        for number, options in enumerate(_RANGES):
            candidate = Path(folder) / f"{number}.onnx"
            quantization.quantize_static(
                str(folded),
                str(candidate),
                _reader(images, size),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=list(_QUANTIZED),
                nodes_to_exclude=_around(model),
                per_channel=True,
                extra_options=options,
            )
            drift = _embeddings(candidate, images, size) - exact
            distances.append(np.sqrt(np.mean(np.square(drift))))
        closest = int(np.argmin(distances))
        (Path(folder) / f"{closest}.onnx").replace(path)
    # Its own steps lose what was said of the model.
    written = onnx.load(str(path))
    del written.metadata_props[:]
    written.metadata_props.extend(model.metadata_props)
    onnx.save(written, str(path))


def _embeddings(path: Path, images: np.ndarray, size: int) -> np.ndarray:
    session = parity.onnx_session(path, Path("the quantised file"))
    runs = (
        session.run([EMBEDDING], {IMAGES: batch})[0] for batch in _batches(images, size)
    )
    return np.concatenate(list(runs))


def _reader(images: np.ndarray, size: int) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Hands out the images."""

        def __init__(self) -> None:
            self._batches = _batches(images, size)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._batches, None)
            return None if batch is None else {IMAGES: batch}

    return Reader()


def _batches(images: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(images) - size + 1, size):
        yield images[start : start + size]


def _open(path: Path, subject: Subject, request: Request) -> Runner:
    session = parity.onnx_session(path, Path("the exported file"))
    names = [output.name for output in session.get_outputs()]

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        images = request.interface.arranged(pixels, subject.network)
        try:
            return dict(zip(names, session.run(None, {IMAGES: images}), strict=True))
        except Exception as error:
            raise DataError(
                f"onnxruntime cannot run it on {len(pixels)} images "
                f"({str(error).splitlines()[0][:200]}); a network that holds its "
                "batch size takes --batch=1"
            ) from error

    return run


ONNX = Format(
    title="ONNX",
    ending=".onnx",
    precisions=PRECISIONS,
    check=_check,
    write=_write,
    open=_open,
    max_bytes=MESSAGE_BYTES,
)
