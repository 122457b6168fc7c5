"""Verification at every resolution: one image of each pair degraded, and both.

Pairs with an image that is missing, unreadable or cannot be aligned are lost: the
accuracy is of the others, and beside it the lost ones are counted as wrong.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from qface_jax.errors import ConfigError, DataError
from qface_jax.evals import examples, lost_pairs
from qface_jax.evals.embedded import Embedded, Health, diagnose
from qface_jax.evals.measures import error_discard, verification
from qface_jax.evals.measures.quality_scores import NORM, array_name
from qface_jax.evals.protocols import verification_rows
from qface_jax.evals.protocols.protocol import (
    FULL_SIDE,
    Embedder,
    EvalSettings,
    ImageRequest,
    ImageSet,
    ProtocolEntry,
)
from qface_jax.evals.protocols.verification_rows import Row
from qface_jax.evals.results import Example, Result
from qface_jax.processes.share import Share

DEFAULT_FOLDS = 10  # of a set that is published without


class Side(NamedTuple):
    """The images as they are seen at one resolution, of all hosts.

    Attributes:
        side: px.
        health: of the features.
        dist: distances of the pairs by kind, [p] each, as far as they can be taken.
        scores: quality of each image by name, [2p] each.
    """

    side: int
    health: Health
    dist: dict[str, np.ndarray]
    scores: dict[str, np.ndarray]


class PairSet(ImageSet):
    """What is needed of a set: pair i is images 2i and 2i + 1."""

    issame: np.ndarray  # bool [pairs]
    folds: int  # that the set is published with; 0: not known

    def describe(self) -> dict[str, Any]:
        """Returns facts of the set, fit for JSON."""


class Verification:
    """Pairs of images, compared at every resolution.

    Cross-resolution takes the first image of each pair at 112 px and the second at
    the side of the row, same-resolution both at that side (Knoche et al., Octuplet
    Loss, Tables 1 and 2).
    """

    def __init__(self, settings: EvalSettings, pair_set: PairSet):
        """Checks that the set can be evaluated so.

        Args:
            settings: resolutions, flip, folds, metric, antialias, discard_fmr.
            pair_set: the images.

        Raises:
            ConfigError: resolutions, folds or metric do not fit.
        """
        self.name, self.images = pair_set.name, pair_set
        self._settings = settings
        self._sides = check_resolutions(settings.resolutions)
        self._issame = np.asarray(pair_set.issame, bool)
        self._metric = verification.metric_named(settings.metric)
        self.folds = settings.folds or pair_set.folds or DEFAULT_FOLDS
        verification.fold_bounds(len(self._issame), self.folds)
        self.total = len(pair_set) * len(self._sides)

    def describe(self) -> dict[str, Any]:
        """Returns facts of the set."""
        return self.images.describe()

    def lost(self, unusable: np.ndarray) -> np.ndarray:
        """Returns which pairs have an unusable image, bool [p].

        Args:
            unusable: of each image, bool [2p].

        Raises:
            DataError: no pair of a fold is left.
        """
        images = np.arange(len(unusable))
        return lost_pairs.lost_pairs(
            unusable, images[0::2], images[1::2], folds=self.folds, place=self.name
        )

    def evaluate(self, embed: Embedder, share: Share) -> Result:
        """Embeds the set once per resolution and scores its pairs.

        Raises:
            DataError: no pair of a fold is left.
        """
        sides, unusable = self._compare(embed, share)
        lost = self.lost(unusable)
        rows = [self._row(one, lost, unusable) for one in sides]
        arrays = self._arrays(sides, lost)
        rate = self._settings.discard_fmr
        quality = error_discard.judge(arrays, self._sides, fmr=rate)
        arrays["discard_fmr"] = np.float64(rate)
        warnings = [*self._notes(), *lost_pairs.warnings(lost, unusable)]
        if quality is not None:
            warnings += error_discard.warnings(quality)
        status, message = verification_rows.overall(rows)
        wrong = verification_rows.lost_wrong(rows, lost)
        scalars = verification_rows.scalars(rows, quality, wrong)
        manifest = self._manifest(lost, unusable)
        return Result(
            set=self.name,
            scalars=scalars,
            best="mean_cross",
            status=status,
            message=message,
            headlines=verification_rows.headlines(rows, scalars),
            series=verification_rows.series(rows, manifest),
            tables=[
                verification_rows.printed_table(self.name, manifest, rows, scalars),
                *verification_rows.lost_tables(rows, wrong, scalars),
                *([] if quality is None else [error_discard.table(quality)]),
                verification_rows.page_table(rows, scalars),
                *([] if quality is None else [error_discard.page_table(quality)]),
            ],
            curves=[
                *error_discard.pictures(arrays, self._sides, fmr=rate),
                *verification_rows.rocs(arrays, self._sides),
            ],
            examples=self._examples(sides[0], lost),
            warnings=warnings,
            manifest=manifest,
            details={
                "rows": [dataclasses.asdict(row) for row in rows],
                "quality": quality,
                "lost_wrong": wrong,
            },
            arrays=arrays,
        )

    def _compare(self, embed: Embedder, share: Share) -> tuple[list[Side], np.ndarray]:
        """Returns what is seen at each side, and which images are unusable [2p]."""
        pairs = share.pairs(len(self._issame))
        images = range(2 * pairs.start, 2 * pairs.stop)
        most = 2 * share.most_pairs(len(self._issame))
        resolution = self._metric.step / self._metric.factor
        sides, full, unusable = [], None, np.zeros(len(images), bool)
        for side in self._sides:
            embedded = embed(ImageRequest(self.images, images, most, side))
            unusable[embedded.unusable] = True
            usable = np.delete(embedded.features, embedded.unusable, axis=0)
            health = diagnose(usable, resolution=resolution, share=share)
            full = full or (embedded, health)
            dist = _distances(full, (embedded, health), self._settings.metric, share)
            scores = {
                name: share.gather(values) for name, values in embedded.scores.items()
            }
            sides.append(Side(side, health, dist, scores))
        return sides, share.gather(unusable)

    def _row(self, one: Side, lost: np.ndarray, unusable: np.ndarray) -> Row:
        """Scores one resolution."""
        scores = {
            kind: verification.score(
                values,
                self._issame,
                metric=self._settings.metric,
                folds=self.folds,
                lost=lost,
            )
            for kind, values in one.dist.items()
        }
        broken = one.health.status == "non_finite"
        return Row(
            side=one.side,
            status=one.health.status,
            message=one.health.message,
            cross=scores.get("cross"),
            same=scores.get("same"),
            norms=None if broken else _summary(one.scores[NORM][~unusable]),
        )

    def _arrays(self, sides: list[Side], lost: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what the pictures are drawn of: the pairs that are left."""
        left, images = ~lost, np.repeat(~lost, 2)
        arrays = {"issame": self._issame[left]}
        if lost.any():
            arrays["lost"] = lost
        for one in sides:
            for kind, values in one.dist.items():
                arrays[f"{kind}_{one.side}"] = values[left].astype(np.float32)
            for name, values in one.scores.items():
                key = f"{array_name(name)}_{one.side}"
                arrays[key] = values[images].astype(np.float32)
        return arrays

    def _examples(self, full: Side, lost: np.ndarray) -> list[Example]:
        """Returns the worst pairs at full resolution, by their cosine."""
        if "same" not in full.dist:
            return []
        cosine = 1 - full.dist["same"] / (2 * self._metric.factor)
        # Of lost pairs there is nothing to look at.
        cosine[lost] = np.nan
        images = np.arange(2 * len(lost)).reshape(-1, 2)
        return examples.of_pairs(cosine, self._issame, images)

    def _notes(self) -> list[str]:
        """Returns what is odd about the set, in sentences."""
        return list(self.describe().get("notes", ()))

    def _is_whole(self) -> bool:
        """Returns whether the set holds what its publication says."""
        return self.describe().get("whole", not self._notes())

    def _manifest(self, lost: np.ndarray, unusable: np.ndarray) -> dict[str, Any]:
        """Returns everything that the numbers depend on besides the model."""
        settings, grid, issame = self._settings, self._metric, self._issame
        plain = "raw feature of the image, normalised"
        fused = "sum of the raw features of image and mirror image, then normalised"
        return {
            "name": "verification",
            "set": self.describe(),
            "pairs": len(issame),
            "same": int(issame.sum()),
            "different": int((~issame).sum()),
            "lost_pairs": int(lost.sum()),
            "unusable": int(unusable.sum()),
            "whole": self._is_whole() and not unusable.any(),
            "folds": self.folds,
            "metric": settings.metric,
            "metric_description": grid.description,
            "thresholds": f"0 to {grid.stop:g} (exclusive), step {grid.step:g}",
            "decision": "accepted when distance < threshold; contiguous folds; of "
            "equally good thresholds on the other folds the smallest",
            "std": "over the folds, population",
            "flip": settings.flip,
            "embedding": fused if settings.flip else plain,
            "norms": "of the raw feature of the image, without its mirror image",
            "resolutions": self._sides,
            "cross": f"second image of each pair degraded, the first at {FULL_SIDE} px",
            "same_resolution": "both images of each pair degraded",
            "degradation": f"bicubic to side x side, bicubic to {FULL_SIDE}",
            "antialias": settings.antialias,
            "aligner": self.describe().get("aligner", "as the file holds the faces"),
            "resize": settings.resize,
            "colour_order": "RGB",
            "tar_at_far": "largest true accept rate over exact thresholds whose false "
            "accept rate is at most FAR, all pairs together, no interpolation",
            "auc": "exact, ties count half",
            "mean": "unweighted, over all resolutions",
        }


