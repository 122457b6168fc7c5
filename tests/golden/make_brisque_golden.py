"""Records BRISQUE scores and features of drawn images by the PyPI package `brisque`.

Needs an environment of its own with brisque 0.2.0, opencv-python-headless and
numpy<2.4; not part of the tests. Run as `python tests/golden/make_brisque_golden.py`;
it writes `brisque.npz` beside itself.
"""

from pathlib import Path

import brisque
import cv2
import numpy as np
import skimage.color


def drawn() -> np.ndarray:
    """Returns images of textures with noise, blur and a black border, uint8."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:112, 0:112] / 112.0
    images = []
    for number in range(8):
        image = np.full((112, 112, 3), 128.0)
        for _ in range(40):
            centre, size = rng.uniform(0, 1, 2), rng.uniform(0.02, 0.3)
            inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < size**2
            image[inside] = 0.5 * image[inside] + 0.5 * rng.uniform(0, 255, 3)
        if number == 7:  # no shape fits: the package's search runs away
            image += 60 * np.sin(2 * np.pi * 5 * (x + y))[..., None]
        image += rng.normal(0, 2 + 3 * (number % 4), image.shape)
        if number % 3 == 1:
            image = cv2.GaussianBlur(image, (0, 0), 0.5 + number / 5)
        image = np.clip(image, 0, 255).astype(np.uint8)
        if number == 3:
            image[:, :30] = 0
        images.append(image)
    return np.stack(images)


def main():
    model, images = brisque.BRISQUE(url=False), drawn()
    features = []
    for image in images:
        grey = skimage.color.rgb2gray(image)
        small = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_CUBIC)
        parts = [model.calculate_brisque_features(part) for part in (grey, small)]
        features.append([np.asarray(value).item() for value in np.concatenate(parts)])
    np.savez_compressed(
        Path(__file__).with_name("brisque.npz"),
        images=images,
        features=np.array(features),
        scores=np.array([model.score(image) for image in images]),
    )


if __name__ == "__main__":
    main()
