"""A margin of one's own, in one file.

    qface train --config=demo --config.loss.margin=examples/own_margin.py:CURVY
    qface gst --margin=adaface,examples/own_margin.py:CURVY --out=gst.png
    python examples/own_margin.py [KEY=VALUE ...]

The last takes three steps with it, on noise.
"""

import sys

import numpy as np

import qface_jax
from qface_jax.losses.margins.margin import (
    COS_EPS,
    Margin,
    MarginEntry,
    clip_cosine,
    sine,
    unchanged_eps,
)
from qface_jax.options import SHARE, Option


def curvy(margin):
    """Takes most off the cosine of the own class where it stands at right angles."""

    def target(cos_y, norms, state):
        cos_y = clip_cosine(cos_y, COS_EPS)
        return cos_y - margin * sine(cos_y)

    return Margin(target, unchanged_eps)


CURVY = MarginEntry(curvy, {"margin": Option(0.4, SHARE, "taken off at 90 degrees")})

if __name__ == "__main__":
    state, step = qface_jax.make_step(
        "demo", 10, overrides=[*sys.argv[1:], f"loss.margin={__file__}:CURVY"]
    )
    rng = np.random.default_rng(0)
    size = step.config.data.batch_size
    for number in range(3):
        images = rng.integers(0, 256, (size, 112, 112, 3), dtype=np.uint8)
        state, metrics = step(state, images, rng.integers(0, 10, size))
        print(f"step {number + 1}: loss {float(metrics['loss']):.3f}")
