"""`qface_jax.load`: embeddings, similarities and quality of arrays and files."""

import numpy as np
import onnx
import pytest
from PIL import Image

import qface_jax
from qface_jax.data_pipelines.tools.sample_images import drawn_faces
from qface_jax.errors import ConfigError, DataError
from qface_jax.inference.embedder import Embedder
from qface_jax.launch import main
from qface_jax.runs import run_folder
from qface_jax.sharded import parallel
from support import drawn_weights
from support.model_in_use import STEP
from support.onnx_model import Case
from support.onnx_model import model as onnx_model
from support.torch_writer import state_dict as stored
from support.torch_writer import write_legacy


@pytest.fixture(scope="module")
def model(model_run):
    return qface_jax.load(model_run)


@pytest.fixture(scope="module")
def faces():
    return drawn_faces(5)


def by_hand(run, images):
    embedder = Embedder.from_run(
        run_folder.read(run), "last", parallel.make_mesh(), batch_size=8
    )
    return [
        embedder(batch).wait().features for batch in (images, images[:, :, ::-1].copy())
    ]


def test_arrays(model, model_run, faces):
    plain, mirrored = by_hand(model_run, faces)
    found = model.embed(faces)
    np.testing.assert_array_equal(found.features, plain + mirrored)
    assert found.features.dtype == np.float32
    np.testing.assert_allclose(found.norms, np.linalg.norm(plain, axis=1), rtol=1e-6)
    assert found.names == [f"image {n}" for n in range(5)]
    assert found.statuses == ["ok"] * 5
    assert len(found) == 5
    assert found.ok.all()
    np.testing.assert_allclose(np.linalg.norm(found.unit, axis=1), 1, rtol=1e-6)
    alone = model.embed(faces, flip=False)
    np.testing.assert_array_equal(alone.features, plain)
    assert model.notes == (f"checkpoint of step {STEP} (last)",)


def test_the_batch_does_not_matter(model, faces):
    large, small = (model.embed(faces, batch_size=size) for size in (64, 2))
    np.testing.assert_allclose(small.features, large.features, rtol=1e-4, atol=1e-4)


def test_files_and_folders(model, people, tmp_path):
    found = model.embed(people)
    bad = found.names.index("p0/text.jpg")
    assert found.statuses[bad] == "not_an_image"
    assert found.messages[bad].startswith("not a picture")
    assert not found.features[bad].any()
    assert found.norms[bad] == -np.inf
    assert found.ok.sum() == len(found) - 1 == 15
    files = [people / name for name in found.names]
    listed = model.embed(files)
    np.testing.assert_array_equal(listed.features, found.features)
    assert listed.names == [str(file) for file in files]
    (tmp_path / "list.txt").write_text("".join(f"{file}\n" for file in files))
    np.testing.assert_array_equal(
        model.embed(tmp_path / "list.txt").features, found.features
    )
    one = model.embed(str(people / "p1" / "0.png"))
    np.testing.assert_allclose(
        one.features[0], found.features[found.names.index("p1/0.png")], rtol=1e-4
    )


def test_other_sizes_are_fitted_as_files_are(model, tmp_path):
    wide = np.random.default_rng(0).integers(0, 256, (1, 60, 90, 3)).astype(np.uint8)
    Image.fromarray(wide[0]).save(tmp_path / "wide.png")
    np.testing.assert_array_equal(
        model.embed(wide).features, model.embed(tmp_path / "wide.png").features
    )


