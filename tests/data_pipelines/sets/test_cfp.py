"""CFP's lists of pairs, and damaged ones."""

import re

import pytest

from qface_jax.configs.base import get_config
from qface_jax.data_pipelines.sets import cfp
from qface_jax.data_pipelines.sets.pair_sets import open_pair_set
from qface_jax.errors import DataError
from support.published_lists import write_cfp


def open_named(folder, name):
    config = get_config().eval
    config.path = str(folder)
    return open_pair_set(name, config)


@pytest.mark.parametrize("packed", ["", "cfp-dataset"])
def test_both_kinds(tmp_path, packed):
    write_cfp(tmp_path / packed)
    frontal, profile = (open_named(tmp_path, f"cfp_{kind}") for kind in ("ff", "fp"))
    assert (frontal.name, profile.name) == ("cfp_ff", "cfp_fp")
    for pairs, second in ((frontal, "frontal1"), (profile, "profile0")):
        assert pairs.folds == 10 and pairs.missing == []
        assert pairs.issame.tolist() == [True, True, False, False] * 10
        images = [image.decode() for image in pairs.fetch(range(8))]
        # Fold 1: person 1 and 2 with themselves, then each with the next one.
        ends = [image[-len("000/frontal0") :].replace("/", "") for image in images]
        people = ("001", "001", "002", "002", "001", "002", "002", "003")
        wanted = [
            person + (second if i % 2 else "frontal0")
            for i, person in enumerate(people)
        ]
        assert ends == wanted


def test_counts_that_are_not_the_published_ones(tmp_path):
    write_cfp(tmp_path, folds=9)
    note, again = open_named(tmp_path, "cfp_fp").describe()["notes"]
    assert "listed again" in again
    for words in (
        "36 pairs instead of 7,000", "9 folds instead of 10",
        "12 frontal images instead of 5,000", "6 profile images instead of 2,000",
    ):  # fmt: skip
        assert words in note
    note, _ = open_named(tmp_path, "cfp_ff").describe()["notes"]
    assert "profile" not in note


def test_copies_elsewhere(tmp_path):
    write_cfp(tmp_path)
    (tmp_path / cfp.FOLDER).rename(tmp_path / "crops")
    pairs = open_named(tmp_path, "Protocol/Split/FP::crops")
    assert pairs.name == "FP" and len(pairs) == 80
    with pytest.raises(DataError, match="no such folder"):
        open_named(tmp_path, "cfp_fp")


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("Split/FP/03/same.txt", "1;2", "line 1 is '1;2', expected two numbers"),
        ("Split/FP/03/diff.txt", "1,2\n99,1", "line 2 has image 99, expected one of"),
        ("Split/FP/03/diff.txt", None, "cannot be read: No such file"),
        ("Pair_list_P.txt", "1 a.jpg", "line 1 is '1 a.jpg', expected a number and"),
        ("Pair_list_F.txt", "001/frontal/01.jpg", "expected a number and a path"),
    ],
)
def test_damaged_lists(tmp_path, file, text, words):
    path = write_cfp(tmp_path) / "Protocol" / file
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=re.escape(words)):
        open_named(tmp_path, "cfp_fp")


def test_a_folder_that_is_no_list(tmp_path):
    write_cfp(tmp_path)
    with pytest.raises(DataError, match="got a folder as a list of pairs"):
        open_named(tmp_path, "Protocol/Split::Data/Images")
