"""QMUL-SurvFace: identification in surveillance with strangers, and verification.

Z. Cheng, X. Zhu, S. Gong: Surveillance Face Recognition Challenge, 2018.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qface_jax.data_pipelines.sets.survface import EXPECTED, open_survface
from qface_jax.errors import ConfigError
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
    gathered,
    unit_features,
    worst,
    worst_health,
)
from qface_jax.evals.results import Result
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
        return _Half(health, unusable, identified(answers, len(templates)))

    def _verify(self, embed: Embedder, share: Share) -> _Half:
        mine = unit_features(embed, self.images, self._pairs, share)
        images = gathered(mine, share)
        unusable = {"verification_images": int(images.unusable.sum())}
        health = worst_health([mine], share)
        if health.status == "non_finite":
            return _Half(health, unusable, Section())
        kinds = []
        for pairs in (self._set.positive, self._set.negative):
            first, second = (pairs - self._pairs.start).T
            squared = verification.distances(
                images.vectors[first], images.vectors[second], metric="euclidean"
            )
            unread = images.unusable[first] | images.unusable[second]
            kinds.append(np.where(unread, _UNREADABLE, np.sqrt(squared)))
        return _Half(health, unusable, verified(PairDistances(*kinds)))

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
)
