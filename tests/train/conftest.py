"""One small run that many tests start from."""

import jax
import pytest

from qface_jax.train import loop
from small_run import small


@pytest.fixture(scope="module", autouse=True)
def types_as_users_have_them():
    """optax's schedules mix types inside; our kernels have their own strict tests."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory):
    """A small run that nothing disturbed: its folder, config and results."""
    run = tmp_path_factory.mktemp("whole") / "run"
    config = small()
    with jax.numpy_dtype_promotion("standard"):
        return run, config, loop.train(config, run)
