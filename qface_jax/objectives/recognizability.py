"""Recognizability: margin softmax, and an index of how easily a face is recognised.

References:
    Chai, Ng, Low, Park, Teoh. Recognizability Embedding Enhancement for Very
    Low-Resolution Face Recognition and Quality Estimation. CVPR 2023.
"""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from qface_jax import models
from qface_jax.configs.document import options_of
from qface_jax.inference.embedding_recognizability import UNRECOGNIZABLE
from qface_jax.losses import recognizability as kernels
from qface_jax.losses.vectors import unit
from qface_jax.models import heads
from qface_jax.models.heads import ATTENTION, REGRESSION
from qface_jax.objectives import classification
from qface_jax.objectives.classification import mean_over
from qface_jax.objectives.objective import Hooks, Objective, ObjectiveEntry, Outcome
from qface_jax.options import (
    AT_LEAST_TWO,
    BELOW_ONE,
    FINITE,
    NOT_NEGATIVE,
    POSITIVE,
    Option,
    Rule,
    one_of,
)
from qface_jax.sharded.classifier import CENTRES

OPTIONS = {
    # Of the terms beside margin softmax, alpha, beta, gamma; at gamma 0 there is no
    # attention module, and the last feature map is not looked at.
    "index_weight": Option(5.0, NOT_NEGATIVE, "alpha, of the regression of the index."),
    "diversion_weight": Option(2.0, NOT_NEGATIVE, "beta, of the index diversion."),
    "attention_weight": Option(
        1.0, NOT_NEGATIVE, "gamma, of the attention; 0: there is no such module."
    ),
    "smooth_l1_beta": Option(0.75, POSITIVE, "Error at which it turns straight."),
    # Readings: the paper's values, or its choice, are not at hand.
    "epsilon": Option(0.01, POSITIVE, "In xi = d_ui d_neg / (d_pos + epsilon)."),
    "target": Option(
        "plain",
        one_of("plain", "bounded"),
        "What the regression learns: xi, or xi / (1 + xi).",
    ),
    "regression_moves": Option(
        "both",
        one_of("both", "regression"),
        "What the regression's error moves: features and regression, or the "
        "regression alone.",
    ),
    "threshold": Option(
        1.0, FINITE, "tau, deviations above unrecognizable images' mean index."
    ),
    # With both, the index rose for all images together in the runs that were tried,
    # until it told nothing.
    "diversion_moves": Option(
        "features",
        one_of("both", "features"),
        "What the diversion moves: the features alone, so that the index stays what "
        "the distances say it is; or both.",
    ),
    # Unit features, with a bounded target whose error moved the features of a
    # MobileFaceNet, ended at the unrecognizable centre within 200 steps, cosine 0.99.
    "index_of": Option(
        "features", one_of("features", "unit"), "Regressed from these, or unit ones."
    ),
    "regression_dropout": Option(0.9, BELOW_ONE, "Before the regression."),
    "reduction": Option(16, POSITIVE, "Of channels inside the channel attention."),
    "kernel_side": Option(
        7,
        Rule(lambda v: 0 < v < 112 and v % 2 == 1, "must be odd and within 1 .. 111"),
        "Of the spatial attention, map pixels.",
    ),
    "attention_error": Option(
        "mean", one_of("mean", "sum"), "Over the d places; or sum."
    ),
    "ui_path": Option(
        "",
        None,
        "Unrecognizable images, whose centre all is measured from: a folder or file of "
        'them; "": made from training images by degrade.unrecognizable.',
    ),
    "ui_images": Option(512, AT_LEAST_TWO, "At most so many, spread evenly."),
    # The unrecognizable images move with the model, so that what is known of them ages.
    "refresh_interval": Option(
        20,
        POSITIVE,
        "Updates after which the unrecognizable images are embedded again; also of the "
        "rank correlations of the scores with the resolution, which are logged then.",
    ),
    "probe_images": Option(16, NOT_NEGATIVE, "For those, at each of eval.resolutions."),
}


def _modules(group, config):
    """The regression of the index, and the attention module, None where it is off."""
    length = config.model.embedding_dim
    regression = heads.perceptibility_regression(
        length, dropout=group.regression_dropout
    )
    if not group.attention_weight:
        return regression, None
    attention = heads.perceptibility_attention(
        models.feature_map_shape(
            config.model,
            options=options_of(config, "backbone", config.model.backbone),
        ),
        length,
        reduction=group.reduction,
        kernel_side=group.kernel_side,
    )
    return regression, attention


def _initial(length):
    """What is known of unrecognizable images before they are embedded."""
    return {
        "centre": jnp.zeros(length, jnp.float32),
        "mean": jnp.float32(0.0),
        "std": jnp.float32(1.0),
    }


