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
    """Checks that a source has people to be told apart, and no large gaps of labels.

    Raises:
        DataError: it has one identity, or more labels without an image than with one,
            and more than MOST_EMPTY: each would be a class that nothing is learnt of.
    """
    present = np.unique(source.labels())
    place = source.describe().get("path", source.name)
    if len(present) < 2:
        raise DataError(
            f"{place}: got {counted(len(source), 'image')} of one identity, expected "
            "two identities or more: there is nothing to tell apart"
        )
    empty = source.num_classes - len(present)
    if empty > max(MOST_EMPTY, len(present)):
        raise DataError(
            f"{place}: {empty:,} of {source.num_classes:,} classes have no image, "
            f"expected labels 0 .. {len(present) - 1:,} of its {len(present):,} "
            "identities; --config.data.drop_small_identities=1 numbers them again "
            "(qface data import --drop-small-identities=1 does so once for all)"
        )
