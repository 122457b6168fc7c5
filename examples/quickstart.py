"""A model in use, step by step.

    python examples/quickstart.py MODEL PEOPLE

MODEL is the folder of a run, or a file such as model.onnx; PEOPLE is a folder with a
folder of aligned faces (112 x 112 px) for each person. The parts between lines `# %%`
can be run one by one in an editor or a notebook.
"""

# %% A model, from a run or a file of weights
import sys

import numpy as np

import qface_jax

model_path, people = sys.argv[1:]
model = qface_jax.load(model_path)
print(model)

# %% Features of all images of a folder; what cannot be used is said, and stops nothing
faces = model.embed(people)
print(f"{faces.ok.sum()} of {len(faces)} images, features of {faces.features.shape[1]}")
for name, status, message in zip(
    faces.names, faces.statuses, faces.messages, strict=True
):
    if status != "ok":
        print(f"  {name}: {status}, {message}")

# %% The same of arrays: uint8 [n, h, w, 3], RGB
pixels = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
print("cosine of noise and noise:", model.similarity(pixels[:1], pixels[1:])[0, 0])

# %% How well each face can be recognised: larger is better
worst, best = np.argsort(np.where(faces.ok, faces.norms, np.nan))[
    [0, faces.ok.sum() - 1]
]
print(f"norm {faces.norms[worst]:.3g} of {faces.names[worst]}, the least recognisable")
print(f"norm {faces.norms[best]:.3g} of {faces.names[best]}, the most recognisable")

# %% Similarities within a person and between people
cosines = model.similarity(faces, faces)
person = np.array([name.split("/")[0] for name in faces.names])
same = person[:, None] == person[None, :]
other = ~np.eye(len(faces), dtype=bool)
print("mean cosine, one person:", np.nanmean(cosines[same & other]).round(3))
print("mean cosine, two people:", np.nanmean(cosines[~same]).round(3))
