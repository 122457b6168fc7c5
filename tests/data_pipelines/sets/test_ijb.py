"""Lists of IJB-B and IJB-C: what they hold, and what is said where they are damaged."""

import json

import numpy as np
import pytest

from qface_jax.data_pipelines.sets import ijb
from qface_jax.errors import DataError
from support.ijb_tree import edit, miniatures, recorded_tree
from support.protocol_goldens import golden

EDITIONS = {"ijbb": ijb.IJBB, "ijbc": ijb.IJBC}
FACES, TEMPLATES = "ijbb_name_5pts_score.txt", "ijbb_face_tid_mid.txt"
PAIRS, GALLERY = "ijbb_template_pair_label.txt", "ijbb_1N_gallery_S1.csv"
PROBES = "ijbb_1N_probe_mixed.csv"


@pytest.fixture
def meta(tmp_path):
    return recorded_tree("ijbb", tmp_path) / "meta"


@pytest.mark.parametrize("benchmark", EDITIONS)
def test_lists_are_as_the_published_readers_read_them(benchmark, tmp_path):
    folder = recorded_tree(benchmark, tmp_path)
    assert ijb.find_folder(EDITIONS[benchmark], tmp_path) == folder
    assert ijb.find_folder(EDITIONS[benchmark], folder) == folder
    lists = ijb.read_lists(EDITIONS[benchmark], folder / "meta")
    recorded = golden(f"{benchmark}_verification")
    ids = lists.template_ids
    np.testing.assert_array_equal(ids[lists.templates], recorded["template_ids"])
    np.testing.assert_array_equal(lists.media, recorded["media_ids"])
    np.testing.assert_allclose(lists.detector, recorded["detector_score"], rtol=1e-6)
    order = np.lexsort((recorded["pair_t2"], recorded["pair_t1"]))
    np.testing.assert_array_equal(ids[lists.left], recorded["pair_t1"][order])
    np.testing.assert_array_equal(ids[lists.right], recorded["pair_t2"][order])
    np.testing.assert_array_equal(lists.genuine, recorded["pair_label"][order] == 1)
    searched = golden(f"{benchmark}_identification")
    for name, one in (
        ("gallery1", lists.galleries[0]),
        ("gallery2", lists.galleries[1]),
        ("probe", lists.probes),
    ):
        np.testing.assert_array_equal(
            ids[one.templates],
            searched[f"{name}_templates"],
        )
        np.testing.assert_array_equal(one.subjects, searched[f"{name}_subjects"])
        assert one.rows == searched[f"{name}_csv_rows"]
    assert lists.notes == []


@pytest.mark.parametrize("benchmark", EDITIONS)
def test_the_miniatures_hold_what_they_should(benchmark):
    mini = miniatures()
    expected = json.loads((mini / "expected_counts.json").read_text())[benchmark]
    folder = ijb.find_folder(EDITIONS[benchmark], mini / benchmark)
    lists = ijb.read_lists(EDITIONS[benchmark], folder / "meta")
    counts = ijb.counts(lists)
    rows = [counts[f"{name}_rows"] for name in ("gallery1", "gallery2", "probe")]
    assert rows == expected.pop("csv_rows")
    assert {name: counts[name] for name in expected} == expected
    assert counts["without_landmarks"] == 0
    assert ijb.missing_images(folder / "loose_crop", lists.names) == 0
    facts = ijb.facts(EDITIONS[benchmark], folder, lists)
    published = EDITIONS[benchmark].expected
    (note,) = facts["notes"]
    assert note.startswith("not the whole published set: images: got ")
    for name, count in published.items():
        assert f"got {counts[name]:,}, published are {count:,}" in note


def test_landmarks_are_x_y_of_five_points(meta):
    lists = ijb.read_lists(ijb.IJBB, meta)
    first = (meta / FACES).read_text().splitlines()[0].split()
    np.testing.assert_allclose(
        lists.landmarks[0], np.reshape([float(x) for x in first[1:11]], (5, 2))
    )
    assert lists.landmarks.dtype == np.float32


def test_faces_without_landmarks_are_counted_and_weigh_nothing(meta):
    def lose(lines):
        for row in (3, 8):
            name, *_ = lines[row].split()
            lines[row] = f"{name} {'nan ' * 11}"
        return lines

    edit(meta / FACES, lose)
    lists = ijb.read_lists(ijb.IJBB, meta)
    assert ijb.counts(lists)["without_landmarks"] == 2
    assert np.isnan(lists.landmarks[[3, 8]]).all()
    assert list(lists.detector[[3, 8]]) == [0, 0]


def test_one_to_n_can_be_left_out(meta):
    for path in meta.glob("*.csv"):
        path.unlink()
    lists = ijb.read_lists(ijb.IJBB, meta, identification=False)
    assert lists.galleries == () and lists.probes is None
    assert "subjects" not in ijb.counts(lists)
    with pytest.raises(DataError, match=r"gallery_S1\.csv: cannot be read"):
        ijb.read_lists(ijb.IJBB, meta)


def changed(row, new):
    """A change of one line, which `new` makes of the old one."""

    def change(lines):
        lines[row] = new(lines[row])
        return lines

    return change