def test_similarity_and_quality(model, people, faces):
    embedded = model.embed(people)
    found = model.similarity(embedded, faces[:2])
    assert found.shape == (16, 2)
    bad = embedded.names.index("p0/text.jpg")
    assert np.isnan(found[bad]).all()
    cos = embedded.unit @ model.embed(faces[:2]).unit.T
    np.testing.assert_allclose(found[embedded.ok], cos[embedded.ok], atol=1e-5)
    np.testing.assert_allclose(
        np.diag(model.similarity(faces, faces)), np.ones(5), atol=1e-5
    )
    scores = model.quality(faces)
    assert set(scores) == set(model.scores) == {"norm"}
    np.testing.assert_array_equal(scores["norm"], model.embed(faces, flip=False).norms)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((112, 112, 3), np.uint8), r"give images\[None\]"),
        (np.zeros((2, 3, 112, 112), np.uint8), r"give images.transpose\(0, 2, 3, 1\)"),
        (np.zeros((2, 112, 112, 3), np.float32), r"\(255 \* images\).round\(\)"),
        (np.zeros((2, 112, 112, 3), np.int64), r"give .astype\(numpy.uint8\)"),
        (np.zeros((2, 112, 112, 4), np.uint8), r"got uint8 \[2, 112, 112, 4\], expec"),
        (np.zeros((0, 112, 112, 3), np.uint8), r"got uint8 \[0, 112, 112, 3\], expec"),
        (np.uint8(3), r"got uint8 \[\], expected"),
        ([np.zeros((112, 112, 3), np.uint8)], r"numpy.stack\(images\)"),
    ],
)
def test_wrong_arrays_are_explained(model, images, message):
    with pytest.raises(ValueError, match=message):
        model.embed(images)


def test_wrong_words_are_explained(model, model_run, tmp_path):
    with pytest.raises(ValueError, match="batch_size: got 0, must be at least 1"):
        model.embed(np.zeros((1, 112, 112, 3), np.uint8), batch_size=0)
    with pytest.raises(DataError, match="no such file or folder; give a folder"):
        model.embed(tmp_path / "none")
    with pytest.raises(DataError, match="got 0 paths of images"):
        model.embed([])
    with pytest.raises(ConfigError, match="no such file or folder; give the folder of"):
        qface_jax.load(tmp_path / "none")
    with pytest.raises(ConfigError, match="not the folder of a run"):
        qface_jax.load(tmp_path)
    with pytest.raises(ConfigError, match="preprocess: got some, but"):
        qface_jax.load(model_run, preprocess="adaface")
    (tmp_path / "a.onnx").write_bytes(b"")
    with pytest.raises(ConfigError, match="which: got 'best'"):
        qface_jax.load(tmp_path / "a.onnx", which="best")
    with pytest.raises(ConfigError, match="preprocess: got 'other', must be one of"):
        qface_jax.load(tmp_path / "a.onnx", preprocess="other")


BODY = (
    "c = Conv <strides = [8, 8], pads = [1, 1, 1, 1]> (x, stem, bias) r = Relu (c) "
    "h = GlobalAveragePool (r)"
)


def same_as_imported(file, faces, tmp_path, **options):
    """A file embeds as the run that it is imported as; nothing is written beside it."""
    before = sorted(file.parent.iterdir())
    model = qface_jax.load(file, **options)
    found = model.embed(faces)
    assert sorted(file.parent.iterdir()) == before
    words = [f"--{name}={value}" for name, value in options.items()]
    out = tmp_path / "imported"
    assert main.main(["import", str(file), str(out), *words]) == 0
    imported = qface_jax.load(out).embed(faces)
    np.testing.assert_array_equal(found.features, imported.features)
    assert model.scores == ("norm",)
    return model


def test_an_onnx_file(faces, tmp_path):
    file = tmp_path / "network.onnx"
    case = Case(BODY, {"stem": (16, 3, 3, 3), "bias": (16,)})
    onnx.save(onnx_model(case, batch=1, side=112), file)
    model = same_as_imported(file, faces, tmp_path, preprocess="magface")
    (note,) = model.notes
    assert note.startswith("read an ONNX graph of opset")
    other = qface_jax.load(file, mean=0.0, std=(255.0, 255.0, 255.0))
    assert not np.allclose(
        other.embed(faces).features, model.embed(faces).features, rtol=1e-3
    )


def test_a_pytorch_file(golden, faces, tmp_path):
    recorded = golden("published_networks")["mobilefacenet"]
    file = tmp_path / "w.pth"
    write_legacy(file, stored(drawn_weights.state_dict(recorded)))
    same_as_imported(file, faces, tmp_path)
