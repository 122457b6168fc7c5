"""From images to features and quality scores: one object for all who embed."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

import jax
import numpy as np
from flax import serialization
from jax.sharding import Mesh
from ml_collections import ConfigDict

from qface_jax import models
from qface_jax.configs import document
from qface_jax.errors import DataError
from qface_jax.evals.embedded import Embedded
from qface_jax.evals.measures.quality_scores import NORM
from qface_jax.inference.feature_norm import feature_norms
from qface_jax.inference.fitting_weights import named_misfit
from qface_jax.inference.quality_score import (
    Score,
    build_scores,
    checkpoint_parts,
    names_of,
)
from qface_jax.processes import hosts
from qface_jax.runs.checkpoint import load_parts
from qface_jax.runs.run_folder import Run
from qface_jax.sharded import parallel

# This host's images uint8 [b, h, w, 3] -> their raw features [b, d]; it may return
# before they are there, and numpy then waits for them.
Forward = Callable[[np.ndarray], Any]
_BLACK = np.zeros((1, 112, 112, 3), np.uint8)
_WEIGHTS = ("params/backbone", "stats")
Label = TypeVar("Label")


@dataclasses.dataclass(frozen=True)
class Embedder:
    """A model whose weights are on the devices, and how images go through it.

    Hosts that embed together must do so equally often.

    Attributes:
        forward: Called with exactly `rows` images.
        batch_size: Images of a call, of all hosts together.
        flip: Whether the raw feature of the mirror image is added.
        scores: Quality scores by name; that of NORM is always there.
        resize: How images that are not 112 px become so, "crop" or "stretch".
        antialias: Whether images that are degraded to a smaller side are so with
            anti-aliasing.
        step: Updates done by the model's run; None where nobody knows.
    """

    forward: Forward
    batch_size: int
    flip: bool = False
    scores: Mapping[str, Score] = dataclasses.field(
        default_factory=lambda: {NORM: feature_norms}
    )
    resize: str = "crop"
    antialias: bool = True
    step: int | None = None

    @classmethod
    def from_run(
        cls,
        run: Run,
        which: str,
        mesh: Mesh,
        *,
        config: ConfigDict | None = None,
        batch_size: int | None = None,
        quality_scores: Collection[str] = (),
    ) -> "Embedder":
        """Loads the weights of a run's checkpoint.

        Args:
            run: Any run, trained or imported.
            which: "last" or "best".
            mesh: Devices, over which a batch is cut.
            config: The run's config, of which the `eval` group may differ; None: as
                the run was started.
            batch_size: Of all hosts together; rounded up to a multiple of the devices.
                None: the config's `eval.batch_size`.
            quality_scores: Names of scores besides `eval.quality_scores`.

        Raises:
            ConfigError: The run has no such checkpoint.
            UserError: It is damaged.
        """
        config = run.config if config is None else config
        names = names_of(config, quality_scores)
        parts = (*_WEIGHTS, *checkpoint_parts(names))
        step, saved = load_parts(run.path, which, parts)
        return cls.of_parts(
            saved, config, mesh, names=names, batch_size=batch_size, step=step
        )

    @classmethod
    def of_parts(
        cls,
        parts: Mapping[str, Any],
        config: ConfigDict,
        mesh: Mesh,
        *,
        names: Collection[str],
        batch_size: int | None = None,
        step: int | None = None,
    ) -> "Embedder":
        """Takes weights that this host holds.

        Args:
            parts: Path -> nested dicts of arrays, as of a checkpoint:
                "params/backbone", "stats" and those that the scores need.
            config: Config of the model's run.
            mesh: Devices, over which a batch is cut.
            names: Of the quality scores to look for, from `names_of`.
            batch_size: As of `from_run`.
            step: Updates done by the model's run.
        """
        options = document.options_of(config, "backbone", config.model.backbone)
        shard = parallel.shardings(mesh)
        model = models.build(config.model, options=options)
        embed_fn = jit_embed(model, shard)
        backbone, stats = (parallel.replicate(parts[part], shard) for part in _WEIGHTS)
        batch_size = config.eval.batch_size if batch_size is None else batch_size
        return cls(
            partial(_of_weights, model, embed_fn, backbone, stats, shard),
            -(-batch_size // mesh.size) * mesh.size,
            scores=build_scores(names, parts, config),
            resize=config.data.resize,
            antialias=config.eval.antialias,
            step=step,
        )

    @classmethod
    def of_state(
        cls,
        state: Any,
        embed_fn: Any,
        shard: parallel.Shardings,
        config: ConfigDict,
    ) -> "Embedder":
        """Takes the weights of a state in training.

        Args:
            state: Has `step`, `params`, `stats` and `aux`; not donated while this
                embeds.
            embed_fn: From `jit_embed`.
            shard: Where batches go.
            config: Config of the run.
        """
        names = names_of(config)
        parts = {path: _part_of(state, path) for path in checkpoint_parts(names)}
        return cls(
            partial(
                _on_devices, embed_fn, state.params["backbone"], state.stats, shard
            ),
            config.eval.batch_size,
            scores=build_scores(names, parts, config),
            resize=config.data.resize,
            antialias=config.eval.antialias,
            step=int(state.step),
        )

    @property
    def rows(self) -> int:
        """Images of a call, of this host."""
        return self.batch_size // hosts.place().count

    def of_noise(self) -> np.ndarray:
        """Returns raw features of a batch of fixed noise, to tell models apart.

        All hosts call it together.

        Returns:
            float32 [rows, d].
        """
        noise = np.random.default_rng(0).integers(0, 256, (self.rows, 112, 112, 3))
        return np.asarray(self.forward(noise.astype(np.uint8)), np.float32)

    def __call__(self, images: np.ndarray) -> "Pending":
        """Starts to embed a batch of this host's share.

        Args:
            images: uint8 [k, h, w, 3], k from 0 to `rows`; it is filled up with black
                ones, whose features are dropped again.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(
                "images must be uint8 [k, h, w, 3], got "
                f"{images.dtype} {list(images.shape)}"
            )
        count = len(images)
        if count > self.rows:
            raise ValueError(
                f"a batch must hold at most {self.rows} images, got {count}"
            )
        if count < self.rows:
            images = np.pad(images, ((0, self.rows - count), (0, 0), (0, 0), (0, 0)))
        outputs = [self.forward(images)]
        if self.flip:
            outputs.append(self.forward(np.ascontiguousarray(images[:, :, ::-1])))
        return Pending(outputs, count, self.scores)

    def stream(
        self, batches: Iterable[tuple[np.ndarray, Label]]
    ) -> Iterator[tuple[Embedded, Label]]:
        """Yields features and scores of each batch, and what came with it.

        A batch is waited for when the next one is on its way, so that the devices and
        the decoding work at the same time.

        Args:
            batches: Images as `__call__` takes them, and whatever belongs to them.
        """
        pending = None
        for images, label in batches:
            ready, pending = pending, (self(images), label)
            if ready is not None:
                yield ready[0].wait(), ready[1]
        if pending is not None:
            yield pending[0].wait(), pending[1]

    def embed(
        self,
        batches: Iterable[np.ndarray],
        *,
        count: int,
        calls: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> Embedded:
        """Embeds every image of a stream.

        Args:
            batches: Images as `__call__` takes them.
            count: Images that the stream must hold.
            calls: Batches to embed at least, the last ones all black.
            progress: Told how many images each batch had.

        Raises:
            DataError: The stream holds more or fewer images than `count`.
        """
        scores = {name: np.empty(count, np.float64) for name in self.scores}
        plain: np.ndarray | None = None
        mirrored: np.ndarray | None = None
        numbered = _numbered(batches, count, calls, progress)
        for embedded, start in self.stream(numbered):
            rows = slice(start, start + len(embedded.features))
            if plain is None:
                plain = np.empty((count, embedded.features.shape[1]), np.float32)
                mirrored = np.empty_like(plain) if self.flip else None
            plain[rows] = embedded.plain
            if mirrored is not None:
                mirrored[rows] = embedded.mirrored
            for name, values in embedded.scores.items():
                scores[name][rows] = values
        if plain is None:
            raise DataError("evaluation images: got 0")
        return fused(plain, mirrored, scores)


class Pending:
    """A batch that the devices may still be working on."""

    def __init__(self, outputs: list[Any], count: int, scores: Mapping[str, Score]):
        """Takes the raw features of the images, and of their mirror images."""
        self._outputs, self._count, self._scores = outputs, count, scores

    def wait(self) -> Embedded:
        """Returns the features of the images, and their scores."""
        plain, *mirrored = (
            np.asarray(output, np.float32)[: self._count] for output in self._outputs
        )
        return fused(
            plain,
            mirrored[0] if mirrored else None,
            scored(plain, self._scores),
        )


def scored(plain: np.ndarray, scores: Mapping[str, Score]) -> dict[str, np.ndarray]:
    """Returns the quality scores of raw features float32 [n, d], float64 [n] each."""
    raw = np.asarray(plain, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        return {name: score(raw) for name, score in scores.items()}


def fused(
    plain: np.ndarray, mirrored: np.ndarray | None, scores: dict[str, np.ndarray]
) -> Embedded:
    """Adds the raw features of images and mirror images, float32 [n, d] each."""
    if mirrored is None:
        return Embedded(plain, scores, plain=plain)
    with np.errstate(over="ignore", invalid="ignore"):
        return Embedded(plain + mirrored, scores, plain=plain, mirrored=mirrored)


def jit_embed(model: models.Model, shard: parallel.Shardings) -> Any:
    """Returns jitted (backbone, stats, images uint8 [b, ...]) -> features [b, d]."""
    return jax.jit(partial(models.embed, model), out_shardings=shard.rows)


def _on_devices(embed_fn, backbone, stats, shard, images):
    batch = parallel.to_device(np.ascontiguousarray(images), shard.rows)
    return parallel.LocalRows(embed_fn(backbone, stats, batch))


def _of_weights(model, embed_fn, backbone, stats, shard, images):
    with named_misfit(model, backbone, stats):
        return _on_devices(embed_fn, backbone, stats, shard, images)


def _part_of(state: Any, path: str) -> Any:
    """Returns a part of a state in the form in which a checkpoint has it."""
    field, *names = path.split("/")
    tree = serialization.to_state_dict(getattr(state, field))
    for name in names:
        tree = tree.get(name, {})
    return jax.tree.map(np.asarray, jax.device_get(tree))


def _numbered(
    batches: Iterable[np.ndarray],
    count: int,
    calls: int,
    progress: Callable[[int], None] | None,
) -> Iterator[tuple[np.ndarray, int]]:
    """Yields batches with the number of their first image, black ones at the end."""
    start = made = 0
    for images in batches:
        if start + len(images) > count:
            raise DataError(f"evaluation images: got more than the {count:,} expected")
        yield images, start
        start, made = start + len(images), made + 1
        if progress is not None:
            progress(len(images))
    if start != count:
        raise DataError(f"evaluation images: got {start:,}, expected {count:,}")
    for _ in range(made, calls):
        yield _BLACK[:0], count
