"""Where the pictures of the published degradation code are found, for two tests."""

import os
from pathlib import Path

import numpy as np
import pytest

RESOLUTIONS = (7, 14, 28, 56)


def photographs(side):
    """Recording on photographs (not part of the project): images, degraded."""
    default = Path(__file__).parents[3] / "shared" / "golden"
    folder = Path(os.environ.get("QFACE_GOLDEN", default))
    path = folder / f"degrade_r{side}.npz"
    if not path.is_file():
        pytest.skip(f"no {path.name}: set QFACE_GOLDEN to the folder that holds it")
    with np.load(path) as arrays:
        return arrays["images"], arrays["degraded"]


def drawn():
    """Recording on a drawn face: image, {side: degraded}. See make_degrade_golden."""
    path = Path(__file__).parents[1] / "golden" / "degrade_drawn.npz"
    with np.load(path) as arrays:
        return arrays["image"], {r: arrays[f"degraded_{r}"] for r in RESOLUTIONS}


def assert_within_one_grey_level(got, expected):
    """At most one grey level off, on all but 0.1 % of the pixels."""
    assert got.dtype == expected.dtype == np.uint8
    off = np.abs(got.astype(int) - expected.astype(int))
    assert (off > 1).mean() <= 0.001
    # One grey level everywhere would be a wrong rounding, not arithmetic noise.
    assert (off > 0).mean() <= 0.01
