"""Crops of photographs: of landmarks in a table, of YuNet, stopped and damaged."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qface_jax.data_pipelines.stream.alignment import similarity, template
from qface_jax.data_pipelines.stream.crops import crop
from qface_jax.data_pipelines.tools import align_photos as module
from qface_jax.data_pipelines.tools.align_photos import align_photos, crop_names
from qface_jax.data_pipelines.tools.detection import (
    Face,
    LandmarkTable,
    YuNet,
    chosen,
)
from qface_jax.errors import ConfigError, DataError
from qface_jax.launch import main

SHARED = Path(__file__).parents[4] / "shared"
# In a photograph of 240 x 200; landmarks are kept as float32.
PLACES = (1.5 * template() + np.array([20, 30])).astype(np.float32)


@pytest.fixture
def photos(tmp_path):
    """Four photographs at two depths, with a table of landmarks."""
    folder = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for name in ("a/1.png", "a/2.png", "b/c/3.png", "4.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (20, 24, 3)).astype(np.uint8)
        Image.fromarray(pixels).resize((240, 200)).save(folder / name)
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no photograph")
    return folder


def table_of(path, rows, header=True):
    names = [f"{axis}{i}" for i in range(1, 6) for axis in "xy"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["file", *names]] if header else [])
        writer.writerows([[name, *np.ravel(points)] for name, points in rows])
    return path


ROWS = [("a/1.png", PLACES), ("a/2.png", PLACES + 5), ("4.png", PLACES)]


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def listed(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("header", [True, False])
def test_a_table_of_landmarks(photos, tmp_path, capsys, header):
    table = table_of(tmp_path / "table.csv", ROWS, header)
    out = tmp_path / "out"
    assert (
        main.main(["data", "align", str(photos), str(out), f"--landmarks={table}"]) == 0
    )
    assert "3 of 4 photographs aligned; 1 without a face" in capsys.readouterr().out
    made = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    assert made == sorted(
        ["a/1.png", "a/2.png", "4.png", "landmarks.csv", "without_face.csv",
         "sheet.png", "align.json"]
    )  # fmt: skip
    expected = crop(pixels(photos / "a/2.png"), similarity(PLACES + 5))
    np.testing.assert_array_equal(pixels(out / "a/2.png"), expected)
    rows = listed(out / "landmarks.csv")
    assert [row["file"] for row in rows] == ["4.png", "a/1.png", "a/2.png"]
    assert float(rows[1]["x1"]) == pytest.approx(PLACES[0, 0], abs=1e-4)
    assert listed(out / "without_face.csv") == [
        {"file": "b/c/3.png", "status": "no face", "reason": "no face"}
    ]
    report = json.loads((out / "align.json").read_text())
    assert "ArcFace template" in report["plan"]["aligner"]
    assert not out.with_name("out.aligning").exists()
    # What was written is a table itself.
    again = LandmarkTable(out / "landmarks.csv")
    align_photos(photos, tmp_path / "again", again, face="largest")
    for name in ("a/1.png", "a/2.png", "4.png"):
        difference = pixels(tmp_path / "again" / name).astype(int) - pixels(out / name)
        assert np.abs(difference).max() <= 1


def test_four_points(photos, tmp_path):
    places = (1.5 * template(points=4) + np.array([20, 30])).astype(np.float32)
    table = table_of(tmp_path / "t.csv", [("4.png", places)], header=False)
    align_photos(photos, tmp_path / "out", LandmarkTable(table), face="centre")
    expected = crop(pixels(photos / "4.png"), similarity(places))
    np.testing.assert_array_equal(pixels(tmp_path / "out" / "4.png"), expected)


class Counting:
    """A table that stops after some photographs."""

    def __init__(self, table, stop=None):
        self.facts, self.seen = table.facts, []
        self._table, self._stop = table, stop

    def detect(self, name, image):
        if len(self.seen) == self._stop:
            raise KeyboardInterrupt
        self.seen.append(name)
        return self._table.detect(name, image)


def content(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file()
    }


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_a_stopped_run_goes_on(photos, tmp_path, stop):
    table = LandmarkTable(table_of(tmp_path / "t.csv", ROWS))
    out, work = tmp_path / "out", tmp_path / "out.aligning"
    stopped = Counting(table, stop)
    with pytest.raises(KeyboardInterrupt):
        align_photos(photos, out, stopped, face="largest")
    assert not out.exists() and work.is_dir()
    with (work / "journal.jsonl").open("a") as file:
        file.write('{"file": "a/2.p')  # a line that was cut off
    rest = Counting(table)
    report = align_photos(photos, out, rest, face="largest")
    assert sorted(stopped.seen + rest.seen) == ["4.png", "a/1.png", "a/2.png",
                                                "b/c/3.png"]  # fmt: skip
    assert len(stopped.seen) == stop and not work.exists()
    whole = tmp_path / "whole"
    assert align_photos(photos, whole, table, face="largest") == report
    assert content(whole) == content(out)
    finished = Counting(table)
    assert align_photos(photos, out, finished, face="largest") == report
    assert finished.seen == []


def test_another_plan_is_refused(photos, tmp_path):
    table = LandmarkTable(table_of(tmp_path / "t.csv", ROWS))
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        align_photos(photos, out, Counting(table, 1), face="largest")
    with pytest.raises(DataError, match="unfinished crops of other photographs, or of"):
        align_photos(photos, out, table, face="centre")
    align_photos(photos, out, table, face="largest")
    with pytest.raises(DataError, match="already exists and holds crops of other"):
        align_photos(photos, out, table, face="centre")
    shutil.rmtree(out)
    out.mkdir()
    (out / "mine.txt").touch()
    with pytest.raises(DataError, match="already exists and holds something else"):
        align_photos(photos, out, table, face="largest")


def test_damaged_photographs_and_landmarks(photos, tmp_path):
    whole = (photos / "4.png").read_bytes()
    (photos / "4.png").write_bytes(whole[: len(whole) // 2])
    bad = PLACES.copy()
    bad[2] = np.nan
    rows = [("4.png", PLACES), ("a/1.png", bad), ("a/2.png", PLACES + 1000),
            ("b/c/3.png", PLACES[:, ::-1])]  # fmt: skip
    table = LandmarkTable(table_of(tmp_path / "t.csv", rows))
    report = align_photos(photos, tmp_path / "out", table, face="largest")
    assert (report["aligned"], report["unreadable"]) == (1, 1)
    assert report["unfit_landmarks"] == 2 and report["eyes_not_above_mouth"] == 1
    reasons = {
        r["file"]: r["reason"] for r in listed(tmp_path / "out/without_face.csv")
    }
    assert "damaged" in reasons["4.png"]
    assert "expected finite numbers" in reasons["a/1.png"]
    assert "outside the photograph of 240 x 200 px" in reasons["a/2.png"]


def test_no_face_at_all_leaves_nothing(photos, tmp_path):
    table = LandmarkTable(table_of(tmp_path / "t.csv", [("4.png", PLACES * np.nan)]))
    with pytest.raises(DataError, match="got no face in 4 photographs"):
        align_photos(photos, tmp_path / "out", table, face="largest")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photos", "t.csv"]


def test_folders_that_do_not_do(photos, tmp_path):
    table = LandmarkTable(table_of(tmp_path / "t.csv", ROWS))
    with pytest.raises(ConfigError, match="must not lie within the photographs"):
        align_photos(photos, photos / "out", table, face="largest")
    with pytest.raises(DataError, match="no such folder"):
        align_photos(tmp_path / "none", tmp_path / "out", table, face="largest")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no photograph: expected files with one of"):
        align_photos(tmp_path / "empty", tmp_path / "out", table, face="largest")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no line"),
        ("4.png,1,2,3\n", "line 1 has '1, 2, 3' after the file, expected x and y of 5"),
        ("4.png,1,2,3,4,5,6,7,x\n", "line 1 has '1, 2, 3, 4, 5, 6, 7, x'"),
        ("file,x1,y1,x2,y2\n4.png,1,2,3,4\n", "got the columns file, x1, y1, x2, y2"),
    ],
)
def test_damaged_tables(tmp_path, text, words):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        LandmarkTable(tmp_path / "t.csv")


def test_tables_of_other_photographs(photos, tmp_path, capsys):
    rows = [("x/4.png", PLACES)]
    words = ["data", "align", str(photos), str(tmp_path / "out"), "--landmarks="]
    words[-1] += str(table_of(tmp_path / "t.csv", rows))
    assert main.main(words) != 0
    assert "got none of its 1 file in" in capsys.readouterr().err
    table_of(tmp_path / "t.csv", [*rows, ("4.png", PLACES)])
    assert main.main(words) == 0
    assert ": 1 of its 2 files, such as" in capsys.readouterr().out


def face(left, top, width, height):
    return Face(PLACES, (left, top, width, height), 0.9)


def test_which_of_several_faces():
    small_middle, large_edge, large_near = (
        face(90, 90, 20, 20), face(0, 0, 60, 60), face(60, 60, 58, 58),
    )  # fmt: skip
    faces = [small_middle, large_edge, large_near]
    assert chosen(faces, (200, 200), "centre") is small_middle
    assert chosen(faces, (200, 200), "largest") is large_edge
    assert chosen(faces, (200, 200), "prominent") is large_near
    with pytest.raises(ValueError, match="must be one of"):
        chosen(faces, (200, 200), "first")


def test_names_of_crops():
    names = crop_names(["a/1.jpg", "a/2.jpg", "a/2.PNG", "1.jpg"])
    assert list(names.values()) == ["a/1.png", "a/2.jpg.png", "a/2.PNG.png", "1.png"]


@pytest.fixture(scope="module")
def yunet():
    pytest.importorskip("cv2")
    path = SHARED / "weights" / "yunet_2026may.onnx"
    if not path.is_file():
        pytest.skip(
            f"no detector {path}: fetch face_detection_yunet of OpenCV's model zoo "
            "(github.com/opencv/opencv_zoo) and save it there"
        )
    return YuNet(path, threshold=0.6)


@pytest.fixture(scope="module")
def lfw():
    root = Path(os.environ.get("QFACE_PROTOCOLS", SHARED / "protocols")) / "mini/xqlfw"
    if not root.is_dir():
        pytest.skip(
            f"no miniature benchmark {root}: set QFACE_PROTOCOLS to a folder with "
            "mini/xqlfw, a small tree in the layout of docs/benchmarks.md"
        )
    return root


def test_yunet_on_photographs(yunet, lfw, tmp_path):
    """Close to the copies that were aligned by another detector."""
    folder = lfw / "lfw_original_imgs_min_qual0.85variant11"
    people = sorted(p.name for p in folder.iterdir())[:8]
    photos = tmp_path / "photos"
    for person in people:
        shutil.copytree(folder / person, photos / person)
    report = align_photos(photos, tmp_path / "out", yunet, face="prominent")
    count = len(list(photos.rglob("*.jpg")))
    assert report["aligned"] == report["photographs"] == count
    assert report["plan"]["detector"]["name"] == "YuNet"
    alike = []
    for copy in (lfw / "xqlfw_aligned_112").rglob("*.jpg"):
        ours = tmp_path / "out" / copy.parent.name / f"{copy.stem}.png"
        if ours.is_file():
            middles = [pixels(p)[20:100, 20:92].ravel() for p in (copy, ours)]
            alike.append(np.corrcoef(*middles)[0, 1])
    assert len(alike) == count and np.median(alike) > 0.8


def test_yunet_on_large_photographs(yunet, lfw):
    """Where the landmarks lie does not depend on how many pixels a photograph has."""
    away = []
    for file in sorted(lfw.glob("lfw_original*/*/*.jpg"))[::10]:
        small = Image.open(file).convert("RGB")
        places = [yunet.detect("", np.asarray(small))[0].landmarks]
        for factor in (3, 6):
            large = small.resize((factor * small.width,) * 2, Image.Resampling.BICUBIC)
            (face,) = yunet.detect("", np.asarray(large))
            places.append((face.landmarks + 0.5) / factor - 0.5)
        assert np.abs(places[1] - places[2]).mean() < 1  # px of the small photograph
        away.append(np.abs(places[1] - places[0]).mean())
    assert np.median(away) < 2.5 and max(away) < 6


def test_yunet_finds_small_faces_among_large_ones(yunet, lfw):
    files = sorted(lfw.glob("lfw_original*/*/*.jpg"))[8::40]
    page = Image.new("RGB", (1000, 800), (90, 110, 130))
    large = Image.open(files[0]).resize((700, 700), Image.Resampling.BICUBIC)
    page.paste(large, (0, 50))
    page.paste(Image.open(files[1]).resize((120, 120)), (860, 20))
    faces = yunet.detect("", np.asarray(page))
    widths = sorted(face.box[2] for face in faces)
    assert len(faces) == 2 and widths[0] < 80 and widths[1] > 150
    size = (page.width, page.height)
    assert chosen(faces, size, "prominent").box[2] == widths[1]


def test_nothing_is_no_face(yunet):
    assert yunet.detect("", np.full((120, 160, 3), 128, np.uint8)) == []


def test_files_that_are_no_yunet(tmp_path):
    pytest.importorskip("cv2")
    with pytest.raises(ConfigError, match="expected an ONNX file of YuNet"):
        YuNet(tmp_path / "none.onnx", threshold=0.6)
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(DataError, match="which OpenCV cannot use as YuNet"):
        YuNet(tmp_path / "bad.onnx", threshold=0.6)


def test_without_opencv(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    words = ["data", "align", str(photos), str(tmp_path / "out"), "--detector=x.onnx"]
    assert main.main(words) != 0
    assert "--detector: needs OpenCV, which is not installed" in capsys.readouterr().err


def test_a_full_disk_is_named(photos, tmp_path, monkeypatch):
    table = LandmarkTable(table_of(tmp_path / "t.csv", ROWS))

    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(module, "replace_file", full)
    with pytest.raises(DataError, match=r"No space left on device; what was finished"):
        align_photos(photos, tmp_path / "out", table, face="largest")
    assert not (tmp_path / "out").exists()
