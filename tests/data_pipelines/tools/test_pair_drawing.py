"""Pairs of one's own people, as the evaluation reads them."""

import io

import numpy as np
import pytest
from PIL import Image

from qface_jax.data_pipelines.sets.pair_pickle import load_pair_pickle
from qface_jax.data_pipelines.sets.pair_sets import ListedPairs
from qface_jax.data_pipelines.sources.image_folder import FolderSource
from qface_jax.data_pipelines.sources.subset import Subset, random_subset
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


@pytest.fixture
def faces(tmp_path):
    """A folder of ten people with three images each."""
    for person in range(10):
        (tmp_path / "faces" / str(person)).mkdir(parents=True)
        for number in range(3):
            file = tmp_path / "faces" / str(person) / f"{number}.png"
            file.write_bytes(encoded(noise(112, 112, 3 * person + number), "PNG"))
    return tmp_path / "faces"


def pairs_of(*words):
    assert main.main(["data", "pairs", *map(str, words)]) == 0


def test_a_bin_file_holds_the_images_of_the_pairs(faces, tmp_path):
    pairs_of(faces, tmp_path / "plain.bin", "--pairs=40")
    images, issame = load_pair_pickle(tmp_path / "plain.bin")
    assert issame.tolist() == [True, False] * 20
    of = {path.read_bytes(): path.parent.name for path in faces.glob("*/*.png")}
    people = [of[image] for image in images]
    assert [a == b for a, b in zip(people[::2], people[1::2], strict=True)] == list(
        issame
    )
    pairs_of(faces, tmp_path / "mirrored.bin", "--pairs=40", "--mirror")
    mirrored, _ = load_pair_pickle(tmp_path / "mirrored.bin")
    assert mirrored[::2] == images[::2]
    for image, other in zip(images[1::2], mirrored[1::2], strict=True):
        np.testing.assert_array_equal(pixels(other), pixels(image)[:, ::-1])


def pixels(image):
    return np.asarray(Image.open(io.BytesIO(image)))


@pytest.mark.parametrize("ending", [".bin", ".txt"])
def test_pairs_outside_a_subset_are_of_nobody_in_it(ending, faces, tmp_path):
    words = ("--pairs=100", "--outside-subset=0.7", "--subset-seed=4")
    pairs_of(faces, tmp_path / f"pairs{ending}", *words)
    if ending == ".bin":
        images, _ = load_pair_pickle(tmp_path / "pairs.bin")
        of = {path.read_bytes(): path.parent.name for path in faces.glob("*/*.png")}
        people = {of[image] for image in images}
    else:
        lines = (tmp_path / "pairs.txt").read_text().splitlines()
        people = {line.partition("/")[0] for line in lines}
    trained = random_subset(FolderSource(faces), Subset(0.7, "identities", 4))
    seen = {trained.record_name(row).split("/")[-2] for row in range(len(trained))}
    assert len(people) == 3 and len(seen) == 7 and not people & seen


@pytest.mark.parametrize(
    ("out", "words", "says"),
    [
        ("p.csv", (), "expected a name in .bin or .txt"),
        ("p.txt", ("--mirror",), "write a .bin file"),
        ("p.bin", ("--outside-subset=1.0",), "--outside-subset=1 "),
        ("p.bin", ("--outside-subset=0.5", "--subset-seed=-1"), "0 .. 2^31 - 1"),
        ("p.bin", ("--outside-subset=0.99",), "leaves nothing out"),
    ],
)
def test_what_cannot_be_drawn_is_explained(out, words, says, faces, tmp_path, capsys):
    assert main.main(["data", "pairs", str(faces), str(tmp_path / out), *words]) != 0
    assert says in capsys.readouterr().err
    assert not (tmp_path / out).exists()
