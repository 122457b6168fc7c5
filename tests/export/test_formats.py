"""Files of every format, run by their own runtimes, say what the model says."""

import json
import math
import subprocess
import sys

import jax
import numpy as np
import onnx
import pytest
from jax import export as jax_export

from qface_jax.configs.base import get_config
from qface_jax.errors import ConfigError, DataError
from qface_jax.export import exporting
from qface_jax.export.exporting import format_of
from qface_jax.export.interface import Interface
from qface_jax.export.subject import FLOAT16, INT8, Request, Subject
from qface_jax.tables import EXPORT_FORMATS
from qface_jax.weights import importing, onnx_file
from support.fresh_weights import with_statistics
from support.onnx_model import Case, ints, model

# Everything that can be asked for, each as it is not by default.
OTHER = Interface("normalized", "nchw", "BGR", flip=True, unit=False, cosines=True)


def written(subject, name, folder, pictures, request=None, **options):
    chosen = EXPORT_FORMATS[name]
    path = folder / f"face{chosen.ending}"
    request = Request(Interface()) if request is None else request
    result = exporting.export(
        subject, path, chosen, request, pictures=pictures, **options
    )
    assert sorted(one.name for one in folder.iterdir()) == [
        path.name, f"{path.name}.json"
    ]  # fmt: skip
    return path, result


def largest(result):
    return max(one.difference for rows in result.differences.values() for one in rows)


@pytest.mark.parametrize("interface", [Interface(), OTHER], ids=["usual", "other"])
@pytest.mark.parametrize("name", ["onnx", "stablehlo", "tflite"])
def test_a_file_says_what_the_model_says(name, interface, tiny, tmp_path, pictures):
    path, result = written(tiny, name, tmp_path, pictures, Request(interface))
    assert set(result.differences) == set(interface.outputs)
    batches = {one.batch for one in result.differences["embedding"]}
    assert batches == {1, 8}
    assert largest(result) < 2e-5
    facts = json.loads(path.with_name(f"{path.name}.json").read_text())
    assert facts["color_order"] == interface.color_order
    assert facts["outputs"] == list(interface.outputs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "name"),
    [
        ("iresnet18", "onnx"),
        ("iresnet18", "tflite"),
        ("ir_se_50", "onnx"),
        ("ir_se_50", "tflite"),
        ("face_transformer", "onnx"),
        ("face_transformer", "tflite"),
        ("mobilefacenet", "onnx"),
        ("mobilefacenet", "tflite"),
        ("mobilefacenet_relu6", "onnx"),
        ("mobilefacenet_relu6", "tflite"),
        ("resnet50", "onnx"),
        ("resnet50", "tflite"),
        ("mobilenet_v2", "onnx"),
        ("mobilenet_v2", "tflite"),
    ],
)
def test_every_family_is_carried(backbone, name, tmp_path, pictures):
    config = get_config()
    config.model.backbone = backbone
    subject = Subject(config, *with_statistics(config), None, {})
    written(subject, name, tmp_path, pictures)  # raises above 1e-4


def test_onnx_says_what_it_is(tiny, tmp_path, pictures):
    path, _ = written(tiny, "onnx", tmp_path, pictures)
    proto = onnx.load(path)
    assert [one.version for one in proto.opset_import if not one.domain] == [18]
    facts = json.loads({one.key: one.value for one in proto.metadata_props}["qface"])
    assert (facts["input"], facts["color_order"]) == ("uint8", "RGB")
    (images,) = proto.graph.input
    sides = [
        one.dim_param or one.dim_value for one in images.type.tensor_type.shape.dim
    ]
    assert (images.name, sides) == ("images", ["batch", 112, 112, 3])
    names = [output.name for output in proto.graph.output]
    assert names == ["embedding", "norm"]


