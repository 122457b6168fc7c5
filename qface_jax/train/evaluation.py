"""Runs the evaluation protocols on a state, during training and after it."""

import dataclasses
import datetime
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from qface_jax import tables
from qface_jax.configs import document
from qface_jax.data_pipelines.sources.chosen_records import ChosenRecords
from qface_jax.data_pipelines.stream import alignment, faces
from qface_jax.errors import ConfigError, counted
from qface_jax.evals import results
from qface_jax.evals.embedded import Embedded
from qface_jax.evals.eval_settings import (
    LAST,
    changes,
    named_settings,
    own_entry,
    settings,
    usual_settings,
)
from qface_jax.evals.protocols.protocol import (
    EvalSettings,
    ImageRequest,
    ImageSet,
    Protocol,
)
from qface_jax.evals.results import Result
from qface_jax.inference.embedder import Embedder
from qface_jax.inference.feature_store import FeatureStore, without_unusable
from qface_jax.processes import agreement, hosts
from qface_jax.processes.share import Share
from qface_jax.runs.progress import Progress
from qface_jax.runs.run_folder import Run
from qface_jax.runs.versions import installed

_TIMED_BATCHES = 3  # to tell how long an evaluation takes


class EvaluationStopped(Exception):  # noqa: N818 (an event, not an error)
    """The run was asked to end while it was being evaluated."""


class _Benchmark(NamedTuple):
    """A benchmark, opened.

    Attributes:
        protocol: its set and how it is evaluated.
        known: what is known of its result before it is evaluated.
    """

    protocol: Protocol
    known: Result


class Evaluation:
    """The benchmarks of a config, opened once and evaluated as often as asked."""

    def __init__(
        self, config: ConfigDict, *, run: Run | None = None, which: str = LAST
    ):
        """Opens every set, so that a missing file is known before any training.

        Args:
            config: validated config.
            run: whose results are named by their settings where these are not its
                own; None: of the run that trains with `config`.
            which: checkpoint that is evaluated, "last" or "best".

        Raises:
            ConfigError: if two sets have one name, or do not fit the settings.
            DataError: if a set cannot be read or evaluated.
        """
        self._config = config
        self._benchmarks = [
            self._open(
                *document.split_benchmark(entry, config.eval.protocol), run, which
            )
            for entry in config.eval.sets
        ]
        names = [results.file_name(one.known) for one in self._benchmarks]
        files = [results.result_path("", name).name for name in names]
        if len(set(files)) < len(files):
            raise ConfigError(
                f"eval.sets: {', '.join(config.eval.sets)} would write the same result "
                f"files ({', '.join(files)}); rename one of the files"
            )

    def _open(
        self, name: str, set_name: str, run: Run | None, which: str
    ) -> "_Benchmark":
        """Opens a benchmark and says how its result is named.

        Args:
            name: of the protocol.
            set_name: as it stands in `eval.sets`.
            run: as of `__init__`.
            which: as of `__init__`.
        """
        config = self._config
        protocol = tables.PROTOCOLS[name].open(settings(config, name), set_name)
        evaluated = named_settings(config, name, set_name, which=which)
        known = Result(
            protocol.name,
            {},
            protocol=name,
            settings=evaluated,
            config_hash=document.digest(config),
        )
        if run is None:
            return _Benchmark(protocol, known)
        earlier = results.plain(run.path, protocol.name)
        changed = changes(
            evaluated, usual_settings(run.config, name, set_name, earlier)
        )
        if not changed and own_entry(run.config, set_name):
            # What is changed besides changes no number: it is the run's own result.
            of_run = document.digest(run.config)
            return _Benchmark(protocol, dataclasses.replace(known, config_hash=of_run))
        return _Benchmark(protocol, dataclasses.replace(known, changed=changed))

    @property
    def sets(self) -> list[ImageSet]:
        """The images of each benchmark, for pictures of them."""
        return [one.protocol.images for one in self._benchmarks]

    def cost(self, embedder: Embedder) -> str:
        """Returns what an evaluation takes, in a line; all hosts call it together.

        A few batches of the first set are timed; what they compile is kept.

        Args:
            embedder: the model.
        """
        images = sum(one.protocol.total for one in self._benchmarks)
        protocol, known = self._benchmarks[0]
        rate = _images_per_second(
            protocol.images, settings(self._config, known.protocol), embedder
        )
        return (
            f"{counted(images, 'image')} of {counted(len(self._benchmarks), 'set')}, "
            f"each side counted, at {rate:,.0f} images/s: about "
            f"{max(images / rate / 60, 0.1):,.1f} min"
        )

    def run(
        self,
        embedder: Embedder,
        *,
        checkpoint: dict[str, Any],
        stores: Path | None = None,
    ) -> Iterator[Result]:
        """Yields the result of each benchmark.

        Args:
            embedder: the model, and the quality scores of each image.
            checkpoint: what is evaluated, fit for JSON; goes into each result.
            stores: folder of the features of benchmarks whose images are files, which
                are read from there and written there; None: they are not kept.
        """
        place = hosts.place()
        share = Share(place.index, place.count, agreement.gather_rows)
        for protocol, known in self._benchmarks:
            yield dataclasses.replace(
                evaluate(
                    protocol,
                    settings(self._config, known.protocol),
                    embedder,
                    share=share,
                    stores=stores,
                ),
                protocol=known.protocol,
                settings=known.settings,
                changed=known.changed,
                checkpoint=dict(checkpoint),
                config_hash=known.config_hash,
            )


