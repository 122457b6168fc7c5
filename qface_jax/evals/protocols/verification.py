"""Verification at every resolution: one image of each pair degraded, and both."""

import datetime
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from typing import Protocol as Interface

import numpy as np

from qface_jax.errors import ConfigError
from qface_jax.evals.measures import error_discard, verification
from qface_jax.evals.measures.quality_scores import NORM, Scorer
from qface_jax.evals.measures.verification import Score
from qface_jax.evals.results import Result, Row
from qface_jax.inference.embed import Embed, Embedded, Health, diagnose, embed_images
from qface_jax.inference.share import ALONE, Share
from qface_jax.processes import hosts
from qface_jax.runs.progress import Progress
from qface_jax.runs.versions import installed

# Side of the untouched image, px; cross-resolution pairs have it on their first side.
FULL_SIDE = 112
_SEVERITY = ("ok", "collapsed", "non_finite")


class PairSet(Interface):
    """What is needed of a set: pair i is images 2i and 2i + 1."""

    name: str
    issame: np.ndarray

    def __len__(self) -> int:
        """Returns the number of images, twice that of the pairs."""

    def describe(self) -> dict[str, Any]:
        """Returns facts of the set, fit for JSON."""


def evaluate(
    pair_set: PairSet,
    embed: Embed,
    batches: Callable[[int], Iterable[np.ndarray]],
    *,
    resolutions: Sequence[int],
    flip: bool,
    folds: int,
    metric: str,
    batch_size: int,
    antialias: bool,
    checkpoint: dict[str, Any],
    config_hash: str,
    scorer: Scorer | None = None,
    discard_fmr: float = error_discard.FMR,
    share: Share = ALONE,
) -> Result:
    """Embeds a set once per resolution and scores its pairs.

    Cross-resolution takes the first image of each pair at 112 px and the second at
    the side of the row, same-resolution both at that side (Knoche et al., Octuplet
    Loss, Tables 1 and 2).

    Args:
        pair_set: names, labels and count of the images.
        embed: uint8 [batch_size, 112, 112, 3] -> features [batch_size, d].
        batches: side in px -> this host's images in order, degraded to that side and
            enlarged to 112 again, in batches of at most `batch_size`.
        resolutions: sides in px, 112 among them.
        flip: whether the mirror image's feature is added.
        folds: of the cross-validation.
        metric: key of `verification.METRICS`.
        batch_size: rows of each call of `embed`, on this host.
        antialias: what `batches` does when it shrinks; only recorded here.
        checkpoint: what is evaluated, fit for JSON; recorded, as is config_hash.
        scorer: what scores the quality of images; None: by the norm alone.
        discard_fmr: false match rate at which error-versus-discard curves start.
        share: this host's part of the pairs; all hosts return the same result.

    Raises:
        ConfigError: resolutions, folds or metric do not fit.
    """
    sides = check_resolutions(resolutions)
    verification.fold_bounds(len(pair_set.issame), folds)  # before the long work
    rows, arrays, speed = _score_sides(
        pair_set, embed, batches, sides, flip, folds, metric, batch_size, share, scorer
    )
    protocol = _protocol(pair_set, sides, flip, folds, metric, antialias)
    quality = _quality(pair_set.name, arrays, sides, discard_fmr)
    origin = {"checkpoint": dict(checkpoint), "config_hash": config_hash}
    return _result(pair_set.name, rows, arrays, speed, protocol, quality, origin)


def _result(name, rows, arrays, speed, protocol, quality, origin) -> Result:
    """Puts together what was found."""
    status, message = _overall(name, rows)
    return Result(
        set=name,
        status=status,
        message=message,
        rows=rows,
        mean_cross=_mean([row.cross for row in rows]),
        mean_same=_mean([row.same for row in rows]),
        protocol=protocol,
        versions=installed(),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        images_per_second=round(speed, 1),
        quality=quality,
        arrays=arrays,
        **origin,
    )


def check_resolutions(resolutions: Sequence[int]) -> list[int]:
    """Returns the sides from large to small, or raises ConfigError."""
    sides = sorted(resolutions, reverse=True)
    if len(set(sides)) != len(sides) or not all(1 <= s <= FULL_SIDE for s in sides):
        raise ConfigError(
            f"eval.resolutions: got {tuple(resolutions)}, must be different sides "
            f"from 1 to {FULL_SIDE} px"
        )
    if FULL_SIDE not in sides:
        raise ConfigError(
            f"eval.resolutions: got {tuple(resolutions)}, must contain {FULL_SIDE}, "
            "the side of the first image of every cross-resolution pair"
        )
    return sides


