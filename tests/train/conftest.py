"""What the tests of whole runs share."""

import pytest

from qface_jax.train import loop
from support import recordio_writer, shared_setup
from support.user_types import types_as_users_have_them  # noqa: F401


@pytest.fixture(scope="session", autouse=True)
def shared_steps():
    """Runs of the same config in this process share their compiled step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "build", shared_setup.build)
        yield


@pytest.fixture(scope="session")
def noise_records(tmp_path_factory):
    """Overrides for training on pictures of noise, 4 of each of 60 identities.

    Flat areas would bring thousands of equal pixels to a kink of PReLU at once, where
    another order of summation decides about a whole gradient.
    """
    folder = tmp_path_factory.mktemp("records") / "noise"
    labels = [number // 4 for number in range(240)]
    images = [recordio_writer.noise(seed) for seed in range(len(labels))]
    recordio_writer.write_indexed(folder, labels, images)
    return ["data.source=mxnet", f"data.path={folder}", "degrade.recipe=clean"]
