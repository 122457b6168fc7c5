"""Pictures of noise as files."""

import io

import numpy as np
from PIL import Image


def noise(width, height, seed=0):
    """Random pixels, uint8 [height, width, 3]."""
    shape = (height, width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def encoded(pixels, kind="PNG", **options):
    """The bytes of a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()
