"""Recognizability: margin softmax, and an index of how easily a face is recognised.

References:
    Chai, Ng, Low, Park, Teoh. Recognizability Embedding Enhancement for Very
    Low-Resolution Face Recognition and Quality Estimation. CVPR 2023.
"""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from qface_jax import models
from qface_jax.losses import recognizability as kernels
from qface_jax.losses.vectors import unit
from qface_jax.models import heads
from qface_jax.objectives import classification
from qface_jax.objectives.classification import mean_over
from qface_jax.objectives.objective import Objective

REGRESSION, ATTENTION = "prm", "pam"  # names of the modules' parameters


def _modules(config):
    """The regression of the index, and the attention module, None where it is off."""
    group, length = config.recognizability, config.model.embedding_dim
    regression = heads.perceptibility_regression(
        length, dropout=group.regression_dropout
    )
    if not group.attention_weight:
        return regression, None
    attention = heads.perceptibility_attention(
        models.feature_map_shape(config.model),
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


def _index(group, regression, params, features, judged, ui, key):
    """Weight and losses [b] of the index's two terms, and what to log of it, [b]."""
    cos_ui = kernels.unrecognizable_cosine(features, ui["centre"])
    target = kernels.ri_target(
        judged.cos_target, judged.cos_nearest, cos_ui, epsilon=group.epsilon
    )
    given = unit(features) if group.index_of == "unit" else features
    predicted = regression.apply(params[REGRESSION], given, key=key)
    error = kernels.smooth_l1(predicted, target, beta=group.smooth_l1_beta)
    if group.diversion_moves == "features":
        still = jax.lax.stop_gradient(params[REGRESSION])
        predicted = regression.apply(still, given, key=key)
    diversion = kernels.index_diversion(
        predicted, ui["mean"], ui["std"], threshold=group.threshold
    )
    terms = {
        "loss_index": (group.index_weight, error),
        "loss_diversion": (group.diversion_weight, diversion),
    }
    # What is logged has no dropout.
    quiet = regression.apply(params[REGRESSION], given)
    scores = {"ri": quiet, "ri_target": target, "cos_ui": cos_ui}
    return terms, scores | {"cos_nearest": judged.cos_nearest}


def _attention(group, attention, params, features, feature_map, ui):
    """Weight and losses [b] of the attention's term."""
    projection, _ = attention.apply(params[ATTENTION], feature_map)
    target = kernels.attention_target(features, ui["centre"])
    squares = kernels.attention_loss(
        projection, target, reduction=group.attention_error
    )
    return group.attention_weight, squares


def build(config: ConfigDict, num_classes: int, mesh: Mesh) -> Objective:
    """Returns the objective of `config.recognizability`.

    L = L_cls + alpha smooth_l1(xi_hat, xi) + beta max(0, tau - (xi_hat - mu) / sigma)
      + gamma |p - v_perp|^2, each a mean over the batch.

    L_cls is margin softmax; xi the index from the distances to the own, the nearest
    other and the UI centre; xi_hat its regression from the feature; p the projection of
    the attended feature map; v_perp the embedding's part off the UI centre.

    Readings of a paper whose main part is not at hand: the regression's gradient
    reaches the backbone, the targets' does not; that of the diversion reaches both, or
    the features alone (`diversion_moves`); the attention is a branch of its own,
    whose gradient reaches the backbone through the map, and the embedding stays the
    backbone's, so that nothing is added to a model in use.

    With Partial FC the nearest other centre is that of the classes a step sees.
    Its state: `margin`, that of the margin function; `ui`, centre of the unrecognizable
    images and mean and deviation of their xi_hat, which `train.ui_cluster` refreshes.

    Args:
        config: The whole config, validated.
        num_classes: Identities of the training set.
        mesh: Mesh of all devices.
    """
    group, length = config.recognizability, config.model.embedding_dim
    head = classification.build_head(config, num_classes, mesh)
    regression, attention = _modules(config)

    def init(key):
        keys = jax.random.split(key, 3)
        params = head.init(keys[0]) | {REGRESSION: regression.init(keys[1])}
        if attention is not None:
            params[ATTENTION] = attention.init(keys[2])
        return params, {"margin": head.margin.init(), "ui": _initial(length)}

    def loss(encoded, params, batch, state, sample, centres, key):
        features, feature_map = (encoded, None) if attention is None else encoded
        labels, ui, valid = batch["labels"], state["ui"], batch["labels"] >= 0
        judged, margin = classification.margin_losses(
            features,
            params["centres"],
            labels,
            state["margin"],
            margin=head.margin,
            spec=head.spec,
            sample=sample,
        )
        terms, scores = _index(group, regression, params, features, judged, ui, key)
        terms["loss_classification"] = (1.0, judged.losses)
        if attention is not None:
            given = (group, attention, params, features, feature_map, ui)
            terms["loss_attention"] = _attention(*given)
        means = {name: mean_over(rows, valid) for name, (_, rows) in terms.items()}
        total = sum(weight * means[name] for name, (weight, _) in terms.items())
        metrics = means | classification.describe(judged, valid, head.margin, margin)
        metrics |= {name: mean_over(rows, valid) for name, rows in scores.items()}
        return total, state | {"margin": margin}, jax.lax.stop_gradient(metrics)

    return Objective(init, head.sample, loss, takes_feature_map=attention is not None)
