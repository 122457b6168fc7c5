"""Face crops from landmarks: the template, the similarity transform, the warp.

A point is (x, y) in px, the middle of the first pixel of a picture being (0, 0). A face
has 5 points: the eye on the picture's left, the other eye, the nose, the mouth's left
and right corner; or 4, with the middle of the mouth in place of its corners.
"""

import numpy as np
import tensorflow as tf

from qface_jax.data_pipelines.degradation.steps import rounded

# In results: what placed the faces that `similarity` and `aligned` place.
ALIGNER = "least-squares similarity to the ArcFace template, bilinear, zero border"
# insightface, `face_align.py`: the crop of 112 px.
_TEMPLATE = (
    (38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655),
    (70.7299, 92.2041),
)  # fmt: skip
_NARROW, _WIDE = 112, 128  # px; the wide crop shows 8 px more at each side
_UPRIGHT = 0.5  # cosine of 60 degrees, between "mouth below eyes" and downward


def template(size: int = _NARROW, points: int = 5) -> np.ndarray:
    """Returns where the points of a face lie in a crop, float64 [points, 2].

    Args:
      size: side of the crop, px: a multiple of 112; or a multiple of 128, which shows
        more of what is left and right of the face.
      points: 5, or 4 with the middle of the mouth in place of its corners.

    Raises:
      ValueError: another size, or another number of points.
    """
    if points not in (4, 5):
        raise ValueError(f"points: got {points}, must be 4 or 5")
    if size > 0 and size % _NARROW == 0:
        scale, shift = size / _NARROW, 0.0
    elif size > 0 and size % _WIDE == 0:
        scale, shift = size / _WIDE, 8.0
    else:
        raise ValueError(
            f"size: got {size}, must be a multiple of {_NARROW} or {_WIDE} px"
        )
    places = (np.asarray(_TEMPLATE) + np.array([shift, 0.0])) * scale
    if points == 4:
        return np.concatenate([places[:3], places[3:].mean(axis=0, keepdims=True)])
    return places


def similarity(landmarks: np.ndarray, size: int = _NARROW) -> np.ndarray:
    """Returns the turn, scale and shift that bring landmarks nearest to the template.

    In the plane, with points as complex numbers, this is the regression w = a z + b,
    least squares. It never mirrors.

    Args:
      landmarks: in px of the picture, [..., 5 or 4, 2].
      size: side of the crop, px, as of `template`.

    Returns:
      float64 [..., 2, 3], from px of the picture to px of the crop; NaN where the
      landmarks fix no transform: `fault` says why.

    Raises:
      ValueError: another shape or size.

    References:
      S. Umeyama, Least-Squares Estimation of Transformation Parameters Between Two
      Point Patterns, PAMI 1991.
    """
    points = _checked(landmarks)
    target = template(size, points.shape[-2]) @ [1, 1j]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        source = points @ [1, 1j]
        middle = source.mean(axis=-1, keepdims=True)
        spread = source - middle
        factor = np.sum(spread.conj() * (target - target.mean()), axis=-1)
        factor = factor / np.sum(np.abs(spread) ** 2, axis=-1)
        shift = target.mean() - factor * middle[..., 0]
    matrix = np.stack(
        [
            np.stack([factor.real, -factor.imag, shift.real], axis=-1),
            np.stack([factor.imag, factor.real, shift.imag], axis=-1),
        ],
        axis=-2,
    )
    fixed = np.isfinite(matrix).all(axis=(-2, -1)) & (_distinct(points) > 1)
    # Two clouds of points can be so unlike that the nearest transform is a point.
    fixed &= np.abs(np.where(fixed, factor, 0)) > 1e-9
    return np.where(fixed[..., None, None], matrix, np.nan)


def fault(landmarks: np.ndarray) -> str | None:
    """Says what is wrong with the landmarks of one face; None: nothing.

    That the eyes are not above the mouth does not keep `similarity` from its answer:
    heads do hang sideways. Where most faces of a set are so, x and y are exchanged, or
    the points are in another order.

    Args:
      landmarks: in px of the picture, [5 or 4, 2].

    Raises:
      ValueError: another shape.
    """
    points = _checked(landmarks)
    if points.ndim != 2:
        raise ValueError(f"landmarks: got {points.shape}, expected those of one face")
    got = " ".join(f"{value:g}" for value in points.ravel())
    if not np.isfinite(points).all():
        return f"landmarks: got {got}, expected finite numbers"
    if np.isnan(similarity(points)).any():
        return f"landmarks: got {got}, expected distinct points of a face"
    down = points[3:].mean(axis=0) - points[:2].mean(axis=0)
    if down[1] <= _UPRIGHT * np.hypot(*down):
        return (
            f"landmarks: got {got}, expected the eyes above the mouth: x and y of the "
            "eye on the left, the other eye, the nose, the mouth"
        )
    return None


def aligned(image: tf.Tensor, matrix: tf.Tensor, size: int = _NARROW) -> tf.Tensor:
    """Warps a picture to a crop: bilinear, black outside the picture, rounded.

    Pixel (x, y) of the crop shows the picture at the inverse of `matrix` of (x, y).

    Args:
      image: uint8 [h, w, 3].
      matrix: [2, 3], as of `similarity`; a NaN in it makes the crop black.
      size: side of the crop, px.

    Returns:
      uint8 [size, size, 3].
    """
    matrix = tf.cast(matrix, tf.float64)
    usable = tf.reduce_all(tf.math.is_finite(matrix))
    matrix = tf.where(usable, matrix, tf.eye(2, 3, dtype=tf.float64))
    inverse = tf.linalg.inv(matrix[:, :2])
    shift = -tf.linalg.matvec(inverse, matrix[:, 2])
    rows = tf.concat([inverse, shift[:, None]], axis=1)
    transform = tf.concat([tf.reshape(rows, [6]), tf.zeros(2, tf.float64)], axis=0)
    # Of whole numbers the operator would cut the fractions off.
    crop = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(image, tf.float32)[None],
        transforms=tf.cast(transform, tf.float32)[None],
        output_shape=[size, size],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )[0]
    crop = tf.where(usable, rounded(crop), tf.zeros([], tf.uint8))
    return tf.ensure_shape(crop, [size, size, 3])


def _checked(landmarks: np.ndarray) -> np.ndarray:
    points = np.asarray(landmarks, np.float64)
    if points.ndim < 2 or points.shape[-2:] not in ((5, 2), (4, 2)):
        raise ValueError(
            f"landmarks: got {points.shape}, expected [..., 5, 2] or [..., 4, 2]"
        )
    return points


def _distinct(points: np.ndarray) -> np.ndarray:
    """Returns 1 where all points of a face are the same, else more, [...]."""
    return 1 + np.any(points != points[..., :1, :], axis=-1).sum(axis=-1)