def _images_per_second(
    images: ImageSet, eval_settings: EvalSettings, embedder: Embedder
) -> float:
    """Returns how fast all hosts together read, degrade and embed images of a set."""
    embedder = dataclasses.replace(embedder, flip=eval_settings.flip)
    size, seconds = embedder.rows, 0.0
    rows = np.arange(min(len(images), _TIMED_BATCHES * size))
    for part in (rows[:size], rows):  # the first time it is compiled
        chosen = _chosen(images, part)
        start = time.perf_counter()
        embedder.embed(
            decode(chosen, min(eval_settings.resolutions), size, eval_settings),
            count=len(part),
        )
        seconds = time.perf_counter() - start
    return hosts.place().count * len(rows) / seconds


def _chosen(images: ImageSet, rows: Sequence[int]) -> ChosenRecords:
    return ChosenRecords(
        images.name,
        images.fetch,
        rows,
        transforms=getattr(images, "transforms", None),
    )


def decode(
    images: ImageSet,
    side: int,
    batch_size: int,
    eval_settings: EvalSettings,
) -> Iterator[Any]:
    """Yields batches uint8 [k, 112, 112, 3] of a set as it is seen at a side."""
    return faces.eval_batches(
        images,
        side=side,
        batch_size=batch_size,
        antialias=eval_settings.antialias,
        workers=eval_settings.workers,
        resize=eval_settings.resize,
    )


