"""Scores of single faces: the table, the numbers, the sheet."""

import csv
import os

import numpy as np
import pytest

from qface_jax.report import face_scores
from qface_jax.report.face_scores import NON_FINITE, OK, FaceScore, Tally


def row(name, norm, ers):
    return FaceScore(name, OK, {"norm": norm, "ers": ers}, 20, 16)


ROWS = [
    row("a, b.png", 1 / 3, 0.25),
    FaceScore("text.jpg", "not_an_image", {}, message='begins with "no"'),
    row("c/\udcff.png", 2.0, 1.0),
    FaceScore("d.png", NON_FINITE, {}, 9, 9, "its feature has NaN"),
    row("e.png", 5.0, 0.5),
]


def read(path):
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def test_the_table_has_a_line_for_each_image(tmp_path):
    path = tmp_path / "new" / "scores.csv"
    face_scores.write_csv(path, iter(ROWS))
    found = read(path)
    assert list(found[0]) == [
        "name", "status", "norm", "ers", "ri", "width", "height", "message",
    ]  # fmt: skip
    assert [line["name"] for line in found] == [r.name for r in ROWS]
    assert float(found[0]["norm"]) == 1 / 3
    assert [line["ri"] for line in found] == [""] * 5
    assert found[1] == {
        "name": "text.jpg", "status": "not_an_image", "norm": "", "ers": "", "ri": "",
        "width": "", "height": "", "message": 'begins with "no"',
    }  # fmt: skip
    assert (found[3]["status"], found[3]["width"]) == (NON_FINITE, "9")
    assert os.listdir(path.parent) == ["scores.csv"]


def test_rows_are_written_as_they_come(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("old")
    partial = []

    def rows():
        for number in range(3000):
            partial.extend(p for p in tmp_path.iterdir() if p != path)
            yield row(f"{number}.png", number, 0.5)
        assert partial[-1].stat().st_size > 10_000
        assert path.read_text() == "old"

    face_scores.write_csv(path, rows())
    assert len(read(path)) == 3000
    assert list(tmp_path.iterdir()) == [path]


def test_a_stop_leaves_the_old_table(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("old")

    def rows():
        yield ROWS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        face_scores.write_csv(path, rows())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def tallied(rows=ROWS, **options):
    tally = Tally(**options)
    assert list(tally.counting(rows)) == list(rows)
    return tally


def test_a_tally_knows_where_the_scored_ones_are():
    tally = tallied()
    assert tally.total == 5
    assert list(tally.places) == [0, 2, 4]
    np.testing.assert_array_equal(tally.scores["norm"], [1 / 3, 2, 5])
    np.testing.assert_array_equal(tally.scores["ers"], [0.25, 1, 0.5])


def test_the_summary_counts_and_compares():
    lines = face_scores.summary(tallied(examples=1))
    assert lines == [
        "images: 5 (ok 3, not_an_image 1, non_finite 1)",
        '  text.jpg: not_an_image, begins with "no"',
        "  and 1 more",
        "                      min        5 %     median       95 %        max",
        "feature norm       0.3333        0.5          2        4.7          5",
        "ERS                  0.25      0.275        0.5       0.95          1",
        "rank correlation of feature norm and ERS: +0.500",
    ]


def test_the_summary_of_nothing():
    assert face_scores.summary(tallied([])) == ["images: 0 (none)"]
    bad = FaceScore("\udcff.jpg", "unreadable", {}, message="gone")
    lines = face_scores.summary(tallied([bad]))
    assert lines == [
        "images: 1 (unreadable 1)",
        r"  \udcff.jpg: unreadable, gone",
    ]


def test_equal_scores_have_no_rank_correlation():
    rows = [row(str(n), 2.0, n / 4) for n in range(4)]
    assert face_scores.summary(tallied(rows))[-1].endswith("and ERS: none")


@pytest.mark.parametrize(
    ("values", "lowest", "highest"),
    [
        ([], [], []),
        ([3.0], [0], []),
        ([3.0, 1.0], [1], [0]),
        ([3.0, 1.0, 2.0], [1], [0]),
        ([3.0, 1.0, 2.0, 0.0, 9.0, 5.0], [3, 1], [4, 5]),
    ],
)
def test_extremes_never_share_an_image(values, lowest, highest):
    found = face_scores.extremes(np.array(values), 2)
    assert [list(rows) for rows in found] == [lowest, highest]


def test_captions_tell_every_score():
    scores = {"ers": np.array([0.1234, 1.0]), "ri": np.array([-2.0, 1e-3])}
    assert face_scores.captions(scores, np.array([1, 0])) == [
        ["ERS 1", "RI 0.001"],
        ["ERS 0.123", "RI -2"],
    ]
