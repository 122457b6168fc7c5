"""SCface's list and folders: counts, traps of the layout, damaged lists."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from qface_jax.data_pipelines.sets import scface
from qface_jax.data_pipelines.sets.scface import open_scface, read_annotations
from qface_jax.data_pipelines.sources.source import detect_source, open_source
from qface_jax.data_pipelines.stream import picture
from qface_jax.data_pipelines.stream.alignment import similarity
from qface_jax.data_pipelines.stream.crops import crop
from qface_jax.errors import DataError

GOLDEN = Path(__file__).parents[2] / "golden" / "protocols"
LIST = GOLDEN / "data" / "scface" / "all.txt"


@pytest.fixture(scope="module")
def mini():
    default = Path(__file__).parents[4] / "shared" / "protocols"
    root = Path(os.environ.get("QFACE_PROTOCOLS", default)) / "mini"
    if not (root / "scface").is_dir():
        pytest.skip(
            f"no miniature benchmark {root}: set QFACE_PROTOCOLS to a folder with "
            "mini/scface, a small tree in the layout of docs/benchmarks.md"
        )
    return root


def write_tree(folder, stems, *, points="10\t20\t30\t20\t20\t30\t20\t40"):
    """Files of the given stems in SCface's folders, and the list."""
    (folder / "surveillance_cameras_distance_1").mkdir(parents=True, exist_ok=True)
    for stem in stems:
        if stem.endswith("_frontal"):
            place, ending = folder / "mugshot_frontal_cropped_all", "JPG"
        elif stem.endswith("_cam8"):
            place, ending = folder / "surveillance_cameras_IR_cam8", "jpg"
        else:
            _, camera, distance = stem.split("_")
            place = folder / f"surveillance_cameras_distance_{distance}"
            place, ending = place / camera.replace("cam", "cam_"), "jpg"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{stem}.{ending}").write_bytes(stem.encode())
    lines = "".join(f"{stem}\t{points}\r\n" for stem in stems)
    (folder / "all.txt").write_bytes(lines.encode())
    return folder


STEMS = ["001_frontal", "001_cam1_1", "001_cam6_1", "001_cam8", "051_cam5_3"]


def test_the_recorded_list_is_whole():
    rows = read_annotations(LIST)
    assert scface.counts_of(rows) == scface.PUBLISHED_COUNTS
    assert b"\r\n" in LIST.read_bytes()


def test_the_miniature_is_read_as_it_was_made(mini):
    expected = json.loads((mini / "expected_counts.json").read_text())["scface"]
    opened = open_scface(mini / "scface")
    assert np.unique(opened.rows.subjects).tolist() == expected["subject_numbers"]
    counts = opened.counts
    assert counts["subjects"] == expected["subjects"]
    assert counts["mugshots"] == expected["mugshots"]
    assert counts["infrared_night"] == expected["infrared_night"]
    assert counts["cam8"] == expected["cam8"]
    assert counts["annotation_rows"] == expected["annotation_rows"]
    tested = opened.rows.subjects >= 51
    for distance in scface.DISTANCES:
        probes = opened.rows.distances == distance
        assert probes.sum() == expected["probes_per_distance_all"]
        assert (probes & tested).sum() == expected["probes_per_distance_051_130"]
    assert opened.missing == []
    assert "not the published one: 230 annotation rows instead of" in opened.notes[0]
    files = [opened.images.folder / file for file in opened.images.files]
    assert all(file.is_file() for file in files) and len(set(files)) == len(files)


def test_only_the_folders_of_a_kind_are_read(tmp_path):
    """A flat copy, infrared, and words in the path above change nothing."""
    root = write_tree(tmp_path / "cam_frontal" / "SCface_database", STEMS)
    flat = root / "surveillance_cameras_all"
    flat.mkdir()
    shutil.copy(
        root / "surveillance_cameras_distance_1" / "cam_1" / "001_cam1_1.jpg", flat
    )
    opened = open_scface(root.parent)
    assert opened.rows.stems == ["001_frontal", "001_cam1_1", "051_cam5_3"]
    assert opened.rows.cameras.tolist() == [scface.MUGSHOT, 1, 5]
    assert opened.rows.distances.tolist() == [0, 1, 3]
    assert opened.images.files[0] == "mugshot_frontal_cropped_all/001_frontal.JPG"
    assert opened.counts["cam8"] == 1 and opened.counts["infrared_night"] == 1