def _score_sides(
    pair_set, embed, batches, sides, flip, folds, metric, batch_size, share, scorer
) -> tuple[list[Row], dict[str, np.ndarray], float]:
    """Returns the rows, the arrays for the plots and the images per second."""
    grid = verification.metric_named(metric)
    issame = np.asarray(pair_set.issame, bool)
    rows, arrays, full = [], {"issame": issame}, None
    images = 2 * len(share.pairs(len(issame)))
    calls = -(-2 * share.most_pairs(len(issame)) // batch_size)
    with Progress(len(pair_set) * len(sides), "images", pair_set.name) as progress:
        for side in sides:
            advance = _everywhere(progress, len(pair_set), share.count, f"{side} px")
            found = embed_images(
                batches(side),
                embed,
                count=images,
                batch_size=batch_size,
                flip=flip,
                calls=calls,
                scorer=scorer,
                progress=advance,
            )
            resolution = grid.step / grid.factor
            health = diagnose(found.features, resolution=resolution, share=share)
            full = full or (found, health)
            dist = _distances(full, (found, health), metric, share)
            scores = {
                name: share.gather(values) for name, values in found.scores.items()
            }
            rows.append(_row(side, health, dist, scores[NORM], issame, metric, folds))
            for kind, values in dist.items():
                arrays[f"{kind}_{side}"] = values.astype(np.float32)
            for name, values in scores.items():
                key = f"{error_discard.ARRAYS[name]}_{side}"
                arrays[key] = values.astype(np.float32)
        return rows, arrays, progress.rate()


def _quality(name, arrays, sides, fmr) -> dict[str, Any] | None:
    """Judges the scores; warns of those that rank pictures the wrong way round."""
    quality = error_discard.judge(arrays, sides, fmr=fmr)
    for line in [] if quality is None else error_discard.warnings(quality):
        hosts.say(f"warning: {name}: {line}")
    return quality


def _everywhere(
    progress: Progress, total: int, hosts_at_work: int, note: str
) -> Callable[[int], None]:
    """Counts for all hosts what this one does; they go in step."""
    done = 0

    def advance(images: int) -> None:
        nonlocal done
        now = min(done + images * hosts_at_work, total)
        progress.update(now - done, note)
        done = now

    return advance


def _distances(
    full: tuple[Embedded, Health],
    degraded: tuple[Embedded, Health],
    metric: str,
    share: Share,
) -> dict[str, np.ndarray]:
    """Returns the distances of all hosts' pairs, as far as they can be taken."""
    found, health = degraded
    dist = {}
    if health.status == "non_finite":
        return dist
    first, second = found.features[0::2], found.features[1::2]
    dist["same"] = share.gather(verification.distances(first, second, metric=metric))
    if full[1].status != "non_finite":
        first = full[0].features[0::2]
        dist["cross"] = share.gather(
            verification.distances(first, second, metric=metric)
        )
    return dist


def _row(
    side: int,
    health: Health,
    dist: dict[str, np.ndarray],
    norms: np.ndarray,
    issame: np.ndarray,
    metric: str,
    folds: int,
) -> Row:
    """Scores one resolution."""
    scores = {
        kind: verification.score(values, issame, metric=metric, folds=folds)
        for kind, values in dist.items()
    }
    return Row(
        side=side,
        status=health.status,
        message=health.message,
        cross=scores.get("cross"),
        same=scores.get("same"),
        norms=None if health.status == "non_finite" else _summary(norms),
    )


def _summary(norms: np.ndarray) -> dict[str, float]:
    return {
        "mean": float(norms.mean()),
        "std": float(norms.std()),
        "min": float(norms.min()),
        "max": float(norms.max()),
    }


def _overall(name: str, rows: list[Row]) -> tuple[str, str]:
    """Returns the worst status and what is wrong where; warns unless all is well."""
    status = max((row.status for row in rows), key=_SEVERITY.index)
    bad = [f"at {row.side} px: {row.message}" for row in rows if row.status != "ok"]
    message = "; ".join(bad)
    if bad:
        hosts.say(f"warning: {name}: {message}")
    return status, message


def _mean(scores: list[Score | None]) -> float | None:
    if any(score is None for score in scores):
        return None
    return float(np.mean([score.accuracy for score in scores]))


def _protocol(pair_set, sides, flip, folds, metric, antialias) -> dict[str, Any]:
    grid = verification.metric_named(metric)
    issame = np.asarray(pair_set.issame, bool)
    fused = "sum of the raw features of image and mirror image, then normalised"
    return {
        "name": "verification",
        "set": pair_set.describe(),
        "pairs": len(issame),
        "same": int(issame.sum()),
        "different": int((~issame).sum()),
        "folds": folds,
        "metric": metric,
        "metric_description": grid.description,
        "thresholds": f"0 to {grid.stop:g} (exclusive), step {grid.step:g}",
        "decision": "accepted when distance < threshold; contiguous folds; of equally "
        "good thresholds on the other folds the smallest",
        "std": "over the folds, population",
        "flip": flip,
        "embedding": fused if flip else "raw feature of the image, normalised",
        "norms": "of the raw feature of the image, without its mirror image",
        "resolutions": sides,
        "cross": f"second image of each pair degraded, the first at {FULL_SIDE} px",
        "same_resolution": "both images of each pair degraded",
        "degradation": f"bicubic to side x side, bicubic to {FULL_SIDE}",
        "antialias": antialias,
        "colour_order": "RGB",
        "tar_at_far": "largest true accept rate over exact thresholds whose false "
        "accept rate is at most FAR, all pairs together, no interpolation",
        "auc": "exact, ties count half",
        "mean": "unweighted, over all resolutions",
    }
