"""The model that is exported, and the form that every format's entry has."""

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from qface_jax import __version__, models
from qface_jax.api.model_weights import BACKBONE, HEAD, STATISTICS, ModelWeights
from qface_jax.configs import document
from qface_jax.errors import ConfigError
from qface_jax.export.interface import Interface, function
from qface_jax.models.convolution import plain_convolutions
from qface_jax.weights.convention import Convention

# Protocol Buffers and FlatBuffers count bytes in 31 bits; the rest is for the program.
MESSAGE_BYTES = 2**31 - 2**24
FLOAT32, FLOAT16, INT8 = "float32", "float16", "int8"
PRECISIONS = (FLOAT32, FLOAT16, INT8)
# Pixels uint8 [b, 112, 112, 3], RGB -> the outputs by name, as NumPy arrays.
Runner = Callable[[np.ndarray], Mapping[str, np.ndarray]]


class Subject(NamedTuple):
    """A model that is exported: it computes in float32, whatever its run did.

    Attributes:
        config: Config of its run, with `model.dtype` "float32".
        params: Parameters of the backbone, nested dict of arrays.
        stats: Its running statistics.
        centres: Class centres, float32 [c, d]; None: there are none.
        facts: Of the model, for the file's metadata, fit for JSON.
    """

    config: ConfigDict
    params: Any
    stats: Any
    centres: np.ndarray | None
    facts: dict[str, Any]

    @property
    def nbytes(self) -> int:
        """Bytes of all weights, and of the class centres."""
        arrays = jax.tree.leaves((self.params, self.stats, self.centres))
        return sum(array.nbytes for array in arrays)

    @property
    def network(self) -> Convention:
        """What the network itself takes."""
        group = self.config.model
        return Convention(
            tuple(group.input_mean), tuple(group.input_std), group.color_order
        )

    def features(self, images: jax.Array) -> jax.Array:
        """Returns raw features [b, d] of images float32 [b, 112, 112, 3] in [-1, 1]."""
        options = document.options_of(
            self.config, "backbone", self.config.model.backbone
        )
        model = models.build(self.config.model, options=options)
        return model.apply(self.params, self.stats, images, train=False, key=None)[0]

    def raw(self, images: jax.Array) -> jax.Array:
        """Returns the same, traced with JAX's own operations alone."""
        with plain_convolutions():
            return self.features(images)

    def function(
        self, interface: Interface
    ) -> Callable[[jax.Array], Mapping[str, jax.Array]]:
        """Returns what is exported as a JAX function; see `interface.function`."""
        return function(self.raw, interface, self.network, self.centres)

    def runner(self, interface: Interface) -> Runner:
        """Returns the model itself with what is exported around it."""
        compiled = jax.jit(
            function(self.features, interface, self.network, self.centres)
        )

        def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
            outputs = compiled(interface.arranged(pixels, self.network))
            return {name: np.asarray(values) for name, values in outputs.items()}

        return run

    def metadata(self, interface: Interface | None) -> str:
        """Returns what a user of the file has to know, as JSON.

        Args:
            interface: None: the file holds the weights alone.
        """
        if interface is None:
            return json.dumps(self.facts | self.network._asdict())
        return json.dumps(self.facts | interface.describe(self.network))


class Request(NamedTuple):
    """What is asked of a format.

    Attributes:
        interface: What the file takes and returns.
        precision: FLOAT32, FLOAT16 or INT8.
        images: uint8 [n, 112, 112, 3] that INT8 is calibrated by.
    """

    interface: Interface
    precision: str = FLOAT32
    images: np.ndarray | None = None


class Format(NamedTuple):
    """A format, an entry of `qface_jax.tables.EXPORT_FORMATS`.

    Attributes:
        title: What a reader calls it.
        ending: Of its files, with the dot, as in ".onnx".
        precisions: Those that it knows of PRECISIONS.
        check: (subject, request); raises ConfigError where the format cannot hold that,
            or a package is missing, before any work.
        write: (subject, request, path); writes the file.
        open: (path, subject, request) -> the file, run by the format's own runtime.
        max_bytes: Of the weights that a file can hold; None: any number.
    """

    title: str
    ending: str
    precisions: tuple[str, ...]
    check: Callable[[Subject, Request], None]
    write: Callable[[Subject, Request, Path], None]
    open: Callable[[Path, Subject, Request], Runner]
    max_bytes: int | None = None


def subject_of(weights: ModelWeights, *, with_centres: bool) -> Subject:
    """Returns a model to export.

    Args:
        weights: It, read with the part HEAD where its centres are wanted.
        with_centres: Whether class centres are exported.

    Raises:
        ConfigError: The model has no class centres, and they are wanted.
    """
    config = weights.config.copy_and_resolve_references()
    with config.unlocked():
        config.model.dtype = "float32"
        config.model.remat = False
    centres = None
    if with_centres:
        rows = weights.parts[HEAD].get("centres")
        if rows is None:
            raise ConfigError(f"{weights.path}: has no class centres; leave them out")
        # Behind them there are rows of padding.
        centres = np.asarray(rows[: weights.num_classes], np.float32)
    facts = {
        "written_by": f"qface-jax {__version__}",
        "backbone": weights.config.model.backbone,
        "embedding_dim": weights.config.model.embedding_dim,
        "step": weights.step,
        "config": document.digest(weights.config),
    }
    to_numpy = functools.partial(jax.tree.map, np.asarray)
    return Subject(
        config.lock(),
        to_numpy(weights.parts[BACKBONE]),
        to_numpy(weights.parts[STATISTICS]),
        centres,
        facts,
    )
