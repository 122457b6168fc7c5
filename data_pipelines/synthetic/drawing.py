"""Draws a batch of faces from their parameters: the canvas and the order of layers."""

from typing import NamedTuple

import numpy as np

from qface_jax.data_pipelines.synthetic import features, surface
from qface_jax.data_pipelines.synthetic.parameters import Parameters

SIDE = 112


class Canvas(NamedTuple):
    """A batch of pictures being painted, with the face's own coordinates.

    Attributes:
      colour: float32 [3, b, h, w] in 0..1, painted in place.
      x: float32 [b, h, w], pixels to the right of the middle of the upright face.
      y: float32 [b, h, w], pixels below it.
    """

    colour: np.ndarray
    x: np.ndarray
    y: np.ndarray

    def window(self, top: int, bottom: int, left: int, right: int) -> "Canvas":
        """A view of these rows and columns, so that a small part is cheap to paint."""
        rows, columns = slice(top, bottom), slice(left, right)
        return Canvas(
            self.colour[:, :, rows, columns],
            self.x[:, rows, columns],
            self.y[:, rows, columns],
        )

    def rows(self, which: np.ndarray) -> "Canvas":
        """A copy of the pictures `which`; write it back with `put_rows`."""
        return Canvas(self.colour[:, which], self.x[which], self.y[which])

    def put_rows(self, which: np.ndarray, part: "Canvas") -> None:
        """Takes over what was painted on a copy made by `rows`."""
        self.colour[:, which] = part.colour

    def paint(self, colour: np.ndarray, cover: np.ndarray) -> None:
        """Lays `colour` [3, b, 1, 1] over the pictures where `cover` [b, h, w] is."""
        layer = colour - self.colour
        layer *= cover
        self.colour[...] += layer


def draw_faces(parameters: Parameters) -> np.ndarray:
    """Draws the faces.

    Args:
      parameters: of `face_parameters`, for b pictures.

    Returns:
      uint8 [b, 112, 112, 3], RGB.
    """
    p = parameters
    canvas = _blank(p)
    skin, hair = surface.skin_colour(p), surface.hair_colour(p)
    surface.paint_behind(canvas, p, skin, hair)
    head = surface.paint_head(canvas, p, skin)
    features.paint_nose(canvas, p, skin)
    features.paint_beard(canvas, p, skin, hair, head)
    features.paint_mouth(canvas, p, skin)
    features.paint_eyes(canvas, p, skin, hair)
    surface.paint_hair(canvas, p, hair)
    surface.light(canvas, p)
    features.paint_occlusions(canvas, p)
    return surface.expose(canvas, p)


def _blank(p: Parameters) -> Canvas:
    """The background, and where every pixel lies on the face."""
    place = (np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2)[None]
    px, py = place[:, None, :] - p["shift_x"], place[:, :, None] - p["shift_y"]
    cos = (np.cos(p["roll"]) / p["zoom"]).astype(np.float32)
    sin = (np.sin(p["roll"]) / p["zoom"]).astype(np.float32)
    x = cos * px + sin * py
    y = cos * py - sin * px
    # Four by four random colours, stretched linearly: walls, shadows, trees.
    at = np.linspace(0, 3, SIDE, dtype=np.float32)
    stretch = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(4, dtype=np.float32)))
    wall = 0.1 + 0.8 * p["background"]
    wall = 0.5 * wall + 0.5 * wall.mean(axis=1, keepdims=True)
    colour = np.matmul(np.matmul(stretch, wall.swapaxes(0, 1)), stretch.T)
    return Canvas(np.ascontiguousarray(colour), x, y)
