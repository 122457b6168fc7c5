"""Pairs of one's own people, as the evaluation reads them."""

import numpy as np
import pytest

from qface_jax.data_pipelines.sets.pair_sets import ListedPairs
from qface_jax.data_pipelines.tools.pair_drawing import draw_pairs
from qface_jax.errors import ConfigError, DataError
from qface_jax.launch import main
from support.image_files import encoded, noise

LABELS = np.repeat(np.arange(6), 5)


def test_kinds_alternate_and_no_pair_comes_twice():
    pairs = draw_pairs(LABELS, 100, seed=1)
    same = LABELS[pairs[:, 0]] == LABELS[pairs[:, 1]]
    assert same.tolist() == [True, False] * 50
    assert len({tuple(sorted(pair)) for pair in pairs.tolist()}) == 100
    assert (pairs[:, 0] != pairs[:, 1]).all()
    np.testing.assert_array_equal(pairs, draw_pairs(LABELS, 100, seed=1))
    assert (pairs != draw_pairs(LABELS, 100, seed=2)).any()


def test_few_pairs_are_of_many_people():
    pairs = draw_pairs(LABELS, 12, seed=0)
    assert len(set(LABELS[pairs[0::2, 0]])) == 6


def test_there_are_no_more_than_the_images_make():
    assert len(draw_pairs(np.repeat(np.arange(2), 3), 1000, seed=0)) == 12


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_what_makes_no_pairs_is_refused(labels):
    with pytest.raises(DataError, match="expected two people at least, and two images"):
        draw_pairs(np.array(labels), 10, seed=0)
    with pytest.raises(ConfigError, match="--pairs=1 --seed=0, must be at least 2"):
        draw_pairs(LABELS, 1, seed=0)


def test_the_command_writes_what_is_evaluated(tmp_path, capsys):
    for person in ("ann lee", "bob"):
        (tmp_path / "faces" / person).mkdir(parents=True)
        for number, ending in enumerate((".jpg", ".png", ".webp")):
            file = tmp_path / "faces" / person / f"{number}{ending}"
            kind = {".jpg": "JPEG"}.get(ending, ending[1:].upper())
            file.write_bytes(encoded(noise(20, 20, number), kind))
    faces, out = tmp_path / "faces", tmp_path / "pairs.txt"
    assert main.main(["data", "pairs", str(faces), str(out), "--pairs=10"]) == 0
    printed = capsys.readouterr().out
    assert "10 pairs of 2 people" in printed
    assert f"--config.eval.sets=\"('{out}::{faces}',)\"" in printed
    pairs = ListedPairs(out, faces)
    assert pairs.issame.tolist() == [True, False] * 5
    assert not pairs.missing and "ann lee/" in out.read_text()
