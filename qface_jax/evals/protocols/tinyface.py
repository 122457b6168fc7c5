"""TinyFace: identification among 157,871 gallery images, 3,728 low-resolution probes.

Z. Cheng, X. Zhu, S. Gong: Low-Resolution Face Recognition, ACCV 2018. Average precision
and ranks as of the official evaluation, on unit features.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from qface_jax.data_pipelines.sets.tinyface import (
    EXPECTED,
    TinyFaceSet,
    open_tinyface,
)
from qface_jax.evals import examples
from qface_jax.evals.embedded import Health
from qface_jax.evals.measures.cmc import average_precision, cmc, first_ranks
from qface_jax.evals.measures.search import TIES, Mates, rank_mates
from qface_jax.evals.protocols import identification
from qface_jax.evals.protocols.protocol import Embedder, EvalSettings, ProtocolEntry
from qface_jax.evals.protocols.unit_features import (
    UnitFeatures,
    gathered,
    unit_features,
    worst_health,
)
from qface_jax.evals.results import (
    PAGE,
    Column,
    Example,
    Headline,
    Line,
    Result,
    Table,
)
from qface_jax.processes.share import Share

RANKS = (1, 5, 10, 20, 50)
# Model -> mAP, ranks 1 and 5. Sources: README of AdaFace, board of CVLface, QGFace.
PUBLISHED = {
    "AdaFace R100, MS1MV2 (AdaFace README)": (None, 0.6821, 0.7154),
    "AdaFace R100, WebFace4M (AdaFace README)": (None, 0.7202, 0.7452),
    "AdaFace R100, WebFace12M (AdaFace README)": (None, 0.7229, 0.7497),
    "IR18, CASIA (CVLface)": (None, 0.5620, 0.6143),
    "IR50, CASIA (CVLface)": (None, 0.5944, 0.6414),
    "IR18, VGGFace2 (CVLface)": (None, 0.6462, 0.6915),
    "IR18, WebFace4M (CVLface)": (None, 0.6607, 0.7071),
    "IR50, WebFace4M (CVLface)": (None, 0.7020, 0.7393),
    "ArcFace IR101, WebFace4M (CVLface)": (None, 0.7103, 0.7441),
    "ViT, WebFace4M (CVLface)": (None, 0.7479, 0.7758),
    "ViT KPRPE, WebFace4M (CVLface)": (None, 0.7575, 0.7849),
    "ViT KPRPE, WebFace12M (CVLface)": (None, 0.7610, 0.7892),
    "QGFace (paper)": (None, 0.6985, None),
    "baseline of QGFace (paper)": (None, 0.6398, None),
    "CurricularFace (quoted by AdaFace)": (None, 0.6368, 0.6765),
    "ARoFace, WebFace12M (paper)": (None, 0.7400, 0.7687),
}

_CURVE = 100  # ranks of the drawn curve
_WITHOUT = "_no_distractors"  # end of the scalars of the smaller gallery


class TinyFace:
    """The test set of one kind of copies, searched with and without distractors."""

    def __init__(self, settings: EvalSettings, name: str):
        """Opens the set.

        Args:
            settings: `path`, `flip`, `resize` and the option `ties`.
            name: "raw" or "aligned", of the copies.

        Raises:
            ConfigError: there are no such copies.
            DataError: the set cannot be read.
        """
        base = Path(settings.path).expanduser()
        self._set: TinyFaceSet = open_tinyface(base, name)
        self.images = self._set.images
        self.name, self.total = self.images.name, len(self.images)
        self._settings = settings
        self._ties = settings.options.get("ties", TIES[0])

    def describe(self) -> dict[str, Any]:
        """Returns facts of the set."""
        return self.images.describe()

    def evaluate(self, embed: Embedder, share: Share) -> Result:
        """Embeds the gallery and the probes, and ranks every mate."""
        g = len(self._set.gallery_ids)
        gallery = unit_features(embed, self.images, range(g), share)
        probes = unit_features(embed, self.images, range(g, self.total), share)
        health = worst_health([gallery, probes], share)
        unusable = [int(share.gather(x.unusable).sum()) for x in (gallery, probes)]
        warnings = self._warnings(sum(unusable))
        manifest = self._manifest(*unusable)
        if health.status == "non_finite":
            return Result(self.name, {}, "rank_1", health.status, health.message,
                          warnings=warnings, manifest=manifest)  # fmt: skip
        vectors = gathered(probes, share).vectors
        mates = self._ranked(gallery, g, vectors, share)
        listed = self._set.counts["gallery_match"]
        without = self._ranked(gallery, listed, vectors, share)
        result = self._result(
            {"": mates, _WITHOUT: without}, health, warnings, manifest
        )
        shown = self._examples(gallery, mates, vectors, share)
        return dataclasses.replace(result, examples=shown)

    def _examples(
        self, gallery: UnitFeatures, mates: Mates, probes: np.ndarray, share: Share
    ) -> list[Example]:
        """Returns the worst probes: whom they found, and their true mates."""
        best = np.full(len(probes), -np.inf)
        first = np.flatnonzero(np.diff(mates.probe, prepend=-1))
        best[mates.probe[first]] = mates.score[first]
        worst = examples.missed(best, mates.nonmate)
        rows = gallery.rows
        found = examples.nearest(
            gallery.vectors,
            self._set.gallery_ids[rows.start : rows.stop],
            probes[worst],
            self._set.probe_ids[worst],
            share=share,
        )
        return examples.of_probes(
            identification.MISSED,
            mates.nonmate[worst],
            (len(self._set.gallery_ids) + worst, found.other, found.mate),
        )

    def _ranked(
        self, gallery: UnitFeatures, size: int, probes: np.ndarray, share: Share
    ) -> Mates:
        """Ranks the mates among the first images of the gallery.

        Args:
            gallery: this host's part of it.
            size: images that are searched.
            probes: unit features of all probes.
            share: this host's part.
        """
        rows = range(min(gallery.rows.start, size), min(gallery.rows.stop, size))
        return rank_mates(
            gallery.vectors[: len(rows)],
            self._set.gallery_ids[rows.start : rows.stop],
            probes,
            self._set.probe_ids,
            share=share,
        )

    def _result(
        self,
        mates: dict[str, Mates],
        health: Health,
        warnings: list[str],
        manifest: dict[str, Any],
    ) -> Result:
        scalars: dict[str, float] = {}
        arrays: dict[str, np.ndarray] = {}
        for end, searched in mates.items():
            scalars |= _rates(searched, end, self._ties)
            ranks = first_ranks(searched, self._ties)
            arrays[f"cmc{end}"] = 100 * cmc(ranks, _CURVE)
        ranks = first_ranks(mates[""], self._ties)
        arrays |= {
            "rank": np.minimum(ranks, len(self._set.gallery_ids) + 1),
            "average_precision": average_precision(mates[""], self._ties),
            "ranks_drawn": np.arange(1, _CURVE + 1),
            "mate_score": _best_mates(mates[""]),
            "nonmate_score": identification.finite(mates[""].nonmate),
        }
        rules = {ties: _rates(mates[""], "", ties) for ties in TIES}
        return Result(
            set=self.name,
            scalars=scalars,
            best="rank_1",
            status=health.status,
            message=health.message,
            headlines=[
                Headline("rank_1", "found at rank 1"),
                Headline("rank_20", "found at rank 20"),
                Headline("map", "mean average precision"),
                Headline(f"rank_1{_WITHOUT}", "rank 1 without distractors"),
            ],
            tables=self._tables(scalars, rules, ranks),
            curves=[
                identification.cmc_curve(
                    [
                        Line("with distractors", "cmc", "ranks_drawn"),
                        Line("without", f"cmc{_WITHOUT}", "ranks_drawn"),
                    ]
                ),
                identification.score_histogram(
                    {"mate": "mate_score", "another person": "nonmate_score"},
                    "Best scores of the probes",
                ),
            ],
            warnings=warnings,
            manifest=manifest,
            details={"ties": rules},
            arrays=arrays,
        )

    def _tables(
        self,
        scalars: dict[str, float],
        rules: dict[str, dict[str, float]],
        ranks: np.ndarray,
    ) -> list[Table]:
        counts, probes = self._set.counts, len(ranks)
        names = ["map", *(f"rank_{k}" for k in RANKS)]
        titles = ["mAP", *(f"rank {k}" for k in RANKS)]
        sizes = {
            "": counts["gallery_match"] + counts["distractor"],
            _WITHOUT: counts["gallery_match"],
        }
        searched = Table(
            title=f"{self.name}: {probes:,} probes, {sizes['']:,} gallery images",
            columns=[
                Column("gallery", left=True),
                Column("images", "count"),
                *(Column(title, "percent") for title in titles),
            ],
            rows=[
                [label, sizes[end], *(scalars[name + end] for name in names)]
                for label, end in (("all", ""), ("without distractors", _WITHOUT))
            ],
            notes=[f"In percent; equal scores: {self._ties}."],
        )
        by_rule = Table(
            title="By the rule for equal scores",
            columns=[
                Column("equal scores", left=True),
                *(Column(title, "percent") for title in titles),
            ],
            rows=[
                [ties, *(rates[name] for name in names)]
                for ties, rates in rules.items()
            ],
            notes=[
                "pessimistic: others before the mate; index: the order of the gallery, "
                "mates first, as the official evaluation does."
            ],
            shown=PAGE,
        )
        intervals = identification.rates_table(
            "found at rank",
            [(str(k), int(np.sum(ranks <= k)), probes) for k in RANKS],
        )
        published = identification.published_table(
            ["mAP", "rank 1", "rank 5"],
            [scalars[name] for name in ("map", "rank_1", "rank_5")],
            PUBLISHED,
            "Of copies aligned by AdaFace's authors. The aligner matters more than the "
            "model: AdaFace R100 finds 72.02 on them and 46.03 on the raw pictures.",
        )
        return [searched, intervals, by_rule, published]

    def _warnings(self, unusable: int) -> list[str]:
        notes = list(self._set.notes)
        if self._set.copies == "raw":
            notes += identification.resize_notes(self._settings.resize)
        if unusable:
            notes.append(identification.unread(unusable))
        return notes

    def _manifest(self, gallery_unusable: int, probes_unusable: int) -> dict[str, Any]:
        found = self._set
        counts = {name: found.counts[name] for name in EXPECTED}
        return {
            "name": "tinyface",
            "set": self.describe(),
            "copies": found.copies,
            "counts": counts,
            "expected": EXPECTED,
            "whole": counts == EXPECTED and not found.counts["missing"],
            "missing": found.counts["missing"],
            "unusable": {"gallery": gallery_unusable, "probes": probes_unusable},
            "aligner": "AdaFace's MTCNN copies"
            if found.copies == "aligned"
            else "none",
            "flip": self._settings.flip,
            "embedding": identification.fusion(self._settings.flip),
            "resize": self._settings.resize,
            "average_precision": "mean over the mates of the trapezoid of precision "
            "between the entry before a mate and itself; 1 before the first entry",
            **identification.scoring(self._ties),
        }


def _rates(mates: Mates, end: str, ties: str) -> dict[str, float]:
    """Returns mAP and the share found at each rank, by name with an ending."""
    ranks = first_ranks(mates, ties)
    found = {f"rank_{k}{end}": float(np.mean(ranks <= k)) for k in RANKS}
    return {f"map{end}": float(average_precision(mates, ties).mean())} | found


def _best_mates(mates: Mates) -> np.ndarray:
    """Returns the score of each probe's best mate where there is one, float32."""
    first = np.flatnonzero(np.diff(mates.probe, prepend=-1))
    return identification.finite(mates.score[first])


PROTOCOL = ProtocolEntry(
    TinyFace,
    "low-resolution identification among distractors: mAP and ranks",
    {"ties": identification.TIES_OPTION},
    reads=("flip", "resize"),
)
