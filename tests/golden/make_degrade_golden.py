"""Makes degrade_drawn.npz: a drawn face through TensorFlow's own resizing.

python tests/golden/make_degrade_golden.py
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

from qface_jax.data_pipelines.synthetic import faces as synthetic_faces
from qface_jax.data_pipelines.synthetic import parameters as face_parameters

RESOLUTIONS = (7, 14, 28, 56)


def main() -> None:
    domain = face_parameters.EVALUATION_DOMAIN
    image = synthetic_faces.draw(0, domain, np.array([3]), np.array([1]))[0]
    arrays = {"image": image}
    for side in RESOLUTIONS:
        small = tf.image.resize(image, [side, side], "bicubic", antialias=True)
        large = tf.image.resize(small, [112, 112], "bicubic", antialias=True)
        degraded = tf.cast(tf.clip_by_value(large, 0, 255), tf.uint8)
        arrays[f"degraded_{side}"] = degraded.numpy()
    np.savez_compressed(Path(__file__).with_name("degrade_drawn.npz"), **arrays)


if __name__ == "__main__":
    main()
