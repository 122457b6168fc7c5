"""Small models to export, and images."""

import numpy as np
import pytest

from qface_jax.configs.base import get_config
from qface_jax.data_pipelines.tools.sample_images import drawn_faces
from qface_jax.export.subject import Subject
from qface_jax.weights import parity
from support.fresh_weights import with_statistics

WIDTH = 16


@pytest.fixture(scope="session")
def tiny():
    """A backbone of ours, and three class centres."""
    config = get_config()
    config.model.backbone, config.model.embedding_dim = "tiny", WIDTH
    params, stats = with_statistics(config)
    centres = np.random.default_rng(0).normal(size=(3, WIDTH)).astype(np.float32)
    return Subject(config.lock(), params, stats, centres, {"backbone": "tiny"})


@pytest.fixture(scope="session")
def pictures():
    return {"random": parity.random_images(8), "drawn faces": drawn_faces(8)}