def test_stablehlo_runs_with_jax_alone(tiny, tmp_path, pictures):
    path, _ = written(tiny, "stablehlo", tmp_path, pictures)
    exported = jax_export.deserialize(bytearray(path.read_bytes()))
    assert set(exported.platforms) == {"cpu", "cuda", "rocm", "tpu"}
    outputs = exported.call(pictures["drawn faces"][:3])
    lengths = np.linalg.norm(outputs["embedding"], axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_a_fixed_batch(tiny, tmp_path, pictures):
    request = Request(Interface(batch=3))
    _, result = written(tiny, "stablehlo", tmp_path, pictures, request)
    assert {one.batch for one in result.differences["norm"]} == {3}


def test_float16_and_int8(tiny, tmp_path, pictures):
    for precision, images in ((FLOAT16, None), (INT8, pictures["drawn faces"])):
        folder = tmp_path / precision
        folder.mkdir()
        request = Request(Interface(), precision, images)
        path, result = written(tiny, "onnx", folder, pictures, request)
        assert 1e-5 < largest(result) < exporting.TOLERANCES[precision]
        types = {one.data_type for one in onnx.load(path).graph.initializer}
        wanted = {FLOAT16: onnx.TensorProto.FLOAT16, INT8: onnx.TensorProto.INT8}
        assert wanted[precision] in types
        assert json.loads(onnx.load(path).metadata_props[0].value)["backbone"]


IMAGE = {"w": (4, 3, 5, 5), "b": (4,), "s": ints(1, 4 * 14 * 14), "k": (784, 6)}
BODY = (
    "c = Conv <strides = [8,8]> (x, w, b) p = Relu (c) r = Reshape (p, s) "
    "h = MatMul (r, k)"
)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """An imported graph with the batch of 1 in it, and its file."""
    path = tmp_path_factory.mktemp("graph") / "network.onnx"
    onnx.save(model(Case(BODY, IMAGE, opset=17), batch=1, side=112), path)
    return path


def subject_of(path, **options):
    from qface_jax.api import model_weights
    from qface_jax.export.subject import subject_of

    weights = model_weights.read(path, **options)
    return subject_of(weights, with_centres=False)


@pytest.mark.parametrize("name", ["onnx", "stablehlo"])
def test_an_imported_graph_goes_out_again(name, imported, tmp_path, pictures):
    subject = subject_of(imported, preprocess="adaface")
    request = Request(Interface("float32", "nchw", flip=True))
    path, result = written(subject, name, tmp_path, pictures, request)
    assert largest(result) < 1e-5
    if name == "onnx":
        proto = onnx.load(path)
        operators = [node.op_type for node in proto.graph.node]
        assert operators.count("Conv") == 2  # of the image and of its mirror image
        assert "transpose" not in {one.lower() for one in operators}
        assert proto.opset_import[0].version == 17


def test_what_was_exported_is_imported_again(tiny, tmp_path, pictures):
    interface = Interface("normalized", "nchw", unit=False, norm=False)
    path, _ = written(tiny, "onnx", tmp_path, pictures, Request(interface))
    again = subject_of(path)
    assert again.config.model.embedding_dim == tiny.config.model.embedding_dim
    ours, theirs = tiny.runner(Interface()), again.runner(Interface())
    faces = pictures["drawn faces"]
    np.testing.assert_allclose(
        ours(faces)["embedding"], theirs(faces)["embedding"], atol=2e-5
    )


def test_the_graph_that_is_written_back_is_the_file(imported, tmp_path):
    """Its weights are those of the file, bit for bit, in the file's own order."""
    from qface_jax.export.onnx_network import model_of

    read = onnx_file.read(imported)
    proto = model_of(onnx, read.graph, read.params, read.stats)
    before, after = (
        {one.name: onnx.numpy_helper.to_array(one) for one in p.graph.initializer}
        for p in (onnx.load(imported), proto)
    )
    for name in ("w", "b", "k"):
        np.testing.assert_array_equal(after[name], before[name])
    assert after["s of any batch"].tolist() == [0, 784]


def test_nothing_is_written_above_the_tolerance(tiny, tmp_path, pictures):
    with pytest.raises(
        DataError, match=r"more than 1e-12 of an output's norm"
    ) as error:
        written(tiny, "onnx", tmp_path, pictures, tolerance=1e-12)
    assert "embedding: 8 random, batch 1" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_a_number_is_not_written(tiny, tmp_path, pictures):
    params = jax.tree.map(lambda leaf: leaf * math.nan, tiny.params)
    with pytest.raises(DataError, match="nan of the norm"):
        written(tiny._replace(params=params), "stablehlo", tmp_path, pictures)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "request_", "message"),
    [
        ("safetensors", Request(Interface()), "tiny: has no published PyTorch form"),
        (
            "tflite",
            Request(Interface(), INT8),
            "TFLite is written in float32 or float1",
        ),
        ("onnx", Request(Interface(), INT8), "int8: needs images"),
        ("onnx", Request(Interface(), "int4"), "precision: got 'int4', must be one of"),
    ],
)
def test_what_a_format_does_not_carry_is_refused(
    name, request_, message, tiny, tmp_path, pictures
):
    with pytest.raises(ConfigError, match=message):
        exporting.export(
            tiny, tmp_path / "x", EXPORT_FORMATS[name], request_, pictures=pictures
        )
    assert list(tmp_path.iterdir()) == []


