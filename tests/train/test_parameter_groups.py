"""Learning rates of groups of parameters, and parameters that stay as they are."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax import models
from qface_jax.data_pipelines.sources import training as sources
from qface_jax.errors import ConfigError
from qface_jax.planning import compiled_cost
from qface_jax.settings.rate_factors import RateFactor, parse
from qface_jax.sharded import parallel
from qface_jax.train import optim, parameter_groups
from qface_jax.train.setup import build, fresh_state
from support import small_step
from support.small_run import small

PARAMS = {
    "backbone": {
        "conv1": {"kernel": jnp.array([1.0, -2.0])},
        "layer1_0": {"conv1": {"kernel": jnp.array([0.5])}},
        "layer2_0": {"conv1": {"kernel": jnp.array([0.25])}},
        "fc": {"kernel": jnp.array([3.0]), "bias": jnp.array([4.0])},
    },
    "head": {},
}
FRONT = r"backbone/(conv1|bn1|prelu|layer1_)"  # of the backbone "tiny"


def test_words_become_groups():
    assert parse(()) == []
    assert parse(("backbone/layer[12]_=0.1", "head=0", r"a=b=2e-3")) == [
        RateFactor("backbone/layer[12]_", 0.1),
        RateFactor("head", 0.0),
        RateFactor("a=b", 0.002),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "word", ["backbone", "=1", "a=", "a=-1", "a=nan", "a=inf", "a=much", "(=1"]
)
def test_other_words_are_refused(word):
    with pytest.raises(ConfigError, match="expected PATTERN=FACTOR") as error:
        parse(("head=1", word))
    assert f"got {word!r}" in str(error.value)


def test_the_first_that_fits_the_beginning_counts():
    groups = parse(("backbone/layer1=0.5", "backbone/layer=2", "backbone/fc/b=3",
                    "conv1=7"))  # fmt: skip
    found = parameter_groups.factors(groups, PARAMS)["backbone"]
    assert found["layer1_0"]["conv1"]["kernel"] == 0.5
    assert found["layer2_0"]["conv1"]["kernel"] == 2.0
    assert found["fc"] == {"kernel": 1.0, "bias": 3.0}
    assert found["conv1"]["kernel"] == 1.0  # "conv1" begins no path


def test_a_group_without_parameters_is_refused_and_there_is_said_what_there_is():
    parameter_groups.check([], PARAMS)
    parameter_groups.check(parse(("backbone/fc=0",)), PARAMS)
    with pytest.raises(ConfigError) as error:
        parameter_groups.check(parse(("backbone/fc=0", "layer1=2")), PARAMS)
    text = str(error.value)
    assert "'layer1' is the beginning of no parameter's path" in text
    modules = ("conv1", "fc", "layer1_0", "layer2_0")
    assert text.endswith(", ".join(f"backbone/{name}" for name in modules))
    with pytest.raises(ConfigError, match="all factors are 0, nothing would learn"):
        parameter_groups.check(parse(("backbone=0",)), PARAMS)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_factor_is_one_on_the_rate_and_on_the_decay(name):
    plain = ("optim.schedule=constant", f"optim.name={name}", "optim.weight_decay=0.1")
    grads = jax.tree.map(lambda leaf: 0.1 + leaf, PARAMS)
    found = []
    for words in ((), ("optim.rate_factors=('backbone/layer1=0.5','backbone/fc=0')",)):
        config = small(*plain, *words)
        tx, _ = optim.build(config.optim, optim.length(config, 100))
        found.append(tx.update(grads, tx.init(PARAMS), PARAMS)[0]["backbone"])
    whole, scaled = found
    kernel = scaled["layer1_0"]["conv1"]["kernel"]
    np.testing.assert_allclose(kernel, 0.5 * whole["layer1_0"]["conv1"]["kernel"])
    np.testing.assert_array_equal(scaled["conv1"]["kernel"], whole["conv1"]["kernel"])
    assert not np.any(scaled["fc"]["kernel"]) and not np.any(scaled["fc"]["bias"])


def test_what_stays_is_not_changed_by_an_update_that_is_not_finite():
    tx = parameter_groups.scale(parse(("backbone/fc=0",)))
    updates = jax.tree.map(lambda leaf: leaf * jnp.nan, PARAMS)
    scaled, _ = tx.update(updates, tx.init(PARAMS))
    assert not np.any(scaled["backbone"]["fc"]["kernel"])
    assert np.all(np.isnan(scaled["backbone"]["conv1"]["kernel"]))


@cache
def tiny():
    """The backbone, its parameters' shapes and pictures' shape."""
    model = models.build(small().model)
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    return model, params, stats, jax.ShapeDtypeStruct((4, 112, 112, 3), jnp.float32)


def backward(*words):
    """Operations of the gradient to all parameters."""
    model, params, stats, images = tiny()
    apply = parameter_groups.learning(model, parse(words)).apply

    def loss(params, stats, images):
        features, _ = apply(params, stats, images, train=True, key=None)
        return jnp.sum(features**2)

    program = jax.jit(jax.grad(loss)).lower(params, stats, images).compile()
    return compiled_cost.read(program.as_text()).work


def convolution(side, kernel, stride, channels, made, images=4):
    """Operations of a convolution's forward pass; products with padding are none."""
    pad = kernel // 2
    tops = range(-pad, side + pad - kernel + 1, stride)
    pairs = sum(0 <= top + tap < side for top in tops for tap in range(kernel))
    return 2 * images * pairs**2 * channels * made


