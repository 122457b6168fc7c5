"""Published networks by the names of their tensors, as recorded from PyTorch."""

import functools
from pathlib import Path

import jax
import numpy as np
import pytest

from qface_jax import models
from qface_jax.errors import DataError
from qface_jax.weights import importing, mapping, structures
from qface_jax.weights.imported_run import config_of
from support import drawn_weights

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
# Small enough for the default tests; ir_se_50 has what they lack.
RECORDED = (
    "iresnet18",
    "mobilefacenet",
    "mobilefacenet_relu6",
    pytest.param("ir_18", marks=pytest.mark.slow),
    pytest.param("ir_se_50", marks=pytest.mark.slow),
    pytest.param("face_transformer", marks=pytest.mark.slow),
    pytest.param("face_transformer_p12s8", marks=pytest.mark.slow),
)
DIMENSION = {"mobilefacenet_relu6": 128}  # length of a feature; the others' is 512


@pytest.fixture(scope="module")
def recorded(golden):
    return golden("published_networks")


@functools.cache
def jitted(backbone):
    changes = {"backbone": backbone, "embedding_dim": DIMENSION.get(backbone, 512)}
    config = config_of(changes).model
    return jax.jit(functools.partial(models.build(config).apply, train=False, key=None))


def embed(read, images):
    features, _ = jitted(read.imported.model["backbone"])(
        read.imported.params, read.imported.stats, images
    )
    return np.asarray(features)[:, ::8]


SILENT = importing.Input()


def model_of(tensors, structure="auto", user_input=SILENT):
    file = Path("weights.pt")
    return importing.model_of(tensors, file, structure=structure, user_input=user_input)


def close(ours, theirs):
    error = np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)
    assert error.max() < 1e-5


@pytest.mark.parametrize("name", RECORDED)
def test_features_are_those_of_the_published_code(name, recorded):
    tensors = drawn_weights.state_dict(recorded[name])
    read = model_of(tensors)
    assert read.imported.model["backbone"] == name
    assert ("centres" in read.imported.head) == name.startswith("face")
    # What AdaFace published takes BGR; the import turned it to RGB.
    assert read.reference.color_order == ("BGR" if name[:3] == "ir_" else "RGB")
    assert read.imported.model["color_order"] == "RGB"
    close(embed(read, drawn_weights.images()), recorded[f"{name}_features"])


def zeros(recorded):
    """A whole state dict of one number each, for what only looks at names."""
    return {
        name: np.broadcast_to(np.float32(name.endswith("features.weight")), shape)
        for name, shape in drawn_weights.shapes(recorded).items()
    }


@pytest.mark.parametrize("name", sorted(set(structures.NAMES) - {"iresnet200"}))
def test_every_depth_is_told_and_filled(name, recorded):
    tensors = zeros(recorded[name])
    shapes = {tensor: values.shape for tensor, values in tensors.items()}
    recognised = structures.recognise(shapes)
    assert recognised.backbone == name
    dim = DIMENSION.get(name, 512)
    assert recognised.embedding_dim == dim
    params, stats = importing.our_shapes({"backbone": name, "embedding_dim": dim})
    mapped = mapping.map_tensors(tensors, recognised, params=params, stats=stats)
    assert len(jax.tree.leaves(mapped.params)) == len(params)
    learned = sum(
        values.size
        for tensor, values in tensors.items()
        if not tensor.endswith((*BUFFERS, "features.weight", "loss.weight"))
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(mapped.params)) == learned


def folded(tensors, family, backbone):
    """The state dict after each batch norm went into the convolution before it."""
    names = {
        mapping.our_path(name.removesuffix(".weight")): name.removesuffix(".weight")
        for name in tensors
    }
    kept = dict(tensors)
    for path, module in names.items():
        norm = mapping.norm_after(path, family)
        if f"{module}.weight" not in kept or norm not in names:
            continue
        norm = names[norm]
        if f"{norm}.running_var" not in kept or kept[f"{module}.weight"].ndim < 2:
            continue
        part = {leaf: kept.pop(f"{norm}.{leaf}") for leaf in ("weight", "bias")}
        mean, var = (kept.pop(f"{norm}.running_{leaf}") for leaf in ("mean", "var"))
        kept.pop(f"{norm}.num_batches_tracked")
        factor = part["weight"] / np.sqrt(var + 1e-5)
        weight = kept[f"{module}.weight"]
        shape = (-1,) + (1,) * (weight.ndim - 1)
        kept[f"{module}.weight"] = weight * factor.reshape(shape)
        bias = kept.get(f"{module}.bias", np.zeros_like(mean))
        kept[f"{module}.bias"] = (bias - mean) * factor + part["bias"]
    return kept


