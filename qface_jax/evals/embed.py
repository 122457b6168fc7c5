"""Turns a stream of images into features, once, in batches of one fixed size."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from qface_jax.errors import DataError
from qface_jax.evals.verification import unit
from qface_jax.progress import Progress

# images uint8 [k, h, w, 3] -> features float [k, d]; may return before it is done.
Embed = Callable[[np.ndarray], np.ndarray]

_BLOCK = 8192  # rows in float64 at a time
_NAMED = 5  # indices of bad images named in a message


@dataclasses.dataclass(frozen=True)
class Embedded:
    """Features of a list of images, in its order.

    Attributes:
        features: fused over image and mirror image, not normalised, float32 [n, d].
        norms: L2 norm of the feature of the image itself (the quality), float64 [n].
    """

    features: np.ndarray
    norms: np.ndarray


@dataclasses.dataclass(frozen=True)
class Health:
    """Whether features can be compared at all.

    Attributes:
        status: "ok", "collapsed" or "non_finite".
        message: one sentence saying what is wrong; empty when ok.
    """

    status: str
    message: str


OK = Health("ok", "")


def embed_images(
    batches: Iterable[np.ndarray],
    embed: Embed,
    *,
    count: int,
    batch_size: int,
    flip: bool,
    progress: Progress | None = None,
    note: str = "",
) -> Embedded:
    """Embeds every image of a stream.

    Args:
        batches: uint8 [k, h, w, 3] each, k from 1 to `batch_size`.
        embed: called with exactly `batch_size` images; a shorter batch is filled up
            with black ones, whose features are dropped again.
        count: images the stream must hold.
        batch_size: rows of each call of `embed`.
        flip: whether the raw feature of the mirror image is added.
        progress: told of every batch.
        note: shown by `progress`.

    Returns:
        features and norms of `count` images.

    Raises:
        DataError: the stream holds more or fewer images than `count`.
    """
    features = norms = None
    done = 0
    pending = None
    for images in batches:
        _check_batch(images, batch_size)
        if done + len(images) > count:
            raise DataError(f"evaluation images: got more than the {count:,} expected")
        queued = _call(embed, images, batch_size, flip)
        # One batch stays in flight, so the next images are decoded meanwhile.
        if pending is not None:
            features, norms = _store(pending, features, norms, count)
        pending = (queued, done, len(images))
        done += len(images)
        if progress is not None:
            progress.update(len(images), note)
    if done != count or pending is None:
        raise DataError(f"evaluation images: got {done:,}, expected {count:,}")
    features, norms = _store(pending, features, norms, count)
    return Embedded(features, norms)


def diagnose(features: np.ndarray, *, resolution: float) -> Health:
    """Says whether features are finite and not (almost) all the same.

    Collapsed means that 95 % of the unit embeddings lie so close to their mean that
    any two of them are nearer than the verification threshold can resolve: then the
    accuracy is a constant decision's, 50 % on a balanced list.

    Args:
        features: raw, [n, d].
        resolution: smallest squared Euclidean distance that can be resolved.
    """
    blocks = range(0, len(features), _BLOCK)
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        named = ", ".join(map(str, bad[:_NAMED])) + (
            ", ..." if len(bad) > _NAMED else ""
        )
        return Health(
            "non_finite",
            f"{len(bad):,} of {len(features):,} images have NaN or infinite features "
            f"(images {named}): nothing can be compared",
        )
    total = sum(unit(features[b : b + _BLOCK]).sum(axis=0) for b in blocks)
    mean = total / len(features)
    offsets = np.concatenate(
        [np.square(unit(features[b : b + _BLOCK]) - mean).sum(axis=1) for b in blocks]
    )
    # Two points within radius r of the mean are at most 2 r apart.
    reach = 4 * float(np.quantile(offsets, 0.95))
    if reach >= resolution:
        return OK
    return Health(
        "collapsed",
        "the embeddings are (almost) the same for all images: 95 % of them lie "
        f"within a squared distance of {reach:.1e} of each other, the threshold "
        f"resolves {resolution:g}; the accuracy is that of a constant answer",
    )


def _call(embed: Embed, images: np.ndarray, batch_size: int, flip: bool) -> list:
    padding = batch_size - len(images)
    if padding:
        images = np.pad(images, ((0, padding), (0, 0), (0, 0), (0, 0)))
    outputs = [embed(images)]
    if flip:
        outputs.append(embed(np.ascontiguousarray(images[:, :, ::-1])))
    return outputs


def _store(pending, features, norms, count):
    outputs, begin, k = pending
    outputs = [np.asarray(output, np.float32)[:k] for output in outputs]
    if features is None:
        features = np.empty((count, outputs[0].shape[1]), np.float32)
        norms = np.empty(count, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        features[begin : begin + k] = sum(outputs)
    norms[begin : begin + k] = np.linalg.norm(outputs[0].astype(np.float64), axis=1)
    return features, norms


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
