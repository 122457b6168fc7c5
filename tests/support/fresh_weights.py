"""Fresh weights of a backbone, whose features are of common size."""

import jax

from qface_jax import models


def with_statistics(config):
    """Parameters and statistics of a fresh model; its features are of common size."""
    quick = {"xla_backend_optimization_level": 1}
    init = jax.jit(models.build(config.model).init, compiler_options=quick)
    params, stats = jax.device_get(init(jax.random.key(0)))
    return params, jax.tree.map(lambda leaf: 4 * leaf, stats)
