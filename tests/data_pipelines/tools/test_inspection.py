"""What `qface data inspect` finds, and the commands around it."""

import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from qface_jax.data_pipelines.sets.pair_sets import ListedPairs, PickledPairs
from qface_jax.data_pipelines.sources.source import open_source
from qface_jax.data_pipelines.tools import sheet
from qface_jax.data_pipelines.tools.inspection import (
    inspect_pairs,
    inspect_source,
    source_sheet,
)
from qface_jax.launch import main
from support.recordio_writer import jpeg, write_indexed, write_plain

LABELS = [0, 0, 1, 1, 1, 3]


def png(pixels, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, **options)
    return buffer.getvalue()


def swapped(seed):
    """A face-coloured picture with red and blue exchanged."""
    pixels = np.asarray(Image.open(io.BytesIO(jpeg(seed))))
    return png(np.ascontiguousarray(pixels[..., ::-1]))


def open_plain(folder, labels, images):
    return open_source("mxnet", [write_plain(folder, labels, images)])


def size_of(path):
    with Image.open(path) as sheet:
        return sheet.size


def test_counts(tmp_path):
    images = [jpeg(i) for i in range(6)]
    facts = inspect_source(open_plain(tmp_path, LABELS, images))
    assert (facts["images"], facts["identities"]) == (6, 3)
    assert facts["images_per_identity"] == {"min": 1, "median": 2.0, "max": 3}
    assert facts["labels"] == {"min": 0, "max": 3, "gaps": 1}
    sample = facts["sample"]
    assert sample["formats"] == {"JPEG": 6} and sample["sizes"] == {"112x112": 6}
    assert [sample[k] for k in ("broken", "grayscale", "blank", "duplicates")] == [
        0
    ] * 4
    red, green, blue = sample["mean_rgb"]
    assert red > green > blue
    assert facts["warnings"] == [
        "1 labels below 4 have no image",
        "1 of 3 identities have a single image",
    ]
    json.dumps(facts)


def test_odd_images(tmp_path):
    flat = np.full((112, 112, 3), (180, 120, 90), np.uint8)
    images = [
        jpeg(0),
        jpeg(0),
        b"no image",
        jpeg(1, side=96),
        jpeg(2, mode="L"),
        png(flat),
    ]
    facts = inspect_source(open_plain(tmp_path, [0] * 6, images))
    sample = facts["sample"]
    assert sample["formats"] == {"JPEG": 4, "PNG": 1}
    assert sample["sizes"] == {"112x112": 4, "96x96": 1}
    assert [sample[k] for k in ("broken", "grayscale", "blank", "duplicates")] == [
        1
    ] * 4
    text = "\n".join(facts["warnings"])
    assert "train.rec: key 2: not a picture, or a damaged one" in text
    assert "key 1 = " in text and "exact duplicates" in text
    assert "1 image of the sample not 112x112" in text
    assert "1 image of the sample grayscale" in text
    assert "1 image of the sample blank" in text


@pytest.mark.parametrize("blue", [4, 8])
def test_swapped_channels(tmp_path, blue):
    images = [swapped(i) if i < blue else jpeg(i) for i in range(8)]
    facts = inspect_source(open_plain(tmp_path, [0] * 8, images))
    warned = any("channels may be swapped (BGR)" in text for text in facts["warnings"])
    assert warned is (blue == 8)


def test_sample_is_spread_over_the_set(tmp_path):
    images = [jpeg(i) for i in range(20)]
    facts = inspect_source(open_plain(tmp_path, [0] * 20, images), sample=5)
    assert facts["images"] == 20 and facts["sample"]["images"] == 5


def test_pairs(tmp_path):
    images = [jpeg(i) for i in (0, 1, 2, 2, 0, 3)]
    path = tmp_path / "set.bin"
    path.write_bytes(pickle.dumps((images, [True, True, False])))
    facts = inspect_pairs(PickledPairs(path))
    assert (facts["pairs"], facts["same"]) == (3, 2)
    assert facts["sample"]["formats"] == {"JPEG": 6}
    assert facts["warnings"] == [
        "2 of 3 pairs are of one person",
        "1 pair of the sample with one image twice, the first is pair 1",
    ]


