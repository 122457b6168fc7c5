"""QGFace: recognisable views are classified, the other pairs are contrasted.

References:
    QGFace: Quality-Guided Joint Training For Mixed-Quality Face Recognition, eq. 1-5.
"""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from qface_jax.losses import norm_stats, quality_partition
from qface_jax.losses.contrast import positive_cosine
from qface_jax.losses.vectors import unit
from qface_jax.objectives import classification
from qface_jax.objectives.classification import mean_over
from qface_jax.objectives.objective import Objective
from qface_jax.sharded import classifier, feature_queue, sharded_queue
from qface_jax.sharded.feature_queue import FeatureQueue
from qface_jax.sharded.sharded_queue import QueueSpec

ALL = "none"  # as `qgface.partition`: every view is classified, every pair contrasted
# As `qgface.queue`: which views enter, and which are classified. The averaged encoder
# of `momentum` has no gradient, so its view cannot be classified; only its keys enter.
BOTH = (0, 1)
ENTERING = {"none": (), "batch": BOTH, "momentum": (1,), "proxy": BOTH}
CLASSIFIED = {"none": BOTH, "batch": BOTH, "momentum": (0,), "proxy": BOTH}
KEPT_IN_STATE = ("momentum", "proxy")


def _rows(views, columns):
    """Chosen views as rows of their own, [b * v, ...]: those of an image side by side.

    So each device keeps the rows of its own images.
    """
    chosen = views[:, columns[0] : columns[-1] + 1]
    return chosen.reshape(-1, *views.shape[2:])


def _partition(group, u):
    """Which views are classified, [b, 2], and which pairs contrasted, [b]."""
    if group.partition == ALL:
        return jnp.ones(u.shape, bool), jnp.ones(u.shape[0], bool)
    classified = quality_partition.is_recognisable(u, threshold=group.threshold)
    contrasted = quality_partition.is_contrasted(
        u[:, 0], u[:, 1], threshold=group.threshold, pair_quality=group.partition
    )
    return classified, contrasted


def _quality(group, stats, features, valid):
    """The new norm statistics, over both views, and the quality of each, [b, 2]."""
    norms = norm_stats.feature_norms(_rows(features, BOTH))
    stats = norm_stats.update(
        stats, norms, jnp.repeat(valid, 2), ema_new_weight=group.ema_new_weight
    )
    norm_hat = norm_stats.norm_hat(stats, norms, concentration=group.concentration)
    return stats, quality_partition.quality(norm_hat).reshape(-1, 2)


def _classify(head, params, state, features, labels, kept, group, sample):
    """The classification loss of the kept views, the margin's state, what to log."""
    columns = CLASSIFIED[group.queue]
    labels = jnp.repeat(labels, len(columns))
    valid, kept = labels >= 0, _rows(kept, columns)
    judged, state = classification.margin_losses(
        _rows(features, columns),
        params["centres"],
        labels,
        state,
        margin=head.margin,
        spec=head.spec,
        sample=sample,
    )
    loss, share = quality_partition.kept_mean(judged.losses, kept, valid)
    metrics = classification.describe(judged, valid, head.margin, state) | {
        "loss_classification": loss,
        "kept_classification": share,
        "norm_kept": mean_over(judged.norms, valid & kept),
        "norm_dropped": mean_over(judged.norms, valid & ~kept),
        "cos_kept": mean_over(judged.cos_target, valid & kept),
        "cos_dropped": mean_over(judged.cos_target, valid & ~kept),
    }
    return loss, state, metrics


def _contrast(spec, queue, features, labels, kept, group, centres):
    """The contrastive loss of the kept pairs, the queue's state, what to log."""
    columns = ENTERING[group.queue]
    entering = unit(_rows(features, columns))
    entering_labels = jnp.repeat(labels, len(columns))
    if queue is None:
        after = compared = FeatureQueue(
            jax.lax.stop_gradient(entering), entering_labels, None, jnp.int32(0)
        )
    else:
        after = sharded_queue.push(spec, queue, entering, entering_labels, centres)
        # This step's features enter before the loss is taken. Without the mask a view
        # would then be its own negative.
        compared = after if spec.supervised_mask else queue
    valid = labels >= 0
    losses, positive, negative = sharded_queue.contrastive_loss(
        spec, features[:, 0], features[:, 1], compared, labels, centres
    )
    loss, share = quality_partition.kept_mean(losses, kept, valid)
    metrics = {
        "loss_contrastive": loss,
        "kept_contrastive": share,
        "similarity_positive": mean_over(positive, valid),
        "similarity_negative": mean_over(negative, valid),
    }
    if queue is None:
        return loss, None, metrics
    return loss, after, metrics | {"queue_fill": sharded_queue.fill(spec, after)}


def _queue_spec(config, num_classes, mesh):
    """Size and comparison of the queue."""
    group = config.qgface
    size = group.queue_size or num_classes
    if group.queue == "batch":
        size = len(BOTH) * config.data.batch_size
    return QueueSpec(
        size=size,
        scale=group.scale,
        supervised_mask=group.supervised_mask,
        chunk=group.chunk,
        mesh=mesh,
    )


def _empty_queue(config, size):
    """The queue before the first step; its rows fit any number of devices."""
    return feature_queue.init(
        classifier.padded_classes(size, config.classifier.pad_to),
        config.model.embedding_dim,
        with_proxies=config.qgface.queue == "proxy",
    )


def build(config: ConfigDict, num_classes: int, mesh: Mesh) -> Objective:
    """Returns the joint objective of `config.qgface`.

    L = 1/n sum_{u_i > b} L_class(i) + weight / n_p sum_{u_p <= b} L_contra(p), over the
    n views and n_p pairs of the batch.

    Its state: `margin`, that of the margin function; `quality`, norm statistics over
    both views; `queue`, where it lasts from step to step.

    Args:
        config: The whole config, validated.
        num_classes: Identities of the training set.
        mesh: Mesh of all devices.
    """
    group = config.qgface
    head = classification.build_head(config, num_classes, mesh)
    spec = _queue_spec(config, num_classes, mesh)

    def init(key):
        state = {"margin": head.margin.init(), "quality": norm_stats.init()}
        if group.queue in KEPT_IN_STATE:
            state["queue"] = _empty_queue(config, spec.size)
        return head.init(key), state

    def sample(batch, key):
        # Each view is a row of the classifier's batch.
        rows = jnp.repeat(batch["labels"], len(CLASSIFIED[group.queue]))
        return head.sample({"labels": rows}, key)

    def loss(features, params, batch, state, sample, centres, key):
        del key
        labels = batch["labels"]
        valid = labels >= 0
        stats, u = _quality(group, state["quality"], features, valid)
        classified, contrasted = _partition(group, u)
        total, margin, metrics = _classify(
            head, params, state["margin"], features, labels, classified, group, sample
        )
        new = state | {"margin": margin, "quality": stats}
        if group.queue == "none":
            similarity = positive_cosine(unit(features[:, 0]), features[:, 1])
            metrics["similarity_positive"] = mean_over(similarity, valid)
        else:
            value, queue, found = _contrast(
                spec, state.get("queue"), features, labels, contrasted, group, centres
            )
            total = total + group.weight * value
            metrics |= found
            new |= {} if queue is None else {"queue": queue}
        return total, new, jax.lax.stop_gradient(metrics)

    averaged = group.encoder_decay if group.queue == "momentum" else None
    return Objective(init, sample, loss, encoder_decay=averaged)
