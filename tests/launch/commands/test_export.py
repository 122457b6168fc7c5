"""`qface export`: what is printed, refused and left behind."""

import json

import jax
import numpy as np
import onnxruntime
import pytest

import qface_jax
from qface_jax.data_pipelines.tools.sample_images import drawn_faces
from qface_jax.launch import main


def export(model, out, *words):
    return main.main([str(word) for word in ("export", model, out, *words)])


def test_a_run_becomes_a_file(model_run, people, tmp_path, capsys):
    out = tmp_path / "new" / "face.onnx"
    assert export(model_run, out, f"--images={people / 'p1'}", "--flip") == 0
    said = capsys.readouterr().out
    assert "face.onnx: ONNX" in said
    for words in ("random, by 1", "faces, by 8", "embedding", "norm"):
        assert words in said
    faces = drawn_faces(3)
    session = onnxruntime.InferenceSession(out)
    embedding, norm = session.run(["embedding", "norm"], {"images": faces})
    model = qface_jax.load(model_run).embed(faces, flip=True)
    cosines = np.sum(embedding * model.features, 1)
    np.testing.assert_allclose(
        cosines, np.linalg.norm(model.features, axis=1), rtol=1e-4
    )
    np.testing.assert_allclose(norm, model.norms, rtol=1e-4)


def test_json_and_the_accuracy_of_the_file(model_run, tmp_path, capsys):
    out = tmp_path / "face.stablehlo"
    assert export(model_run, out, "--json", "--pairs=synthetic") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["name"] == "stablehlo"
    assert facts["step"] == 3
    assert facts["outputs"] == ["embedding", "norm"]
    labels = [one["label"] for one in facts["accuracy"]]
    assert "cross 14 px" in labels
    for one in facts["accuracy"]:
        assert one["file"] == pytest.approx(one["model"], abs=1e-6)


@pytest.mark.parametrize(
    ("out", "words", "message"),
    [
        ("face.bin", [], "its ending is that of no format; end it in .onnx"),
        ("face.onnx", ["--format=tflite"], "ends as a file of format onnx, got"),
        ("face.onnx", ["--centres"], "has no class centres; leave them out"),
        ("face.onnx", ["--tolerance=0"], "--tolerance: got 0, must be above 0"),
        ("face.onnx", ["--precision=int8"], "needs images that the ranges"),
        ("face.onnx", ["--pairs=nowhere.bin"], "nowhere.bin"),
        ("face.onnx", ["--images=nowhere"], "nowhere"),
        ("face.safetensors", [], "tiny: has no published PyTorch form"),
    ],
)
def test_what_cannot_be_is_refused(out, words, message, model_run, tmp_path, capsys):
    assert export(model_run, tmp_path / out, *words) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_file_has_the_accuracy_of_its_run_on_real_faces(faces_dir, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "face.onnx"
    words = (
        f"data.path={faces_dir / 'faces_lfw'}",
        f"eval.sets={faces_dir / 'lfw_open.bin'}",
        "eval.folds=2",
        "epochs=2",
        "optim.warmup_epochs=0",
        "model.backbone=mini",
        "model.embedding_dim=64",
        "data.batch_size=64",
    )
    command = ["train", "--config=adaface_r18_lfw", f"--workdir={run}"]
    with jax.numpy_dtype_promotion("standard"):  # optax is not strict
        assert main.main([*command, *(f"--config.{word}" for word in words)]) == 0
    capsys.readouterr()
    pairs = f"--pairs={faces_dir / 'lfw_open.bin'}"
    images = f"--images={faces_dir / 'folder'}"
    assert export(run, out, "--json", images, pairs, "--folds=2") == 0
    rates = json.loads(capsys.readouterr().out)["accuracy"]
    labels = {one["label"] for one in rates}
    assert {f"cross {side} px" for side in (56, 28, 14, 7)} <= labels
    # It has learned something that the file could lose: three standard errors of
    # 1,200 pairs above chance.
    assert max(one["model"] for one in rates) > 0.543
    for one in rates:
        assert abs(one["file"] - one["model"]) < 1e-3
