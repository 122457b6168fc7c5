"""A margin of somebody else's module: one file, named `module:object`."""

import jax
import numpy as np

from qface_jax import tables
from support.small_run import small
from support.small_step import LINEAR, step_of

NAME = "toy_margins:CURVY"
MODULE = '''
import jax.numpy as jnp

from qface_jax.losses.margins.margin import Margin, MarginEntry, clip_cosine
from qface_jax.options import SHARE, Option


def curvy(bend):
    """f = cos theta - bend t, with t the number of steps so far, at most 2."""
    return Margin(
        lambda cos_y, norms, t: clip_cosine(cos_y) - bend * t,
        init=lambda: jnp.float32(0.0),
        update=lambda t, cos_y, norms, valid: jnp.minimum(t + 1.0, 2.0),
        describe=lambda t, norms: {"t": t},
    )


CURVY = MarginEntry(curvy, {"bend": Option(0.2, SHARE, "taken off the cosine")})
'''


def test_it_trains(tmp_path, monkeypatch):
    (tmp_path / "toy_margins.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(tables, "_trusted", set())
    config = small(f"loss.margin={NAME}", "optim.schedule=constant")
    step, state, batch, key = step_of(config, LINEAR, classes=12, devices=1)
    for count in (1, 2, 2):
        state, metrics = step(state, batch, key)
        assert np.isfinite(metrics["loss"]) and metrics["t"] == count
    assert jax.tree.leaves(state.aux) == [2.0]
