"""What a set of images holds, and what about it looks wrong."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qface_jax.data_pipelines.degradation.recipe import SIDE
from qface_jax.data_pipelines.sets.pair_sets import PairSet
from qface_jax.data_pipelines.sources.source import Source, record_name
from qface_jax.data_pipelines.stream import picture
from qface_jax.data_pipelines.stream.picture import PictureError
from qface_jax.data_pipelines.tools import sheet
from qface_jax.errors import DataError, counted

SAMPLE_IMAGES = 2000
_NAMED_IMAGES = 5
# Mean difference of the channels (0-255) below which an image counts as grey, and
# standard deviation of the brightness below which it counts as blank.
_GREY_DIFFERENCE = 1.0
_BLANK_DEVIATION = 4.0
# Skin is redder than blue: swapped channels show as blue faces in most images.
_BLUE_SHARE = 0.5


def inspect_source(source: Source, sample: int = SAMPLE_IMAGES) -> dict:
    """Counts what a source holds and looks at an even sample of its images.

    Args:
        source: what to look at.
        sample: images to decode at most.

    Returns:
        Json-able facts: those of `source.describe()` with "images_per_identity" (min,
        median, max), "labels" (min, max, gaps) and "sample" (see `inspect_images`);
        "warnings" is a list of sentences.
    """
    labels = np.asarray(source.labels())
    counts = np.bincount(labels, minlength=source.num_classes)
    present = counts[counts > 0]
    rows = _even_rows(len(source), sample)
    facts = source.describe()
    warnings = list(facts.pop("notes", []))
    of_sample = inspect_images(
        lambda row: source.fetch(np.asarray([row]))[0][0],
        rows,
        lambda row: record_name(source, row),
    )
    duplicates = of_sample.pop("duplicates")
    warnings += of_sample.pop("warnings")
    if duplicates:
        shown = "; ".join(duplicates[:_NAMED_IMAGES])
        warnings.append(f"{len(duplicates)} exact duplicates in the sample: {shown}")
    gaps = int(len(counts) - len(present))
    if gaps:
        warnings.append(f"{gaps} labels below {len(counts)} have no image")
    if len(present) < 2:
        warnings.append("one identity: training needs two, to tell them apart")
    single = int((present == 1).sum())
    if single:
        warnings.append(f"{single} of {len(present)} identities have a single image")
    return facts | {
        "images": len(source),
        "identities": len(present),
        "images_per_identity": {
            "min": int(present.min()),
            "median": float(np.median(present)),
            "max": int(present.max()),
        },
        "labels": {"min": int(labels.min()), "max": int(labels.max()), "gaps": gaps},
        "sample": of_sample | {"duplicates": len(duplicates)},
        "warnings": warnings,
    }


def inspect_pairs(pairs: PairSet, sample: int = SAMPLE_IMAGES) -> dict:
    """Counts what a verification set holds and looks at a sample of its images.

    Args:
        pairs: what to look at.
        sample: images to decode at most.

    Returns:
        As `inspect_source`, for the facts of `pairs.describe()`.
    """
    facts = pairs.describe()
    warnings = list(facts.pop("notes", []))
    of_sample = inspect_images(
        lambda row: pairs.fetch(np.asarray([row]))[0],
        _even_rows(len(pairs), sample),
        lambda row: f"{pairs.name}: image {row}",
    )
    same = int(pairs.issame.sum())
    if 2 * same != len(pairs.issame):
        warnings.append(f"{same} of {len(pairs.issame)} pairs are of one person")
    # An image may stand in many pairs, but not twice in one.
    del of_sample["duplicates"]
    warnings += of_sample.pop("warnings")
    twice = [i for i in _even_rows(len(pairs.issame), sample // 2) if _equal(pairs, i)]
    if twice:
        warnings.append(
            f"{counted(len(twice), 'pair')} of the sample with one image twice, the "
            f"first is pair {twice[0]}"
        )
    return facts | {"sample": of_sample, "warnings": warnings}


def inspect_images(
    fetch_one: Callable[[int], bytes],
    rows: np.ndarray,
    name_of: Callable[[int], str],
) -> dict:
    """Decodes some images and counts what they are.

    Args:
        fetch_one: gives the encoded image of a row.
        rows: int [k], which images.
        name_of: gives the name of a row for the report.

    Returns:
        "images" (k), "formats", "sizes" (counts by name, most frequent first),
        "broken" and, by kind, "faults", "grayscale", "blank", "mean_rgb" of the colour
        images, "duplicates" (a line per image whose bytes an earlier one has too),
        "warnings".
    """
    formats: dict[str, int] = {}
    sizes: dict[str, int] = {}
    broken: list[str] = []
    faults: dict[str, int] = {}
    seen: dict[bytes, int] = {}
    duplicates: list[str] = []
    colours: list[np.ndarray] = []
    grey = blank = 0
    for row in rows.tolist():
        try:
            data = fetch_one(row)
            header = picture.read(data)
            pixels = picture.pixels(header).astype(np.float32)
        except PictureError as error:
            broken.append(f"{name_of(row)}: {error}")
            _count(faults, error.kind)
            continue
        except DataError as error:
            broken.append(str(error))
            _count(faults, "unreadable")
            continue
        _count(formats, header.format)
        _count(sizes, f"{header.width}x{header.height}")
        digest = hashlib.blake2b(data, digest_size=16).digest()
        if digest in seen:
            duplicates.append(f"{name_of(row)} = {name_of(seen[digest])}")
        seen.setdefault(digest, row)
        blank += bool(pixels.mean(axis=2).std() < _BLANK_DEVIATION)
        if np.abs(np.diff(pixels, axis=2)).mean() < _GREY_DIFFERENCE:
            grey += 1
        else:
            colours.append(pixels.mean(axis=(0, 1)))
    means = np.asarray(colours, np.float64).reshape(-1, 3)
    facts: dict[str, Any] = {
        "images": len(rows),
        "formats": formats,
        "sizes": dict(sorted(sizes.items(), key=lambda item: -item[1])),
        "broken": len(broken),
        "faults": faults,
        "grayscale": grey,
        "blank": blank,
        "duplicates": duplicates,
        "mean_rgb": means.mean(axis=0).round(1).tolist() if len(means) else None,
    }
    facts["warnings"] = _image_warnings(facts, means, broken)
    return facts


def source_sheet(source: Source, path: Path, count: int = 64) -> None:
    """Draws an even sample of a source's images; broken ones are red tiles."""
    rows = _even_rows(len(source), count)
    labels = np.asarray(source.labels())[rows]
    names = [str(label) for label in labels]
    _sheet_of(lambda row: source.fetch(np.asarray([row]))[0][0], rows, names, path)


