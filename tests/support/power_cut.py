"""A run whose power fails right after a checkpoint."""

import pytest

from qface_jax.runs.checkpoint import Checkpoints
from qface_jax.train import loop


def train_until_cut(config, run, *, step=3, **options):
    """Trains until the checkpoint of that step is written, then dies."""
    save = Checkpoints.save

    def die_after(self, at, state):
        save(self, at, state)
        if at == step:
            raise RuntimeError("power cut")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", die_after)
        with pytest.raises(RuntimeError, match="power cut"):
            loop.train(config, run, **options)