def test_endings_in_any_case(tmp_path):
    root = write_tree(tmp_path, STEMS)
    file = root / "surveillance_cameras_distance_1" / "cam_1" / "001_cam1_1.jpg"
    file.rename(file.with_suffix(".JPG"))
    assert open_scface(root).missing == []


def test_missing_images_are_named_and_stay(tmp_path):
    root = write_tree(tmp_path, STEMS)
    shutil.rmtree(root / "surveillance_cameras_distance_3")
    opened = open_scface(root)
    assert opened.missing == [2] and len(opened.images) == 3
    assert "not in " in opened.notes[-1]
    assert "051_cam5_3" in opened.notes[-1]


LINES = ["001_frontal 1 2 3 4 5 6 7 8", "001_cam1_1 1 2 3 4 5 6 7 8"]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([*LINES, LINES[0]], "lines 1 and 3 both are of 001_frontal"),
        ([*LINES, "001_cam9_1 1 2 3 4 5 6 7 8"], "line 3 is of '001_cam9_1', expected"),
        ([*LINES, "distractor 1 2 3 4 5 6 7 8"], "line 3 is of 'distractor'"),
        ([*LINES, "001_cam2_1 1 2 3 4"], "line 3 is '001_cam2_1 1 2 3 4', expected a"),
        ([*LINES, "001_cam2_1 a 2 3 4 5 6 7 8"], "expected a name and x and y"),
        ([""], "holds no line"),
    ],
)
def test_damaged_lists(tmp_path, lines, words):
    path = tmp_path / "all.txt"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=words):
        read_annotations(path)


def test_what_is_no_scface(tmp_path):
    with pytest.raises(DataError, match="is not SCface: expected surveillance_cameras"):
        open_scface(tmp_path)
    (tmp_path / "surveillance_cameras_distance_1").mkdir()
    with pytest.raises(DataError, match=r"all\.txt: cannot be read: No such file"):
        open_scface(tmp_path)
    (tmp_path / "all.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match="cannot be read: it is no text"):
        open_scface(tmp_path)


def test_nan_landmarks_are_kept_as_such(tmp_path):
    path = tmp_path / "all.txt"
    path.write_text("001_frontal nan nan 3 4 5 6 7 8\n")
    assert np.isnan(read_annotations(path).landmarks[0, 0]).all()


def test_the_training_split(mini):
    folder = mini / "scface"
    assert detect_source(folder) == "scface"
    source = open_source("scface", [folder])
    assert source.num_classes == 3  # 1, 23 and 50
    assert len(source) == 3 * (1 + 15)
    opened = open_scface(folder)
    stems = [Path(source.record_name(i)).stem for i in range(len(source))]
    assert [opened.rows.subjects[opened.rows.stems.index(s)] for s in stems] == [
        (1, 23, 50)[label] for label in source.labels()
    ]
    encoded, labels = source.fetch(np.array([40, 3]))
    assert labels.tolist() == source.labels()[[40, 3]].tolist()
    row = opened.rows.stems.index(stems[40])
    whole = picture.pixels(picture.read(Path(source.record_name(40)).read_bytes()))
    expected = crop(whole, similarity(opened.rows.landmarks[row]))
    np.testing.assert_array_equal(picture.pixels(picture.read(encoded[0])), expected)
    assert expected.std() > 20


def test_the_training_split_without_what_is_unusable(tmp_path):
    root = write_tree(tmp_path, ["001_frontal", "002_frontal", "051_frontal"])
    (root / "mugshot_frontal_cropped_all" / "002_frontal.JPG").unlink()
    source = open_source("scface", [root])
    assert len(source) == 1 and source.num_classes == 1
    assert "1 image of subjects that may be trained on" in source.notes[-1]
    with pytest.raises(DataError, match=r"001_frontal\.JPG: cannot be read: not a pic"):
        source.fetch(np.array([0]))
    write_tree(tmp_path, ["051_frontal"])
    with pytest.raises(DataError, match="no usable image of subjects 001 to 050"):
        open_source("scface", [root])
