"""One set of compiled functions for all runs of a config.

Runs that are cut and resumed, or compared with one that was not, would each trace and
compile the same step. What new processes compile is tested by real ones.
"""

import functools

from qface_jax.configs import document
from qface_jax.train import setup

_build = setup.build
_setups = {}


@functools.wraps(_build)
def build(config, source, mesh, **options):
    """As `setup.build`, but keeps what it built for the same config, data and mesh."""
    if options:
        return _build(config, source, mesh, **options)
    data = len(source), source.num_classes
    key = document.digest(config), data, mesh
    if key not in _setups:
        _setups[key] = _build(config, source, mesh)
    # The stream is that of the source at hand.
    batches = _build_batches(config, source, _setups[key])
    return _setups[key]._replace(batches=batches)


def _build_batches(config, source, built):
    return functools.partial(setup._batches, config, source, built.plan)
