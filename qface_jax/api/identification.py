"""Who is on a picture: probes looked up in a gallery of people."""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from qface_jax.api.model import BATCH_SIZE, Model
from qface_jax.data_pipelines.sources.image_list import evenly_spread
from qface_jax.errors import ConfigError, DataError
from qface_jax.evals.calibration import Calibration
from qface_jax.evals.measures.identity_templates import identity_templates
from qface_jax.evals.measures.nearest import NONE, nearest
from qface_jax.evals.measures.rates import FEW, Scores, tar_at_far
from qface_jax.evals.measures.unit import unit
from qface_jax.inference import feature_file
from qface_jax.inference.embeddings import Embeddings
from qface_jax.storage.atomic_file import replacing

_PEOPLE = 8192  # whose images are in float64 at a time
_STRANGERS = 2000  # images of the gallery that play strangers, at most


class Gallery(NamedTuple):
    """People to be found.

    Attributes:
        people: Their names, [g].
        images: How many usable images each has, int64 [g]; 1 at least.
        vectors: The mean of each one's unit features, at unit length, float32 [g, d].
        owner: Whose each of the images is, as a place in `people`, int64 [n]; -1 of one
            that cannot be used.
        lost: People none of whose images can be used.
    """

    people: list[str]
    images: np.ndarray
    vectors: np.ndarray
    owner: np.ndarray
    lost: list[str]


class Candidate(NamedTuple):
    """Somebody in the gallery.

    Attributes:
        person: The name.
        similarity: Cosine of the probe and the person.
    """

    person: str
    similarity: float


class Answer(NamedTuple):
    """Who a probe may be.

    Attributes:
        probe: Name of the image.
        status: Of the image, as of `Embeddings.statuses`.
        message: What is wrong with it; "" where nothing is.
        candidates: The most similar people, best first; [] of an image that cannot be
            used.
        person: The best, where similar enough; "" of an unknown; None where nothing
            says what is enough, or the image cannot be used.
    """

    probe: str
    status: str
    message: str
    candidates: list[Candidate]
    person: str | None


def embeddings_of(
    model: Model,
    paths: Sequence[Path],
    *,
    calibration: Calibration | None = None,
    batch_size: int = BATCH_SIZE,
) -> list[Embeddings]:
    """Returns the embeddings of several lists of images, which can be compared.

    Args:
        model: From `load`.
        paths: Of images, as `Model.embed` takes them, or of files of `qface embed`.
        calibration: What will be asked about their similarities.
        batch_size: As of `Model.embed`.

    Raises:
        ConfigError: A file is of another model, or with mirror images where another
            file, or the calibration, is without.
        DataError: There is no image, or no such file.
    """
    manifests = {
        path: feature_file.manifest(path)
        for path in paths
        if path.suffix in feature_file.ENDINGS
    }
    flips = {str(path): bool(manifest["flip"]) for path, manifest in manifests.items()}
    if calibration is not None:
        flips[str(calibration.path)] = calibration.flip
    if len(set(flips.values())) > 1:
        listed = ", ".join(
            f"{path} {'with' if flip else 'without'}" for path, flip in flips.items()
        )
        raise ConfigError(
            f"mirror images: got {listed} them; embed again (qface embed --no-flip "
            "leaves them out), or evaluate again (--config.eval.flip)"
        )
    if manifests:
        (of_noise, *_) = model.sized(batch_size, flip=False).of_noise()
        for path, manifest in manifests.items():
            if not feature_file.same_model(manifest, of_noise):
                raise ConfigError(
                    f"{path}: holds features of another model than {model.path}; embed "
                    "its images by this one"
                )
    flip = next(iter(flips.values()), True)
    return [
        feature_file.read_embeddings(path)
        if path in manifests
        else model.embed(path, flip=flip, batch_size=batch_size)
        for path in paths
    ]


