"""The large parts of a synthetic face: background, head, hair, relief, light."""

import numpy as np

from qface_jax.data_pipelines.synthetic import relief
from qface_jax.data_pipelines.synthetic.parameters import Parameters

# How far, in pixels, what lies in the plane of the face moves as the head turns by
# the largest yaw and pitch; parts in front of it move more, parts behind it less.
YAW_PIXELS = 6.0
PITCH_PIXELS = 4.0


def cover(distance: np.ndarray, *, width: float = 1.0) -> np.ndarray:
    """Share of a pixel inside a shape, from the signed distance to its edge in px."""
    return np.clip(0.5 - distance * (1.0 / width), 0.0, 1.0)


def mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Goes from `first` to `second` as `share` goes from 0 to 1."""
    return first + (second - first) * share


def rgb(red: float, green: float, blue: float) -> np.ndarray:
    """A colour [3, 1, 1, 1] that broadcasts against a batch."""
    return np.array([red, green, blue], np.float32).reshape(3, 1, 1, 1)


def skin_colour(p: Parameters) -> np.ndarray:
    """Colour of the skin, [3, b, 1, 1]."""
    light, middle, dark = (
        rgb(0.95, 0.79, 0.69),
        rgb(0.8, 0.58, 0.44),
        rgb(0.4, 0.26, 0.19),
    )
    melanin = np.clip(p["melanin"] + p["tan"], 0, 1)
    colour = np.where(
        melanin < 0.5,
        mix(light, middle, 2 * melanin),
        mix(middle, dark, 2 * melanin - 1),
    )
    return colour * (1 + p["skin_redness"] * rgb(1.0, -0.6, -0.9))


def hair_colour(p: Parameters) -> np.ndarray:
    """Colour of the hair, [3, b, 1, 1]: mostly dark, some fair, red or gray."""
    tone = np.clip(p["hair_tone"] + p["hair_dye"], 0, 1) ** 2
    colour = mix(rgb(0.09, 0.07, 0.06), rgb(0.8, 0.63, 0.38), tone)
    colour = mix(colour, rgb(0.5, 0.22, 0.1), np.clip(p["hair_red"] * 5 - 4, 0, 1))
    gray = np.clip(p["hair_gray"] * 5 - 4, 0, 1)
    return mix(colour, rgb(0.7, 0.69, 0.68), gray) * p["hair_light"]


def paint_behind(canvas, p: Parameters, skin: np.ndarray, hair: np.ndarray) -> None:
    """Hair behind the head, neck, clothes and ears."""
    canvas.paint(hair * 0.8, cover(_hair_distance(canvas, p)))
    low = canvas.window(70, 112, 0, 112)
    neck = np.maximum(np.abs(low.x) - 0.62 * p["head_width"], 20 - low.y)
    low.paint(skin * 0.72, cover(neck))
    cloth = np.stack([p["cloth_red"], p["cloth_green"], p["cloth_blue"]])
    neckline = p["chin_height"] + 3 - low.y - 0.22 * np.abs(low.x)
    low.paint(cloth, cover(neckline, width=1.5))
    for side, (left, right) in ((-1, (0, 40)), (1, (72, 112))):
        part = canvas.window(24, 84, left, right)
        reach = p["head_width"] + p["ear_stick_out"] - 1 + side * 3.5 * p["yaw"]
        x = (side * part.x - reach) / (0.5 * p["ear_size"])
        y = (part.y - p["ear_height"] - 1) / p["ear_size"]
        ring = np.sqrt(x * x + y * y)
        part.paint(skin * 0.93, cover((ring - 1) * 4))
        part.paint(skin * 0.6, 0.5 * cover((ring - 0.55) * 4, width=2.0))


def paint_head(canvas, p: Parameters, skin: np.ndarray) -> np.ndarray:
    """The head with its relief; returns its cover [b, 112, 112]."""
    up, down = np.minimum(canvas.y, 0), np.maximum(canvas.y, 0)
    up = up / p["skull_height"]
    up *= up
    fall = down / (p["chin_height"] + 1.5 * p["pitch"])
    square = fall * fall
    square *= (1 - p["jaw_squareness"]) + p["jaw_squareness"] * square
    across = (canvas.x - 1.2 * p["yaw"]) / p["head_width"]
    across *= across
    across *= 1 + p["jaw_taper"] * fall
    distance = np.sqrt(across + up + square)
    distance -= 1
    distance *= 38
    inside = cover(distance)
    height = relief.relief(p)
    height += relief.texture(p, "smooth") * 0.02
    layer = skin * (1 + height)
    layer -= canvas.colour
    layer *= inside
    canvas.colour[...] += layer
    return inside


def paint_hair(canvas, p: Parameters, hair: np.ndarray) -> None:
    """Hair in front of the forehead and down the temples."""
    top = canvas.window(0, 84, 0, 112)
    across = (top.x - 1.2 * p["yaw"]) / p["head_width"]
    square = across * across
    wave = top.x * p["hairline_frequency"]
    wave = np.abs(wave - np.round(wave)) * p["hairline_waves"]
    line = p["hairline_height"] + 0.5 * p["hair_push"] + wave
    line += (
        p["hairline_round"] * square + (p["hairline_part"] + p["hair_comb"]) * across
    )
    square *= square
    square *= square
    line += p["sideburn"] * square
    front = cover(top.y - line, width=2.0)
    front *= cover(_hair_distance(top, p))
    streaks = 1 + 0.5 * relief.texture(p, "streak")[:, 0:84]
    layer = hair * streaks
    layer -= top.colour
    layer *= front
    top.colour[...] += layer


def _hair_distance(canvas, p: Parameters) -> np.ndarray:
    """Signed distance to the outline of all hair; bald heads have none outside."""
    swell = p["hair_volume"] + p["hair_swell"]
    across = canvas.x / (p["head_width"] + swell)
    across *= across
    # On two pictures in five it falls past the frame, else it ends near the ears.
    length = np.where(p["hair_length"] > 0.6, 200.0, 8 + 40 * p["hair_length"])
    top = 1 / (p["skull_height"] + p["hair_top"])
    along = canvas.y * np.where(canvas.y < 0, top, 1 / length).astype(np.float32)
    along *= along
    return (np.sqrt(across + along) - 1) * 42


def light(canvas, p: Parameters) -> None:
    """Shades the picture as a ball under one lamp."""
    nx, ny = canvas.x * (1 / 66), canvas.y * (1 / 72)
    nz = np.sqrt(np.maximum(1 - nx * nx - ny * ny, 0.06))
    lamp_z = np.sqrt(1.05 - 0.5 * (p["light_x"] ** 2 + p["light_y"] ** 2))
    shade = p["light_x"] * nx + p["light_y"] * ny + lamp_z * nz
    shade = p["ambient"] + (1 - p["ambient"]) * 1.25 * np.maximum(shade, 0)
    tint = np.stack(
        [
            1 + p["light_warmth"] + 0 * p["light_tint"],
            1 + p["light_tint"],
            1 - p["light_warmth"],
        ]
    )
    canvas.colour[...] *= (shade * p["exposure"]) * tint


def expose(canvas, p: Parameters) -> np.ndarray:
    """Haze and sensor noise, then whole numbers: uint8 [b, 112, 112, 3]."""
    colour = canvas.colour
    haze = np.abs(p["haze"])
    colour *= 255 * (1 - haze)
    colour += 255 * haze * 0.6 + relief.texture(p, "grain") * (510 * p["grain"])
    np.clip(colour, 0, 255, out=colour)
    return np.ascontiguousarray(colour.astype(np.uint8).transpose(1, 2, 3, 0))
