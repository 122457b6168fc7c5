"""Pictures of the pairs that an evaluation gave as examples."""

import base64

import numpy as np
from PIL import Image

from qface_jax.data_pipelines.sets.benchmark_images import BenchmarkImages
from qface_jax.data_pipelines.stream.alignment import template
from qface_jax.evals.results import Example, Result, from_json, to_json
from qface_jax.report.examples import write_examples
from qface_jax.report.page import write_report

COLOURS = ((200, 0, 0), (0, 200, 0), (0, 0, 200))


def pictures(folder, landmarks=None):
    folder.mkdir()
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (112, 112), colour).save(folder / f"{number}.png")
    files = [f"{number}.png" for number in range(len(COLOURS))]
    return BenchmarkImages("colours", folder, files, landmarks=landmarks)


def result(pairs):
    examples = [Example("worst false matches", 0.25, pair) for pair in pairs]
    return Result("colours", {}, examples=examples)


def colours_in(path):
    drawn = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    return {colour for colour in COLOURS if (drawn == colour).all(axis=1).any()}


def test_both_pictures_of_a_pair_stand_on_the_sheet(tmp_path):
    write_examples(tmp_path, result([[2, 0]]), pictures(tmp_path / "set"), "crop")
    sheet = tmp_path / "samples" / "pairs_colours.png"
    assert colours_in(sheet) == {COLOURS[2], COLOURS[0]}


def test_a_probe_stands_beside_whom_it_found_and_its_mate_on_the_page(tmp_path):
    found = [Example("worst misses", 0.5, [0, 1, 2])]
    pairs = [Example("worst false matches", 0.25, [2, 0])]
    write_examples(
        tmp_path,
        Result("colours", {}, examples=found + pairs),
        pictures(tmp_path / "set"),
        "crop",
    )
    sheet = tmp_path / "samples" / "pairs_colours.png"
    assert colours_in(sheet) == set(COLOURS)
    page = write_report(tmp_path).read_text("utf-8")
    assert "pairs colours" in page
    assert base64.b64encode(sheet.read_bytes()).decode() in page


def test_faces_with_landmarks_are_aligned(tmp_path):
    # Shrunk to a quarter, so that three quarters of the crop are the black border.
    marks = np.stack([2 * template()] * len(COLOURS)).astype(np.float32)
    write_examples(
        tmp_path, result([[1, 1]]), pictures(tmp_path / "set", marks), "crop"
    )
    drawn = np.asarray(Image.open(tmp_path / "samples" / "pairs_colours.png"))
    black = (drawn[..., :3] == 0).all(axis=-1).sum()
    assert 2 * 112**2 * 0.7 < black < 2 * 112**2 * 0.8


def test_without_examples_nothing_is_written(tmp_path):
    write_examples(tmp_path, result([]), pictures(tmp_path / "set"), "crop")
    assert not (tmp_path / "samples").exists()


def test_examples_are_kept_with_the_result():
    one = result([[0, 1]])
    assert from_json(to_json(one), {}).examples == one.examples
    older = to_json(one)
    del older["examples"]  # as written before there were any
    assert from_json(older, {}).examples == []
