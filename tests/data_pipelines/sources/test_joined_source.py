"""Several sets as one: `data.more_paths`."""

import logging

import numpy as np
import pytest

from qface_jax.configs import document
from qface_jax.data_pipelines.sources.source import (
    JoinedSource,
    open_source,
    record_name,
)
from qface_jax.errors import ConfigError, DataError
from qface_jax.settings import config as configs
from support.recordio_writer import jpeg, write_plain

COUNTS = ({"zoe": 2, "ann": 1}, {"ann": 3}, {"bob": 1, "eve": 2})
LABELS = [0, 1, 1, 2, 2, 2, 3, 4, 4]
NAMES = ["ann0", "zoe0", "zoe1", "ann0", "ann1", "ann2", "bob0", "eve0", "eve1"]


def folder(root, counts):
    """A folder per person; each image is its set, person and number."""
    for person, count in counts.items():
        (root / person).mkdir(parents=True)
        for i in range(count):
            content = f"{root.name}/{person}{i}".encode()
            (root / person / f"{i}.jpg").write_bytes(content)
    return root


@pytest.fixture
def paths(tmp_path):
    return [folder(tmp_path / f"set{i}", counts) for i, counts in enumerate(COUNTS)]


@pytest.fixture
def joined(paths):
    return open_source("folder", paths)


def test_labels_follow_one_another(joined):
    assert isinstance(joined, JoinedSource)
    assert (len(joined), joined.num_classes) == (9, 5)
    labels = joined.labels()
    assert labels.dtype == np.int32
    assert labels.tolist() == LABELS


def test_records_of_all_parts_in_the_order_asked_for(joined):
    sets = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    rows = np.array([8, 0, 5, 3, 2, 8, 6])
    images, labels = joined.fetch(rows)
    assert images == [f"set{sets[row]}/{NAMES[row]}".encode() for row in rows]
    assert labels.dtype == np.int32
    assert labels.tolist() == [LABELS[row] for row in rows]
    images, labels = joined.fetch(np.array([4]))
    assert (images, labels.tolist()) == ([b"set1/ann1"], [2])
    images, labels = joined.fetch(np.zeros(0, np.int64))
    assert (images, len(labels)) == ([], 0)


def test_a_record_is_called_as_in_its_own_set(joined, paths):
    assert record_name(joined, 0) == str(paths[0] / "ann" / "0.jpg")
    assert record_name(joined, 5) == str(paths[1] / "ann" / "2.jpg")
    assert record_name(joined, 8) == str(paths[2] / "eve" / "1.jpg")
    (paths[1] / "ann" / "1.jpg").unlink()
    with pytest.raises(DataError, match=r"set1/ann/1\.jpg: cannot be read"):
        joined.fetch(np.array([0, 4, 8]))


def test_it_tells_of_each_set_and_of_all(joined, paths):
    facts = joined.describe()
    assert joined.name == "folder + folder + folder"
    assert (facts["source"], facts["images"], facts["identities"]) == ("joined", 9, 5)
    assert facts["path"] == ", ".join(map(str, paths))
    assert [part["images"] for part in facts["joined"]] == [3, 3, 3]
    assert [part["identities"] for part in facts["joined"]] == [2, 1, 2]
    assert [part["path"] for part in facts["joined"]] == list(map(str, paths))
    assert facts["notes"] == []


def test_what_is_odd_is_logged_with_its_own_path(paths, caplog):
    (paths[1] / "empty").mkdir()
    with caplog.at_level(logging.WARNING):
        source = open_source("folder", paths)
    (line,) = caplog.messages
    assert line.startswith(f"{paths[1]}: 1 folders hold no image")
    assert len(source.describe()["notes"]) == 1


def test_small_identities_of_all_sets_are_left_out(paths, caplog):
    with caplog.at_level(logging.WARNING):
        source = open_source("folder", paths, drop_small_identities=2)
    assert (len(source), source.num_classes) == (7, 3)
    assert source.labels().tolist() == [0, 0, 1, 1, 1, 2, 2]
    images, labels = source.fetch(np.array([6, 0, 2]))
    assert images == [b"set2/eve1", b"set0/zoe0", b"set1/ann0"]
    assert labels.tolist() == [2, 0, 1]
    assert record_name(source, 5) == str(paths[2] / "eve" / "0.jpg")
    assert "left out 2 identities with 2 images" in caplog.text
    facts = source.describe()
    assert (facts["images"], facts["left_out_images"]) == (7, 2)
    with pytest.raises(DataError, match=r"got 9, but the largest .*set0, .*set2 has 3"):
        open_source("folder", paths, drop_small_identities=9)


def test_record_files_are_joined_too(tmp_path):
    one = write_plain(tmp_path / "a", [0, 0, 1], [jpeg(i) for i in range(3)])
    two = write_plain(tmp_path / "b", [0, 1], [jpeg(i) for i in (3, 4)])
    source = open_source("mxnet", [one, two])
    images, labels = source.fetch(np.array([4, 2]))
    assert images == [jpeg(4), jpeg(2)]
    assert labels.tolist() == [3, 1]
    assert record_name(source, 3).startswith(str(two))


def test_one_path_is_not_joined(paths):
    assert open_source("folder", paths[:1]).name == "folder"


def test_a_path_that_is_not_there_is_named(paths, tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        open_source("folder", [*paths, tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("/data/celeba", ("/data/celeba",)),
        ("('/data/celeba','set of=mine')", ("/data/celeba", "set of=mine")),
        ("['a']", ("a",)),
        ("()", ()),
    ],
)
def test_paths_on_the_command_line(word, value):
    words = ["--config.data.source=folder", "--config.data.path=here"]
    config = configs.load("demo", [*words, f"--config.data.more_paths={word}"])
    assert config.data.more_paths == value
    again = document.from_dict(document.to_dict(config))
    assert again.data.more_paths == value


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["data.more_paths=a"],
         "data.more_paths: got ('a',), but data.source synthetic reads no path"),
        (["data.source=folder", "data.path=a", "data.more_paths="],
         "data.more_paths: got ('',), must be paths; () is none"),
        (["data.more_paths=(1,)"], "data.more_paths: got (1,), expected tuple"),
    ],
)  # fmt: skip
def test_what_cannot_be_joined(words, says):
    with pytest.raises(ConfigError, match="1 problem") as error:
        configs.load("demo", [f"--config.{word}" for word in words])
    assert says in str(error.value)
