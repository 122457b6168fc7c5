"""The margins against recordings of the published code: values and gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax.losses import margin, norm_stats
from qface_jax.losses.margins.margin import build_margin
from support.closeness import assert_close_in_norm

LOGIT_ATOL = 1e-4  # at scale 64
RTOL = 1e-5


def cosines(features, w):
    z = features / jnp.linalg.norm(features, axis=1, keepdims=True)
    return jnp.einsum("bd,dc->bc", z, w / jnp.linalg.norm(w, axis=0, keepdims=True))


def cross_entropy(logits, target):
    own = jnp.sum(jnp.where(target, logits, 0.0), axis=1)
    return jax.nn.logsumexp(logits, axis=1) - own


def check(record, logits_fn):
    target = jnp.asarray(record["labels"][:, None] == np.arange(record["w"].shape[1]))

    def mean_loss(features, w):
        logits = logits_fn(cosines(features, w), target, features)
        return jnp.mean(cross_entropy(logits, target)), logits

    step = jax.value_and_grad(mean_loss, argnums=(0, 1), has_aux=True)
    args = (jnp.asarray(record["embeddings"]), jnp.asarray(record["w"]))
    for fn in (step, jax.jit(step)):
        (_, logits), grads = fn(*args)
        np.testing.assert_allclose(logits, record["logits"], rtol=0, atol=LOGIT_ATOL)
        loss = cross_entropy(logits, target)
        np.testing.assert_allclose(loss, record["loss"], rtol=RTOL, atol=LOGIT_ATOL)
        for name, grad in zip(("dz", "dw"), grads, strict=True):
            if name in record:
                assert_close_in_norm(grad, record[name], RTOL)


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("margin_cosface", margin.cosface_logits),
        ("margin_arcface", margin.arcface_logits),
        (
            "margin_arcface_threshold",
            partial(margin.arcface_logits, threshold=True),
        ),
    ],
)
def test_fixed_margin(golden, name, kernel):
    record = golden(name)
    kernel = partial(kernel, scale=float(record["s"]), margin=float(record["m"]))
    check(record, lambda cos, target, features: kernel(cos, target))


def adaface_logits(record, steps):
    """AdaFace after `steps` updates of the statistics with the same batch."""
    stats = norm_stats.NormStats(
        mean=jnp.float32(record["ema_mean_init"]),
        std=jnp.float32(record["ema_std_init"]),
    )
    weight = float(record["t_alpha"])
    norms = norm_stats.feature_norms(jnp.asarray(record["embeddings"]))
    for _ in range(steps):
        stats = norm_stats.update(stats, norms, ema_new_weight=weight)

    def logits(cos, target, features):
        quality = norm_stats.norm_hat(
            stats,
            norm_stats.feature_norms(features),
            concentration=float(record["h"]),
        )
        return margin.adaface_logits(
            cos, target, quality, scale=float(record["s"]), margin=float(record["m"])
        )

    return stats, logits


def test_adaface_first_step(golden):
    record = golden("margin_adaface")
    _, logits = adaface_logits(record, steps=1)
    inputs = {key: record[key] for key in ("embeddings", "w", "labels")}
    first = {key: record[f"{key}_step1"] for key in ("logits", "loss", "dz")}
    check(inputs | first, logits)


def test_adaface_after_three_steps(golden):
    record = golden("margin_adaface")
    stats, logits = adaface_logits(record, steps=3)
    np.testing.assert_allclose(stats.mean, record["ema_mean_after3"][0], rtol=RTOL)
    np.testing.assert_allclose(stats.std, record["ema_std_after3"][0], rtol=RTOL)
    check(record, logits)


def test_curricularface(golden):
    record = golden("margin_curricularface")
    curricular = build_margin(
        "curricularface", {"ema_new_weight": float(record["t_momentum"])}
    )
    features, w = jnp.asarray(record["embeddings"]), jnp.asarray(record["w"])
    labels = record["labels"]
    cos_y = cosines(features, w)[np.arange(len(labels)), labels]
    t = curricular.init()
    for _ in range(3):
        t = curricular.update(
            t, cos_y, jnp.ones_like(cos_y), jnp.ones(cos_y.shape, bool)
        )
    np.testing.assert_allclose(t, record["t_after3"][0], rtol=RTOL)
    check(
        record,
        lambda cos, target, _: margin.curricularface_logits(
            cos, target, t, scale=float(record["s"]), margin=float(record["m"])
        ),
    )


def test_magface(golden):
    record = golden("margin_magface")
    bounds = {key: float(record[key]) for key in ("l_a", "u_a")}
    margins = {key: float(record[key]) for key in ("l_margin", "u_margin")}
    target = jnp.asarray(record["labels"][:, None] == np.arange(record["w"].shape[1]))

    def total(features, w):
        norms = jnp.linalg.norm(features, axis=1)
        logits = margin.magface_logits(
            cosines(features, w), target, norms, scale=float(record["s"]),
            **bounds, **margins,
        )  # fmt: skip
        loss = jnp.mean(cross_entropy(logits, target))
        penalty = jnp.mean(margin.magface_penalty(norms, **bounds))
        return loss + float(record["lambda_g"]) * penalty, (loss, penalty)

    args = (jnp.asarray(record["embeddings"]), jnp.asarray(record["w"]))
    (_, (loss, penalty)), (dz, dw) = jax.value_and_grad(
        total, argnums=(0, 1), has_aux=True
    )(*args)
    np.testing.assert_allclose(loss, record["loss_mean"], rtol=RTOL)
    np.testing.assert_allclose(penalty, record["g_mean"], rtol=RTOL)
    assert_close_in_norm(dz, record["dz"], RTOL)
    assert_close_in_norm(dw, record["dw"], RTOL)


@pytest.mark.parametrize("name", ["arc", "cos", "filter"])
def test_combined(golden, name):
    record = golden(f"combined_{name}")
    cos = jnp.asarray(record["cosine"])
    target = jnp.asarray(record["labels"][:, None] == np.arange(cos.shape[1]))
    threshold = record.get("interclass_filtering_threshold")
    got = margin.combined_logits(
        cos,
        target,
        scale=float(record["s"]),
        m1=float(record["m1"]),
        m2=float(record["m2"]),
        m3=float(record["m3"]),
        filter_threshold=None if threshold is None else float(threshold),
    )
    np.testing.assert_allclose(got, record["logits"], rtol=0, atol=LOGIT_ATOL)


def test_quality_indicator(golden):
    record = golden("quality_indicator")
    stats = norm_stats.init()
    for norms, want in zip(record["norms"], record["z_hat"], strict=True):
        norms = jnp.asarray(norms[:, 0])
        stats = norm_stats.update(stats, norms, ema_new_weight=float(record["t_alpha"]))
        got = norm_stats.norm_hat(stats, norms, concentration=float(record["h"]))
        np.testing.assert_allclose(got, want[:, 0], rtol=RTOL, atol=1e-6)
    np.testing.assert_allclose(stats.mean, record["mean"][0], rtol=RTOL)
    np.testing.assert_allclose(stats.std, record["std"][0], rtol=RTOL)
