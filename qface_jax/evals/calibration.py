"""What a similarity means: how often two people reach it, by an evaluation of pairs."""

import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qface_jax.errors import ConfigError, DataError
from qface_jax.evals import results
from qface_jax.evals.measures.interval import wilson
from qface_jax.evals.measures.rates import FEW, Scores, split, tar_at_far
from qface_jax.evals.measures.verification import metric_named
from qface_jax.evals.results import Result

# Kinds of pairs: one image degraded to a side, or both.
CROSS, SAME = "cross", "same"


class FalseMatchRate(NamedTuple):
    """How often pairs of two people reach a similarity.

    Attributes:
        rate: share of the pairs that do.
        low: lower end of its 95 % interval (Wilson).
        high: upper end.
        reached: pairs that do.
        pairs: of two people, of all.
    """

    rate: float
    low: float
    high: float
    reached: int
    pairs: int


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Similarities of pairs of one and of two people, by what was done to the images.

    Attributes:
        path: of the result.
        set: name of the evaluated set.
        checkpoint: what was evaluated, as of `results.Result`.
        flip: whether the raw features of the mirror images were added.
        antialias: whether degraded images were so with anti-aliasing.
        scores: (kind, side in px) -> cosines.
    """

    path: Path
    set: str
    checkpoint: dict[str, Any]
    flip: bool
    antialias: bool
    scores: dict[tuple[str, int], Scores]

    @property
    def sides(self) -> list[int]:
        """Sides in px that pairs were degraded to, from large to small."""
        return sorted({side for _, side in self.scores}, reverse=True)

    def false_match_rate(
        self, similarity: float, kind: str, side: int
    ) -> FalseMatchRate | None:
        """Returns how often two people reach a similarity; None where nothing says it.

        Args:
            similarity: cosine.
            kind: CROSS or SAME.
            side: in px.
        """
        pair_scores = self.scores.get((kind, side))
        if pair_scores is None:
            return None
        pairs = len(pair_scores.impostor)
        reached = pairs - int(
            np.searchsorted(pair_scores.impostor, similarity, side="left")
        )
        low, high = wilson(reached, pairs)
        return FalseMatchRate(reached / pairs, low, high, reached, pairs)

    def search_threshold(self, rate: float, people: int, *, side: int) -> float:
        """Returns the similarity that lets in a stranger at that rate, or less often.

        A search compares a probe with everybody in the gallery. If the comparisons are
        independent, a stranger is let in at 1 - (1 - f)^people, f the rate of one pair.

        Args:
            rate: of probes of nobody in the gallery that may get a name, in (0, 1).
            people: in the gallery.
            side: px of the probes, the gallery being at 112 px.

        Raises:
            ConfigError: the evaluation has no such side, or too few pairs for the rate.
        """
        pair_scores = self.scores.get((CROSS, side))
        if pair_scores is None:
            raise ConfigError(
                f"{self.path}: has no pairs at {side} px; it has "
                f"{', '.join(map(str, self.sides))} px"
            )
        of_pair = -math.expm1(math.log1p(-rate) / people)
        (point,) = tar_at_far(pair_scores, [of_pair])
        if point.threshold is None or point.reason is not None:
            raise ConfigError(
                f"{self.path}: a false positive rate of {rate:g} among {people:,} "
                f"people is one of {of_pair:.1e} for a pair, for which "
                f"{math.ceil(FEW / of_pair):,} pairs of two people are needed, and it "
                f"has {len(pair_scores.impostor):,}; evaluate on a larger set, allow a "
                "higher rate with --fpir, or give --threshold"
            )
        return float(point.threshold)


def read(path: Path) -> Calibration:
    """Reads what an evaluation of pairs says.

    Args:
        path: RUN/eval/SET.json, or the .npz beside it.

    Raises:
        ConfigError: it is the result of an evaluation that keeps no pairs' scores.
        DataError: it is no result, or damaged.
    """
    path = path.with_suffix(".json") if path.suffix == ".npz" else path
    result = results.read(path)
    manifest = result.manifest
    try:
        scores = pair_scores(result)
    except (ConfigError, KeyError, ValueError, TypeError, IndexError) as error:
        raise DataError(
            f"{path}: its pairs' scores cannot be read ({error}); run qface eval again"
        ) from error
    if not scores or not all(len(found.impostor) for found in scores.values()):
        raise ConfigError(
            f"{path}: says nothing of pairs of two people (protocol "
            f"{result.protocol}, or its .npz file is missing); give the result of a "
            "verification: qface eval --checkpoint=RUN writes RUN/eval/SET.json"
        )
    for key in ("flip", "antialias"):
        if not isinstance(manifest.get(key), bool):
            raise DataError(
                f"{path}: manifest.{key}: expected true or false; run qface eval again"
            )
    return Calibration(
        path,
        result.set,
        result.checkpoint,
        flip=manifest["flip"],
        antialias=manifest["antialias"],
        scores=scores,
    )


def pair_scores(result: Result) -> dict[tuple[str, int], Scores]:
    """Returns the cosines of a result's pairs: (kind, side in px) -> scores.

    Args:
        result: of any protocol; of one that keeps no pairs' distances there are none.
    """
    arrays = result.arrays
    scores: dict[tuple[str, int], Scores] = {}
    for kind in (CROSS, SAME):
        for name in arrays:
            stem, _, side = name.partition("_")
            known = side.isascii() and side.isdecimal() and len(side) < 5
            if stem == kind and known and "issame" in arrays:
                factor = metric_named(result.manifest["metric"]).factor
                # Squared distance of unit vectors: 2 - 2 cos.
                cosines = 1 - arrays[name].astype(np.float64) / (2 * factor)
                scores[kind, int(side)] = split(cosines, arrays["issame"])
    return scores
