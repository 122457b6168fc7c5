"""A small source in memory, and the import of it."""

import pytest

from qface_jax.data_pipelines.tools.importer import import_source
from support.import_case import SHARD_BYTES, ListSource, make_images


@pytest.fixture(scope="session")
def images():
    return make_images()


@pytest.fixture
def source(images):
    return ListSource(images)


@pytest.fixture
def whole(tmp_path, source):
    """An uninterrupted import of `source`."""
    import_source(source, tmp_path / "whole", shard_bytes=SHARD_BYTES)
    return tmp_path / "whole"
