"""Verification at every resolution: one image of each pair degraded, and both."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from qface_jax.errors import ConfigError, DataError
from qface_jax.evals.embedded import Embedded, Health, diagnose
from qface_jax.evals.measures import error_discard, verification
from qface_jax.evals.measures.quality_scores import NORM, array_name
from qface_jax.evals.measures.roc import FARS, TarAtFar, roc
from qface_jax.evals.measures.verification import Score
from qface_jax.evals.protocols.protocol import (
    FULL_SIDE,
    Embedder,
    EvalSettings,
    ImageRequest,
    ImageSet,
    ProtocolEntry,
)
from qface_jax.evals.results import (
    PAGE,
    TERMINAL,
    Column,
    Curve,
    Headline,
    Line,
    Result,
    Series,
    Table,
)
from qface_jax.evals.text_table import exponent
from qface_jax.processes.share import Share

DEFAULT_FOLDS = 10  # of a set that is published without

_SEVERITY = ("ok", "collapsed", "non_finite")
_KINDS = {"cross": "Cross-resolution", "same": "Same resolution"}


@dataclasses.dataclass(frozen=True)
class Row:
    """One resolution.

    Attributes:
        side: of the degraded image, px.
        status: "ok", "collapsed" or "non_finite", of the embeddings at this side.
        message: what is wrong with them; empty when ok.
        cross: second image of each pair degraded; None where nothing can be compared.
        same: both images degraded; None likewise.
        norms: mean, std, min, max of the feature norms at this side; None likewise.
    """

    side: int
    status: str
    message: str
    cross: Score | None
    same: Score | None
    norms: dict[str, float] | None

    def score(self, kind: str) -> Score | None:
        """Returns the score of a key of `_KINDS`."""
        return self.cross if kind == "cross" else self.same


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

    def evaluate(self, embed: Embedder, share: Share) -> Result:
        """Embeds the set once per resolution and scores its pairs."""
        rows, arrays = self._score_sides(embed, share)
        rate = self._settings.discard_fmr
        quality = error_discard.judge(arrays, self._sides, fmr=rate)
        arrays["discard_fmr"] = np.float64(rate)
        warnings = [] if quality is None else error_discard.warnings(quality)
        status, message = _overall(rows)
        scalars = _scalars(rows, quality)
        manifest = self._manifest()
        return Result(
            set=self.name,
            scalars=scalars,
            best="mean_cross",
            status=status,
            message=message,
            headlines=_headlines(rows),
            series=_series(rows, manifest),
            tables=[
                _printed_table(self.name, manifest, rows, scalars),
                *([] if quality is None else [error_discard.table(quality)]),
                _page_table(rows, scalars),
                *([] if quality is None else [error_discard.page_table(quality)]),
            ],
            curves=[
                *error_discard.pictures(arrays, self._sides, fmr=rate),
                *_rocs(arrays, self._sides),
            ],
            warnings=warnings,
            manifest=manifest,
            details={
                "rows": [dataclasses.asdict(row) for row in rows],
                "quality": quality,
            },
            arrays=arrays,
        )

    def _score_sides(
        self, embed: Embedder, share: Share
    ) -> tuple[list[Row], dict[str, np.ndarray]]:
        """Returns the rows and the arrays of the pictures."""
        issame, metric = self._issame, self._settings.metric
        rows, arrays, full = [], {"issame": issame}, None
        pairs = share.pairs(len(issame))
        images = range(2 * pairs.start, 2 * pairs.stop)
        most = 2 * share.most_pairs(len(issame))
        for side in self._sides:
            embedded = embed(ImageRequest(self.images, images, most, side))
            resolution = self._metric.step / self._metric.factor
            health = diagnose(embedded.features, resolution=resolution, share=share)
            full = full or (embedded, health)
            dist = _distances(full, (embedded, health), metric, share)
            scores = {
                name: share.gather(values) for name, values in embedded.scores.items()
            }
            rows.append(
                _row(side, health, dist, scores[NORM], issame, metric, self.folds)
            )
            for kind, values in dist.items():
                arrays[f"{kind}_{side}"] = values.astype(np.float32)
            for name, values in scores.items():
                key = f"{array_name(name)}_{side}"
                arrays[key] = values.astype(np.float32)
        return rows, arrays

    def _manifest(self) -> dict[str, Any]:
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
            "colour_order": "RGB",
            "tar_at_far": "largest true accept rate over exact thresholds whose false "
            "accept rate is at most FAR, all pairs together, no interpolation",
            "auc": "exact, ties count half",
            "mean": "unweighted, over all resolutions",
        }


def open_verification(settings: EvalSettings, name: str) -> Verification:
    """Opens a set of pairs.

    Args:
        settings: `path` and `synthetic` say where sets are.
        name: as of `pair_sets.open_pair_set`.

    Raises:
        ConfigError: the folds do not fit the pairs, or there is no such set.
        DataError: the set cannot be read, or holds one kind of pairs only.
    """
    # TensorFlow, which draws the synthetic set, takes seconds to load.
    from qface_jax.data_pipelines.sets.pair_sets import open_pair_set

    pair_set = open_pair_set(name, settings)
    protocol = Verification(settings, pair_set)
    if np.all(pair_set.issame) or not np.any(pair_set.issame):
        kind = "same" if np.all(pair_set.issame) else "different"
        raise DataError(
            f"{pair_set.name}: all {len(pair_set.issame)} pairs are of {kind} "
            "identities; a constant answer would score 100 %: give both kinds"
        )
    verification.check_folds(pair_set.issame, protocol.folds, pair_set.name)
    return protocol


PROTOCOL = ProtocolEntry(
    open_verification, "verification of pairs at every resolution, cross and same"
)


def rows_of(result: Result) -> list[Row]:
    """Returns what a result of this protocol says of each resolution."""

    def score(fields: dict[str, Any] | None) -> Score | None:
        if fields is None:
            return None
        points = [TarAtFar(**point) for point in fields["tar_at_far"]]
        return Score(**fields | {"tar_at_far": points})

    return [
        Row(**row | {kind: score(row[kind]) for kind in _KINDS})
        for row in result.details["rows"]
    ]


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


def _overall(rows: list[Row]) -> tuple[str, str]:
    """Returns the worst status and what is wrong where."""
    status = max((row.status for row in rows), key=_SEVERITY.index)
    bad = [f"at {row.side} px: {row.message}" for row in rows if row.status != "ok"]
    return status, "; ".join(bad)


def _scalars(rows: list[Row], quality: dict[str, Any] | None) -> dict[str, float]:
    """Returns the numbers worth following, by name.

    mean_cross, mean_same, and per side: cross_<side>, same_<side>, auc_<side> (cross)
    and norm_mean_<side>; of each quality score rank_<score>, its rank correlation with
    the resolution, and discard_<score>, the area below its error-versus-discard curve.
    """
    values = {f"mean_{kind}": _mean([row.score(kind) for row in rows])
              for kind in _KINDS}  # fmt: skip
    for row in rows:
        values[f"cross_{row.side}"] = row.cross and row.cross.accuracy
        values[f"same_{row.side}"] = row.same and row.same.accuracy
        values[f"auc_{row.side}"] = row.cross and row.cross.auc
        values[f"norm_mean_{row.side}"] = row.norms and row.norms["mean"]
    for name, facts in (quality or {}).get("scores", {}).items():
        values[f"rank_{name}"] = facts["rank_correlation"]
        values[f"discard_{name}"] = facts["area"]
    return {name: value for name, value in values.items() if value is not None}


def _mean(scores: list[Score | None]) -> float | None:
    if any(score is None for score in scores):
        return None
    return float(np.mean([score.accuracy for score in scores]))


def _headlines(rows: list[Row]) -> list[Headline]:
    largest, smallest = rows[0].side, rows[-1].side
    headlines = [Headline(f"cross_{largest}", f"at {largest} px")]
    if len(rows) > 1:
        label = f"{largest} against {smallest} px"
        headlines.append(Headline(f"cross_{smallest}", label))
    means = [Headline(f"mean_{k}", f"mean, {t.lower()}") for k, t in _KINDS.items()]
    return [*headlines, *means]


def _series(rows: list[Row], manifest: dict[str, Any]) -> list[Series]:
    share = manifest["same"] / manifest["pairs"]
    return [
        Series(
            name=kind,
            title=title,
            labels=[f"{row.side} px" for row in rows],
            scalars=[f"{kind}_{row.side}" for row in rows],
            spreads=[getattr(row.score(kind), "std", None) for row in rows],
            mean=f"mean_{kind}",
            condition="side",
            x=[row.side for row in rows],
            over="resolution",
            xlabel="side of the degraded image, px",
            chance=max(share, 1 - share),
            note="Accuracy in percent ± standard deviation over the folds",
            about="Columns in px: cross-resolution, the second picture of each pair "
            "degraded to that side. mean cross, mean same (both degraded): over all "
            "sides.",
        )
        for kind, title in _KINDS.items()
    ]


def _accuracy(score: Score | None) -> list[float] | None:
    return score and [score.accuracy, score.std]


def _printed_table(
    name: str, manifest: dict[str, Any], rows: list[Row], scalars: dict[str, float]
) -> Table:
    """Accuracy, TAR at FAR and AUC over resolution; the latter cross-resolution."""
    points = next((row.cross.tar_at_far for row in rows if row.cross is not None), [])
    tars = [Column(f"TAR@{exponent(point.far)}", "percent") for point in points]
    reasons: dict[str, list[str]] = {}
    for point in points:
        if point.reason is not None:
            reasons.setdefault(point.reason, []).append(exponent(point.far))
    return Table(
        title=f"{name}: {manifest['pairs']:,} pairs ({manifest['same']:,} same, "
        f"{manifest['different']:,} different), {manifest['folds']} folds, "
        f"{manifest['metric']}, {'with' if manifest['flip'] else 'without'} flip",
        columns=[
            Column("side"),
            *(Column(title.lower(), "percents") for title in _KINDS.values()),
            *tars,
            Column("AUC", "percent"),
        ],
        rows=[
            [
                f"{row.side} px",
                *(_accuracy(row.score(kind)) for kind in _KINDS),
                *_rates(row.cross, range(len(tars))),
            ]
            for row in rows
        ],
        footer=[
            "mean",
            *([scalars.get(f"mean_{kind}")] for kind in _KINDS),
            *[""] * (len(tars) + 1),
        ],
        notes=[
            "TAR and AUC: cross-resolution. All in percent; ± over the folds.",
            *(f"No TAR at FAR {', '.join(f)}: {why}." for why, f in reasons.items()),
        ],
        shown=TERMINAL,
    )


def _rates(score: Score | None, points: Sequence[int]) -> list[float | None]:
    """TAR at the points of FARS that are shown, and the area under the ROC."""
    if score is None:
        return [None] * (len(points) + 1)
    return [*(score.tar_at_far[i].tar for i in points), score.auc]


def _page_table(rows: list[Row], scalars: dict[str, float]) -> Table:
    """The same of both kinds of pairs; only FARs that any row has a number for."""
    scores = [row.score(kind) for row in rows for kind in _KINDS]
    points = [point for score in scores if score for point in score.tar_at_far]
    told = {point.far for point in points if point.tar is not None}
    shown = [i for i, far in enumerate(FARS) if far in told]
    columns, footer = [Column("Side", left=True)], ["mean"]
    groups = {
        "cross": "Cross-resolution: second image degraded",
        "same": "Same resolution: both images degraded",
    }
    for kind, group in groups.items():
        columns += [
            Column("Accuracy", "percents", group, strong=True),
            Column("AUC", "percent", group),
            *(Column(f"TAR {exponent(FARS[i])}", "percent", group) for i in shown),
        ]
        footer += [[scalars.get(f"mean_{kind}")], *[""] * (1 + len(shown))]
    body = []
    for row in rows:
        wrong = "" if row.status == "ok" else f" ({row.status.replace('_', '-')})"
        cells: list[Any] = [f"{row.side} px{wrong}"]
        for kind in _KINDS:
            *tars, area = _rates(row.score(kind), shown)
            cells += [_accuracy(row.score(kind)), area, *tars]
        body.append([*cells, row.norms and row.norms["mean"]])
    reasons = sorted(
        {
            f"{exponent(point.far)}: {point.reason}"
            for row in rows
            if row.cross is not None
            for point in row.cross.tar_at_far
            if point.reason is not None
        }
    )
    note = (
        "In percent; accuracy ± standard deviation over the folds; TAR at the false "
        "accept rate named; norm: mean L2 norm of the features."
    )
    return Table(
        columns=[*columns, Column("Norm", "number")],
        rows=body,
        footer=[*footer, ""],
        notes=[note, *([f"No TAR at FAR {'; '.join(reasons)}."] if reasons else [])],
        shown=PAGE,
    )


def _rocs(arrays: dict[str, np.ndarray], sides: Sequence[int]) -> list[Curve]:
    """The ROC of each kind, a line for each side; their points become arrays."""
    curves = []
    for kind, title in _KINDS.items():
        lines = []
        for side in sides:
            if f"{kind}_{side}" not in arrays:
                continue
            far, tar = roc(arrays[f"{kind}_{side}"], arrays["issame"])
            if len(far):
                x, y = f"far_{kind}_{side}", f"tar_{kind}_{side}"
                arrays[x], arrays[y] = far, tar
                lines.append(Line(f"{side} px", y, x))
        if lines:
            curves.append(Curve("roc", f"ROC, {title.lower()}", lines))
    return curves
