"""`qface compare`: two images at every resolution, and what a similarity means."""

import json

import numpy as np
import pytest

import qface_jax
from qface_jax.data_pipelines.degradation.steps import down_up
from qface_jax.data_pipelines.tools.sample_images import sample
from qface_jax.evals import calibration
from qface_jax.launch import main
from support.model_in_use import write_run


def compare(*words):
    return main.main(["compare", *map(str, words)])


@pytest.fixture
def images(people):
    return people / "p0" / "0.png", people / "p1" / "0.png"


@pytest.fixture
def result(model_run):
    return model_run / "eval" / "synthetic.json"


def test_similarities_are_those_of_the_model(model_run, images, result, capsys):
    assert compare(model_run, *images, f"--calibration={result}", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert [row["side"] for row in facts["rows"]] == [112, 14]
    assert [one["width"] for one in facts["images"]] == [112, 112]
    model, rates = qface_jax.load(model_run), calibration.read(result)
    one, other = (sample(path, 1)[0] for path in images)
    for row in facts["rows"]:
        small, also = (
            np.asarray(down_up(image, side=row["side"], antialias=rates.antialias))
            for image in (other, one)
        )
        for kind, first in (("cross", one), ("same", also)):
            cosine = model.similarity(first[None], small[None], flip=rates.flip)[0, 0]
            assert abs(row[kind]["similarity"] - cosine) < 1e-4
            rate = rates.false_match_rate(row[kind]["similarity"], kind, row["side"])
            assert row[kind]["false_match"] == rate._asdict()
    norms = [one["scores"]["norm"] for one in facts["images"]]
    np.testing.assert_allclose(
        norms, model.quality(np.stack([one, other]))["norm"], rtol=1e-4
    )


def test_the_table(model_run, images, result, capsys):
    assert compare(model_run, *images, f"--calibration={result}") == 0
    first, second, _, head, at_own_size, small = capsys.readouterr().out.splitlines()
    assert first.startswith(f"A: {images[0]}, 112 x 112 px, feature norm ")
    assert second.startswith(f"B: {images[1]}")
    assert head.split("  ")[-1] == "FMR (95 % interval)"
    assert at_own_size.startswith("own size")
    assert small.startswith("14 px")
    assert " % (" in at_own_size or " 0 (" in at_own_size


def test_without_a_calibration_it_says_how_to_make_one(model_run, images, capsys):
    assert compare(model_run, *images, "--resolutions=28,7") == 0
    printed = capsys.readouterr()
    assert f"`qface eval --checkpoint={model_run}` makes one" in printed.err
    assert f"(there: {model_run}/eval/synthetic.json)" in printed.err
    assert [line.split()[0] for line in printed.out.splitlines()[4:]] == [
        "own",
        "28",
        "7",
    ]
    assert "FMR" not in printed.out


def test_what_cannot_be_compared_is_refused(
    model_run, images, result, people, tmp_path, capsys
):
    assert compare(model_run, people / "p1", images[1]) == 2
    assert "holds 3 images, expected one; `qface identify`" in capsys.readouterr().err
    assert compare(model_run, people / "p0" / "text.jpg", images[1]) == 2
    assert "text.jpg: not a picture" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        compare(model_run, *images, "--resolutions=0")
    other = write_run(tmp_path / "other", evaluated=False)
    assert compare(other, *images, f"--calibration={result}") == 2
    assert f"is an evaluation of {model_run}, not of {other}" in capsys.readouterr().err
    text = result.read_text().replace('"step": 3', '"step": 2')
    (tmp_path / "other.json").write_text(text)
    (tmp_path / "other.npz").write_bytes(result.with_suffix(".npz").read_bytes())
    words = [f"--calibration={tmp_path / 'other.json'}"]
    assert compare(model_run, *images, *words) == 2
    assert "is an evaluation of step 2, the model is of step 3" in (
        capsys.readouterr().err
    )
