"""A small run with a result, and photographs, for the tests of what uses a model."""

import jax
import jax.numpy as jnp
import numpy as np

from qface_jax import models
from qface_jax.data_pipelines.tools.sample_images import drawn_faces
from qface_jax.evals import results
from qface_jax.inference.embedder import Embedder
from qface_jax.runs import run_folder
from qface_jax.runs.checkpoint import Checkpoints
from qface_jax.sharded import parallel
from qface_jax.train.evaluation import Evaluation
from qface_jax.train.state import TrainState
from support.image_files import encoded, noise
from support.small_run import small

STEP = 3
PEOPLE, EACH = 5, 3


def write_run(path, *, evaluated=True):
    """A run folder with a checkpoint of fresh weights, and an evaluation of it."""
    config = small("eval.synthetic.pairs=40")
    run_folder.open_or_create(path, config, num_classes=12, data={"images": 48})
    # Optimising code that runs once takes longer than all else here.
    quick = {"xla_backend_optimization_level": 1}
    init = jax.jit(models.build(config.model).init, compiler_options=quick)
    backbone, stats = init(jax.random.key(0))
    state = TrainState(
        step=jnp.int32(STEP),
        params={"backbone": backbone, "head": {}},
        # With these the features are not huge.
        stats=jax.tree.map(lambda leaf: 4 * leaf, stats),
        aux={"margin": ()},
        opt_state=(),
        bad_step=jnp.int32(-1),
    )
    with Checkpoints(path, keep=1) as checkpoints:
        checkpoints.save(STEP, state)
    if not evaluated:
        return path
    run = run_folder.read(path)
    embedder = Embedder.from_run(run, "last", parallel.make_mesh())
    checkpoint = {"path": str(path), "which": "last", "step": STEP}
    for result in Evaluation(run.config).run(embedder, checkpoint=checkpoint):
        results.write(path, result)
    return path


def write_people(folder):
    """A folder of images for each of five people, and a file that is no image."""
    faces = drawn_faces(PEOPLE)
    for person, face in enumerate(faces):
        (folder / f"p{person}").mkdir(parents=True)
        for number in range(EACH):
            grain = noise(112, 112, seed=10 * person + number) // 24
            file = folder / f"p{person}" / f"{number}.png"
            file.write_bytes(encoded(np.minimum(face, 230) + grain))
    (folder / "p0" / "text.jpg").write_bytes(b"no picture")
    return folder
