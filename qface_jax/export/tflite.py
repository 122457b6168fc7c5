"""TFLite: for LiteRT, on phones and small machines."""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qface_jax.errors import ConfigError, DataError
from qface_jax.export.interface import BATCH, IMAGES
from qface_jax.export.subject import (
    FLOAT16,
    FLOAT32,
    MESSAGE_BYTES,
    Format,
    Request,
    Runner,
    Subject,
)


def _interpreter() -> Any:
    """Returns LiteRT's class of interpreters."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ConfigError(
            "checking .tflite files needs the package ai-edge-litert, which is not "
            "installed; pip install 'qface-jax[tflite]'"
        ) from error
    return Interpreter


def _write(subject: Subject, request: Request, path: Path) -> None:
    import tensorflow as tf
    from jax.experimental import jax2tf

    interface = request.interface
    batch = BATCH if interface.batch is None else interface.batch
    symbols = ", ".join(map(str, (batch, *interface.image_shape)))

    weights = {"params": subject.params, "stats": subject.stats}

    def function(weights, images):
        return subject._replace(**weights).function(interface)(images)

    converted = jax2tf.convert(
        jax.jit(function),
        polymorphic_shapes=[None, f"({symbols})"],
        with_gradient=False,
    )
    spec = tf.TensorSpec(
        [interface.batch, *interface.image_shape], interface.dtype, name=IMAGES
    )
    # As variables: the converter copies constants over and over.
    module = tf.Module()
    module.weights = tf.nest.map_structure(tf.Variable, weights)
    module.call = tf.function(
        lambda images: converted(module.weights, images),
        input_signature=[spec],
        autograph=False,
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.call.get_concrete_function()], module
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if request.precision == FLOAT16:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    try:
        path.write_bytes(converter.convert())
    except Exception as error:
        # The converter has an error of its own, and raises others too.
        raise ConfigError(
            f"backbone {subject.config.model.backbone}: TensorFlow's converter does "
            f"not carry it ({str(error).splitlines()[0][:200]}); export it as onnx"
        ) from error


def _open(path: Path, subject: Subject, request: Request) -> Runner:
    interface = request.interface
    try:
        interpreter = _interpreter()(model_path=str(path), num_threads=os.cpu_count())
    except ValueError as error:
        raise DataError(f"{path}: LiteRT cannot read it: {error}") from error

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        images = interface.arranged(pixels, subject.network)
        runner = interpreter.get_signature_runner()
        outputs = runner(**{IMAGES: images})
        return {name: outputs[name] for name in interface.outputs}

    return run


TFLITE = Format(
    title="TFLite",
    ending=".tflite",
    precisions=(FLOAT32, FLOAT16),
    check=lambda subject, request: _interpreter() and None,
    write=_write,
    open=_open,
    max_bytes=MESSAGE_BYTES,
)
