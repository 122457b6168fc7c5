"""The small parts of a synthetic face: eyes, brows, nose, mouth, beard, things worn."""

import numpy as np

from qface_jax.data_pipelines.synthetic import parameters, relief
from qface_jax.data_pipelines.synthetic.parameters import Parameters
from qface_jax.data_pipelines.synthetic.surface import (
    PITCH_PIXELS,
    YAW_PIXELS,
    cover,
    mix,
    rgb,
)


def _moved(canvas, p: Parameters, *, depth: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of what lies `depth` in front of the ears (nose 1) as it turns."""
    x = canvas.x - YAW_PIXELS * depth * p["yaw"]
    y = canvas.y - PITCH_PIXELS * depth * p["pitch"]
    return x, y


def paint_eyes(canvas, p: Parameters, skin: np.ndarray, hair: np.ndarray) -> None:
    """Both eyes with their lids and brows."""
    for side, (left, right) in ((-1, (14, 62)), (1, (50, 98))):
        part = canvas.window(22, 74, left, right)
        x, y = _moved(part, p, depth=0.6)
        # The eye turned away from us is nearer to the nose, and narrower.
        near = 1 - 0.09 * side * p["yaw"]
        x = (side * x - p["eye_spacing"] * near) / near
        y = y - p["eye_height"]
        _paint_eye(part.window(12, 52, 0, 48), p, skin, x[:, 12:], y[:, 12:], side)
        _paint_brow(part.window(0, 40, 0, 48), p, hair, x[:, :40], y[:, :40])


def _paint_eye(part, p: Parameters, skin, x, y, side: int) -> None:
    """One eye; x runs outward from the pupil, y down."""
    y = y + p["eye_slant"] * x
    across = x / p["eye_width"]
    arch = 1 - across * across
    lid = y + p["eye_upper"] * p["eye_open"] * arch * (1 + p["eye_skew"] * across)
    floor = y - p["eye_lower"] * arch
    opening = np.clip(0.5 + lid, 0, 1)
    opening *= np.clip(0.5 - floor, 0, 1)
    within = np.clip(arch * 4 + 0.6, 0, 1)

    crease = np.abs(lid + p["lid_crease"])
    part.paint(
        skin * 0.55, p["lid_crease_strength"] * within * np.clip(1.1 - crease, 0, 1)
    )
    part.paint(rgb(0.9, 0.88, 0.86), opening)
    gaze_x = x - side * p["gaze_x"]
    gaze_y = y - p["gaze_y"] + 0.35
    ring = np.sqrt(gaze_x * gaze_x + gaze_y * gaze_y)
    iris = mix(rgb(0.26, 0.14, 0.06), rgb(0.5, 0.36, 0.14), p["iris_light"])
    pale = mix(rgb(0.22, 0.44, 0.62), rgb(0.34, 0.5, 0.3), 3 * p["iris_hue"] % 1.0)
    iris = np.where(p["iris_hue"] > 0.62, pale, iris)
    outer = opening * cover(ring - p["iris_radius"])
    part.paint(iris * 0.6, outer)
    part.paint(iris * 1.15, opening * cover(ring - p["iris_radius"] + 0.9))
    part.paint(rgb(0.03, 0.03, 0.03), opening * cover(ring - 0.42 * p["iris_radius"]))
    glint_x = x - side * (p["gaze_x"] + p["light_x"])
    glint = np.sqrt(glint_x * glint_x + (gaze_y + 1.1) * (gaze_y + 1.1))
    part.paint(rgb(1.0, 1.0, 1.0), 0.9 * opening * cover(glint - 0.75))
    # Shadow of the lid, then the lashes along it.
    part.paint(rgb(0.1, 0.07, 0.06), 0.35 * opening * np.clip(1.6 - lid, 0, 1))
    lashes = np.clip(p["lash"] + 0.4 - np.abs(lid + 0.3), 0, 1)
    part.paint(rgb(0.1, 0.07, 0.06), 0.85 * within * lashes)
    part.paint(skin * 0.6, 0.45 * within * np.clip(0.9 - np.abs(floor), 0, 1))


def _paint_brow(part, p: Parameters, hair, x, y) -> None:
    """One brow; x runs outward from the pupil, y down."""
    x = x - p["brow_offset"]
    across = x / p["brow_length"]
    middle = y + p["brow_gap"] + p["brow_raise"] + p["brow_slope"] * x
    middle += p["brow_arch"] * (1 - across * across) - 1.5
    thick = p["brow_thickness"] * (1 - 0.5 * p["brow_taper"] * (across + 1))
    shape = cover(np.abs(middle) - thick, width=1.4)
    shape *= cover(np.abs(x) - p["brow_length"], width=2.5)
    shape *= p["brow_density"]
    part.paint(hair * 0.62, shape)


def paint_nose(canvas, p: Parameters, skin: np.ndarray) -> None:
    """Nostrils and the wings of the nose; its bridge and tip are in the relief."""
    part = canvas.window(54, 90, 30, 82)
    x, y = _moved(part, p, depth=0.92)
    y = y - p["nose_tip"]
    width = p["nose_width"]
    away = np.abs(x)
    wing = np.abs((away - 0.72 * width) / (0.36 * width)) ** 2
    wing += ((y - 0.6) * (1 / 3.4)) ** 2
    wing = np.abs(np.sqrt(wing) - 1) * 3.0
    outside = np.clip((away - 0.74 * width) * 0.6, 0, 1) * np.clip(3 - np.abs(y), 0, 1)
    part.paint(
        skin * 0.55, 1.5 * p["nose_relief"] * outside * np.clip(1.2 - wing, 0, 1)
    )
    hole_x = (away - 0.5 * width) / (1.25 * p["nostril_size"])
    hole_y = (y - 2.6 - 0.12 * p["nostril_flare"] * away) / (0.72 * p["nostril_size"])
    hole = np.sqrt(hole_x * hole_x + hole_y * hole_y) - 1
    part.paint(skin * 0.26, 0.85 * cover(hole * p["nostril_size"], width=1.2))
    base = np.abs(y - 4.0 + 0.05 * away * away / width)
    base = np.clip(1.1 - base, 0, 1) * cover(away - 0.62 * width, width=2.0)
    part.paint(skin * 0.6, 0.55 * base)


def paint_mouth(canvas, p: Parameters, skin: np.ndarray) -> None:
    """Lips, the line between them, and teeth when the mouth is open."""
    part = canvas.window(70, 104, 28, 84)
    x, y = _moved(part, p, depth=0.75)
    width = p["mouth_width"] * p["mouth_stretch"] + 0.35 * p["smile"]
    across = x / width
    square = across * across
    arch = np.maximum(1 - square, 0)
    gap = np.maximum(p["mouth_open"], 0) * 0.5 * arch
    middle = y - p["mouth_height"] + (p["smile"] + p["lip_curve"]) * (square - 0.3)
    bow = np.maximum(1 - 14 * square, 0)
    upper = gap + p["lip_upper"] * arch * (1 - 0.45 * p["lip_bow"] * bow)
    lower = gap + p["lip_lower"] * arch * (1.1 - 0.3 * square)
    lips = np.clip(0.5 + middle + upper, 0, 1) * np.clip(0.5 - middle + lower, 0, 1)
    lips *= np.clip((1 - square) * 6, 0, 1)
    natural = skin * mix(rgb(0.93, 0.72, 0.7), rgb(0.88, 0.5, 0.52), p["lip_red"])
    stick = np.maximum(p["lipstick"], 0)
    colour = mix(natural, rgb(0.72, 0.12, 0.2), stick)
    part.paint(colour * 0.9, lips)
    part.paint(colour * 1.14, 0.7 * lips * np.clip(middle - gap - 0.3, 0, 1))
    inside = np.clip(0.5 + middle + gap, 0, 1) * np.clip(0.5 - middle + gap, 0, 1)
    inside *= np.clip((1 - square) * 6, 0, 1) * (p["mouth_open"] > 0)
    part.paint(rgb(0.2, 0.07, 0.07), inside)
    teeth = inside * np.clip(0.8 - middle + 0.4 * gap, 0, 1) * (p["teeth"] > 0.3)
    part.paint(rgb(0.92, 0.9, 0.86), teeth)
    line = np.clip(1.0 - np.abs(middle), 0, 1) * (p["mouth_open"] <= 0)
    part.paint(skin * 0.36, 0.8 * line * np.clip((1.06 - square) * 5, 0, 1))


def paint_beard(
    canvas, p: Parameters, skin: np.ndarray, hair: np.ndarray, head: np.ndarray
) -> None:
    """Beard along the jaw and moustache, for those who have them."""
    has = (p["beard"] > 0) | (p["moustache"] > 0)
    which = np.flatnonzero(has.ravel())
    if not which.size:
        return
    some = {name: value[which] for name, value in p.items()}
    part = canvas.rows(which).window(56, 112, 6, 106)
    x, y = _moved(part, some, depth=0.6)
    rough = 0.75 + 0.25 * relief.texture(some, "streak")[:, 56:112, 6:106]
    rise = 0.022 * x * x
    beard = np.clip((y - some["beard_height"] - 8 + rise) * 0.3, 0, 1)
    lips = np.sqrt((x / 15) ** 2 + ((y - some["mouth_height"]) / 6.5) ** 2)
    beard *= np.clip((lips - 1) * 3, 0, 1) * np.maximum(some["beard"], 0)
    lip_top = y - some["mouth_height"] + some["lip_upper"] + 2.4
    strip = cover(np.abs(lip_top + 0.02 * x * x - 0.4) - 1.9, width=1.6)
    strip *= cover(np.abs(x) - some["mouth_width"] - 1.5, width=4.0)
    strip *= np.maximum(some["moustache"], 0)
    alpha = np.maximum(beard, strip) * rough * some["shave"]
    alpha *= head[which, 56:112, 6:106]
    # Never lighter than the skin in its own shadow, or it reads as a mask.
    tone = np.minimum(hair[:, which] * 0.8, skin[:, which] * 0.62)
    part.paint(tone * some["beard_tone"], alpha)
    canvas.colour[:, which, 56:112, 6:106] = part.colour


def paint_occlusions(canvas, p: Parameters) -> None:
    """Glasses, hats and bars, on some of the pictures."""
    for name, share, painter in (
        ("glasses", parameters.GLASSES_SHARE, _paint_glasses),
        ("hat", parameters.HAT_SHARE, _paint_hat),
        ("bar", parameters.BAR_SHARE, _paint_bar),
    ):
        which = np.flatnonzero(p[name].ravel() < share)
        if which.size:
            part = canvas.rows(which)
            painter(part, {key: value[which] for key, value in p.items()})
            canvas.put_rows(which, part)


def _paint_glasses(part, p: Parameters) -> None:
    """Two frames, the bridge between them, and sometimes dark glass."""
    x, y = _moved(part, p, depth=0.7)
    away = np.abs(x)
    y = y - p["eye_height"] - 1
    size = p["glasses_size"]
    u, v = (away - p["eye_spacing"]) / size, y / (size * 0.78)
    round_ring = np.sqrt(u * u + v * v)
    square_ring = np.maximum(np.abs(u), np.abs(v))
    ring = (mix(square_ring, round_ring, p["glasses_roundness"]) - 1) * size
    tone = rgb(1.0, 0.95, 0.9) * p["glasses_tone"]
    part.paint(rgb(0.08, 0.07, 0.07), np.maximum(p["glasses_shade"], 0) * cover(ring))
    part.paint(tone, cover(np.abs(ring) - 0.75))
    bridge = np.maximum(np.abs(y + 1.5) - 0.7, away - p["eye_spacing"] + size)
    part.paint(tone, cover(bridge))
    temple = np.maximum(np.abs(y + 2) - 0.7, p["eye_spacing"] + size - away)
    part.paint(tone, cover(np.maximum(temple, away - p["head_width"])))


def _paint_hat(part, p: Parameters) -> None:
    """A cap down to the forehead, with a darker rim."""
    cloth = np.stack([p["cloth_blue"], p["cloth_red"], p["cloth_green"]])
    edge = part.y - p["hat_height"] + 0.006 * part.x * part.x
    wide = np.abs(part.x) - p["head_width"] - 5
    part.paint(cloth, cover(np.maximum(edge, wide)))
    part.paint(cloth * 0.55, cover(np.maximum(np.abs(edge) - 1.6, wide)))


def _paint_bar(part, p: Parameters) -> None:
    """A post, a rail or a corner of something in front of the camera."""
    place = p["bar_place"]
    across = np.where(place < 0.5, part.x, part.y)
    middle = np.where(place % 0.5 < 0.25, -1.0, 1.0) * (30 + 60 * (place % 0.25))
    tone = p["bar_tone"] * rgb(1.0, 0.97, 0.93)
    part.paint(tone, cover(np.abs(across - middle.astype(np.float32)) - 6))
