"""Compares two photographs of faces by an exported model: onnxruntime, no qface_jax.

    qface export RUN face.onnx
    python examples/deploy_onnx.py face.onnx a.jpg b.jpg

The photographs are aligned faces, of any size.
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image

model, *paths = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
faces = [Image.open(path).convert("RGB").resize((112, 112)) for path in paths]
images = np.stack([np.asarray(face) for face in faces])  # uint8 [n, 112, 112, 3]
embedding, norm = session.run(["embedding", "norm"], {"images": images})
print("similarity:", round(float(embedding[0] @ embedding[1]), 4))
print("quality:", *np.round(norm, 2))