def gallery_of(embeddings: Embeddings) -> Gallery:
    """Returns the people that embedded images show.

    The first folder in the name of an image is the person; of an absolute path, as a
    `.txt` list may have, the folder that holds it. An image that lies in none is a
    person of its own, named as the file without its ending.

    Raises:
        DataError: None of the images can be used.
    """
    person_of = [_person(name) for name in embeddings.names]
    people, ids = np.unique(person_of, return_inverse=True)
    usable = np.flatnonzero(embeddings.ok)
    if not len(usable):
        raise DataError(
            f"gallery: none of {len(embeddings):,} images can be used; the first is "
            f"{embeddings.names[0]}: {embeddings.messages[0]}"
        )
    counts = np.bincount(ids[usable], minlength=len(people))
    there = np.flatnonzero(counts)
    place = np.cumsum(counts > 0) - 1  # of each person among those that stay
    owner = np.full(len(embeddings), -1, np.int64)
    owner[usable] = place[ids[usable]]
    # By person, so that a stretch of them is a person's, or several's.
    order = usable[np.argsort(owner[usable], kind="stable")]
    owners = owner[order]
    vectors = np.empty((len(there), embeddings.features.shape[1]), np.float32)
    for start in range(0, len(there), _PEOPLE):
        end = min(start + _PEOPLE, len(there))
        rows = slice(*np.searchsorted(owners, [start, end]))
        features = unit(embeddings.features[order[rows]])
        vectors[start:end] = identity_templates(
            features, owners[rows] - start, end - start
        )
    return Gallery(
        people[there].tolist(),
        counts[there],
        vectors,
        owner,
        people[counts == 0].tolist(),
    )


def stranger_threshold(gallery: Gallery, embeddings: Embeddings, rate: float) -> float:
    """Returns the similarity that lets in a stranger at that rate, or less often.

    The gallery's own images play the strangers: each is looked up among all the others'
    people. Of many images 2,000 are taken, evenly spread.

    Args:
        gallery: Of these embeddings.
        embeddings: Of its images.
        rate: Of strangers that may get a name, in (0, 1).

    Raises:
        ConfigError: There are too few images for the rate, or just one person.
    """
    usable = np.flatnonzero(gallery.owner >= 0)
    chosen = usable[evenly_spread(len(usable), _STRANGERS)]
    needed = math.ceil(FEW / rate)
    if len(gallery.people) < 2 or len(chosen) < needed:
        more = "" if needed > _STRANGERS else f", of {needed:,} images at least"
        raise ConfigError(
            f"--fpir: got {rate:g}, which {len(chosen):,} images of "
            f"{len(gallery.people):,} people in the gallery are too few to tell; take "
            f"a larger gallery{more}, a calibration of many pairs, a higher rate, or "
            "--threshold"
        )
    features = unit(embeddings.features[chosen]).astype(np.float32)
    best = nearest(gallery.vectors, features, 2)
    is_owner = best.row[:, 0] == gallery.owner[chosen]
    scores = np.sort(np.where(is_owner, best.score[:, 1], best.score[:, 0]))
    (point,) = tar_at_far(Scores(scores, scores), [rate])  # for its threshold alone
    assert point.threshold is not None  # there are scores, and one threshold for each
    return float(point.threshold)


def identify(
    gallery: Gallery, probes: Embeddings, *, top: int, threshold: float | None = None
) -> list[Answer]:
    """Looks each probe up in a gallery.

    Args:
        gallery: The people.
        probes: The images.
        top: Candidates of each, at least 1.
        threshold: Similarity from which the best candidate is taken for the person;
            None: nobody is.
    """
    features = unit(probes.features).astype(np.float32)
    best = nearest(gallery.vectors, features, top)
    answers = []
    for probe, status in enumerate(probes.statuses):
        candidates = [
            Candidate(gallery.people[row], float(score))
            for row, score in zip(best.row[probe], best.score[probe], strict=True)
            if row != NONE
        ]
        person = None
        if threshold is not None and candidates:
            first = candidates[0]
            person = first.person if first.similarity >= threshold else ""
        answers.append(
            Answer(
                probes.names[probe], status, probes.messages[probe], candidates, person
            )
        )
    return answers


def write_csv(path: Path, answers: list[Answer]) -> None:
    """Writes a line for each probe and candidate, aside, then renames the file.

    Columns are probe, status, rank (from 1), candidate, similarity, and person: the
    name where the best candidate is similar enough, "unknown" where not, empty where no
    threshold was given. A probe that cannot be used has one line.
    """
    # Names of files need not be text; what is not comes out as it went in.
    with (
        replacing(path) as aside,
        aside.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        table = csv.writer(file)
        table.writerow(
            ("probe", "status", "rank", "candidate", "similarity", "person", "message")
        )
        for one in answers:
            table.writerows(_lines(one))


def _lines(one: Answer) -> Iterator[tuple]:
    person = "unknown" if one.person == "" else one.person or ""
    if not one.candidates:
        yield one.probe, one.status, "", "", "", person, one.message
    for rank, candidate in enumerate(one.candidates, 1):
        similarity = f"{candidate.similarity:.6f}"
        yield one.probe, one.status, rank, candidate.person, similarity, person, ""


def _person(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute():
        return path.parent.name
    return path.parts[0] if len(path.parts) > 1 else path.stem
