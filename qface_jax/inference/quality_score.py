"""What a quality score is: how well a face can be recognised, from its raw feature."""

import functools
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from qface_jax.options import Option
from qface_jax.tables import QUALITY_SCORES

MIN_NORM = 1e-12
# Raw features of the pictures themselves, without their mirror images -> their scores.
Score = Callable[[Float[np.ndarray, "k d"]], Float[np.ndarray, " k"]]


class QualityScore(NamedTuple):
    """A score of faces, an entry of `qface_jax.tables.QUALITY_SCORES`.

    Of every score larger is better. Its name in the table is that of its column and of
    its scalars, `rank_<name>` and `discard_<name>`.

    Attributes:
        title: What a reader calls it.
        build: (parts, options) -> `Score`, float64 in and out; None where the model
            lacks what it needs. `parts` has the arrays of each of `parts` below, as
            numpy arrays in nested dicts, {} where the model has no such part;
            `options` the value of each of `settings` and of `options` by name.
        parts: Paths in the checkpoint, as "params/head/prm"; every device has a copy of
            such a part.
        settings: Dotted paths of the run's config.
        options: Its own config keys by name; the user's are at
            `config.own.quality_score`.
    """

    title: str
    build: Callable[[Mapping[str, Any], Mapping[str, Any]], Score | None]
    parts: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    options: Mapping[str, Option] = MappingProxyType({})


def checkpoint_parts(extra: Collection[str] = ()) -> tuple[str, ...]:
    """Returns the paths of all parts that the scores need of a checkpoint.

    Args:
        extra: Names of further scores, `module:object`.
    """
    names = (*QUALITY_SCORES, *extra)
    paths = [path for name in names for path in QUALITY_SCORES[name].parts]
    return tuple(dict.fromkeys(paths))


def build_scores(
    parts: Mapping[str, Any],
    config: ConfigDict,
    *,
    extra: Collection[str] = (),
    own: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Score]:
    """Returns the scores that a model has, by name, in the order of the table.

    Args:
        parts: Path -> nested dicts of numpy arrays, of `checkpoint_parts`.
        config: Config of the model's run.
        extra: Names of further scores, `module:object`.
        own: Values of the options of further scores that differ from their defaults.

    Raises:
        ConfigError: There is no such score, or its name is not trusted.
    """
    scores = {}
    for name in dict.fromkeys((*QUALITY_SCORES, *extra)):
        entry = QUALITY_SCORES[name]
        options = {key: own.get(key, o.default) for key, o in entry.options.items()}
        for path in entry.settings:
            options[path] = functools.reduce(getattr, path.split("."), config)
        score = entry.build({path: parts[path] for path in entry.parts}, options)
        if score is not None:
            scores[name] = score
    return scores