def open_verification(settings: EvalSettings, name: str) -> Verification:
    """Opens a set of pairs.

    Args:
        settings: `path` and `synthetic` say where sets are, `max_pairs` how many pairs
            are taken.
        name: as of `pair_sets.open_pair_set`.

    Raises:
        ConfigError: the folds do not fit the pairs, or there is no such set.
        DataError: the set cannot be read, holds one kind of pairs only, or lacks all
            images of a fold.
    """
    # TensorFlow, which draws the synthetic set, takes seconds to load.
    from qface_jax.data_pipelines.sets.pair_sets import open_pair_set
    from qface_jax.data_pipelines.sets.usable_pairs import UsablePairs, at_most

    whole = open_pair_set(name, settings)
    folds = settings.folds or whole.folds or DEFAULT_FOLDS
    pair_set = UsablePairs(at_most(whole, settings.max_pairs, folds=folds))
    protocol = Verification(settings, pair_set)
    if np.all(pair_set.issame) or not np.any(pair_set.issame):
        kind = "same" if np.all(pair_set.issame) else "different"
        raise DataError(
            f"{pair_set.name}: all {len(pair_set.issame)} pairs are of {kind} "
            "identities; a constant answer would score 100 %: give both kinds"
        )
    verification.check_folds(pair_set.issame, protocol.folds, pair_set.name)
    # Better known now than after hours of training.
    protocol.lost(np.isin(np.arange(len(pair_set)), pair_set.missing))
    return protocol


PROTOCOL = ProtocolEntry(
    open_verification, "verification of pairs at every resolution, cross and same"
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


def _summary(norms: np.ndarray) -> dict[str, float]:
    return {
        "mean": float(norms.mean()),
        "std": float(norms.std()),
        "min": float(norms.min()),
        "max": float(norms.max()),
    }