def test_more_than_a_file_holds_is_refused_before_any_work(tiny, tmp_path):
    class Centres:
        nbytes = 2**31

    many = tiny._replace(centres=Centres())
    with pytest.raises(ConfigError, match=r"bytes of weights, but a file .* holds"):
        exporting.check(
            many, EXPORT_FORMATS["onnx"], Request(Interface()), tmp_path / "face.onnx"
        )


def test_a_backbone_that_a_package_does_not_carry_is_refused_by_name(
    tiny, tmp_path, pictures, monkeypatch
):
    import jax2onnx

    def to_onnx(*arguments, **options):
        raise NotImplementedError("No plugins registered for primitive 'sort'")

    monkeypatch.setattr(jax2onnx, "to_onnx", to_onnx)
    with pytest.raises(ConfigError, match="backbone tiny: jax2onnx does not carry it"):
        written(tiny, "onnx", tmp_path, pictures)


def test_jax_is_as_it_was_after_an_export(tmp_path):
    """In a process of its own: here jax2onnx may have been imported before."""
    code = """
import jax, jax.numpy as jnp
from qface_jax import models
from qface_jax.configs.base import get_config
from qface_jax.export import onnx_network
from qface_jax.export.subject import Subject
before = [(m, dict(vars(m))) for m in onnx_network._REPLACED_IN]
config = get_config()
config.model.backbone = "tiny"
params, stats = jax.jit(models.build(config.model).init)(jax.random.key(0))
onnx_network.network_of(Subject(config.lock(), params, stats, None, {}))
changed = [n for m, was in before for n, v in was.items() if vars(m)[n] is not v]
assert changed == [], changed
assert jnp.cumsum(jnp.ones(3), 0).tolist() == [1, 2, 3]
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr


def test_the_format_is_found_by_the_ending(tmp_path):
    assert format_of(tmp_path / "a.onnx", None)[0] == "onnx"
    assert format_of(tmp_path / "a.bin", "tflite")[0] == "tflite"
    with pytest.raises(ConfigError, match=r"end it in \.onnx, \.stablehlo"):
        format_of(tmp_path / "a.bin", None)
    with pytest.raises(ConfigError, match="format onnx, got format tflite"):
        format_of(tmp_path / "a.onnx", "tflite")


def test_the_config_of_a_bfloat16_run_computes_in_float32(tiny):
    from pathlib import Path

    from qface_jax.api.model_weights import ModelWeights
    from qface_jax.export.subject import subject_of

    config = get_config()
    config.model.backbone, config.model.dtype = "tiny", "bfloat16"
    parts = {"params/backbone": tiny.params, "stats": tiny.stats, "params/head": {}}
    weights = ModelWeights(Path("run"), config.lock(), parts, 0, 7, ())
    assert subject_of(weights, with_centres=False).config.model.dtype == "float32"
    assert config.model.dtype == "bfloat16"
    with pytest.raises(ConfigError, match="run: has no class centres"):
        subject_of(weights, with_centres=True)


def test_every_format_is_of_the_form():
    for name in EXPORT_FORMATS:
        assert EXPORT_FORMATS[name].ending.startswith(".")
    assert importing.ONNX in EXPORT_FORMATS
