"""The training images that a config names."""

from typing import Any

from qface_jax import tables
from qface_jax.configs.document import options_of
from qface_jax.data_pipelines.sources.skipping_source import SkippingSource
from qface_jax.data_pipelines.sources.source import Source, open_source
from qface_jax.data_pipelines.sources.subset import Subset


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
