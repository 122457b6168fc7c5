"""Training in a loop of one's own, on arrays of one's own.

    python examples/own_loop.py PEOPLE STEPS [KEY=VALUE ...]

PEOPLE is a folder with a folder of aligned faces (112 x 112 px) for each person, as
.png. KEY=VALUE changes the config, as in optim.learning_rate=0.02.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import qface_jax


def read(folder):
    """Returns images uint8 [n, 112, 112, 3] and labels [n]."""
    images, labels = [], []
    for label, person in enumerate(sorted(Path(folder).iterdir())):
        for file in sorted(person.glob("*.png")):
            images.append(np.asarray(Image.open(file).convert("RGB")))
            labels.append(label)
    return np.stack(images), np.array(labels)


folder, steps, *overrides = sys.argv[1:]
images, labels = read(folder)
state, step = qface_jax.make_step("demo", labels.max() + 1, overrides=overrides)
rng = np.random.default_rng(0)
for number in range(1, int(steps) + 1):
    rows = rng.integers(0, len(images), step.config.data.batch_size)
    batch = images[rows]
    mirrored = rng.random(len(rows)) < 0.5
    batch[mirrored] = batch[mirrored, :, ::-1]
    state, metrics = step(state, batch, labels[rows])
    if number == 1 or number % 10 == 0:
        print(f"step {number}: loss {float(metrics['loss']):.3f}")

model = step.model(state)
cosines = model.similarity(images, images)
same = labels[:, None] == labels[None, :]
print(f"mean cosine, one person: {cosines[same].mean():.3f}")
print(f"mean cosine, two people: {cosines[~same].mean():.3f}")
