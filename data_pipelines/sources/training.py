"""The training images that a config names."""

from typing import Any

import numpy as np

from qface_jax import tables
from qface_jax.configs.document import options_of
from qface_jax.data_pipelines.sources.skipping_source import SkippingSource
from qface_jax.data_pipelines.sources.source import Source, open_source
from qface_jax.data_pipelines.sources.subset import Subset
from qface_jax.errors import DataError, counted

MOST_EMPTY = 10_000  # classes without an image


def training_source(config: Any) -> Source:
    """Opens the source that a config names in its group `data`, as `open_source`."""
    data = config.data
    source = open_source(
        data.source,
        (data.path, *data.more_paths),
        options_of(config, "source", data.source),
        subset=Subset(data.subset, data.subset_of, data.subset_seed),
        drop_small_identities=data.drop_small_identities,
    )
    if not data.skip_broken:
        return source
    pairs = tables.OBJECTIVES[config.objective].pairs
    skipping = SkippingSource(source, across_identities=not pairs)
    skipping.look_through()
    return skipping


def check_identities(source: Source) -> None:
    """Checks that a source has people to be told apart, as `check_gaps` besides.

    Raises:
        DataError: it has one identity.
    """
    if len(np.unique(source.labels())) < 2:
        raise DataError(
            f"{_place(source)}: got {counted(len(source), 'image')} of one identity, "
            "expected two identities or more: there is nothing to tell apart"
        )
    check_gaps(source)


def check_gaps(source: Source) -> None:
    """Checks that labels have no large gaps.

    Raises:
        DataError: it has more labels without an image than with one, and more than
            MOST_EMPTY: each would be a class of which nothing is learnt.
    """
    present = len(np.unique(source.labels()))
    empty = source.num_classes - present
    if empty > max(MOST_EMPTY, present):
        raise DataError(
            f"{_place(source)}: {empty:,} of {source.num_classes:,} classes have no "
            f"image, expected labels 0 .. {present - 1:,} of its {present:,} "
            "identities; --config.data.drop_small_identities=1 numbers them again "
            "(qface data import --drop-small-identities=1 does so once for all)"
        )


def _place(source: Source) -> str:
    return str(source.describe().get("path", source.name))
