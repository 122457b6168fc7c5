"""IJB-B and IJB-C: templates of photographs and video frames, 1:1 and 1:N.

Images are embedded in blocks of whole templates, and every variant of the templates
(feature norm, detector's score, mirror image) is summed in that one pass; no more than
a block of images' features is ever held.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qface_jax.data_pipelines.sets import ijb as lists_of_ijb
from qface_jax.data_pipelines.sets.benchmark_images import BenchmarkImages
from qface_jax.data_pipelines.sets.ijb import Edition, Lists
from qface_jax.errors import DataError, counted
from qface_jax.evals import examples
from qface_jax.evals.embedded import Health, diagnose
from qface_jax.evals.measures import rates
from qface_jax.evals.measures.pair_scores import scorer
from qface_jax.evals.measures.search import DECIMALS
from qface_jax.evals.measures.templates import (
    VARIANTS,
    Variant,
    medium_weights,
    plan,
    pool,
)
from qface_jax.evals.measures.unit import unit
from qface_jax.evals.protocols import ijb_published, ijb_search, ijb_verification
from qface_jax.evals.protocols.ijb_search import Searched
from qface_jax.evals.protocols.ijb_verification import Verified
from qface_jax.evals.protocols.protocol import (
    Embedder,
    EvalSettings,
    ImageRequest,
    ProtocolEntry,
)
from qface_jax.evals.results import Example, Headline, Result
from qface_jax.evals.text_table import exponent
from qface_jax.options import Option, one_of
from qface_jax.processes.share import Share

BLOCK = 16384  # images of a host in one request
_NAMED = 5  # unusable images that are named
# Smallest squared distance of unit templates that counts as a difference.
_RESOLUTION = 1e-6
_NEAR, _FAR = 1e-4, 0.01  # FAR and FPIR of the headlines


class Pooled(NamedTuple):
    """Templates of this host.

    Attributes:
        vectors: unit, or zero without a usable image, float64 [variants, t, d].
        quality: length of the mean over the media of each template, float64 [t], in
            the chosen variant.
        unusable: images of all hosts that could not be read or aligned, ascending.
        nonfinite: images of all hosts whose features are NaN or infinite.
    """

    vectors: np.ndarray
    quality: np.ndarray
    unusable: np.ndarray
    nonfinite: int


class Ijb:
    """One of the two benchmarks."""

    def __init__(
        self,
        edition: Edition,
        settings: EvalSettings,
        images: BenchmarkImages,
        lists: Lists,
        *,
        missing: int = 0,
    ):
        """Checks that there are pairs of both kinds.

        Args:
            edition: which of both.
            settings: flip, and the options of the protocol.
            images: with their landmarks.
            lists: templates, pairs, galleries.
            missing: images of the lists that are not on the disk.

        Raises:
            DataError: all pairs are of one kind.
        """
        self.name, self.images, self.total = images.name, images, len(images)
        self._edition, self._settings, self._lists = edition, settings, lists
        self._missing = missing
        self._rule = settings.options["rule"]
        chosen = Variant(
            settings.options["norm"], settings.options["detector"], settings.flip
        )
        self.variants = sorted(
            (v for v in VARIANTS if settings.flip or not v.flip),
            key=lambda v: (v != chosen, v.flip != chosen.flip),
        )
        if lists.genuine.all() or not lists.genuine.any():
            raise DataError(
                f"{images.folder}: all {len(lists.genuine):,} pairs have one label, "
                "expected pairs of one person and of two"
            )

    def describe(self) -> dict[str, Any]:
        """Returns facts of the set."""
        return self.images.describe()

    def evaluate(self, embed: Embedder, share: Share) -> Result:
        """Embeds every image once, and judges every variant of the templates."""
        pooled = self._pool(embed, share)
        result = Result(
            set=self.name,
            scalars={},
            best=f"tar_{exponent(_NEAR)}",
            warnings=self._warnings(pooled),
            manifest=self._manifest(pooled),
        )
        if pooled.nonfinite:
            return dataclasses.replace(
                result,
                status="non_finite",
                message=f"NaN or infinite features of {pooled.nonfinite:,} of "
                f"{counted(self.total, 'image')}: nothing can be compared",
            )
        return self._judge(result, pooled, share)

    def _pool(self, embed: Embedder, share: Share) -> Pooled:
        lists = self._lists
        weights = medium_weights(lists.templates, lists.media)
        requests = plan(lists.templates, share, most=BLOCK)
        vectors: np.ndarray | None = None
        first = requests.blocks[0].first
        count = sum(len(block.starts) - 1 for block in requests.blocks)
        unusable, nonfinite = [], 0
        quality = np.zeros(count)
        for block, most in zip(requests.blocks, requests.most, strict=True):
            embedded = embed(ImageRequest(self.images, block.rows, most))
            plain, mirrored = embedded.plain, embedded.mirrored
            nonfinite += int((~np.isfinite(embedded.features).all(axis=1)).sum())
            unusable.append(block.rows[embedded.unusable])
            sums = pool(
                plain,
                mirrored,
                block.starts,
                self.variants,
                weights=weights[block.rows],
                detector=lists.detector[block.rows],
            )
            if vectors is None:
                vectors = np.zeros((len(self.variants), count, sums.shape[2]))
            place = slice(block.first - first, block.first - first + sums.shape[1])
            if sums.shape[1]:
                # The weights of a medium's images sum to 1.
                media = np.add.reduceat(weights[block.rows], block.starts[:-1])
                quality[place] = np.linalg.norm(sums[0], axis=1) / media
            for variant, of_variant in zip(vectors, sums, strict=True):
                variant[place] = unit(of_variant)
        return Pooled(
            vectors,
            quality,
            np.sort(share.gather(np.concatenate(unusable))),
            int(share.gather(np.array([nonfinite])).sum()),
        )

    def _judge(self, result: Result, pooled: Pooled, share: Share) -> Result:
        """Fills what follows from the template vectors, variant by variant."""
        lists, arrays = self._lists, {}
        pairs = share.pairs(len(lists.genuine))
        part = slice(pairs.start, pairs.stop)
        score = scorer(lists.left[part], lists.right[part])
        verified, searched, points = [], [], {}
        for number, variant in enumerate(self.variants):
            vectors = share.gather(pooled.vectors[number])
            scores = share.gather(score(vectors))
            kinds = rates.split(scores, lists.genuine)
            verified.append(ijb_verification.verify(kinds, variant.name))
            if variant.flip == self.variants[0].flip:
                ijb_verification.draw(variant.name, kinds, arrays)
            if lists.probes is not None:
                found, of_curve = self._search(variant, vectors, share)
                searched.append(found)
                points = points or of_curve
            if number == 0:
                quality = share.gather(pooled.quality)
                result = self._first(result, vectors, scores)
                ijb_verification.sample(kinds, arrays)
                ijb_verification.discard(
                    scores,
                    lists.genuine,
                    quality[[lists.left, lists.right]].min(axis=0),
                    self._settings.discard_fmr,
                    arrays,
                )
        return self._filled(result, verified, searched, arrays, points)

    def _search(
        self, variant: Variant, vectors: np.ndarray, share: Share
    ) -> tuple[Searched, dict[str, np.ndarray]]:
        lists = self._lists
        names = self._edition.galleries
        galleries = list(zip(names, lists.galleries, strict=True))
        return ijb_search.search_all(
            variant.name, vectors, galleries, lists.probes, share
        )

    def _first(self, result: Result, vectors: np.ndarray, scores: np.ndarray) -> Result:
        """Fills what is said of the chosen variant alone."""
        usable = vectors.any(axis=1)
        health = Health("collapsed", "no image could be read: nothing can be compared")
        if usable.any():
            health = diagnose(vectors[usable], resolution=_RESOLUTION)
        warnings, empty = list(result.warnings), int((~usable).sum())
        if empty:
            warnings.append(
                f"{empty:,} of {len(usable):,} templates have no usable image: their "
                "pairs score lowest, they find nothing and nobody finds them"
            )
        return dataclasses.replace(
            result,
            status=health.status,
            message=health.message,
            warnings=warnings,
            manifest=result.manifest | {"templates_without_image": empty},
            details={"worst": (worst := self._worst(scores))},
            examples=[
                Example(
                    f"worst {kind.replace('_', ' ').replace('nonm', 'non-m')}",
                    one["score"],
                    one["images"],
                )
                for kind, pairs in worst.items()
                for one in pairs
            ],
        )

    def _filled(
        self,
        result: Result,
        verified: list[Verified],
        searched: list[Searched],
        arrays: dict[str, np.ndarray],
        points: dict[str, np.ndarray],
    ) -> Result:
        rule, chosen = self._rule, verified[0]
        scalars = ijb_verification.scalars(chosen, rule)
        curves = ijb_verification.curves([one.variant for one in verified], arrays)
        counts = result.manifest["counts"]
        title = (
            f"{self.name} 1:1: {counts['pairs']:,} pairs ({counts['genuine']:,} "
            f"genuine) of {counts['templates']:,} templates of {self.total:,} images"
        )
        tables = [
            ijb_verification.variants_table(title, verified, rule),
            ijb_verification.points_table(chosen),
        ]
        if searched:
            scalars |= ijb_search.scalars(searched[0], rule)
            curves += ijb_search.curves(searched[0], points, arrays)
            tables.insert(1, ijb_search.search_table(searched, rule))
            tables.append(ijb_search.galleries_table(searched[0]))
        # The published rows stand beside both rules, whichever is chosen.
        both = ijb_verification.scalars(chosen, "at_most")
        if searched:
            both |= ijb_search.scalars(searched[0], "at_most")
        tables.append(ijb_published.table(self._edition.name, both))
        return dataclasses.replace(
            result,
            scalars=scalars,
            headlines=_headlines(scalars),
            series=[ijb_verification.series()],
            tables=tables,
            curves=curves,
            details=result.details
            | {
                "verification": [ijb_verification.details(one) for one in verified],
                "search": [ijb_search.details(one) for one in searched],
            },
            arrays=arrays,
        )

    def _worst(self, scores: np.ndarray) -> dict[str, list[dict[str, Any]]]:
        """Returns the worst pairs with their most confident image each."""
        lists = self._lists
        pairs = examples.worst(scores, lists.genuine)

        def shown(pair: int) -> dict[str, Any]:
            templates = (int(lists.left[pair]), int(lists.right[pair]))
            images = []
            for template in templates:
                rows = np.flatnonzero(lists.templates == template)
                images.append(int(rows[np.argmax(lists.detector[rows])]))
            return {
                "score": float(scores[pair]),
                "templates": [int(lists.template_ids[t]) for t in templates],
                "images": images,
                "files": [str(self.images.files[row]) for row in images],
            }

        return {
            kind: [shown(int(pair)) for pair in of_kind]
            for kind, of_kind in pairs._asdict().items()
        }

    def _warnings(self, pooled: Pooled) -> list[str]:
        notes = list(self.images.describe()["notes"])
        if self._missing:
            notes.append(
                f"not in {self.images.folder}: {self._missing:,} of "
                f"{counted(self.total, 'image')}"
            )
        if len(pooled.unusable):
            rows = pooled.unusable[:_NAMED]
            named = ", ".join(self._lists.names[row] for row in rows)
            more = ", ..." if len(pooled.unusable) > _NAMED else ""
            notes.append(
                f"missing, unreadable or not to be aligned: {len(pooled.unusable):,} "
                f"of {counted(self.total, 'image')} ({named}{more}): each counts as a "
                "zero vector in the mean of its medium"
            )
        return notes

    def _manifest(self, pooled: Pooled) -> dict[str, Any]:
        settings, facts = self._settings, self.images.describe()
        counts, expected = facts["counts"], facts["expected"]
        return {
            "name": self._edition.name,
            "set": facts,
            "whole": not lists_of_ijb.differences(counts, expected)
            and not self._missing
            and not len(pooled.unusable),
            "counts": counts,
            "expected": expected,
            "unusable": len(pooled.unusable),
            "aligner": facts["aligner"],
            "colour_order": "RGB",
            "flip": settings.flip,
            "variant": self.variants[0].name,
            "feature_norm": "kept" if settings.options["norm"] else "divided out",
            "detector_score": settings.options["detector"],
            "embedding": "sum of the raw features of image and mirror image"
            if settings.flip
            else "raw feature of the image",
            "template": "sum over media of the mean over the images of a medium, unit",
            "score": f"cosine, float64, rounded to {DECIMALS} decimals",
            "rule": self._rule,
            "tar_at_far": ijb_verification.describe(self._rule),
            "tpir_at_fpir": ijb_search.describe(self._rule),
            "ties": "pessimistic: equal non-mates come before the mate",
            "identification": self._lists.probes is not None,
        }


def open_ijb(edition: Edition, settings: EvalSettings, name: str) -> Ijb:
    """Opens IJB-B or IJB-C.

    Args:
        edition: which of both.
        settings: `path` is the folder IJBB or IJBC, or holds it.
        name: of the set as `eval.sets` has it: a folder within `path`, or any word.

    Raises:
        DataError: the set cannot be read, or its lists contradict each other.
    """
    base = Path(settings.path).expanduser()
    within = base / name if (base / name).is_dir() else base
    folder = lists_of_ijb.find_folder(edition, within)
    lists = lists_of_ijb.read_lists(
        edition, folder / "meta", identification=settings.options["identification"]
    )
    missing = lists_of_ijb.missing_images(folder / "loose_crop", lists.names)
    facts = lists_of_ijb.facts(edition, folder, lists)
    facts["aligner"] = f"5 points of {edition.name}_name_5pts_score.txt"
    images = BenchmarkImages(
        name,
        folder / "loose_crop",
        lists.names,
        landmarks=lists.landmarks,
        facts=facts,
    )
    return Ijb(edition, settings, images, lists, missing=missing)


_OPTIONS = {
    "norm": Option(
        True, None,
        "Images enter their template with the length of their feature, as in the "
        "variant N1; without, as unit vectors. All variants are computed; this one "
        "and `detector` choose the one whose numbers are followed.",
    ),
    "detector": Option(True, None, "Times the detector's score of the face (D1)."),
    "identification": Option(
        True, None, "Search 1:N too; without, its lists need not be there."
    ),
    "rule": Option(
        "at_most", one_of("at_most", "published"),
        "How a rate follows from FAR or FPIR: at_most, the largest that does not "
        "exceed it; published, as the programs of the papers do. Both are shown.",
    ),
}  # fmt: skip


def _headlines(scalars: dict[str, float]) -> list[Headline]:
    near = exponent(_NEAR)
    wanted = {
        f"tar_{near}": f"TAR at FAR {near}",
        "tar_1e-5": "TAR at FAR 1e-5",
        "rank_1": "rank 1, both galleries",
        f"tpir_{_FAR:g}": f"TPIR at FPIR {_FAR:g}, mean of both galleries",
    }
    return [Headline(name, text) for name, text in wanted.items() if name in scalars]


_READS = ("flip", "discard_fmr")
IJBB = ProtocolEntry(
    partial(open_ijb, lists_of_ijb.IJBB),
    "IJB-B: templates, 1:1 and 1:N",
    _OPTIONS,
    _READS,
)
IJBC = ProtocolEntry(
    partial(open_ijb, lists_of_ijb.IJBC),
    "IJB-C: templates, 1:1 and 1:N",
    _OPTIONS,
    _READS,
)
