"""What a synthetic face is drawn from: numbers of the person and of the picture.

Every number is a uniform draw between two bounds, so a face is a short vector. A
person's vector follows from (seed, domain, identity), a picture's from (seed, domain,
identity, image); nothing depends on what else is drawn beside it.
"""

import numpy as np

# Domains keep identities apart that carry the same number: training people and
# evaluation people can never be the same, whatever the seeds.
TRAINING_DOMAIN = 0
EVALUATION_DOMAIN = 1

# Lengths are pixels of a 112 px picture, angles radians, the rest shares. Most of a
# person is in differences of one to three pixels: they vanish below some 28 px, and
# with them the recognition.
IDENTITY_RANGES = {
    "head_width": (33.5, 39.5),  # half of it, at the eyes
    "skull_height": (46.0, 52.0),
    "chin_height": (45.0, 52.0),
    "jaw_squareness": (-0.15, 0.75),
    "jaw_taper": (-0.05, 0.45),
    "ear_size": (6.5, 10.5),
    "ear_height": (-6.0, 4.0),
    "ear_stick_out": (-2.0, 2.5),
    "melanin": (0.1, 0.9),
    "skin_redness": (-0.03, 0.04),
    "hair_tone": (0.0, 1.0),
    "hair_red": (0.0, 1.0),
    "hair_gray": (0.0, 1.0),
    "hair_volume": (0.5, 6.0),
    "hair_top": (2.0, 7.0),
    "hairline_height": (-40.0, -26.0),
    "hairline_round": (-6.0, 9.0),
    "hairline_part": (-9.0, 9.0),
    "hairline_waves": (0.0, 3.5),
    "hairline_frequency": (0.06, 0.22),
    "sideburn": (2.0, 26.0),
    "eye_spacing": (14.4, 19.2),  # from the middle of the face to the pupil
    "eye_height": (-7.5, -2.5),
    "eye_width": (5.6, 8.8),
    "eye_upper": (2.2, 5.0),
    "eye_lower": (1.3, 3.4),
    "eye_skew": (-0.45, 0.45),
    "eye_slant": (-0.24, 0.24),
    "iris_radius": (2.4, 3.6),
    "iris_hue": (0.0, 1.0),
    "iris_light": (0.0, 1.0),
    "lash": (0.5, 1.9),
    "lid_crease": (1.2, 4.2),
    "lid_crease_strength": (0.0, 0.75),
    "eye_bag": (0.0, 0.22),
    "socket_depth": (0.0, 0.22),
    "brow_gap": (6.2, 11.5),
    "brow_length": (6.5, 11.5),
    "brow_offset": (-2.2, 2.8),
    "brow_thickness": (0.7, 2.9),
    "brow_arch": (-0.6, 4.2),
    "brow_slope": (-0.3, 0.22),
    "brow_taper": (-0.2, 0.75),
    "brow_density": (0.45, 0.95),
    "nose_tip": (11.0, 19.5),
    "nose_width": (4.6, 9.4),
    "nose_bridge": (1.6, 4.4),
    "nose_relief": (0.06, 0.34),
    "nose_tip_size": (2.6, 5.6),
    "nostril_size": (0.9, 2.1),
    "nostril_flare": (-0.6, 1.2),
    "mouth_height": (26.5, 34.5),
    "mouth_width": (8.5, 14.8),
    "lip_upper": (1.1, 4.0),
    "lip_lower": (1.6, 5.2),
    "lip_bow": (0.0, 0.75),
    "lip_curve": (-1.6, 2.2),
    "lip_red": (0.0, 1.0),
    "philtrum": (0.0, 0.16),
    "cheek_bone": (-0.08, 0.14),
    "cheek_height": (4.0, 14.0),
    "chin_cleft": (-0.12, 0.2),
    "fold_strength": (-0.1, 0.24),  # from the nose to the corners of the mouth
    "fold_spread": (1.0, 6.0),
    "forehead_lines": (-0.16, 0.2),
    "forehead_line_height": (-26.0, -19.0),
    "forehead_line_gap": (3.0, 5.5),
    "frown_line": (-0.15, 0.2),
    "beard": (-0.9, 0.75),  # below 0: none
    "moustache": (-0.9, 0.85),
    "beard_height": (14.0, 34.0),
    "beard_tone": (0.6, 1.1),
    "freckles": (-0.3, 0.2),
    "mole_darkness": (0.25, 0.75),
}
NUM_MOLES = 4
NUM_FRECKLES = 22