def pairs_sheet(pairs: PairSet, path: Path, count: int = 32) -> None:
    """Draws an even sample of pairs side by side; broken ones are red tiles."""
    chosen = _even_rows(len(pairs.issame), count)
    rows = np.stack([2 * chosen, 2 * chosen + 1], axis=1).ravel()
    names = [f"{i} {'same' if pairs.issame[i] else 'differ'}" for i in rows // 2]
    _sheet_of(lambda row: pairs.fetch(np.asarray([row]))[0], rows, names, path)


def _sheet_of(
    fetch_one: Callable[[int], bytes], rows: np.ndarray, names: list[str], path: Path
) -> None:
    images, labels = [], []
    for row, name in zip(rows.tolist(), names, strict=True):
        try:
            image = picture.pixels(picture.read(fetch_one(row)))
        except DataError:
            images.append(np.full((SIDE, SIDE, 3), sheet.LOW, np.uint8))
            labels.append(f"{name} broken")
            continue
        small = Image.fromarray(image)
        small.thumbnail((SIDE, SIDE))
        images.append(np.asarray(small))
        labels.append(name)
    sheet.contact_sheet(images, labels, path)


def _even_rows(n: int, count: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, min(n, count)).astype(np.int64))


def _equal(pairs: PairSet, index: int) -> bool:
    try:
        first, second = pairs.fetch(np.asarray([2 * index, 2 * index + 1]))
    except DataError:
        return False  # one of them is missing
    return first == second


def _count(counts: dict[str, int], key: str) -> None:
    counts[key] = counts.get(key, 0) + 1


def _image_warnings(facts: dict, means: np.ndarray, broken: list[str]) -> list[str]:
    warnings = []
    if broken:
        shown = "; ".join(broken[:_NAMED_IMAGES])
        kinds = ", ".join(f"{n} {kind}" for kind, n in facts["faults"].items())
        bad = counted(len(broken), "broken image")
        warnings.append(f"{bad} in the sample ({kinds}): {shown}")
    other = {size: n for size, n in facts["sizes"].items() if size != "112x112"}
    if other:
        odd = counted(sum(other.values()), "image")
        warnings.append(f"{odd} of the sample not 112x112")
    for key in ("grayscale", "blank"):
        if facts[key]:
            images = counted(facts[key], "image")
            warnings.append(f"{images} of the sample {key}")
    if len(means):
        blue = float((means[:, 2] > means[:, 0]).mean())
        if blue > _BLUE_SHARE:
            warnings.append(
                f"{100 * blue:.0f} % of the sample are bluer than red: faces are not, "
                "so the channels may be swapped (BGR)"
            )
    return warnings
