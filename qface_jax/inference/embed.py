"""Turns a stream of images into features, once, in batches of one fixed size."""

from collections.abc import Callable, Iterable

import numpy as np

from qface_jax.errors import DataError
from qface_jax.evals.embedded import Embedded
from qface_jax.evals.measures.quality_scores import Scorer

# images uint8 [k, h, w, 3] -> features float [k, d]; may return before it is done.
Embed = Callable[[np.ndarray], np.ndarray]

IMAGE = (112, 112, 3)


def embed_images(
    batches: Iterable[np.ndarray],
    embed: Embed,
    *,
    count: int,
    batch_size: int,
    flip: bool,
    calls: int = 0,
    scorer: Scorer | None = None,
    progress: Callable[[int], None] | None = None,
) -> Embedded:
    """Embeds every image of a stream.

    Args:
        batches: uint8 [k, h, w, 3] each, k from 1 to `batch_size`.
        embed: called with exactly `batch_size` images; a shorter batch is filled up
            with black ones, whose features are dropped again.
        count: images the stream must hold.
        batch_size: rows of each call of `embed`.
        flip: whether the raw feature of the mirror image is added.
        calls: of batches at least, the last ones all black: hosts that embed together
            must do so equally often.
        scorer: what scores the features; None: their norm alone.
        progress: told how many images each batch had.

    Returns:
        features and scores of `count` images.

    Raises:
        DataError: the stream holds more or fewer images than `count`.
    """
    store = _Store(count, scorer or Scorer())
    made = 0
    for images in batches:
        _check_batch(images, batch_size)
        if store.queued + len(images) > count:
            raise DataError(f"evaluation images: got more than the {count:,} expected")
        store.queue(_call(embed, images, batch_size, flip), len(images))
        made += 1
        if progress is not None:
            progress(len(images))
    if store.queued != count:
        raise DataError(f"evaluation images: got {store.queued:,}, expected {count:,}")
    for _ in range(made, calls):
        black = np.zeros((0, *IMAGE), np.uint8)
        store.queue(_call(embed, black, batch_size, flip), 0)
    return store.embedded()


class _Store:
    """Features as they come, and one batch that is still in flight.

    So the next images are decoded while the devices work.
    """

    def __init__(self, count: int, scorer: Scorer):
        self.queued = 0
        self._count, self._scorer = count, scorer
        self._pending: tuple[list, int, int] | None = None
        self._features: np.ndarray | None = None
        self._scores = {name: np.empty(count, np.float64) for name in scorer.names}

    def queue(self, outputs: list, rows: int) -> None:
        """Takes the outputs of a batch, of which the first rows count."""
        pending, self._pending = self._pending, (outputs, self.queued, rows)
        self.queued += rows
        if pending is not None:
            self._store(*pending)

    def embedded(self) -> Embedded:
        """Waits for the last batch."""
        if self._pending is None:
            raise DataError("evaluation images: got 0")
        self._store(*self._pending)
        return Embedded(self._features, self._scores)

    def _store(self, outputs: list, begin: int, rows: int) -> None:
        outputs = [np.asarray(output, np.float32)[:rows] for output in outputs]
        if self._features is None:
            dim = outputs[0].shape[1]
            self._features = np.empty((self._count, dim), np.float32)
        into = slice(begin, begin + rows)
        with np.errstate(over="ignore", invalid="ignore"):
            self._features[into] = sum(outputs)
            found = self._scorer.scores(outputs[0])
        for name, values in found.items():
            self._scores[name][into] = values


def _call(embed: Embed, images: np.ndarray, batch_size: int, flip: bool) -> list:
    padding = batch_size - len(images)
    if padding:
        images = np.pad(images, ((0, padding), (0, 0), (0, 0), (0, 0)))
    outputs = [embed(images)]
    if flip:
        outputs.append(embed(np.ascontiguousarray(images[:, :, ::-1])))
    return outputs


def _check_batch(images: np.ndarray, batch_size: int) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            "images must be uint8 [k, h, w, 3], got "
            f"{images.dtype} {list(images.shape)}"
        )
    if not 1 <= len(images) <= batch_size:
        raise ValueError(
            f"a batch must hold 1 to {batch_size} images, got {len(images)}"
        )
