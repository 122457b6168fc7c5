"""The loss of a training step, built from the config: kernels, weights and states.

An objective is a pair of pure functions, so that a later one (contrastive, octuplet,
recognizability) is one more builder in `OBJECTIVES` and reads its own config group.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from qface_jax import classifier
from qface_jax.class_sample import ClassSample, sample_classes
from qface_jax.losses.margin_family import MARGINS, Margin


class Objective(NamedTuple):
    """What is minimised.

    Attributes:
        init: (key) -> (head parameters, state); both pytrees of arrays.
        sample: (batch, key) -> the classes that this step sees (`ClassSample`), or
            None for all of them.
        loss: (features [b, d], head, batch, state, sample) -> (loss [], state,
            metrics); `head` holds the rows of `sample`.
    """

    init: Callable[..., Any]
    sample: Callable[..., Any]
    loss: Callable[..., Any]


def unit(features: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """Returns features / ||features||, [b, d]; a zero feature stays zero."""
    squared = jnp.sum(features**2, axis=-1, keepdims=True)
    return features * jax.lax.rsqrt(jnp.maximum(squared, 1e-12))


def raw_norms(features: Float[Array, "b d"]) -> Float[Array, " b"]:
    """Returns ||features|| with its gradient, [b]; finite at a zero feature."""
    return jnp.sqrt(jnp.maximum(jnp.sum(features**2, axis=-1), 1e-12))


def margin_loss(
    features: Float[Array, "b d"],
    centres: Float[Array, "c d"],
    labels: Int[Array, " b"],
    state: Any,
    *,
    margin: Margin,
    spec: classifier.ClassifierSpec,
    sample: ClassSample | None = None,
) -> tuple[Float[Array, ""], Any, dict]:
    """Returns the mean margin softmax loss over the rows that have a label.

    loss_i = softplus(log sum_{j != y} e^{s f_neg(cos_j)} - s f(cos_y)) + penalty

    Args:
        features: Raw output of the backbone, [b, d].
        centres: Raw class centres, [c, d].
        labels: int32 [b]; -1 marks a row that does not count.
        state: The margin's state before this step.
        margin: Margin function.
        spec: Classifier.
        sample: Where `centres` are sampled rows: which classes they are.

    Returns:
        The loss [], the new state, and scalars for the log.
    """
    valid = labels >= 0
    count = jnp.maximum(jnp.sum(valid, dtype=features.dtype), 1.0)

    def mean(values):
        return jnp.sum(jnp.where(valid, values, 0.0)) / count

    norms, z = raw_norms(features), unit(features)
    cos_y = classifier.own_cosine(spec, z, centres, labels, sample)
    state = jax.lax.stop_gradient(margin.update(state, cos_y, norms, valid))
    similar = classifier.similarity(spec, z, centres, labels, state, sample)
    logit_y = spec.scale * margin.target(similar.cos_y, norms, state)
    loss = mean(
        jax.nn.softplus(similar.log_negatives - logit_y) + margin.penalty(norms)
    )
    metrics = {
        "accuracy": mean(
            (spec.scale * cos_y > similar.max_negative).astype(features.dtype)
        ),
        "cos_target": mean(cos_y),
        "norm": mean(norms),
        **margin.describe(state, norms),
    }
    return loss, state, jax.lax.stop_gradient(metrics)


def _classification(config: ConfigDict, num_classes: int, mesh: Mesh) -> Objective:
    group = config.loss[config.loss.margin]
    margin = MARGINS[config.loss.margin](**group.to_dict())
    spec = classifier.ClassifierSpec(
        negative=margin.negative,
        scale=config.loss.scale,
        num_classes=num_classes,
        chunk=config.classifier.chunk,
        mesh=mesh,
    )
    rows = classifier.padded_classes(num_classes, config.classifier.pad_to)

    def init(key):
        centres = classifier.init_centres(
            key,
            rows,
            config.model.embedding_dim,
            mesh=mesh,
            blocks=config.classifier.pad_to,
            num_classes=num_classes,
            dtype=classifier.DTYPES[config.classifier.dtype],
        )
        return {"centres": centres}, {"margin": margin.init()}

    def sample(batch, key):
        if config.classifier.sample_rate == 1.0:
            return None
        return sample_classes(
            batch["labels"],
            key,
            mesh=mesh,
            rows=rows,
            num_classes=num_classes,
            blocks=config.classifier.pad_to,
            rate=config.classifier.sample_rate,
        )

    def loss(features, head, batch, state, sample):
        value, margin_state, metrics = margin_loss(
            features,
            head["centres"],
            batch["labels"],
            state["margin"],
            margin=margin,
            spec=spec,
            sample=sample,
        )
        return value, {"margin": margin_state}, metrics

    return Objective(init, sample, loss)


OBJECTIVES: dict[str, Callable[[ConfigDict, int, Mesh], Objective]] = {
    "classification": _classification,
}


def build(config: ConfigDict, num_classes: int, mesh: Mesh) -> Objective:
    """Returns the objective that `config.objective` names.

    Args:
        config: The whole config, validated.
        num_classes: Identities of the training set.
        mesh: Mesh of all devices.
    """
    return OBJECTIVES[config.objective](config, num_classes, mesh)