NUISANCE_RANGES = {
    "yaw": (-1.0, 1.0),
    "pitch": (-1.0, 1.0),
    "roll": (-0.1, 0.1),
    "zoom": (0.91, 1.07),
    "shift_x": (-3.0, 3.0),
    "shift_y": (-3.0, 3.0),
    "smile": (-1.0, 3.4),
    "mouth_open": (-4.0, 4.5),
    "teeth": (0.0, 1.0),
    "mouth_stretch": (0.93, 1.08),
    "eye_open": (0.72, 1.08),
    "gaze_x": (-1.3, 1.3),
    "gaze_y": (-0.5, 0.6),
    "brow_raise": (-1.0, 1.6),
    "frown": (-0.06, 0.07),
    "lipstick": (-1.2, 0.6),
    "shave": (0.0, 1.0),
    "hair_push": (-11.0, 7.0),
    "hair_swell": (-2.5, 6.0),
    "hair_length": (0.0, 1.0),  # loose, or tied back
    "hair_comb": (-8.0, 8.0),
    "hair_dye": (-0.35, 0.35),
    "tan": (-0.2, 0.2),
    "hair_light": (0.75, 1.3),
    "light_x": (-0.85, 0.85),
    "light_y": (-0.7, 0.35),
    "ambient": (0.42, 0.85),
    "exposure": (0.68, 1.22),
    "light_warmth": (-0.2, 0.2),
    "light_tint": (-0.11, 0.11),
    "haze": (-0.1, 0.12),
    "grain": (0.002, 0.014),
    "cloth_red": (0.05, 0.9),
    "cloth_green": (0.05, 0.9),
    "cloth_blue": (0.05, 0.9),
    "glasses": (0.0, 1.0),
    "glasses_size": (8.5, 11.5),
    "glasses_roundness": (0.0, 1.0),
    "glasses_tone": (0.02, 0.5),
    "glasses_shade": (-0.6, 0.5),
    "hat": (0.0, 1.0),
    "hat_height": (-31.0, -22.0),
    "bar": (0.0, 1.0),
    "bar_place": (0.0, 1.0),
    "bar_tone": (0.05, 0.9),
    "texture_row": (0.0, 1.0),
    "texture_column": (0.0, 1.0),
}
NUM_BACKGROUND = 4 * 4 * 3
GLASSES_SHARE = 0.16
HAT_SHARE = 0.07
BAR_SHARE = 0.08

Parameters = dict[str, np.ndarray]


def face_parameters(
    seed: int, domain: int, identities: np.ndarray, images: np.ndarray
) -> Parameters:
    """Draws the numbers that the given pictures of the given people are made of.

    Args:
      seed: of the whole set, at least 0.
      domain: TRAINING_DOMAIN or EVALUATION_DOMAIN.
      identities: int [b], at least 0.
      images: int [b], at least 0: which picture of that person.

    Returns:
      float32 [b, 1, 1] for every name of IDENTITY_RANGES and NUISANCE_RANGES, and
      `moles` [b, NUM_MOLES, 3], `freckle_places` [b, NUM_FRECKLES, 2] and `background`
      [b, 3, 4, 4], all in 0..1.
    """
    person_count = len(IDENTITY_RANGES) + 3 * NUM_MOLES + 2 * NUM_FRECKLES
    picture_count = len(NUISANCE_RANGES) + NUM_BACKGROUND
    person = np.empty((len(identities), person_count), np.float32)
    picture = np.empty((len(identities), picture_count), np.float32)
    for row, (identity, image) in enumerate(zip(identities, images, strict=True)):
        key = [seed, domain, int(identity)]
        person[row] = np.random.default_rng(key).random(person_count, np.float32)
        # The 1 keeps a picture's key from ever being the key of a person.
        key = [seed, domain, int(identity), 1, int(image)]
        picture[row] = np.random.default_rng(key).random(picture_count, np.float32)
    parameters = _scaled(IDENTITY_RANGES, person) | _scaled(NUISANCE_RANGES, picture)
    rest = person[:, len(IDENTITY_RANGES) :]
    parameters["moles"] = rest[:, : 3 * NUM_MOLES].reshape(-1, NUM_MOLES, 3)
    parameters["freckle_places"] = rest[:, 3 * NUM_MOLES :].reshape(-1, NUM_FRECKLES, 2)
    parameters["background"] = picture[:, len(NUISANCE_RANGES) :].reshape(-1, 3, 4, 4)
    return parameters


def _scaled(ranges: dict[str, tuple[float, float]], uniform: np.ndarray) -> Parameters:
    """Maps the first columns of `uniform` [b, n] to the ranges, as [b, 1, 1] each."""
    return {
        name: (low + (high - low) * uniform[:, column])[:, None, None]
        for column, (name, (low, high)) in enumerate(ranges.items())
    }
