"""Which pixels a model looks at: its attention, and its class activation maps.

"attention", only of a model with a perceptibility attention: the weight in (0, 1) that
it gives each pixel of the last feature map A.

"activation", Grad-CAM of A: max(0, sum over k of a_k A_k), a_k the mean over the pixels
of the gradient of y with respect to A_k. y is the cosine between the feature and the
class centre nearest to it; of a model without centres half the feature's squared norm,
whose gradient asks in the same way what made the feature as it is. The map is zero
everywhere where the mean gradient points away from what is there, which is often so
where the network weighs each pixel of A by itself, as MobileFaceNet does.

"contribution", HiResCAM of A: max(0, sum over k of g_k A_k), g_k the gradient itself,
pixel by pixel. Behind the map of a convolutional network the feature is linear, so
before the cut at 0 this is each pixel's own part in y, to first order.

References:
    Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra, "Grad-CAM: Visual Explanations
    from Deep Networks via Gradient-based Localization", ICCV 2017, equations 1 and 2.
    Draelos, Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of
    convolutional neural networks", 2020.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict

from qface_jax import models
from qface_jax.losses.vectors import unit
from qface_jax.models import heads
from qface_jax.models.heads import ATTENTION
from qface_jax.runs.checkpoint import load_parts
from qface_jax.runs.run_folder import Run
from qface_jax.sharded import parallel, streamed_logits
from qface_jax.sharded.classifier import CENTRES
from qface_jax.sharded.parallel import DATA

AT_ONCE = 64  # pictures that are mapped together, about
ATTENTION_MAP, ACTIVATION_MAP = "attention", "activation"
CONTRIBUTION_MAP = "contribution"
_CHUNK = 4096  # class centres that a device looks at together
_PARTS = {name: f"params/head/{name}" for name in (CENTRES, ATTENTION)}

Maps = dict[str, Float[np.ndarray, "n h w"]]


def face_maps(
    run: Run, images: UInt8[np.ndarray, "n 112 112 3"], *, which: str = "last"
) -> Maps:
    """Returns the maps of a run's checkpoint over pictures.

    Args:
        run: Any run, an imported model too.
        images: Pictures, RGB; the same on every host.
        which: "last" or "best".

    Returns:
        As `maps_of`.

    Raises:
        ConfigError: The run has no such checkpoint, or its network no feature map.
        UserError: The checkpoint is damaged.
    """
    parts = ("params/backbone", "stats", *_PARTS.values())
    _, saved = load_parts(run.path, which, parts)
    mesh = parallel.make_mesh()
    shard = parallel.shardings(mesh)
    head, centres = {}, saved[_PARTS[CENTRES]]
    if isinstance(centres, np.ndarray):  # {} where there are none
        head[CENTRES] = _cut_in_rows(centres, mesh)
    if saved[_PARTS[ATTENTION]]:
        head[ATTENTION] = parallel.replicate(saved[_PARTS[ATTENTION]], shard)
    backbone, stats = (parallel.replicate(saved[part], shard) for part in parts[:2])
    params = {"backbone": backbone, "head": head}
    return maps_of(run.config, params, stats, images, mesh=mesh)


def maps_of(
    config: ConfigDict,
    params: dict[str, Any],
    stats: Any,
    images: UInt8[np.ndarray, "n 112 112 3"],
    *,
    mesh: Mesh,
) -> Maps:
    """Returns the maps of a model that lies on the devices, over pictures.

    Args:
        config: Of the run: its `model` and `recognizability` groups.
        params: "backbone", and "head" with what there is of it.
        stats: Running statistics, which are used as they are.
        images: Pictures, RGB; the same on every host.
        mesh: Mesh over which the class centres are cut.

    Returns:
        Name -> one map of each picture, not scaled; h and w of the last feature map.

    Raises:
        ConfigError: The network has no feature map.
        ValueError: There is no picture.
    """
    if not len(images):
        raise ValueError("no picture to map; expected at least one")
    shard = parallel.shardings(mesh)
    run = jax.jit(
        partial(_maps, config=config, mesh=mesh), out_shardings=shard.replicated
    )
    size = -(-min(len(images), AT_ONCE) // mesh.size) * mesh.size
    head = {name: params["head"][name] for name in _PARTS if name in params["head"]}
    batches = []
    for first in range(0, len(images), size):
        batch = np.asarray(images[first : first + size])
        missing = ((0, size - len(batch)), (0, 0), (0, 0), (0, 0))
        rows = _cut_in_rows(np.pad(batch, missing), mesh)
        maps = jax.device_get(run(params["backbone"], stats, head, rows))
        batches.append({name: each[: len(batch)] for name, each in maps.items()})
    order = (ATTENTION_MAP, ACTIVATION_MAP, CONTRIBUTION_MAP)
    names = [name for name in order if name in batches[0]]
    return {name: np.concatenate([maps[name] for maps in batches]) for name in names}


def _cut_in_rows(rows, mesh):
    """Puts an array that every host has on the devices, filled up with zeros."""
    missing = -len(rows) % mesh.size
    rows = np.pad(rows, ((0, missing), *[(0, 0)] * (rows.ndim - 1)))
    return jax.make_array_from_callback(
        rows.shape, parallel.shardings(mesh).rows, lambda index: rows[index]
    )


def _maps(backbone, stats, head, images, *, config, mesh):
    model = models.build(config.model)
    pixels = models.to_float(images)

    shape = models.feature_map_shape(config.model)
    output, _ = model.trunk(backbone, stats, pixels, train=False, key=None)
    feature_map = output.map

    def neck(feature_map):
        moved = output._replace(map=feature_map)
        return model.neck(backbone, stats, moved, train=False, key=None)[0]

    features, pull_back = jax.vjp(neck, feature_map)
    if CENTRES in head:
        nearest = nearest_centres(features, head[CENTRES], mesh=mesh)
        towards = jax.grad(lambda f: jnp.sum(unit(f) * nearest))(features)
    else:
        towards = features
    (gradient,) = pull_back(towards)
    maps = {
        ACTIVATION_MAP: class_activation(feature_map, gradient),
        CONTRIBUTION_MAP: contribution(feature_map, gradient),
    }
    if ATTENTION in head:
        group = config.recognizability
        attention = heads.perceptibility_attention(
            shape,
            config.model.embedding_dim,
            reduction=group.reduction,
            kernel_side=group.kernel_side,
        )
        _, maps[ATTENTION_MAP] = attention.apply(head[ATTENTION], feature_map)
    return maps


def class_activation(
    feature_map: Float[Array, "b h w c"], gradient: Float[Array, "b h w c"]
) -> Float[Array, "b h w"]:
    """Returns Grad-CAM: max(0, sum over k of a_k A_k), a_k the mean gradient of A_k."""
    weights = gradient.mean((1, 2))
    return jax.nn.relu(jnp.einsum("bhwk,bk->bhw", feature_map, weights))


def contribution(
    feature_map: Float[Array, "b h w c"], gradient: Float[Array, "b h w c"]
) -> Float[Array, "b h w"]:
    """Returns HiResCAM: max(0, sum over k of g_k A_k), g_k the gradient of A_k."""
    return jax.nn.relu(jnp.einsum("bhwk,bhwk->bhw", feature_map, gradient))


def nearest_centres(
    features: Float[Array, "b d"], centres: Float[Array, "c d"], *, mesh: Mesh
) -> Float[Array, "b d"]:
    """Returns the direction of the class centre nearest to each feature, of norm 1.

    Each device walks over its own centres in chunks, in float32, so neither [b, c]
    cosines nor a copy of the centres exist.

    Args:
        features: [b, d], cut in rows.
        centres: [c, d], cut in rows, of any floating type; a zero row is no class.
        mesh: Mesh over which both are cut.

    Returns:
        [b, d], cut in rows; zeros where there is no class.
    """

    def shard(features, w):
        z = streamed_logits.gather(features)

        def body(index, carry):
            top, directions = carry
            start, fresh = streamed_logits.chunk_bounds(index, w.shape[0], _CHUNK)
            # Keeps XLA from widening all centres ahead of the loop.
            narrow, start = lax.optimization_barrier((w, start))
            rows = lax.dynamic_slice_in_dim(narrow, start, fresh.shape[0])
            rows = rows.astype(jnp.float32)
            inverse = streamed_logits.inverse_norms(rows)
            units = rows * inverse[:, None]
            exact = lax.Precision.HIGHEST
            cos = jnp.einsum("bd,cd->bc", z, units, precision=exact)
            cos = jnp.where(inverse[None, :] > 0.0, cos, streamed_logits.ABSENT)
            largest = jnp.max(cos, axis=1)
            nearer = (largest > top)[:, None]
            directions = jnp.where(nearer, units[jnp.argmax(cos, axis=1)], directions)
            return jnp.maximum(top, largest), directions

        number, _ = streamed_logits.chunk_count_and_size(w.shape[0], _CHUNK)
        start = (jnp.full(len(z), streamed_logits.ABSENT), jnp.zeros_like(z))
        top, directions = lax.fori_loop(0, number, body, start)
        device = jnp.argmax(lax.all_gather(top, DATA), axis=0)
        nearest_here = (device == lax.axis_index(DATA))[:, None]
        directions = lax.psum(jnp.where(nearest_here, directions, 0.0), DATA)
        return streamed_logits.slice_rows(directions, features)

    return jax.shard_map(
        shard, mesh=mesh, in_specs=(P(DATA), P(DATA)), out_specs=P(DATA),
        check_vma=False,
    )(features, centres)  # fmt: skip
