"""Model configs for the tests of this folder."""

import pytest
from ml_collections import ConfigDict


@pytest.fixture(scope="session")
def model_config():
    """Returns a function that makes a `model` group, "tiny" unless told otherwise."""

    def make(**changes):
        config = {
            "backbone": "tiny",
            "embedding_dim": 16,
            "dropout": 0.0,
            "dtype": "float32",
            "remat": False,
            "batch_norm_groups": 1,
            "freeze_batch_norm": False,
            "graph": "",
            "input_mean": (127.5, 127.5, 127.5),
            "input_std": (127.5, 127.5, 127.5),
            "color_order": "RGB",
        }
        return ConfigDict(config | changes)

    return make
