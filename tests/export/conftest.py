"""Small models to export, and images."""

import jax
import numpy as np
import pytest

from qface_jax import models
from qface_jax.configs.base import get_config
from qface_jax.data_pipelines.tools.sample_images import drawn_faces
from qface_jax.export.subject import Subject
from qface_jax.weights import parity

WIDTH = 16


def with_statistics(config):
    """Parameters and statistics of a fresh model; its features are of common size."""
    quick = {"xla_backend_optimization_level": 1}
    init = jax.jit(models.build(config.model).init, compiler_options=quick)
    params, stats = jax.device_get(init(jax.random.key(0)))
    return params, jax.tree.map(lambda leaf: 4 * leaf, stats)


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
