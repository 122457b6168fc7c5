"""Shading of the skin as a sum of soft spots, and the textures of skin and hair."""

import functools

import numpy as np

from qface_jax.data_pipelines.synthetic.parameters import Parameters

_SIDE = 112
_BANK = 256  # side of the texture a window is cut from
_WIDEST = 2.2  # a spot reaches this many times its size


def relief(p: Parameters) -> np.ndarray:
    """Relative change of the skin's brightness, [b, 112, 112], around 0.

    Each spot is a product of a bump in x and one in y, so that all spots of a picture
    are one matrix product.
    """
    spots = _feature_spots(p) + _paired_spots(p) + _marks(p)
    columns = [np.concatenate(column, axis=1) for column in zip(*spots, strict=True)]
    x, y, width, height, strength = columns
    # From the upright face to the picture: turn, zoom, shift.
    cos, sin = np.cos(p["roll"])[:, 0], np.sin(p["roll"])[:, 0]
    zoom = p["zoom"][:, 0]
    at_x = (cos * x - sin * y) * zoom + p["shift_x"][:, 0]
    at_y = (sin * x + cos * y) * zoom + p["shift_y"][:, 0]
    place = np.arange(_SIDE, dtype=np.float32) - (_SIDE - 1) / 2
    across = _bump((place - at_x[:, :, None]) / (_WIDEST * width[:, :, None]))
    down = _bump((place - at_y[:, :, None]) / (_WIDEST * height[:, :, None]))
    down *= strength[:, :, None]
    return np.matmul(down.swapaxes(1, 2), across)


def _bump(t: np.ndarray) -> np.ndarray:
    """(1 - t^2)^2 within -1..1: a bell without the cost of an exponential."""
    t = np.maximum(1 - t * t, 0)
    return t * t


def _spot(p: Parameters, x, y, width, height, strength, depth=0.6):
    """One spot per picture; x and y on the face, `depth` in front of the ears."""
    ones = np.ones_like(p["yaw"][:, 0])

    def column(value):
        value = value[:, 0] if isinstance(value, np.ndarray) else value
        return (value * ones).astype(np.float32)

    x = column(x) + 6 * depth * p["yaw"][:, 0]
    y = column(y) + 4 * depth * p["pitch"][:, 0]
    return x, y, column(width), column(height), column(strength)


def _feature_spots(p: Parameters) -> list[tuple]:
    """Spots in the middle of the face."""
    tip, width = p["nose_tip"], p["nose_width"]
    strength = p["nose_relief"]
    bridge = (tip + p["eye_height"]) * 0.5
    lines = np.maximum(p["forehead_lines"], 0)
    line = p["forehead_line_height"]
    mouth = p["mouth_height"]
    return [
        _spot(p, 0, bridge, p["nose_bridge"], 9, 0.8 * strength, 0.9),
        _spot(p, 0, tip - 1, p["nose_tip_size"], 3.4, 0.9 * strength, 1.0),
        _spot(p, 0, tip + 4.2, 0.75 * width, 1.6, -1.1 * strength, 0.9),
        _spot(p, 0, (tip + mouth) * 0.5 + 1, 1.2, 3.5, -p["philtrum"], 0.75),
        _spot(p, 0, mouth + 8.5, 6, 1.8, -0.13, 0.7),
        _spot(p, 0, mouth + 14, 7, 4.5, 0.06, 0.7),
        _spot(p, 0, mouth + 13.5, 0.8, 3, -np.maximum(p["chin_cleft"], 0), 0.7),
        _spot(p, 0, -24, 17, 9, 0.06, 0.5),
        _spot(p, 0, line, 15, 0.75, -lines),
        _spot(p, 0, line + p["forehead_line_gap"], 13, 0.75, -lines),
        _spot(p, 0, line - p["forehead_line_gap"], 11, 0.75, -0.8 * lines),
    ]


