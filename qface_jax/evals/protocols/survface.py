"""QMUL-SurvFace: identification in surveillance with strangers, and verification.

Z. Cheng, X. Zhu, S. Gong: Surveillance Face Recognition Challenge, 2018.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qface_jax.data_pipelines.sets.survface import EXPECTED, open_survface
from qface_jax.errors import ConfigError
from qface_jax.evals import examples
from qface_jax.evals.embedded import Health
from qface_jax.evals.measures import verification
from qface_jax.evals.measures.identity_templates import identity_templates
from qface_jax.evals.measures.search import NOBODY, TIES, SearchResult, ranks, search
from qface_jax.evals.protocols import identification
from qface_jax.evals.protocols.protocol import Embedder, EvalSettings, ProtocolEntry
from qface_jax.evals.protocols.surveillance import (
    Answers,
    PairDistances,
    Section,
    identified,
    verified,
)
from qface_jax.evals.protocols.unit_features import (
    UnitFeatures,
    gathered,
    unit_features,
    worst,
    worst_health,
)
from qface_jax.evals.results import Example, Result
from qface_jax.processes.share import Share

PARTS = ("all", "identification", "verification")
_UNREADABLE = 3.0  # distance of a pair with an image that cannot be read; largest is 2


class _Half(NamedTuple):
    """One half of the benchmark, evaluated.

    Attributes:
        health: of its features.
        unusable: images that could not be read, by kind.
        section: what it adds to the result.
    """

    health: Health
    unusable: dict[str, int]
    section: Section


class SurvFace:
    """The watch list of 3,000 people, and the pairs."""

    def __init__(self, settings: EvalSettings, name: str):
        """Opens the set.

        Args:
            settings: `path`, `flip`, `resize` and the option `ties`.
            name: one of PARTS.

        Raises:
            ConfigError: there is no such part.
            DataError: the set cannot be read.
        """
        if name not in PARTS:
            raise ConfigError(
                f"eval.sets: got {name!r} as a set of SurvFace, must be one of "
                f"{', '.join(PARTS)}"
            )
        self._set = open_survface(Path(settings.path).expanduser())
        self.images = self._set.images
        self.name = self.images.name + ("" if name == PARTS[0] else f"_{name}")
        self._settings = settings
        self._ties = settings.options.get("ties", TIES[0])
        g, m = len(self._set.gallery_ids), len(self._set.probe_ids)
        self._probes = range(g, g + m + self._set.strangers)
        self._pairs = range(self._probes.stop, len(self.images))
        self._parts = PARTS[1:] if name == PARTS[0] else (name,)
        searched, compared = self._probes.stop, len(self._pairs)
        self.total = (PARTS[1] in self._parts) * searched
        self.total += (PARTS[2] in self._parts) * compared

    def describe(self) -> dict[str, Any]:
        """Returns facts of the set."""
        return self.images.describe()

    def evaluate(self, embed: Embedder, share: Share) -> Result:
        """Embeds what the parts need, searches the watch list, compares the pairs."""
        judges = {PARTS[1]: self._identify, PARTS[2]: self._verify}
        halves = [judges[part](embed, share) for part in self._parts]
        health = worst([half.health for half in halves])
        unusable = {k: n for half in halves for k, n in half.unusable.items()}
        warnings = self._set.notes + identification.resize_notes(self._settings.resize)
        if lost := sum(unusable.values()):
            warnings.append(identification.unread(lost))
        result = Result(
            self.name,
            {},
            "tpir20_fpir_10" if PARTS[1] in self._parts else "auc",
            health.status,
            health.message,
            warnings=warnings,
            manifest=self._manifest(unusable),
        )
        for half in halves:
            result = _joined(result, half.section)
        return result

    def _identify(self, embed: Embedder, share: Share) -> _Half:
        gallery = unit_features(embed, self.images, range(self._probes.start), share)
        rows = gallery.rows
        templates = identity_templates(
            gallery.vectors,
            self._set.gallery_ids[rows.start : rows.stop],
            int(self._set.gallery_ids.max()) + 1,
            share=share,
        )
        probes = unit_features(embed, self.images, self._probes, share)
        lost, m = share.gather(probes.unusable), len(self._set.probe_ids)
        unusable = {
            "gallery": int(share.gather(gallery.unusable).sum()),
            "mated_probe": int(lost[:m].sum()),
            "unmated_probe": int(lost[m:].sum()),
        }
        health = worst_health([gallery, probes], share)
        if health.status == "non_finite":
            return _Half(health, unusable, Section())
        # The templates are few, and each host searches for its probes among them all.
        strangers = np.full(self._set.strangers, NOBODY)
        ids = np.concatenate([self._set.probe_ids, strangers])
        rows, everyone = probes.rows, np.arange(len(templates))
        searched = search(
            templates, everyone, probes.vectors, ids[rows.start : rows.stop]
        )
        result = SearchResult(*map(share.gather, searched))
        answers = Answers(
            result.mate[:m], ranks(result, self._ties)[:m], result.nonmate[m:]
        )
        section = identified(answers, len(templates))
        numbers = _first_images(gallery, self._set.gallery_ids, len(templates), share)
        shown = self._worst_probes(templates, numbers, probes, result, share)
        return _Half(health, unusable, dataclasses.replace(section, examples=shown))

    def _worst_probes(
        self,
        templates: np.ndarray,
        numbers: np.ndarray,
        probes: UnitFeatures,
        result: SearchResult,
        share: Share,
    ) -> list[Example]:
        """Returns the worst misses, and the strangers who were surest taken for one.

        Args:
            templates: of everyone on the watch list, [t, d].
            numbers: of an image of each template, [t].
            probes: this host's, mated ones before strangers.
            result: what all of them found.
            share: this host's part.
        """
        m = len(self._set.probe_ids)
        missed = examples.missed(result.mate[:m], result.nonmate[:m])
        strangers = examples.lowest(-result.nonmate[m:])
        worst = np.concatenate([missed, m + strangers])
        ids = np.full(len(worst), NOBODY)
        ids[: len(missed)] = self._set.probe_ids[missed]
        # Each host has the features of its own probes.
        mine = np.isin(worst, probes.rows)
        vectors = np.zeros((len(worst), templates.shape[1]))
        vectors[mine] = probes.vectors[worst[mine] - probes.rows.start]
        vectors = share.gather(vectors[None]).sum(axis=0)
        found = examples.nearest(templates, np.arange(len(templates)), vectors, ids)
        shown, score = self._probes.start + worst, result.nonmate[worst]
        other, k = numbers[found.other], len(missed)
        mate = numbers[found.mate[:k]]
        return [
            *examples.of_probes(
                identification.MISSED, score[:k], (shown[:k], other[:k], mate)
            ),
            *examples.of_probes(
                identification.STRANGERS, score[k:], (shown[k:], other[k:])
            ),
        ]

    def _verify(self, embed: Embedder, share: Share) -> _Half:
        mine = unit_features(embed, self.images, self._pairs, share)
        images = gathered(mine, share)
        unusable = {"verification_images": int(images.unusable.sum())}
        health = worst_health([mine], share)
        if health.status == "non_finite":
            return _Half(health, unusable, Section())
        kinds, both = [], (self._set.positive, self._set.negative)
        for pairs in both:
            first, second = (pairs - self._pairs.start).T
            squared = verification.distances(
                images.vectors[first], images.vectors[second], metric="euclidean"
            )
            unread = images.unusable[first] | images.unusable[second]
            kinds.append(np.where(unread, _UNREADABLE, np.sqrt(squared)))
        section, dist = verified(PairDistances(*kinds)), np.concatenate(kinds)
        shown = examples.of_pairs(
            np.where(dist == _UNREADABLE, np.nan, 1 - dist**2 / 2),
            np.arange(len(dist)) < len(kinds[0]),
            np.concatenate(both),
        )
        return _Half(health, unusable, dataclasses.replace(section, examples=shown))

    def _manifest(self, unusable: dict[str, int]) -> dict[str, Any]:
        counts = {name: self._set.counts[name] for name in EXPECTED}
        return {
            "name": "survface",
            "set": self.describe(),
            "parts": list(self._parts),
            "counts": counts,
            "expected": EXPECTED,
            "whole": counts == EXPECTED and not self._set.counts["missing"],
            "missing": self._set.counts["missing"],
            "unusable": unusable,
            "aligner": "none",
            "flip": self._settings.flip,
            "embedding": identification.fusion(self._settings.flip),
            "resize": self._settings.resize,
            "template": "mean of an identity's unit features, normalised",
            "open_set": "at_most: largest TPIR of all thresholds whose FPIR is at most "
            "the named one; accepted is score >= threshold",
            "tar_at_far": "at_most, exact; beside it straight lines between Euclidean "
            "distances of 0.2 to 2, step 0.001",
            "accuracy": "10 folds of n // 10 pairs of each kind, on that grid",
            **identification.scoring(self._ties),
        }


def _first_images(
    gallery: UnitFeatures, ids: np.ndarray, people: int, share: Share
) -> np.ndarray:
    """Returns the number of an image of each identity that could be used, int64 [t].

    Args:
        gallery: this host's part.
        ids: identity of each gallery image, of all hosts, [g].
        people: identities.
        share: this host's part.
    """
    usable = np.flatnonzero(~share.gather(gallery.unusable))
    numbers = np.zeros(people, np.int64)
    numbers[ids[usable][::-1]] = usable[::-1]  # the first of each is written last
    return numbers


def _joined(result: Result, section: Section) -> Result:
    """Returns a result with everything of a section behind what it has."""
    added = {}
    for field in dataclasses.fields(Section):
        before, more = getattr(result, field.name), getattr(section, field.name)
        added[field.name] = before | more if isinstance(more, dict) else before + more
    return dataclasses.replace(result, **added)


PROTOCOL = ProtocolEntry(
    SurvFace,
    "surveillance faces: open-set identification (TPIR at FPIR) and verification",
    {"ties": identification.TIES_OPTION},
    reads=("flip", "resize"),
)
