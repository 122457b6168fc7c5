"""`qface embed`: a file of features, resumed where it was cut off."""

import json
import shutil
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

import qface_jax
from qface_jax.errors import ConfigError, DataError
from qface_jax.evals import npz_file
from qface_jax.inference import feature_file, feature_store
from qface_jax.inference.embedder import Embedder
from qface_jax.launch import main
from qface_jax.runs import run_folder
from support.image_files import noise

FIELDS = {
    "manifest", "name", "status", "message", "row", "stamp", "unusable", "plain",
    "mirrored", "score_norm",
}  # fmt: skip


def embed(run, images, out, *words):
    command = ["embed", run, images, f"--out={out}", "--batch-size=8", *words]
    return main.main([str(word) for word in command])


@pytest.fixture(scope="module")
def written(model_run, people, tmp_path_factory):
    out = tmp_path_factory.mktemp("embedded") / "new" / "people.npz"
    assert embed(model_run, people, out) == 0
    return out


def test_the_file_has_what_the_model_gives(written, model_run, people, capsys):
    embedded = qface_jax.load(model_run).embed(people)
    read = qface_jax.read_embeddings(written)
    np.testing.assert_allclose(read.features, embedded.features, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(read.norms, embedded.norms, rtol=1e-4)
    assert read.names == embedded.names
    assert read.statuses == embedded.statuses
    assert read.messages == embedded.messages
    with np.load(written) as arrays:
        assert set(arrays.files) == FIELDS
        np.testing.assert_array_equal(
            arrays["plain"] + arrays["mirrored"], read.features
        )
        assert arrays["plain"].dtype == np.float32
        assert arrays["name"][0] == "p0/0.png"
    assert [path.name for path in written.parent.iterdir()] == ["people.npz"]


def test_the_same_command_again_does_nothing(written, model_run, people, capsys):
    before = written.read_bytes()
    assert embed(model_run, people, written) == 0
    assert "it was there already, of these images by this model" in (
        capsys.readouterr().out
    )
    assert embed(model_run, people, written, "--no-flip") == 2
    assert "holds other features (another flip); give another --out" in (
        capsys.readouterr().err
    )
    assert written.read_bytes() == before


def test_json_without_flip(model_run, people, tmp_path, capsys):
    out = tmp_path / "a.npz"
    assert embed(model_run, people / "p0", out, "--no-flip", "--json") == 0
    printed = capsys.readouterr()
    facts = json.loads(printed.out)
    assert facts["out"] == str(out)
    assert (facts["images"], facts["width"]) == (4, 16)
    assert facts["statuses"] == {"ok": 3, "not_an_image": 1}
    assert facts["not_ok"][0].startswith("text.jpg: not_an_image, not a picture")
    assert facts["scores"]["norm"]["min"] > 0
    assert "embedding: 4/4 images (100%) in " in printed.err
    with np.load(out) as arrays:
        assert set(arrays.files) == FIELDS - {"mirrored"}


@pytest.fixture
def cut_off(model_run, people, tmp_path, monkeypatch, capsys):
    """A folder of images, and OUT, of which four images are embedded."""
    monkeypatch.setattr(feature_store, "ROWS", 4)
    images, out = tmp_path / "images", tmp_path / "a.npz"
    shutil.copytree(people, images)
    embed_batches, calls = Embedder.embed, []

    def dies(self, *args, **kwargs):
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return embed_batches(self, *args, **kwargs)

    monkeypatch.setattr(Embedder, "embed", dies)
    assert embed(model_run, images, out) == 130
    monkeypatch.setattr(Embedder, "embed", embed_batches)
    assert not out.exists()
    assert (tmp_path / "a.npz.embedding").is_dir()
    capsys.readouterr()
    return images, out


def test_what_was_cut_off_goes_on(cut_off, model_run, written, capsys):
    images, out = cut_off
    assert embed(model_run, images, out) == 0
    assert "16/16 images" in capsys.readouterr().err
    whole, resumed = (qface_jax.read_embeddings(path) for path in (written, out))
    np.testing.assert_allclose(resumed.features, whole.features, rtol=1e-4, atol=1e-4)
    assert resumed.statuses == whole.statuses
    assert not out.with_name("a.npz.embedding").exists()


def test_an_image_that_was_replaced_is_embedded_again(cut_off, model_run):
    images, out = cut_off
    Image.fromarray(noise(112, 112)).save(images / "p0" / "1.png")
    assert embed(model_run, images, out) == 0
    embedded = qface_jax.load(model_run).embed(images)
    read = qface_jax.read_embeddings(out)
    np.testing.assert_allclose(read.features, embedded.features, rtol=1e-4, atol=1e-4)


def test_parquet(written, model_run, people, tmp_path, monkeypatch, capsys):
    out = tmp_path / "a.parquet"
    assert embed(model_run, people, out) == 0
    read, other = qface_jax.read_embeddings(out), qface_jax.read_embeddings(written)
    np.testing.assert_array_equal(read.features, other.features)
    np.testing.assert_array_equal(read.norms, other.norms)
    assert (read.names, read.statuses) == (other.names, other.statuses)
    assert feature_file.manifest(out) == feature_file.manifest(written)
    assert embed(model_run, people, out) == 0
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert embed(model_run, people, tmp_path / "b.parquet") == 2
    assert '.parquet needs the package pyarrow: pip install "qface-jax[parquet]"' in (
        capsys.readouterr().err
    )


def test_what_cannot_be_done_is_refused(model_run, people, tmp_path, capsys):
    assert embed(model_run, people, tmp_path / "a.csv") == 2
    assert "must end in .npz or .parquet" in capsys.readouterr().err
    assert embed(model_run, tmp_path / "none", tmp_path / "a.npz") == 2
    assert "no such file or folder" in capsys.readouterr().err
    assert embed(model_run, people / "p0" / "text.jpg", tmp_path / "a.npz") == 2
    assert "none of 1 images can be used; the first is text.jpg: not a picture" in (
        capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir())


def test_files_of_others_are_refused(written, tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", features=np.zeros((2, 3)))
    with pytest.raises(DataError, match="is no file of `qface embed`: it has no unus"):
        qface_jax.read_embeddings(tmp_path / "a.npz")
    header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 512)}
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        with archive.open("plain.npy", "w") as file:
            np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(DataError, match=r"plain\.npy: its header says"):
        qface_jax.read_embeddings(tmp_path / "a.npz")
    np.savez_compressed(tmp_path / "a.npz", plain=np.zeros((1 << 18, 128), "f4"))
    monkeypatch.setattr(npz_file, "SPARE", 2**20)
    with pytest.raises(DataError, match="it unpacks to far more than it has"):
        qface_jax.read_embeddings(tmp_path / "a.npz")
    for name in ("b.npz", "b.parquet"):
        (tmp_path / name).write_bytes(written.read_bytes()[:-200])
        with pytest.raises(DataError, match="cannot be read as a file of `qface emb"):
            qface_jax.read_embeddings(tmp_path / name)
        (tmp_path / name).unlink()
        with pytest.raises(DataError, match="no such file"):
            qface_jax.read_embeddings(tmp_path / name)
    with pytest.raises(ConfigError, match=r"must end in \.npz or \.parquet"):
        qface_jax.read_embeddings(tmp_path / "c.npy")


def test_a_second_one_on_the_same_file_is_refused(model_run, people, tmp_path, capsys):
    out = tmp_path / "a.npz"
    with run_folder.lock(tmp_path / "a.npz.embedding"):
        assert embed(model_run, people, out) == 2
    assert (
        f"{out}.embedding: another qface embed is at work in this folder; wait for it, "
        "stop it, or give another --out"
    ) in capsys.readouterr().err
    assert not out.exists()
    assert embed(model_run, people, out) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