def _paired_spots(p: Parameters) -> list[tuple]:
    """Spots that lie on both sides of the face."""
    tip, width = p["nose_tip"], p["nose_width"]
    fold = -np.maximum(p["fold_strength"], 0)
    frown = -np.maximum(p["frown_line"] + p["frown"], 0)
    eye_x, eye_y = p["eye_spacing"], p["eye_height"]
    spots = []
    for side in (-1, 1):
        inner = 0.45 * eye_x * side
        shadow = -0.5 * p["nose_relief"] * (1 + side * p["light_x"])
        spots += [
            _spot(p, side * eye_x, eye_y - 3, 8, 5, -p["socket_depth"]),
            _spot(p, side * eye_x * 0.97, eye_y + 5.5, 5.5, 1.2, -p["eye_bag"]),
            _spot(p, inner, eye_y + 1, 2.2, 5, shadow),
            _spot(p, side * 0.55 * width, tip - 7, 1.8, 6, shadow, 0.85),
            _spot(p, side * 1.02 * width, tip + 0.5, 0.9, 2.6, 2 * shadow, 0.85),
            _spot(p, side * 22, p["cheek_height"], 7, 5, p["cheek_bone"]),
            _spot(p, side * 3.2, eye_y - 6, 0.6, 3, frown),
        ]
        # The fold runs from the wing of the nose past the corner of the mouth.
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            x = width + 1.5 + share * (p["fold_spread"] + 3)
            y = tip + 1 + share * (p["mouth_height"] - tip + 1)
            spots.append(_spot(p, side * x, y, 0.9, 2.2, fold, 0.75))
    return spots


def _marks(p: Parameters) -> list[tuple]:
    """Moles and freckles, at places that belong to the person."""
    shift_x = 6 * 0.6 * p["yaw"][:, 0]
    shift_y = 4 * 0.6 * p["pitch"][:, 0]
    moles, dots = p["moles"], p["freckle_places"]
    size = 0.55 + 0.75 * moles[:, :, 2]
    # Three in four of the places carry a mole.
    dark = -p["mole_darkness"][:, 0] * (moles[:, :, 2] > 0.25)
    freckle = -np.maximum(p["freckles"], 0)[:, 0] * np.ones_like(dots[:, :, 0])
    dot_size = np.full_like(freckle, 0.6)
    return [
        (
            56 * moles[:, :, 0] - 28 + shift_x,
            66 * moles[:, :, 1] - 24 + shift_y,
            size,
            size,
            dark.astype(np.float32),
        ),
        (
            50 * dots[:, :, 0] - 25 + shift_x,
            22 * dots[:, :, 1] + 1 + shift_y,
            dot_size,
            dot_size,
            freckle,
        ),
    ]


def texture(p: Parameters, kind: str) -> np.ndarray:
    """A window of a random texture, [b, 112, 112], within -1..1.

    Args:
      p: parameters; the place of the window is drawn per picture.
      kind: "grain", "smooth" or "streak".
    """
    bank = _bank()[kind]
    span = _BANK - _SIDE
    rows = (p["texture_row"].ravel() * span).astype(int)
    columns = (p["texture_column"].ravel() * span).astype(int)
    return np.stack(
        [
            bank[row : row + _SIDE, column : column + _SIDE]
            for row, column in zip(rows, columns, strict=True)
        ]
    )


@functools.cache
def _bank() -> dict[str, np.ndarray]:
    """Textures that all pictures share; each takes another part."""
    rng = np.random.default_rng(20260)
    white = rng.random((_BANK, _BANK), np.float32) * 2 - 1

    def blurred(source: np.ndarray, size: int, axes: tuple[int, ...]) -> np.ndarray:
        for axis in axes:
            source = sum(np.roll(source, step, axis) for step in range(size)) / size
        return source / np.abs(source).max()

    return {
        "grain": white,
        "smooth": blurred(white, 3, (0, 1, 0, 1)),
        "streak": blurred(blurred(white, 9, (0, 0)), 2, (1,)),
    }