def evaluate(
    protocol: Protocol,
    eval_settings: EvalSettings,
    embedder: Embedder,
    *,
    share: Share,
    stores: Path | None = None,
    decode: Callable[..., Iterator[Any]] = decode,
) -> Result:
    """Evaluates one benchmark: answers its requests, and says how far it is.

    Args:
        protocol: asks for images, and makes a result of their embeddings.
        eval_settings: `flip`, and what `decode` reads.
        embedder: the model, and the quality scores of each image.
        share: this host's part.
        stores: folder of features that are read and written; None: they are not kept.
        decode: images, side, batch size, settings -> batches of images.

    Returns:
        The result, without what is known of the checkpoint.
    """
    embedder = dataclasses.replace(embedder, flip=eval_settings.flip)
    batch_size = embedder.rows

    def embed(images: ImageSet, side: int, rows: Sequence[int], most: int) -> Embedded:
        batches = decode(_chosen(images, rows), side, batch_size, eval_settings)
        embedded = embedder.embed(
            batches,
            count=len(rows),
            calls=-(-most // batch_size),
            progress=partial(advance, f"{side} px"),
        )
        failures = getattr(images, "failures", {})
        unusable = [place for place, row in enumerate(rows) if int(row) in failures]
        return without_unusable(embedded, np.array(unusable, np.int64))

    opened: dict[tuple[int, int], FeatureStore] = {}

    def answer(request: ImageRequest) -> Embedded:
        images, side = request.images, request.side
        if stores is None or not hasattr(images, "fingerprint"):
            return embed(images, side, request.rows, request.most)
        key = id(images), side
        if key not in opened:
            opened[key] = _store(stores, images, side, embedder, eval_settings, share)
            _say_what_is_kept(images.name, opened[key])
        store = opened[key]
        there = len(request.rows) - len(store.missing(request.rows))
        if replaced := store.fill(request.rows, partial(embed, images, side), share):
            hosts.say(
                f"{images.name}: {counted(replaced, 'picture')} replaced or touched "
                "since the features were written: embedded again"
            )
        nonlocal reread
        reread += there
        advance(f"{side} px", there)
        return store.read(request.rows, embedder.scores)

    done = reread = 0

    def advance(note: str, images: int) -> None:
        """Counts for all hosts what this one does; they go in step."""
        nonlocal done
        now = min(done + images * share.count, protocol.total)
        progress.update(now - done, note)
        done = now

    with Progress(protocol.total, "images", protocol.name) as progress:
        result = protocol.evaluate(answer, share)
        # What was read from a store says nothing of the model.
        embedded = 1 - reread * share.count / max(protocol.total, 1)
        speed = progress.rate() * max(embedded, 0)
    wrong = [] if result.status == "ok" else [result.message]
    for line in [*result.warnings, *wrong]:
        hosts.say(f"warning: {result.set}: {line}")
    return dataclasses.replace(
        result,
        versions=installed(),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        images_per_second=round(speed, 1),
    )


def _store(
    folder: Path,
    images: Any,
    side: int,
    embedder: Embedder,
    eval_settings: EvalSettings,
    share: Share,
) -> FeatureStore:
    """Opens the store of a set's features; they depend on what its manifest says."""
    aligned = images.transforms is not None
    # Host 0's word, since others see other rows of the batch.
    of_noise = share.gather(embedder.of_noise()[:1])[0]
    manifest = {
        "set": images.describe(),
        "list": images.fingerprint(),
        "model": hashlib.sha256(of_noise.tobytes()).hexdigest(),
        "side": side,
        "flip": embedder.flip,
        "antialias": eval_settings.antialias,
        "aligner": alignment.ALIGNER if aligned else "none",
        "resize": "none" if aligned else eval_settings.resize,
        "colour_order": "RGB",
    }
    return FeatureStore(
        folder,
        manifest,
        count=len(images),
        width=len(of_noise),
        stamps=images.stamps,
    )


def _say_what_is_kept(name: str, store: FeatureStore) -> None:
    if kept := store.count:
        hosts.say(f"{name}: features of {counted(kept, 'image')} are in {store.path}")
    for path in store.damaged:
        hosts.say(
            f"warning: {name}: {path} is damaged or another store's: it is removed, "
            "and its images are embedded again"
        )


def evaluate_state(
    evaluation: Evaluation,
    setup: Any,
    state: Any,
    run: Path,
    *,
    folder: Path | None,
    stop: Callable[[], bool],
) -> tuple[dict[str, float], list[Result]]:
    """Evaluates a state in the middle of its run and writes the results.

    Args:
        evaluation: Sets of the run.
        setup: The run's `Setup`.
        state: State to evaluate; kept.
        run: Folder of the run.
        folder: In whose eval/ the results are written, the run's own or
            `results.before` of it; None: by another host.
        stop: Asked before each batch; True ends the evaluation.

    Returns:
        Scalars for the log, and the results.

    Raises:
        EvaluationStopped: when `stop` said so.
    """
    embedder = setup.embedder(state)

    def forward(images):
        if stop():
            raise EvaluationStopped
        return embedder.forward(images)

    stoppable = dataclasses.replace(embedder, forward=forward)
    checkpoint = {"path": str(run), "step": int(state.step)}
    evaluated, values = [], {}
    for result in evaluation.run(stoppable, checkpoint=checkpoint):
        if folder is not None:
            results.write(folder, result)
        values |= {
            f"{result.set}/{name}": value
            for name, value in results.scalars(result).items()
        }
        evaluated.append(result)
    return values, evaluated
