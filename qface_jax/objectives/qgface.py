"""QGFace: recognisable views are classified, the other pairs are contrasted.

References:
    QGFace: Quality-Guided Joint Training For Mixed-Quality Face Recognition, eq. 1-5.
"""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Int
from ml_collections import ConfigDict

from qface_jax.losses import norm_stats, quality_partition
from qface_jax.losses.contrast import positive_cosine
from qface_jax.losses.vectors import unit
from qface_jax.objectives import classification
from qface_jax.objectives.classification import mean_over
from qface_jax.objectives.objective import Hooks, Objective, ObjectiveEntry, Outcome
from qface_jax.options import (
    BELOW_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Option,
    Rule,
    one_of,
)
from qface_jax.sharded import classifier, feature_queue, sharded_queue
from qface_jax.sharded.classifier import CENTRES
from qface_jax.sharded.feature_queue import FeatureQueue
from qface_jax.sharded.sharded_queue import QueueSpec

ALL = "none"  # as `qgface.partition`: every view is classified, every pair contrasted
# As `qgface.queue`: which views enter, and which are classified. The averaged encoder
# of `momentum` has no gradient, so its view cannot be classified; only its keys enter.
BOTH = (0, 1)
ENTERING = {"none": (), "batch": BOTH, "momentum": (1,), "proxy": BOTH}
CLASSIFIED = {"none": BOTH, "batch": BOTH, "momentum": (0,), "proxy": BOTH}
KEPT_IN_STATE = ("momentum", "proxy")
# Entries of the state; "margin" is that of the margin function.
QUALITY = "quality"  # norm statistics over both views
QUEUE = "queue"  # where it lasts from step to step
AVERAGED = "averaged"  # the encoder of the keys, with `momentum`

OPTIONS = {
    "views": Option(
        2,
        Rule(lambda v: v in (1, 2), "must be 1 or 2"),
        "Of an image: 2, as it is and degraded; 1, degraded alone, which needs queue "
        "none.",
    ),
    "partition": Option(
        "min",
        one_of(*quality_partition.PAIR_QUALITIES, ALL),
        "Quality u of a pair: min, mean or max of its two views; views with u > "
        "threshold are classified, pairs with u <= threshold contrasted; none: all are "
        "both.",
    ),
    "threshold": Option(0.2, SHARE, "b, on u within [0, 1]."),
    "concentration": Option(0.333, NOT_NEGATIVE, "h of u."),
    "ema_new_weight": Option(0.01, SHARE, "Of the norm statistics of u."),
    "queue": Option(
        "proxy",
        one_of(*ENTERING),
        "What a degraded view is told apart from: proxy (earlier features, moved with "
        "their class centres), momentum (keys of an averaged encoder), batch (this "
        "step's features); none: there is no contrastive loss.",
    ),
    "queue_size": Option(0, NOT_NEGATIVE, "Slots; 0: as many as identities."),
    "encoder_decay": Option(
        0.999, BELOW_ONE, "Momentum: of the averaged encoder, per step."
    ),
    "supervised_mask": Option(True, None, "The own identity is no negative."),
    "scale": Option(64.0, POSITIVE, "s of the contrastive loss."),
    "weight": Option(1.0, NOT_NEGATIVE, "Of the contrastive loss."),
    "chunk": Option(8192, POSITIVE, "Slots compared at a time, per device."),
}


def average(old: Any, new: Any, *, step: Int[Array, ""], decay: float) -> Any:
    """Returns the moving average of a tree, m old + (1 - m) new.

    m = min(decay, (1 + step) / (10 + step)), so that the first steps, which hardly
    resemble what follows, are forgotten soon.

    Args:
        old: Average so far.
        new: Values after this step.
        step: Updates done before it.
        decay: m in the long run, within [0, 1).
    """
    early = (1.0 + step) / (10.0 + step)
    keep = jnp.minimum(jnp.float32(decay), early.astype(jnp.float32))
    return jax.tree.map(lambda a, b: keep * a + (1.0 - keep) * b, old, new)


def _rows(views, columns):
    """Chosen views as rows of their own, [b * v, ...]: those of an image side by side.

    So each device keeps the rows of its own images.
    """
    chosen = views[:, columns[0] : columns[-1] + 1]
    return chosen.reshape(-1, *views.shape[2:])


def _partition(group, u):
    """Which views are classified, [b, v], and which pairs contrasted, [b]."""
    if group.partition == ALL:
        return jnp.ones(u.shape, bool), jnp.ones(u.shape[0], bool)
    classified = quality_partition.is_recognisable(u, threshold=group.threshold)
    contrasted = quality_partition.is_contrasted(
        u[:, 0], u[:, -1], threshold=group.threshold, pair_quality=group.partition
    )
    return classified, contrasted


def _quality(group, stats, features, valid):
    """The new norm statistics, over all views, and the quality of each, [b, v]."""
    views = features.shape[1]
    norms = norm_stats.feature_norms(_rows(features, range(views)))
    stats = norm_stats.update(
        stats, norms, jnp.repeat(valid, views), ema_new_weight=group.ema_new_weight
    )
    norm_hat = norm_stats.norm_hat(stats, norms, concentration=group.concentration)
    return stats, quality_partition.quality(norm_hat).reshape(-1, views)


