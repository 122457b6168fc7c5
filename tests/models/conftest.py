"""The smallest backbone for the tests of this folder."""

import jax
import pytest

from support import backbones


@pytest.fixture(scope="session")
def model_config():
    """Returns a function that makes a `model` group, "tiny" unless changed."""
    return backbones.model_config


@pytest.fixture(scope="session")
def tiny():
    """The smallest backbone and its initial values."""
    model = backbones.built()
    return model, *backbones.initial(model)(jax.random.key(0))