def test_a_list_with_a_missing_image(tmp_path):
    for name, seed in (("A_0001", 0), ("A_0002", 1)):
        (tmp_path / f"{name}.jpg").write_bytes(jpeg(seed))
    lines = ["A_0001.jpg 1", "A_0002.jpg 1", "A_0001.jpg 0", "B_0001.jpg 0"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    facts = inspect_pairs(ListedPairs(tmp_path / "list.txt", tmp_path))
    assert facts["sample"]["broken"] == 1
    assert facts["sample"]["faults"] == {"unreadable": 1}
    assert "1 of 3 images are not in" in facts["warnings"][0]


def test_broken_image_is_a_red_tile(tmp_path):
    source = open_plain(tmp_path, [0, 0], [jpeg(0), b"no image"])
    source_sheet(source, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as page:
        assert page.getpixel((118 + 50, 60)) == sheet.LOW
        assert page.getpixel((50, 60)) != sheet.LOW


def test_command_inspect(tmp_path, capsys):
    images = [jpeg(i) for i in range(6)]
    write_indexed(tmp_path / "set", [0, 0, 1, 1, 2, 2], images)
    sheet_path = tmp_path / "sheet.png"
    assert (
        main.main(
            ["data", "inspect", str(tmp_path / "set"), "--sheet", str(sheet_path)]
        )
        == 0
    )
    text = capsys.readouterr().out
    assert "source: mxnet" in text and "identities: 3" in text
    assert "images_per_identity: min 2, median 2.0, max 2" in text
    assert "warning" not in text
    assert size_of(sheet_path) == (6 + 6 * 118, 6 + 132)
    assert main.main(["data", "inspect", str(tmp_path / "set"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["identities"] == 3


def test_command_inspect_of_pairs(tmp_path, capsys):
    path = tmp_path / "set.bin"
    path.write_bytes(pickle.dumps(([jpeg(0), jpeg(1)], [True])))
    sheet_path = tmp_path / "sheet.png"
    assert main.main(["data", "inspect", str(path), "--sheet", str(sheet_path)]) == 0
    assert "warning: 1 of 1 pairs are of one person" in capsys.readouterr().out
    assert size_of(sheet_path) == (6 + 3 * 118, 6 + 132)


def test_command_import(tmp_path, capsys):
    folder = tmp_path / "folder"
    for i in range(6):
        (folder / f"person{i // 3}").mkdir(parents=True, exist_ok=True)
        (folder / f"person{i // 3}" / f"{i}.jpg").write_bytes(jpeg(i))
    (folder / "person1" / "9.jpg").write_bytes(b"no image")
    out = tmp_path / "out"
    assert main.main(["data", "import", str(folder), str(out)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("qface data: error: ") and "person1/9.jpg" in error
    assert not out.exists()
    assert main.main(["data", "import", str(folder), str(out), "--skip-broken"]) == 0
    text = capsys.readouterr().out
    assert "6 images of 2 identities" in text and "1 skipped" in text
    assert "person1/9.jpg" in text
    assert main.main(["data", "inspect", str(out)]) == 0
    assert "source: array_record" in capsys.readouterr().out


def test_command_import_of_synthetic_faces(tmp_path, capsys):
    words = ["data", "import", "3x2", str(tmp_path / "out"), "--source", "synthetic"]
    assert main.main(words) == 0
    assert "6 images of 3 identities" in capsys.readouterr().out
    words[2] = "many"
    assert main.main(words) == 2
    assert "expected IDENTITIESxIMAGES" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["inspect", "nowhere"], "nowhere: neither a .rec file"),
        (["inspect", "nowhere.bin"], "nowhere.bin: cannot be read"),
        (["import", "nowhere", "out"], "nowhere: neither a .rec file"),
        (["import", "x", "out", "--source", "mxnet"], "x: no such file or folder"),
    ],
)
def test_command_errors_are_one_line(tmp_path, monkeypatch, capsys, words, problem):
    monkeypatch.chdir(tmp_path)
    assert main.main(["data", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("qface data: error: ") and problem in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["inspect"],
        ["inspect", "x", "--sample", "0"],
        ["import", "x"],
        ["import", "x", "y", "--source", "tar"],
        ["import", "x", "y", "--config.data.path=z"],
        ["preview", "--count=0"],
        [],
    ],
)
def test_command_words_that_are_wrong(words):
    with pytest.raises(SystemExit) as stop:
        main.main(["data", *words])
    assert stop.value.code == 2


def test_real_faces_look_right(faces_dir):
    facts = inspect_source(open_source("folder", [faces_dir / "folder"]))
    assert facts["images_per_identity"] == {"min": 4, "median": 4.5, "max": 8}
    assert facts["sample"]["sizes"] == {"112x112": 204}
    assert facts["warnings"] == ["2 images of the sample grayscale"]
