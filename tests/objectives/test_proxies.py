"""What AdaFace's margin may adapt to: norm, BRISQUE, the own class's probability."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax.errors import ConfigError
from qface_jax.losses import brisque
from qface_jax.losses.margins.margin import Margin, build_margin
from qface_jax.objectives.classification import margin_losses, raw_norms, unit
from qface_jax.settings import config as configs
from qface_jax.sharded import classifier, parallel
from support import small_step
from support.small_run import small

B, C, D, ROWS, SCALE = 16, 37, 8, 64, 12.0
H, M, NEW = 0.333, 0.4, 0.01


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    features = jnp.asarray(rng.normal(size=(B, D)) * 3, jnp.float32)
    centres = jnp.asarray(rng.normal(size=(ROWS, D)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, C, B), jnp.int32).at[3].set(-1)
    images = rng.integers(0, 256, (B, 1, 1, 3)) + rng.normal(0, 20, (B, 112, 112, 3))
    images[::2] = images[::2].round(-1)
    return features, centres, labels, jnp.asarray(images.clip(0, 255), jnp.uint8)


def spec_of(margin, devices):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    return classifier.ClassifierSpec(margin.negative, SCALE, C, 5, mesh)


def losses_in_float64(features, centres, labels, values):
    """AdaFace's loss of each row with `values` as its proxy, and the statistics."""
    z = np.float64(features) / np.linalg.norm(features, axis=1, keepdims=True)
    w = np.float64(centres)[:C]
    cos = z @ (w / np.linalg.norm(w, axis=1, keepdims=True)).T
    valid = np.asarray(labels) >= 0
    mean = NEW * values[valid].mean() + (1 - NEW) * 0.5
    std = NEW * values[valid].std(ddof=1) + (1 - NEW) * 2.5
    q = np.clip(H * (values - mean) / (std + 1e-3), -1, 1)
    logits = SCALE * cos
    rows = np.arange(B)
    own = np.where(valid, labels, 0)
    logits[rows, own] = SCALE * (
        np.cos(np.arccos(cos[rows, own]) - M * q) - (M * q + M)
    )
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[rows, own]
    probability = np.exp(SCALE * cos[rows, own]) / np.exp(SCALE * cos).sum(axis=1)
    return losses[valid], probability[valid], (mean, std)


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("proxy", ["brisque", "probability"])
def test_loss_against_float64(proxy, devices):
    features, centres, labels, images = inputs()
    margin = build_margin("adaface", {"proxy": proxy})
    spec = spec_of(margin, devices)
    judged, state = jax.jit(
        lambda f, c: margin_losses(
            f, c, labels, margin.init(), margin=margin, spec=spec, images=images
        )
    )(features, centres)
    values = np.float64(judged.values)
    losses, probability, statistics = losses_in_float64(
        features, centres, labels, values
    )
    valid = np.asarray(labels) >= 0
    np.testing.assert_allclose(np.asarray(judged.losses)[valid], losses, rtol=2e-5)
    np.testing.assert_allclose([state.mean, state.std], statistics, rtol=1e-5)
    if proxy == "probability":
        np.testing.assert_allclose(values[valid], probability, rtol=2e-5)
    else:
        np.testing.assert_allclose(values, brisque.quality(images), atol=2e-3)


@pytest.mark.parametrize("proxy", ["brisque", "probability"])
def test_gradients_hold_the_proxy_fixed(proxy):
    features, centres, labels, images = inputs(1)
    margin = build_margin("adaface", {"proxy": proxy})
    spec = spec_of(margin, 1)
    args = {"spec": spec, "images": images}

    def loss(margin):
        def total(f, c):
            judged, _ = margin_losses(
                f, c, labels, margin.init(), margin=margin, **args
            )
            return jnp.sum(jnp.where(labels >= 0, judged.losses, 0.0)), judged.values

        return jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))

    got, values = loss(margin)(features, centres)
    # The same margin with the values written into it, which adapts to nothing.
    fixed = Margin(
        lambda cos_y, norms, state: margin.target(cos_y, values, state),
        margin.negative,
        init=margin.init,
        update=lambda state, cos_y, norms, valid: margin.update(
            state, cos_y, values, valid
        ),
    )
    want, _ = loss(fixed)(features, centres)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert np.any(np.asarray(got[0]) != 0)


def test_norm_is_what_it_was():
    features, centres, labels, _ = inputs()
    margin = build_margin("adaface")
    assert margin.proxy == "norm"
    spec = spec_of(margin, 1)
    judged, state = margin_losses(
        features, centres, labels, margin.init(), margin=margin, spec=spec
    )
    np.testing.assert_array_equal(judged.values, raw_norms(features))
    assert 19 < state.mean < 20 and 99 <= state.std < 100
    assert set(margin.describe(state, judged.values)) == {
        "norm_ema_mean", "norm_ema_std", "norm_hat",
    }  # fmt: skip


def test_probability_at_edges():
    features, centres, labels, _ = inputs()
    features = features.at[0].set(0.0).at[1].set(50 * centres[labels[1]])
    margin = build_margin("adaface", {"proxy": "probability"})
    for classes in (C, 1):
        labels = jnp.minimum(labels, classes - 1)
        spec = spec_of(margin, 1)._replace(num_classes=classes)
        similar = classifier.similarity(spec, unit(features), centres, labels, ())
        p = np.asarray(classifier.own_probability(similar, SCALE))
        assert np.all((p >= 0) & (p <= 1))
    assert np.all(p[np.asarray(labels) >= 0] == 1.0)  # of a single class


def test_images_that_are_missing_and_proxies_that_are_not_known():
    features, centres, labels, _ = inputs()
    for margin, match in (
        (build_margin("adaface", {"proxy": "brisque"}), "no images"),
        (Margin(lambda c, v, s: c, proxy="contrast"), "got proxy 'contrast'"),
    ):
        with pytest.raises(ValueError, match=match):
            margin_losses(
                features, centres, labels, margin.init(), margin=margin,
                spec=spec_of(margin, 1),
            )  # fmt: skip


def test_a_config_names_a_proxy():
    config = configs.load("demo", ["--config.loss.adaface.proxy=brisque"])
    assert config.loss.adaface.proxy == "brisque"
    with pytest.raises(ConfigError, match=r"loss\.adaface\.proxy: got 'contrast'"):
        configs.load("demo", ["--config.loss.adaface.proxy=contrast"])


@pytest.mark.parametrize("objective", ["classification", "qgface"])
@pytest.mark.parametrize("proxy", ["brisque", "probability"])
def test_objectives_supply_the_proxy(objective, proxy):
    config = small(
        f"objective={objective}", "data.batch_size=32", "model.embedding_dim=16",
        f"loss.adaface.proxy={proxy}",
    )  # fmt: skip
    step, state, rows, key = small_step.step_of(config, small_step.LINEAR, 5, 2)
    new, metrics = step(state, rows, key)
    assert np.isfinite(metrics["loss"])
    assert {"proxy_ema_mean", "proxy_ema_std", "proxy_hat"} <= set(metrics)
    assert float(new.aux["margin"].mean) != 0.5