def _index(group, regression, params, features, judged, unrecognizable, key):
    """Weight and losses [b] of the index's two terms, and what to log of it, [b]."""
    cosine = kernels.unrecognizable_cosine(features, unrecognizable["centre"])
    target = kernels.ri_target(
        judged.cos_target,
        judged.cos_nearest,
        cosine,
        epsilon=group.epsilon,
        bounded=group.target == "bounded",
    )
    rows = unit(features) if group.index_of == "unit" else features
    learned = rows
    if group.regression_moves == "regression":
        learned = jax.lax.stop_gradient(rows)
    predicted = regression.apply(params[REGRESSION], learned, key=key)
    error = kernels.smooth_l1(predicted, target, beta=group.smooth_l1_beta)
    diverted = params[REGRESSION]
    if group.diversion_moves == "features":
        diverted = jax.lax.stop_gradient(diverted)
    predicted = regression.apply(diverted, rows, key=key)
    diversion = kernels.index_diversion(
        predicted,
        unrecognizable["mean"],
        unrecognizable["std"],
        threshold=group.threshold,
    )
    terms = {
        "loss_index": (group.index_weight, error),
        "loss_diversion": (group.diversion_weight, diversion),
    }
    # What is logged has no dropout.
    quiet = regression.apply(params[REGRESSION], rows)
    scores = {"ri": quiet, "ri_target": target, "cos_ui": cosine}
    return terms, scores | {"cos_nearest": judged.cos_nearest}


def _attention(group, attention, params, features, feature_map, unrecognizable):
    """Weight and losses [b] of the attention's term."""
    projection, _ = attention.apply(params[ATTENTION], feature_map)
    target = kernels.attention_target(features, unrecognizable["centre"])
    squares = kernels.attention_loss(
        projection, target, reduction=group.attention_error
    )
    return group.attention_weight, squares


def _build(
    config: ConfigDict, options: dict, num_classes: int, mesh: Mesh
) -> Objective:
    """Returns the recognizability objective.

    L = L_cls + alpha smooth_l1(xi_hat, xi) + beta max(0, tau - (xi_hat - mu) / sigma)
      + gamma |p - v_perp|^2, each a mean over the batch.

    L_cls is margin softmax; xi the index from the distances to the own, the nearest
    other and the unrecognizable images' centre; xi_hat its regression from the feature;
    p the projection of the attended feature map; v_perp the embedding's part off the
    unrecognizable images' centre.

    Readings of a paper whose main part is not at hand: the regression's gradient
    reaches the backbone, or not (`regression_moves`), the targets' does not; that of
    the diversion reaches both, or the features alone (`diversion_moves`); the target
    is xi as it is, or bounded (`target`); the attention is a branch of its own,
    whose gradient reaches the backbone through the map, and the embedding stays the
    backbone's, so that nothing is added to a model in use.

    With Partial FC the nearest other centre is that of the classes a step sees. What is
    known of the unrecognizable images is refreshed between steps by the hooks.
    """
    group, length = SimpleNamespace(**options), config.model.embedding_dim
    head = classification.build_head(config, num_classes, mesh)
    regression, attention = _modules(group, config)

    def init(key):
        keys = jax.random.split(key, 3)
        params = head.init(keys[0]) | {REGRESSION: regression.init(keys[1])}
        if attention is not None:
            params[ATTENTION] = attention.init(keys[2])
        state = {"margin": head.margin.init(), UNRECOGNIZABLE: _initial(length)}
        return params, state

    def loss(encode, params, batch, context):
        images, labels = batch["images"], batch["labels"]
        valid, feature_map = labels >= 0, None
        if attention is None:
            features, stats = encode.train(params["backbone"], images)
        else:
            (features, feature_map), stats = encode.train(
                params["backbone"], images, feature_map=True
            )
        params, state = params["head"], context.state
        unrecognizable = state[UNRECOGNIZABLE]
        judged, margin = classification.margin_losses(
            features,
            params[CENTRES],
            labels,
            state["margin"],
            margin=head.margin,
            spec=head.spec,
            sample=context.sample,
            images=images,
        )
        terms, scores = _index(
            group, regression, params, features, judged, unrecognizable, context.key
        )
        terms["loss_classification"] = (1.0, judged.losses)
        if attention is not None:
            terms["loss_attention"] = _attention(
                group, attention, params, features, feature_map, unrecognizable
            )
        means = {name: mean_over(rows, valid) for name, (_, rows) in terms.items()}
        total = sum(weight * means[name] for name, (weight, _) in terms.items())
        metrics = means | classification.describe(judged, valid, head.margin, margin)
        metrics |= {name: mean_over(rows, valid) for name, rows in scores.items()}
        metrics = jax.lax.stop_gradient(metrics)
        return total, Outcome(stats, state | {"margin": margin}, metrics)

    return Objective(init, loss, sample=head.sample, class_rows=(CENTRES,))


def _hooks(config: ConfigDict, options: dict, **named: Any) -> Hooks:
    # A config is checked without what embeds pictures and draws.
    from qface_jax.objectives.recognizability_refresh import Refresh

    return Refresh(config, options, **named)


OBJECTIVE = ObjectiveEntry(
    _build,
    options=OPTIONS,
    reads=(*classification.READS, "recognizability"),
    hooks=_hooks,
)
