"""Parameter counts and names of every backbone against the published structures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax.errors import ConfigError
from qface_jax.models import build
from qface_jax.tables import BACKBONES

# All but imported graphs, which have the structure that they come with.
OWN = [name for name in BACKBONES if name != "onnx"]
LEAVES = {"kernel", "bias", "scale", "negative_slope"}
# What a transformer adds to its tokens is named as in the reference, and not decayed.
ADDED = {"cls_token", "pos_embedding"}
# (parameters, running statistics) at 512-d of the published PyTorch modules, built from
# their structure with torch 2.13. IResNet's own count is 512 higher: it stores a scale
# of its last batch norm, which it holds at 1.
PUBLISHED = {
    "iresnet18": (24_025_600 - 512, 14_720),
    "iresnet34": (34_139_328 - 512, 25_856),
    "iresnet50": (43_590_848 - 512, 38_144),
    "iresnet100": (65_156_160 - 512, 69_632),
    "ir_18": (24_020_352, 14_592),
    "ir_34": (34_134_080, 25_728),
    "ir_50": (43_585_600, 38_016),
    "ir_101": (65_150_912, 69_504),
    "ir_se_50": (43_808_320, 38_016),
    "mobilefacenet": (2_059_520, 23_808),
}
UNITS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}


@pytest.fixture(scope="module")
def shapes(model_config):
    """Returns the parameters' and the statistics' shapes of a backbone."""

    @functools.cache
    def trace(backbone, embedding_dim=16):
        config = model_config(backbone=backbone, embedding_dim=embedding_dim)
        return jax.eval_shape(build(config).init, jax.random.key(0))

    return trace


def count(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def paths(tree):
    return {
        "/".join(entry.key for entry in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


@pytest.mark.parametrize("backbone", PUBLISHED)
def test_counts_are_the_published_ones(backbone, shapes):
    params, stats = shapes(backbone, 512)
    assert (count(params), count(stats)) == PUBLISHED[backbone]


@pytest.mark.parametrize("depth", UNITS)
def test_iresnet_counts_by_arithmetic(depth, shapes):
    """The same numbers, counted layer by layer on paper."""
    conv, norm, slope = 3 * 3 * 3 * 64, 2 * 64, 64
    total = conv + norm + slope
    inputs = 64
    for outputs, units in zip((64, 128, 256, 512), UNITS[depth], strict=True):
        for index in range(units):
            total += 2 * inputs + 9 * inputs * outputs + 2 * outputs + outputs
            total += 9 * outputs * outputs + 2 * outputs
            if index == 0:
                total += inputs * outputs + 2 * outputs
            inputs = outputs
    total += 2 * 512 + (7 * 7 * 512 * 512 + 512) + 512
    params, _ = shapes(f"iresnet{depth}", 512)
    assert count(params) == total


@pytest.mark.parametrize("backbone", OWN)
def test_leaf_names_and_dtypes(backbone, shapes):
    params, stats = shapes(backbone)
    for path, shape in paths(params).items():
        if path in ADDED:
            continue
        name = path.rsplit("/", 1)[1]
        assert name in LEAVES, path
        # Weight decay goes by the name: all that is a matrix, and nothing else.
        assert (name == "kernel") == (len(shape) > 1), path
    kept = {path.rsplit("/", 1)[1] for path in paths(stats)}
    assert kept == (set() if "transformer" in backbone else {"mean", "var"})
    leaves = jax.tree.leaves((params, stats))
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)


@pytest.mark.parametrize("backbone", OWN)
def test_features_are_float32_of_the_dimension_asked_for(
    backbone, model_config, shapes
):
    model = build(model_config(backbone=backbone, dtype="bfloat16", dropout=0.4))
    params, stats = shapes(backbone)
    images = jax.ShapeDtypeStruct((2, 112, 112, 3), jnp.float32)
    features, new = jax.eval_shape(
        lambda p, s, x, k: model.apply(p, s, x, train=True, key=k),
        *(params, stats, images, jax.random.key(0)),
    )
    assert (features.shape, features.dtype) == ((2, 16), jnp.float32)
    assert jax.tree.structure(new) == jax.tree.structure(stats)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(new))


def test_names_follow_the_published_modules(shapes):
    """What an importer of PyTorch weights relies on."""
    iresnet = paths(shapes("iresnet18")[0])
    assert iresnet["layer1_0/conv1/kernel"] == (3, 3, 64, 64)
    assert iresnet["layer2_0/downsample_0/kernel"] == (1, 1, 64, 128)
    assert iresnet["layer4_1/bn3/scale"] == (512,)
    assert iresnet["fc/kernel"] == (7 * 7 * 512, 16)
    assert "features/scale" not in iresnet
    squeezed = paths(shapes("ir_se_50")[0])
    assert squeezed["body_23/res_layer_4/kernel"] == (3, 3, 512, 512)
    assert squeezed["body_23/se_block/fc1/kernel"] == (1, 1, 512, 32)
    assert "body_0/shortcut_layer_0/kernel" not in squeezed
    assert squeezed["body_3/shortcut_layer_0/kernel"] == (1, 1, 64, 128)
    assert not any(path.startswith("output_layer_4") for path in squeezed)
    mobile = paths(shapes("mobilefacenet")[0])
    assert mobile["layers_1/layers_0/kernel"] == (3, 3, 2, 128)
    assert mobile["layers_3/layers_0/layers_1/layers_0/kernel"] == (3, 3, 1, 128)
    assert mobile["features/layers_0/layers_0/kernel"] == (7, 7, 1, 512)


@pytest.mark.parametrize(
    ("backbone", "path", "deviation"),
    [
        ("iresnet18", "layer4_0/conv2/kernel", 0.1),
        ("iresnet18", "fc/kernel", 1 / np.sqrt(3 * 25_088)),
        ("ir_18", "body_6/res_layer_4/kernel", np.sqrt(2 / (9 * 512))),
        ("ir_18", "output_layer_3/kernel", np.sqrt(2 / 16)),
        (
            "mobilefacenet",
            "layers_5/layers_0/layers_1/layers_0/kernel",
            np.sqrt(2 / 9 / 256),
        ),
    ],
)
def test_initial_values_spread_as_in_the_references(
    backbone, path, deviation, model_config
):
    model = build(model_config(backbone=backbone))

    def leaf(key):
        tree, _ = model.init(key)
        for name in path.split("/"):
            tree = tree[name]
        return tree

    values = np.asarray(jax.jit(leaf)(jax.random.key(1)))
    assert values.std() == pytest.approx(deviation, rel=0.05)
    assert abs(values.mean()) < 0.1 * deviation


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"backbone": "vgg"},
            r"backbone 'vgg': unknown; must be one of .*iresnet18, .*mini",
        ),
        (
            {"dtype": "float16"},
            r"model\.dtype: got 'float16', must be float32 or bf",
        ),
        ({"embedding_dim": 0}, r"model\.embedding_dim: got 0"),
        ({"dropout": 1.0}, r"model\.dropout: got 1\.0"),
    ],
)
def test_bad_values_are_named(changes, message, model_config):
    with pytest.raises(ConfigError, match=message):
        build(model_config(**changes))
