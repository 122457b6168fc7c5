"""Types that mix as they do for users; to be imported where whole steps are run."""

import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def types_as_users_have_them():
    """optax's schedules mix types inside; our kernels have their own strict tests."""
    with jax.numpy_dtype_promotion("standard"):
        yield
