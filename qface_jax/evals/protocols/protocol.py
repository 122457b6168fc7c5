"""What an evaluation protocol is: which images it needs, and what it makes of them.

A new protocol is one file and one line in `qface_jax.tables.PROTOCOLS`, or a user's
own, named as `module:object`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from typing import Protocol as Interface

import numpy as np

from qface_jax.evals.embedded import Embedded
from qface_jax.evals.results import Result
from qface_jax.options import Option
from qface_jax.processes.share import Share

FULL_SIDE = 112  # px, of an image that is not degraded


@dataclasses.dataclass(frozen=True)
class EvalSettings:
    """Values of the config's `eval` group, and what else an evaluation reads.

    Attributes:
        resolutions: sides of degraded images, px.
        flip: add the mirror image's feature.
        folds: of a cross-validation; 0: those that the set is published with, else 10.
        max_pairs: pairs of a verification set that are taken at most; 0: all.
        metric: key of `measures.verification.METRICS`.
        antialias: in the down-sampling.
        batch_size: images at a time, of all hosts together.
        discard_fmr: false match rate at which error-versus-discard curves start.
        quality_scores: names of scores besides those that the model brings.
        path: folder that files of the sets lie in; "": this one.
        synthetic: identities, pairs and seed of the set "synthetic".
        resize: of pictures that are not 112 px.
        workers: threads that decode; 0: TensorFlow decides.
        options: of the protocol itself, by name.
    """

    resolutions: tuple[int, ...] = (112, 56, 28, 14, 7)
    flip: bool = True
    folds: int = 10
    max_pairs: int = 0
    metric: str = "euclidean"
    antialias: bool = True
    batch_size: int = 128
    discard_fmr: float = 0.01
    quality_scores: tuple[str, ...] = ()
    path: str = ""
    synthetic: Mapping[str, int] = dataclasses.field(default_factory=dict)
    resize: str = "crop"
    workers: int = 0
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


# What numbers can depend on: not batch size, threads, or the place of the files.
READS = (
    "resolutions", "flip", "folds", "metric", "antialias", "discard_fmr",
    "quality_scores", "synthetic", "resize", "max_pairs",
)  # fmt: skip


class ImageSet(Interface):
    """Encoded images by number."""

    name: str

    def __len__(self) -> int:
        """Returns the number of images."""

    def fetch(self, indices: np.ndarray) -> list[bytes]:
        """Returns the encoded images; thread-safe."""


class ImageRequest(NamedTuple):
    """Images to be embedded.

    Attributes:
        images: the set that they are of.
        rows: numbers of this host's images, in the order of the features; maybe none.
        most: rows of the host that has most of them, since hosts embed together.
        side: px that they are reduced to and enlarged from again, both bicubic.
    """

    images: ImageSet
    rows: Sequence[int]
    most: int
    side: int = FULL_SIDE


# The features are this host's; the next request may reuse nothing of them.
Embedder = Callable[[ImageRequest], Embedded]


class Protocol(Interface):
    """One benchmark, opened: a set and how it is evaluated.

    Attributes:
        name: of the benchmark; of its files and its scalars in the log.
        images: what the report shows examples of.
        total: images that it asks for, of all hosts, each as often as it does.
    """

    name: str
    images: ImageSet
    total: int

    def describe(self) -> dict[str, Any]:
        """Returns facts of the set, fit for JSON."""

    def evaluate(self, embed: Embedder, share: Share) -> Result:
        """Returns the result, the same on all hosts.

        Args:
            embed: answers one request after the other; all hosts ask alike.
            share: this host's part of the work; what it gathers is of all hosts.
        """


class ProtocolEntry(NamedTuple):
    """A protocol as `tables.PROTOCOLS` has it.

    Attributes:
        open: settings, name of a set as it stands in `eval.sets` -> the benchmark; it
            raises ConfigError or DataError for what cannot be evaluated.
        text: what it measures, in a line.
        options: its own, besides those of the `eval` group.
        reads: names in `EvalSettings` that its numbers depend on, of READS; results
            that differ in one of them are kept apart.
    """

    open: Callable[[EvalSettings, str], Protocol]
    text: str
    options: Mapping[str, Option] = {}
    reads: tuple[str, ...] = READS