def swapped(lines):
    for row, line in enumerate(lines):
        name, *points, score = line.split()
        points = [value for x, y in zip(points[::2], points[1::2], strict=True)
                  for value in (y, x)]  # fmt: skip
        lines[row] = " ".join([name, *points, score])
    return lines


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        (FACES, lambda lines: [], "is empty, expected one line per entry"),
        (FACES, lambda lines: [*lines[:-1], lines[-1][:30]],
         "line 500 has .* fields, expected 12: .* cut off"),
        (FACES, changed(4, lambda line: line.replace(".", ",")),
         "line 5 is '5,jpg .*', expected name, 10 coordinates, score"),
        (FACES, changed(4, lambda line: line.rsplit(" ", 1)[0] + " -0.2"),
         "line 5 has the detector's score -0.2, expected a number >= 0"),
        (FACES, changed(4, lambda line: line.rsplit(" ", 1)[0] + " nan"),
         "line 5 has the detector's score nan"),
        (FACES, swapped, "the eyes are not above the mouth.*exchanged"),
        (FACES, lambda lines: lines[:-1],
         "face_tid_mid.txt: got 500 lines, the list of landmarks has 499"),
        (FACES, lambda lines: [lines[1], lines[0], *lines[2:]],
         "line 1 names 1.jpg, the list of landmarks 2.jpg"),
        (TEMPLATES, changed(6, lambda line: line.rsplit(" ", 1)[0]),
         "line 7 has 2 fields, expected 3"),
        (TEMPLATES, changed(6, lambda line: line + ".5"),
         "line 7 is .*, expected name, template, medium"),
        (PAIRS, lambda lines: [], "is empty, expected lines of template, template"),
        (PAIRS, changed(9, lambda line: line[:-2]), "columns changed from 3 to 2"),
        (PAIRS, lambda lines: [line[:-2] for line in lines], "has 2 fields a line"),
        (PAIRS, changed(9, lambda line: line[:-1] + "x"), "could not convert"),
        (PAIRS, changed(9, lambda line: line[:-1] + "2"), "line 10 has the label 2"),
        (PAIRS, changed(9, lambda line: "999999 " + line.split(" ", 1)[1]),
         "names 1 template without image.*: 999999; .* of one download"),
        (PAIRS, lambda lines: [*lines, lines[0][:-1] + str(1 - int(lines[0][-1]))],
         "1 pair listed both as one person and as two"),
        (GALLERY, lambda lines: lines[:1], "holds no template, only its header"),
        (GALLERY, lambda lines: [], "is empty"),
        (GALLERY, lambda lines: lines[1:], "expected the columns TEMPLATE_ID"),
        (GALLERY, lambda lines: [*lines, "12"], "line 75 is '12', expected numbers"),
        (GALLERY, lambda lines: [*lines, "999999,4,x.jpg,1"], "names 1 template"),
        (GALLERY, lambda lines: [*lines, lines[1].replace(",", ",9", 1)],
         "template .* is of the subjects .* and .*; expected one subject"),
        (PROBES, lambda lines: [*lines, "999999,4,x.jpg,1"], "names 1 template"),
    ],
)  # fmt: skip
def test_a_damaged_list_is_refused_in_a_line(meta, file, change, said):
    edit(meta / file, change)
    with pytest.raises(DataError, match=said) as caught:
        ijb.read_lists(ijb.IJBB, meta)
    assert "\n" not in str(caught.value) and str(meta) in str(caught.value)


def test_an_image_that_stands_twice_is_refused(meta):
    for file in (FACES, TEMPLATES):
        edit(meta / file, lambda lines: [*lines, lines[4]])
    with pytest.raises(DataError, match=r"lines 5 and 501 both name 5\.jpg \(1 line "):
        ijb.read_lists(ijb.IJBB, meta)


def test_a_template_of_two_lists_is_one_persons(meta):
    probe = (meta / PROBES).read_text().splitlines()[1].split(",")
    row = ",".join([probe[0], "77777", *probe[2:]])
    edit(meta / GALLERY, lambda lines: [*lines, row])
    with pytest.raises(DataError, match=f"have template {probe[0]} as subject 77777"):
        ijb.read_lists(ijb.IJBB, meta)


def test_what_is_only_odd_is_noted(meta):
    first = (meta / GALLERY).read_text().splitlines()[1]

    def flip(lines):
        label = str(1 - int(lines[0][-1]))
        return [lines[0][:-1] + label, *lines[1:], lines[5]]

    edit(meta / PAIRS, flip)
    edit(meta / "ijbb_1N_gallery_S2.csv", lambda lines: [*lines, first])
    notes = ijb.read_lists(ijb.IJBB, meta).notes
    assert notes == [
        "ijbb_template_pair_label.txt: 1 pair listed again",
        "1 pair with a label against the subjects of 1:N",
        "1 subject in both galleries, expected none",
    ]


def test_images_that_are_not_there_are_counted(meta):
    folder = meta.parent / "loose_crop"
    lists = ijb.read_lists(ijb.IJBB, meta)
    (folder / lists.names[3]).unlink()
    assert ijb.missing_images(folder, lists.names) == 1
    with pytest.raises(DataError, match=r"got none of the 500 images.* such as 1\.jpg"):
        ijb.missing_images(meta, lists.names)
    with pytest.raises(DataError, match=r"loose: cannot be read.*such as 1\.jpg"):
        ijb.missing_images(meta.parent / "loose", lists.names)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"got no IJBC/meta and no meta in it.*eval\.p"):
        ijb.find_folder(ijb.IJBC, tmp_path)


def test_only_known_counts_are_compared():
    counts = {"images": 5, "pairs": 7, "media": 3}
    expected = {"images": 5, "pairs": 1234, "probe_rows": 9}
    assert ijb.differences(counts, expected) == ["pairs: got 7, published are 1,234"]
