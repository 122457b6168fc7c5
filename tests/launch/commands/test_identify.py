"""`qface identify`: probes looked up in a gallery, and who is unknown."""

import csv
import json

import numpy as np
import pytest

import qface_jax
from qface_jax.api.identification import gallery_of
from qface_jax.data_pipelines.tools.sample_images import drawn_faces
from qface_jax.evals import calibration
from qface_jax.evals.measures.unit import unit
from qface_jax.launch import main
from support.image_files import encoded
from support.model_in_use import PEOPLE


def identify(*words):
    return main.main(["identify", *map(str, words)])


@pytest.fixture(scope="module")
def probes(tmp_path_factory):
    """A new picture of each of the people, two strangers, and no picture."""
    folder = tmp_path_factory.mktemp("probes")
    for number, face in enumerate(drawn_faces(PEOPLE + 2)):
        (folder / f"{number}.png").write_bytes(encoded(np.roll(face, 1, axis=0)))
    (folder / "9.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def by_hand(model_run, people, probes):
    """Similarities [probes, people], by the model and NumPy."""
    model = qface_jax.load(model_run)
    gallery, embedded = model.embed(people), model.embed(probes)
    owner = np.array([name[:2] for name in gallery.names])
    means = [
        unit(gallery.features[(owner == f"p{n}") & gallery.ok]).mean(axis=0)
        for n in range(PEOPLE)
    ]
    return unit(embedded.features[embedded.ok]) @ unit(np.stack(means)).T


def test_candidates_and_unknowns(model_run, people, probes, by_hand, tmp_path, capsys):
    best = np.sort(by_hand, axis=1)[:, ::-1]
    limit = float(np.median(best[:, 0]))
    out = tmp_path / "new" / "candidates.csv"
    words = ["--json", "--top=3", f"--threshold={limit}", f"--out={out}"]
    assert identify(model_run, people, probes, *words) == 0
    printed = capsys.readouterr()
    assert f"{people}: 5 people, 15 of 16 images usable" in printed.err
    facts = json.loads(printed.out)
    assert (facts["people"], facts["threshold"]) == (5, limit)
    *good, bad = facts["probes"]
    assert bad["status"] == "not_an_image"
    assert (bad["candidates"], bad["person"], bad["unknown"]) == ([], None, None)
    order = np.argsort(-by_hand, axis=1)[:, :3]
    for probe, one in enumerate(good):
        names = [candidate["person"] for candidate in one["candidates"]]
        assert names == [f"p{n}" for n in order[probe]]
        similarities = [candidate["similarity"] for candidate in one["candidates"]]
        np.testing.assert_allclose(similarities, best[probe, :3], atol=1e-5)
        assert one["unknown"] == (similarities[0] < limit)
        assert one["person"] == (None if one["unknown"] else names[0])
    with out.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 7 * 3 + 1
    assert lines[0]["candidate"] == good[0]["candidates"][0]["person"]
    assert {line["person"] for line in lines[:-1]} == {
        one["person"] or "unknown" for one in good
    }
    assert lines[-1]["message"].startswith("not a picture")


def test_embedded_files_give_the_same(model_run, people, probes, tmp_path, capsys):
    files = []
    for name, images in (("gallery.npz", people), ("probes.npz", probes)):
        files.append(tmp_path / name)
        words = ["embed", model_run, images, f"--out={files[-1]}"]
        assert main.main([str(word) for word in words]) == 0
    capsys.readouterr()
    assert identify(model_run, people, probes, "--threshold=0.5") == 0
    from_images = capsys.readouterr().out
    assert identify(model_run, *files, "--threshold=0.5", "--batch-size=8") == 0
    for one, other in zip(
        from_images.splitlines(), capsys.readouterr().out.splitlines(), strict=True
    ):
        # Other batches make other last digits.
        assert one.split(" ")[:2] == other.split(" ")[:2]


def test_without_a_threshold_nobody_is_unknown(model_run, people, probes, capsys):
    assert identify(model_run, people, probes / "6.png", "--top=1") == 0
    printed = capsys.readouterr()
    assert (
        "nobody is unknown without --fpir=RATE, the share of strangers" in printed.err
    )
    assert printed.out.startswith("6.png: p")
    assert "unknown" not in printed.out


def test_the_gallery_itself_says_what_a_rate_takes(model_run, people, probes, capsys):
    assert identify(model_run, people, probes, "--fpir=0.7", "--json") == 0
    limit = json.loads(capsys.readouterr().out)["threshold"]
    embedded = qface_jax.load(model_run).embed(people)
    gallery = gallery_of(embedded)
    scores = embedded.unit @ gallery.vectors.T
    scores[np.arange(len(scores)), gallery.owner] = -1
    best = scores[embedded.ok].max(axis=1)
    assert (best >= limit - 1e-4).sum() >= 10 >= (best >= limit + 1e-4).sum()


def test_a_rate_and_a_calibration_set_the_threshold(
    model_run, people, probes, tmp_path, capsys
):
    result = model_run / "eval" / "synthetic.json"
    words = [f"--calibration={result}", "--json"]
    fpir = 0.98  # twenty pairs of two people tell nothing finer
    assert identify(model_run, people, probes, f"--fpir={fpir}", *words) == 0
    facts = json.loads(capsys.readouterr().out)
    wanted = calibration.read(result).search_threshold(fpir, 5, side=112)
    assert facts["threshold"] == wanted
    assert identify(model_run, people, probes, "--fpir=0.01", *words) == 2
    assert "evaluate on a larger set, allow a higher rate" in capsys.readouterr().err


def test_what_does_not_go_together_is_refused(
    model_run, people, probes, tmp_path, capsys
):
    assert identify(model_run, people, probes, "--fpir=2") == 2
    assert "--fpir: got 2.0, must be within (0, 1)" in capsys.readouterr().err
    assert identify(model_run, people, probes, "--threshold=3") == 2
    assert "--threshold: got 3.0, must be a cosine" in capsys.readouterr().err
    assert identify(model_run, people, probes, "--fpir=0.1") == 2
    assert "0.1, which 15 images of 5 people in the gallery are" in (
        capsys.readouterr().err
    )
    assert identify(model_run, people, probes, "--calibration=a.json") == 2
    assert "--calibration: does nothing without --fpir" in capsys.readouterr().err
    assert identify(model_run, people, probes, "--side=14", "--fpir=0.7") == 2
    assert "--side: does nothing without --calibration" in capsys.readouterr().err
    assert identify(model_run, people, probes, f"--out={tmp_path}") == 2
    assert "is a folder; give the file to write" in capsys.readouterr().err
    assert identify(model_run, people / "p0" / "text.jpg", probes) == 2
    assert "gallery: none of 1 images can be used; the first is text.jpg: not" in (
        capsys.readouterr().err
    )


def test_files_that_cannot_be_compared_are_refused(model_run, people, tmp_path, capsys):
    files = [tmp_path / "with.npz", tmp_path / "without.npz"]
    for file, words in zip(files, ([], ["--no-flip"]), strict=True):
        command = ["embed", model_run, people, f"--out={file}", *words]
        assert main.main([str(word) for word in command]) == 0
    assert identify(model_run, *files) == 2
    assert "with.npz with, " in capsys.readouterr().err
    with np.load(files[0]) as arrays:
        fields = dict(arrays)
    manifest = json.loads(str(fields["manifest"]))
    manifest["of_noise"][0] += 100
    fields["manifest"] = np.array(json.dumps(manifest))
    np.savez(files[0], **fields)
    assert identify(model_run, files[0], people) == 2
    assert f"holds features of another model than {model_run}" in (
        capsys.readouterr().err
    )
