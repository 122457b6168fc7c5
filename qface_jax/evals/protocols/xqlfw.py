"""XQLFW: verification of pairs of photographs that differ in quality.

The threshold of the cosine distance is sought on the other folds, from 0 to 2 by .001,
as its authors do it; insightface's rule for LFW stands beside it. The aligned copy that
is published lacks images: the accuracy is given of the pairs that are left, and of all
pairs with the lost ones counted as wrong.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from qface_jax.data_pipelines.sets.xqlfw import ALIGNED_NAME, Xqlfw, open_xqlfw
from qface_jax.errors import DataError
from qface_jax.evals import examples, lost_pairs
from qface_jax.evals.measures import verification
from qface_jax.evals.measures.roc import equal_error_rate, roc
from qface_jax.evals.measures.verification import Score
from qface_jax.evals.protocols import identification
from qface_jax.evals.protocols.protocol import (
    Embedder,
    EvalSettings,
    ProtocolEntry,
)
from qface_jax.evals.protocols.unit_features import (
    gathered,
    unit_features,
    worst_health,
)
from qface_jax.evals.protocols.verification_rows import eer_text
from qface_jax.evals.results import (
    BOTH,
    Column,
    Curve,
    Headline,
    Line,
    Result,
    Table,
)
from qface_jax.evals.text_table import exponent
from qface_jax.options import Option
from qface_jax.processes.share import Share

DEFAULT_FOLDS = 10
# Key of `verification.METRICS` -> beginning of its scalars, title.
RULES = {
    "cosine": ("", "XQLFW's own: cosine distance, step .001"),
    "euclidean": ("insightface_", "insightface's LFW: squared distance, step .01"),
}
# LFW, XQLFW.
PUBLISHED = {
    "ArcFace, octuplet fine-tuned (Octuplet Loss)": (0.9955, 0.9327),
    "MagFace, octuplet fine-tuned (Octuplet Loss)": (0.9963, 0.9292),
    "FaceTransformer, octuplet fine-tuned (Octuplet Loss)": (0.9973, 0.9512),
    "buffalo_l, 5,894 pairs of the aligned copies (third party)": (None, 0.9416),
}


class XqlfwProtocol:
    """The pairs of XQLFW by both rules, from one embedding of their images."""

    def __init__(self, settings: EvalSettings, xqlfw: Xqlfw):
        """Checks that the folds can be evaluated.

        Args:
            settings: flip, folds.
            xqlfw: the pairs.

        Raises:
            ConfigError: the folds do not fit the pairs.
            DataError: there is one kind of pair only.
        """
        self.name, self.images = xqlfw.images.name, xqlfw.images
        self.total = len(xqlfw.images)
        self.folds = settings.folds or xqlfw.folds or DEFAULT_FOLDS
        self._settings, self._xqlfw = settings, xqlfw
        same = int(xqlfw.issame.sum())
        if same in (0, len(xqlfw.issame)):
            raise DataError(
                f"{xqlfw.images.folder.parent}: {same} of {len(xqlfw.issame)} pairs "
                "are of one person, expected both kinds; is the list whole?"
            )
        verification.check_folds(xqlfw.issame, self.folds, self.name)

    def describe(self) -> dict[str, Any]:
        """Returns facts of the set."""
        return self.images.describe()

    def evaluate(self, embed: Embedder, share: Share) -> Result:
        """Embeds every image once and scores the pairs.

        Raises:
            DataError: no pair of a fold is left.
        """
        mine = unit_features(embed, self.images, range(self.total), share)
        health = worst_health([mine], share)
        everything = gathered(mine, share)
        unusable = everything.unusable
        lost = lost_pairs.lost_pairs(
            unusable,
            self._xqlfw.first,
            self._xqlfw.second,
            folds=self.folds,
            place=str(self._xqlfw.images.folder),
        )
        result = Result(
            set=self.name,
            scalars={},
            best="accuracy",
            status=health.status,
            message=health.message,
            warnings=[*self._xqlfw.notes, *lost_pairs.warnings(lost, unusable)],
            manifest=self._manifest(unusable, lost),
        )
        if health.status == "non_finite":
            return result
        return self._scored(result, everything.vectors, lost)

    def _scored(self, result: Result, vectors: np.ndarray, lost: np.ndarray) -> Result:
        """Fills what follows from the unit features."""
        xqlfw = self._xqlfw
        sides = vectors[xqlfw.first], vectors[xqlfw.second]
        dist = {name: verification.distances(*sides, metric=name) for name in RULES}
        scores = {
            name: verification.score(
                values, xqlfw.issame, metric=name, folds=self.folds, lost=lost
            )
            for name, values in dist.items()
        }
        wrong = {
            name: lost_pairs.with_lost_wrong(score, lost)
            for name, score in scores.items()
        }
        scalars = _scalars(scores, wrong)
        left = dist["cosine"][~lost], xqlfw.issame[~lost]
        arrays = {
            "issame": xqlfw.issame,
            "lost": lost,
            **{name: values.astype(np.float32) for name, values in dist.items()},
            "same": left[0][left[1]].astype(np.float32),
            "different": left[0][~left[1]].astype(np.float32),
        }
        return dataclasses.replace(
            result,
            scalars=scalars,
            headlines=_headlines(scalars, lost),
            tables=[
                _table(result.manifest, scores, wrong),
                _published_table(scores["cosine"]),
            ],
            curves=_curves(*left),
            examples=examples.of_pairs(
                np.where(lost, np.nan, 1 - dist["cosine"]),
                xqlfw.issame,
                np.stack([xqlfw.first, xqlfw.second], axis=1),
            ),
            details={
                "scores": {
                    name: dataclasses.asdict(score) for name, score in scores.items()
                },
                "lost_wrong": {name: list(value) for name, value in wrong.items()},
            },
            arrays=arrays,
        )

    def _manifest(self, unusable: np.ndarray, lost: np.ndarray) -> dict[str, Any]:
        xqlfw, settings = self._xqlfw, self._settings
        facts = xqlfw.images.describe()
        return {
            "name": "xqlfw",
            "set": facts,
            "whole": xqlfw.counts == xqlfw.expected and not unusable.any(),
            "counts": dict(xqlfw.counts),
            "expected": dict(xqlfw.expected),
            "pairs": len(lost),
            "same": int(xqlfw.issame.sum()),
            "different": int((~xqlfw.issame).sum()),
            "lost_pairs": int(lost.sum()),
            "unusable": int(unusable.sum()),
            "folds": self.folds,
            "rules": {name: title for name, (_, title) in RULES.items()},
            "decision": "accepted when distance < threshold; contiguous folds; of "
            "equally good thresholds on the other folds the smallest",
            "std": "over the folds, population",
            "aligner": facts.get("aligner"),
            "flip": settings.flip,
            "embedding": identification.fusion(settings.flip),
            "colour_order": "RGB",
            "resize": settings.resize,
            "tar_at_far": "largest true accept rate over exact thresholds whose false "
            "accept rate is at most FAR, all pairs together, no interpolation",
        }


def open_protocol(settings: EvalSettings, name: str) -> XqlfwProtocol:
    """Opens XQLFW.

    Args:
        settings: `path` is the folder of the list, or holds it; option `folder`.
        name: of the set as `eval.sets` has it: a folder within `path`, or any word.

    Raises:
        ConfigError: the folds do not fit.
        DataError: the list or the images cannot be found or read.
    """
    base = Path(settings.path).expanduser()
    path = base / name if (base / name).is_dir() else base
    return XqlfwProtocol(settings, open_xqlfw(path, folder=settings.options["folder"]))


PROTOCOL = ProtocolEntry(
    open_protocol,
    "XQLFW: verification of pairs that differ in quality",
    {
        "folder": Option(
            ALIGNED_NAME, None, "Folder of the images, within the one of the list."
        )
    },
    reads=("flip", "folds", "resize"),
)


def _scalars(
    scores: dict[str, Score], wrong: dict[str, tuple[float, float]]
) -> dict[str, float]:
    """Returns accuracy, accuracy_lost_wrong, auc, eer; insightface_* by its rule."""
    values: dict[str, float | None] = {
        "auc": scores["cosine"].auc,
        "eer": scores["cosine"].eer,
    }
    for name, (prefix, _) in RULES.items():
        values[f"{prefix}accuracy"] = scores[name].accuracy
        values[f"{prefix}accuracy_lost_wrong"] = wrong[name][0]
    return {name: value for name, value in values.items() if value is not None}


def _headlines(scalars: dict[str, float], lost: np.ndarray) -> list[Headline]:
    headlines = [Headline("accuracy", "accuracy")]
    if lost.any():
        headlines = [
            Headline("accuracy", f"accuracy on {int((~lost).sum()):,} pairs"),
            Headline("accuracy_lost_wrong", "accuracy, lost pairs wrong"),
        ]
    headlines.append(Headline("auc", "AUC"))
    return [one for one in headlines if one.scalar in scalars]


def _table(
    manifest: dict[str, Any],
    scores: dict[str, Score],
    wrong: dict[str, tuple[float, float]],
) -> Table:
    left = manifest["pairs"] - manifest["lost_pairs"]
    points = scores["cosine"].tar_at_far
    shown = [i for i, point in enumerate(points) if point.tar is not None]
    body = []
    for name, (_, title) in RULES.items():
        score = scores[name]
        right = round(float(np.mean(score.fold_accuracies)) * left)
        body.append(
            [
                title,
                [score.accuracy, score.std],
                identification.interval(right, left),
                list(wrong[name]),
                f"{np.mean(score.fold_thresholds):.3f}",
                score.auc,
                *(score.tar_at_far[i].tar for i in shown),
            ]
        )
    reasons = [
        f"{exponent(point.far)}: {point.reason}"
        for point in points
        if point.reason is not None
    ]
    return Table(
        title=f"xqlfw: {left:,} of {manifest['pairs']:,} pairs, {manifest['folds']} "
        f"folds, {'with' if manifest['flip'] else 'without'} flip",
        columns=[
            Column("Rule", left=True),
            Column("Accuracy", "percents", strong=True),
            Column("95 %"),
            Column("Lost wrong", "percents"),
            Column("Threshold"),
            Column("AUC", "percent"),
            *(Column(f"TAR@{exponent(points[i].far)}", "percent") for i in shown),
        ],
        rows=body,
        notes=[
            "In percent; ± over the folds; 95 %: Wilson interval. Accuracy: of the "
            "pairs whose images are usable; lost wrong: of all pairs, the others "
            "counted as wrong. Threshold: mean over the folds.",
            *([f"No TAR at FAR {'; '.join(reasons)}."] if reasons else []),
        ],
        shown=BOTH,
    )


def _published_table(score: Score) -> Table:
    return identification.published_table(
        ["LFW", "XQLFW"],
        [None, score.accuracy],
        PUBLISHED,
        "Accuracy; of the aligned copies, by XQLFW's own rule.",
    )


def _curves(dist: np.ndarray, issame: np.ndarray) -> list[Curve]:
    """The ROC, and the distances of both kinds of pairs; the latter are arrays."""
    far, tar = roc(dist, issame)
    curves = [
        Curve(
            "histogram",
            "Cosine distance of the pairs",
            [Line("one person", "same"), Line("two persons", "different")],
            xlabel="cosine distance",
            ylabel="pairs, %",
        )
    ]
    if len(far):
        note = eer_text(equal_error_rate(dist, issame))
        line = Line("XQLFW", tar.tolist(), far.tolist(), note)
        curves.insert(0, Curve("roc", "ROC", [line]))
    return curves