def _classified(group):
    """Which of the views that are learned from are classified."""
    return CLASSIFIED[group.queue] if group.views == len(BOTH) else (0,)


def _classify(head, params, state, features, images, labels, kept, group, sample):
    """The classification loss of the kept views, the margin's state, what to log."""
    columns = _classified(group)
    labels = jnp.repeat(labels, len(columns))
    valid, kept = labels >= 0, _rows(kept, columns)
    judged, state = classification.margin_losses(
        _rows(features, columns),
        params[CENTRES],
        labels,
        state,
        margin=head.margin,
        spec=head.spec,
        sample=sample,
        images=_rows(images, columns),
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


def _queue_spec(group, batch_size, num_classes, mesh):
    """Size and comparison of the queue."""
    size = group.queue_size or num_classes
    if group.queue == "batch":
        size = len(BOTH) * batch_size
    return QueueSpec(
        size=size,
        scale=group.scale,
        supervised_mask=group.supervised_mask,
        chunk=group.chunk,
        mesh=mesh,
    )


def _encode(encode, params, images, state):
    """Features of the views [b, v, d], those of keys without gradient; statistics."""
    if AVERAGED not in state:
        return encode.train(params["backbone"], images)
    keys = encode.evaluate(state[AVERAGED], images[:, 1])
    features, stats = encode.train(params["backbone"], images[:, 0])
    return jnp.stack([features, keys], axis=1), stats


def _build(
    config: ConfigDict, options: dict, num_classes: int, mesh: Mesh
) -> Objective:
    """Returns the joint objective.

    L = 1/n sum_{u_i > b} L_class(i) + weight / n_p sum_{u_p <= b} L_contra(p), over the
    n views and n_p pairs of the batch.
    """
    group = SimpleNamespace(**options)
    head = classification.build_head(config, num_classes, mesh)
    spec = _queue_spec(group, config.data.batch_size, num_classes, mesh)
    with_average = group.queue == "momentum"
    # Padded, so that its rows fit any number of devices.
    slots = classifier.padded_classes(spec.size, config.classifier.pad_to)
    dim = config.model.embedding_dim

    def init(key):
        state = {"margin": head.margin.init(), QUALITY: norm_stats.init()}
        if group.queue in KEPT_IN_STATE:
            state[QUEUE] = feature_queue.init(
                slots, dim, with_proxies=group.queue == "proxy"
            )
        return head.init(key), state

    def start(state, encoder):
        return state | {AVERAGED: encoder} if with_average else state

    def advance(state, encoder, step):
        if not with_average:
            return state
        decay = group.encoder_decay
        averaged = average(state[AVERAGED], encoder, step=step, decay=decay)
        return state | {AVERAGED: averaged}

    def sample(batch, key):
        # Each view is a row of the classifier's batch.
        rows = jnp.repeat(batch["labels"], len(_classified(group)))
        return head.sample({"labels": rows}, key)

    def loss(encode, params, batch, context):
        state, labels = context.state, batch["labels"]
        views = batch["images"][:, : group.views]  # the first is the degraded one
        features, stats = _encode(encode, params, views, state)
        valid = labels >= 0
        quality, u = _quality(group, state[QUALITY], features, valid)
        classified, contrasted = _partition(group, u)
        total, margin, metrics = _classify(
            head,
            params["head"],
            state["margin"],
            features,
            views,
            labels,
            classified,
            group,
            context.sample,
        )
        new = state | {"margin": margin, QUALITY: quality}
        if group.queue != "none":
            value, queue, contrast = _contrast(
                spec,
                state.get(QUEUE),
                features,
                labels,
                contrasted,
                group,
                context.head[CENTRES],
            )
            total = total + group.weight * value
            metrics |= contrast
            new |= {} if queue is None else {QUEUE: queue}
        elif group.views == len(BOTH):
            similarity = positive_cosine(unit(features[:, 0]), features[:, 1])
            metrics["similarity_positive"] = mean_over(similarity, valid)
        return total, Outcome(stats, new, jax.lax.stop_gradient(metrics))

    return Objective(
        init=init,
        loss=loss,
        sample=sample,
        start=start,
        advance=advance,
        class_rows=(CENTRES,),
        rows=(QUEUE,),
    )


def _problems(config: ConfigDict, options: dict) -> list[str]:
    if options["views"] == 1 and options["queue"] != "none":
        return [
            f"qgface.views: got 1 with qgface.queue {options['queue']}, expected 2: "
            "there is no pair to contrast; or set qgface.queue=none"
        ]
    if options["queue"] == "batch" and not options["supervised_mask"]:
        return [
            "qgface.supervised_mask: got False with qgface.queue batch, expected True: "
            "every view would be its own negative"
        ]
    return []


def _hooks(config: ConfigDict, options: dict, **named: Any) -> Hooks:
    # A config is checked without what draws its pictures.
    from qface_jax.objectives.qgface_pictures import PairPictures

    return PairPictures(config.data.batch_size, options, **named)


OBJECTIVE = ObjectiveEntry(
    _build,
    options=OPTIONS,
    reads=(*classification.READS, "qgface"),
    views=2,
    problems=_problems,
    hooks=_hooks,
    norm_statistics=QUALITY,
)
