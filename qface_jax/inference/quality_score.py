"""What a quality score is: how well a face can be recognised, from its raw feature."""

import functools
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from qface_jax.configs import document
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
        options: Its own config keys by name; of one that `eval.quality_scores` names
            they are at `config.own.quality_score`.
    """

    title: str
    build: Callable[[Mapping[str, Any], Mapping[str, Any]], Score | None]
    parts: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    options: Mapping[str, Option] = MappingProxyType({})


def names_of(config: ConfigDict, extra: Collection[str] = ()) -> list[str]:
    """Returns the names of the scores to look for in a model.

    Args:
        config: Its `eval.quality_scores` come after those of the table.
        extra: Names of further ones, `module:object`, with the defaults of their
            options.
    """
    return list(dict.fromkeys((*QUALITY_SCORES, *config.eval.quality_scores, *extra)))


def checkpoint_parts(names: Collection[str]) -> tuple[str, ...]:
    """Returns the paths of all parts that scores need of a checkpoint."""
    paths = [path for name in names for path in QUALITY_SCORES[name].parts]
    return tuple(dict.fromkeys(paths))


def build_scores(
    names: Collection[str], parts: Mapping[str, Any], config: ConfigDict
) -> dict[str, Score]:
    """Returns the scores that a model has, by name.

    Args:
        names: From `names_of`.
        parts: Path -> nested dicts of numpy arrays, of `checkpoint_parts`.
        config: Config of the model's run.

    Raises:
        ConfigError: There is no such score, or its name is not trusted.
    """
    scores = {}
    for name in names:
        entry = QUALITY_SCORES[name]
        options = {key: option.default for key, option in entry.options.items()}
        if name in config.eval.quality_scores:
            options |= document.options_of(config, "quality_score", name)
        for path in entry.settings:
            options[path] = functools.reduce(getattr, path.split("."), config)
        score = entry.build({path: parts[path] for path in entry.parts}, options)
        if score is not None:
            scores[name] = score
    return scores