@pytest.mark.parametrize("name", RECORDED[:3])
def test_folded_batch_norms_say_the_same(name, recorded):
    tensors = drawn_weights.state_dict(recorded[name])
    family = next(f for f in structures.FAMILIES if name in f.backbones)
    fewer = folded(tensors, family, name)
    norms = sum("running_mean" in tensor for tensor in tensors)
    left = sum("running_mean" in tensor for tensor in fewer)
    # A block of IResNet begins with a norm, and so does what follows the last map.
    assert left == (9 if name == "iresnet18" else 0)
    read = model_of(fewer)
    assert any(f"{norms - left} batch norms" in note for note in read.notes)
    close(embed(read, drawn_weights.images()), recorded[f"{name}_features"])


@pytest.fixture(scope="module")
def small(recorded):
    """Tensors of the smallest published network."""
    return drawn_weights.state_dict(recorded["mobilefacenet"])


@pytest.mark.parametrize("prefix", ["module.", "model.", "backbone.module."])
def test_a_prefix_is_left_out(prefix, small):
    tensors = {prefix + name: values for name, values in small.items()}
    read = model_of(tensors)
    plain = model_of(small)
    jax.tree.map(
        np.testing.assert_array_equal, read.imported.params, plain.imported.params
    )


@pytest.mark.parametrize(
    ("name", "shape"),
    [("head.kernel", (512, 7)), ("head.weight", (7, 512)), ("fc.weight", (512, 7))],
)
def test_class_centres_come_along_as_rows(name, shape, small):
    tensors = {f"model.{tensor}": values for tensor, values in small.items()}
    tensors[name] = drawn_weights.draw(name, shape)
    tensors["head.batch_mean"] = np.ones((1, 1), np.float32)
    read = model_of(tensors)
    centres = read.imported.head["centres"]
    assert centres.shape == (7, 512)
    np.testing.assert_array_equal(
        centres[3, 5], tensors[name][(5, 3) if shape[0] == 512 else (3, 5)]
    )


def test_colours_and_numbers_that_the_user_says(small):
    user_input = importing.Input(mean=(1.0, 2.0, 3.0), std=(4.0,), color_order="BGR")
    read = model_of(small, user_input=user_input)
    plain = model_of(small)
    kernels = (
        r.imported.params["layers_0"]["layers_0"]["kernel"] for r in (read, plain)
    )
    turned, kernel = kernels
    np.testing.assert_array_equal(turned, kernel[:, :, ::-1])
    assert read.imported.model["input_mean"] == (1.0, 2.0, 3.0)
    assert read.imported.model["input_std"] == (4.0, 4.0, 4.0)


def test_all_that_does_not_fit_is_named_at_once(small):
    tensors = dict(small)
    tensors["extra.weight"] = np.zeros(3, np.float32)
    tensors["layers.0.layers.1.odd"] = np.zeros(3, np.float32)
    del tensors["conv_sep.layers.2.weight"]
    tensors["conv_sep.layers.1.bias"] = np.zeros(5, np.float32)
    with pytest.raises(DataError) as said:
        model_of(tensors)
    text = str(said.value)
    assert "extra.weight [3]: has no place" in text
    assert "layers.0.layers.1.odd [3]: has no place" in text
    assert "conv_sep/layers_2/negative_slope: nothing in the file for it" in text
    assert "conv_sep.layers.1.bias: has shape [5]" in text


def test_a_scale_that_we_hold_must_be_one(recorded):
    tensors = zeros(recorded["iresnet18"])
    tensors["features.weight"] = np.full(512, 2, np.float32)
    with pytest.raises(DataError, match=r"features\.weight: must be 1 throughout"):
        model_of(tensors)


def test_unknown_networks_and_depths_are_told(recorded):
    with pytest.raises(DataError, match=r"not those of a known structure.*torch\.onnx"):
        model_of({"stem.weight": np.zeros(3, np.float32)})
    tensors = zeros(recorded["iresnet18"])
    fewer = {n: v for n, v in tensors.items() if not n.startswith("layer4.1")}
    with pytest.raises(
        DataError, match="of a depth or width that is none of iresnet18"
    ):
        model_of(fewer)
    with pytest.raises(DataError, match=r"of --structure=ir_50"):
        model_of(tensors, structure="ir_50")
    with pytest.raises(DataError, match=r"layer3_2/conv1/kernel: nothing in the file"):
        model_of(tensors, structure="iresnet50")
