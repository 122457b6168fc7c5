"""Margin softmax over all identities: one view of each image."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int
from ml_collections import ConfigDict

from qface_jax.configs.document import options_of
from qface_jax.losses import brisque
from qface_jax.losses.margins.margin import (
    BRISQUE,
    NORM,
    PROBABILITY,
    Margin,
    build_margin,
)
from qface_jax.losses.vectors import unit
from qface_jax.objectives.objective import Objective, ObjectiveEntry, Outcome
from qface_jax.sharded import classifier
from qface_jax.sharded.class_sample import ClassSample, sample_classes
from qface_jax.sharded.classifier import CENTRES

READS = ("loss", "classifier")  # groups of the config that a classifier reads


class Judged(NamedTuple):
    """What margin softmax says of each row of a batch.

    Attributes:
        losses: Loss of each row, [b].
        cos_target: Cosine to the own centre, [b], without gradient.
        cos_nearest: Cosine to the nearest other centre, [b], without gradient.
        correct: Whether the own centre is the nearest, [b].
        norms: ||features||, [b].
        values: What the margin adapts to, `Margin.proxy`, [b].
    """

    losses: Float[Array, " b"]
    cos_target: Float[Array, " b"]
    cos_nearest: Float[Array, " b"]
    correct: Bool[Array, " b"]
    norms: Float[Array, " b"]
    values: Float[Array, " b"]


def raw_norms(features: Float[Array, "b d"]) -> Float[Array, " b"]:
    """Returns ||features|| with its gradient, [b]; finite at a zero feature."""
    return jnp.sqrt(jnp.maximum(jnp.sum(features**2, axis=-1), 1e-12))


def margin_losses(
    features: Float[Array, "b d"],
    centres: Float[Array, "c d"],
    labels: Int[Array, " b"],
    state: Any,
    *,
    margin: Margin,
    spec: classifier.ClassifierSpec,
    sample: ClassSample | None = None,
    images: jax.Array | None = None,
) -> tuple[Judged, Any]:
    """Returns the margin softmax loss of each row, and the margin's new state.

    loss_i = softplus(log sum_{j != y} e^{s f_neg(cos_j)} - s f(cos_y)) + penalty

    Args:
        features: Raw output of the backbone, [b, d].
        centres: Raw class centres, [c, d].
        labels: int32 [b]; -1 marks a row that does not count.
        state: The margin's state before this step.
        margin: Margin function.
        spec: Classifier.
        sample: Where `centres` are sampled rows: which classes they are.
        images: That the features are of, as the backbone sees them, pixels within
            0..255, [b, h, w, 3]; read where the margin adapts to BRISQUE.

    Raises:
        ValueError: the margin needs the images, and they are not given, or it adapts to
            something else than a `Margin.proxy` can be.
    """
    norms, z = raw_norms(features), unit(features)
    cos_y = classifier.own_cosine(spec, z, centres, labels, sample)
    compare = partial(classifier.similarity, spec, z, centres, labels, sample=sample)
    # The state that the other classes are compared in is that of this step, but for a
    # probability: it is of the comparison, and leaves the other cosines as they are.
    similar = compare(state) if margin.proxy == PROBABILITY else None
    values = _proxy_values(margin.proxy, norms, images, similar, spec.scale)
    state = jax.lax.stop_gradient(margin.update(state, cos_y, values, labels >= 0))
    similar = compare(state) if similar is None else similar
    logit_y = spec.scale * margin.target(similar.cos_y, values, state)
    losses = jax.nn.softplus(similar.log_negatives - logit_y) + margin.penalty(norms)
    nearest = jax.lax.stop_gradient(similar.nearest)
    return Judged(losses, cos_y, nearest, cos_y > nearest, norms, values), state


def _proxy_values(proxy, norms, images, similar, scale):
    """What a margin adapts to, of each row, [b]."""
    if proxy == NORM:
        return norms
    if proxy == PROBABILITY:
        return classifier.own_probability(similar, scale)
    if proxy != BRISQUE:
        raise ValueError(
            f"margin: got proxy {proxy!r}, expected {NORM}, {BRISQUE} or {PROBABILITY}"
        )
    if images is None:
        raise ValueError(
            "margin: it adapts to BRISQUE, but the objective gives no images; pass "
            "images= to margin_losses, or set the margin's proxy to norm"
        )
    return brisque.quality(images)


def mean_over(
    values: Float[Array, " b"], counts: Bool[Array, " b"]
) -> Float[Array, ""]:
    """Returns the mean of the rows that count, []; 0 where none does."""
    count = jnp.maximum(jnp.sum(counts, dtype=values.dtype), 1.0)
    return jnp.sum(jnp.where(counts, values, 0.0)) / count


def describe(
    judged: Judged, valid: Bool[Array, " b"], margin: Margin, state: Any
) -> dict:
    """Returns scalars for the log, without gradient.

    Args:
        judged: From `margin_losses`.
        valid: Rows that have a label, [b].
        margin: Margin function.
        state: State of the margin, already updated with this batch.
    """
    metrics = {
        "accuracy": mean_over(judged.correct.astype(judged.norms.dtype), valid),
        "cos_target": mean_over(judged.cos_target, valid),
        "norm": mean_over(judged.norms, valid),
        **margin.describe(state, judged.values),
    }
    return jax.lax.stop_gradient(metrics)


def margin_loss(
    features: Float[Array, "b d"],
    centres: Float[Array, "c d"],
    labels: Int[Array, " b"],
    state: Any,
    *,
    margin: Margin,
    spec: classifier.ClassifierSpec,
    sample: ClassSample | None = None,
    images: jax.Array | None = None,
) -> tuple[Float[Array, ""], Any, dict]:
    """Returns the mean of `margin_losses` over the rows that have a label.

    Arguments as there.

    Returns:
        The loss [], the new state, and scalars for the log.
    """
    judged, state = margin_losses(
        features,
        centres,
        labels,
        state,
        margin=margin,
        spec=spec,
        sample=sample,
        images=images,
    )
    valid = labels >= 0
    loss = mean_over(judged.losses, valid)
    return loss, state, describe(judged, valid, margin, state)


class Head(NamedTuple):
    """The classifier of a config, for the objectives that have one.

    Attributes:
        margin: Margin function.
        spec: Classifier.
        rows: Rows of the centre matrix, padding included.
        init: key -> head parameters: {CENTRES: [rows, d]}.
        sample: As in `Objective`.
    """

    margin: Margin
    spec: classifier.ClassifierSpec
    rows: int
    init: Any
    sample: Any


def build_head(config: ConfigDict, num_classes: int, mesh: Mesh) -> Head:
    """Returns the classifier that a config describes.

    Args:
        config: The whole config, validated.
        num_classes: Identities of the training set.
        mesh: Mesh of all devices.
    """
    margin = build_margin(
        config.loss.margin, options_of(config, "margin", config.loss.margin)
    )
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
            dtype=jnp.dtype(config.classifier.dtype),
        )
        return {CENTRES: centres}

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

    return Head(margin, spec, rows, init, sample)


def _build(
    config: ConfigDict, options: dict, num_classes: int, mesh: Mesh
) -> Objective:
    head = build_head(config, num_classes, mesh)

    def init(key):
        return head.init(key), {"margin": head.margin.init()}

    def loss(encode, params, batch, context):
        features, stats = encode.train(params["backbone"], batch["images"])
        value, margin_state, metrics = margin_loss(
            features,
            params["head"][CENTRES],
            batch["labels"],
            context.state["margin"],
            margin=head.margin,
            spec=head.spec,
            sample=context.sample,
            images=batch["images"],
        )
        return value, Outcome(stats, {"margin": margin_state}, metrics)

    return Objective(init, loss, sample=head.sample, class_rows=(CENTRES,))


OBJECTIVE = ObjectiveEntry(_build, reads=READS)
