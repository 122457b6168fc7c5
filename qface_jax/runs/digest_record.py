"""What a checkpoint says of its own arrays: name, type, shape and digest of each.

The record is saved in one piece with the arrays, as JSON that carries its own SHA-256:
a changed bit in the record is told from one in an array.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from qface_jax.errors import counted
from qface_jax.runs import digest

FORMAT = 1
_SHOWN = 4  # arrays that a message names


class Record(NamedTuple):
    """Digests of a checkpoint.

    Attributes:
        arrays: Path of an array -> its type and shape, as of `described`, and digest.
        score: Of a best checkpoint, finite; None of others.
    """

    arrays: Mapping[str, tuple[str, str]]
    score: float | None


def described(leaf: Any) -> str:
    """Returns type and shape of an array, or of what stands for one.

    >>> described(np.zeros((2, 3), np.int8))
    'int8[2, 3]'
    """
    return f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"


def to_json(arrays: Mapping[str, Any], score: float | None = None) -> dict[str, Any]:
    """Returns the record of arrays, to be saved with them.

    Every process of a run must call it with the same arrays.

    Args:
        arrays: Path -> array, as of `digest.of_arrays`.
        score: Of a best checkpoint, finite.
    """
    digests = digest.of_arrays(arrays)
    content = {
        "format": FORMAT,
        "arrays": {
            name: [described(array), digests[name]] for name, array in arrays.items()
        },
        "score": score,
    }
    return content | {"sha256": _check(content)}


def from_json(document: Any) -> Record:
    """Returns what `to_json` wrote.

    Raises:
        ValueError: It is not that, or was changed since.
    """
    if not isinstance(document, dict):
        raise ValueError("its record of digests is none")
    content = {key: value for key, value in document.items() if key != "sha256"}
    if document.get("sha256") != _check(content):
        raise ValueError("its record of digests was changed since it was saved")
    if content.get("format") != FORMAT:
        raise ValueError(
            f"its record of digests is of format {content.get('format')!r}, expected "
            f"{FORMAT}: it is of another version of qface-jax"
        )
    score = content["score"]
    if score is not None and not math.isfinite(score):
        raise ValueError(f"its score is {score}, expected a finite number")
    arrays = {name: (what, text) for name, (what, text) in content["arrays"].items()}
    return Record(arrays, score)


def refuse_other_arrays(record: Record, saved: Mapping[str, Any]) -> None:
    """Raises ValueError where a checkpoint's arrays are not those of its record.

    Args:
        record: Of the checkpoint.
        saved: Path -> type and shape of each array that it says it has.
    """
    names = [name for name in record.arrays if name not in saved]
    names += [name for name in saved if name not in record.arrays]
    names += [
        name
        for name, leaf in saved.items()
        if name in record.arrays and described(leaf) != record.arrays[name][0]
    ]
    if names:
        raise ValueError(f"it names other arrays than were saved: {_listed(names)}")


def refuse_other_values(record: Record, arrays: Mapping[str, Any]) -> None:
    """Raises ValueError that names the arrays which are not as they were saved.

    Every process of a run must call it with the same arrays.

    Args:
        record: Of the checkpoint.
        arrays: Path -> array, of all or of some.
    """
    digests = digest.of_arrays(arrays)
    names = [name for name in arrays if digests[name] != record.arrays[name][1]]
    if names:
        raise ValueError(
            f"{counted(len(names), 'array')} not as saved, by the digest: "
            f"{_listed(names)}"
        )


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    shown = [*names[:_SHOWN], *([f"and {more:,} more"] if more > 0 else [])]
    return ", ".join(shown)


def _check(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