def test_nothing_is_computed_backwards_before_the_first_layer_that_learns():
    """The gradient to a kernel costs a forward pass; that to its maps another."""
    stem, inner = convolution(14, 3, 2, 192, 8), convolution(7, 3, 1, 8, 8)
    shrinking, last = convolution(7, 3, 2, 8, 16), convolution(4, 3, 1, 16, 16)
    shortcut, fc = convolution(7, 1, 2, 8, 16), 2 * 4 * (4 * 4 * 16) * 16
    forward = stem + 2 * inner + shrinking + last + shortcut + fc
    # Maps of the shrinking convolution come from a batch norm that learns.
    second_stage = 2 * (shrinking + last + fc) + shortcut
    assert backward(f"{FRONT}=0") == forward + second_stage
    first_stage = shortcut + stem + 4 * inner
    assert backward() == forward + second_stage + first_stage


def test_without_groups_that_stay_the_backbone_is_the_same_function():
    model = tiny()[0]
    assert parameter_groups.learning(model, parse(("backbone/fc=2",))) is model


def two_layers(params, stats, output, *, train, key):
    flat = output.map.reshape(output.map.shape[0], -1)
    maps = jnp.tanh(jnp.einsum("bi,ij->bj", flat, params["first"]["kernel"]))
    return jnp.einsum("bj,jd->bd", maps, params["second"]["kernel"]), stats


def two_layers_init(key):
    first, second = jax.random.split(key)
    kernels = {
        "first": {"kernel": jax.random.normal(first, (48, 24))},
        "second": {"kernel": jax.random.normal(second, (24, 16))},
    }
    return kernels, {}


@pytest.mark.parametrize("stays", ["first", "second"])
def test_a_step_leaves_what_stays_bit_for_bit(stays):
    """Weight decay included; the class centres learn."""
    mesh = parallel.make_mesh(jax.devices()[:1])
    model = models.Model(two_layers_init, small_step.pixels, two_layers)
    config = small(f"optim.rate_factors=('backbone/{stays}=0','head=0.5')",
                   "optim.weight_decay=0.1", "optim.schedule=constant")  # fmt: skip
    setup = build(config, sources.training_source(config), mesh, model=model)
    state = fresh_state(setup)
    old = jax.device_get(state.params)
    rng = np.random.default_rng(0)
    rows = {
        "images": rng.integers(0, 256, (16, 112, 112, 3), np.uint8),
        "labels": rng.integers(0, 12, 16).astype(np.int32),
    }
    for _ in range(2):
        batch = parallel.to_device(rows, setup.shard.rows)
        state, _ = setup.step_fn(state, batch, setup.train_key)
    new = jax.device_get(state.params)
    for name, layer in old["backbone"].items():
        same = np.array_equal(layer["kernel"], new["backbone"][name]["kernel"])
        assert same == (name == stays), name
    assert np.any(old["head"]["centres"] != new["head"]["centres"])


def test_a_run_refuses_a_group_that_its_model_has_not():
    config = small("optim.rate_factors=('backbone/stage9=0',)")
    with pytest.raises(ConfigError, match="backbone/layer2_0"):
        build(config, sources.training_source(config), parallel.make_mesh())
