"""The RecordIO reader against every layout, and against damage."""

import numpy as np
import pytest

from qface_jax.data_pipelines.sources.recordio import RecordFile
from qface_jax.errors import DataError
from support.recordio_writer import (
    MAGIC_BYTES,
    RecordWriter,
    payload,
    write_indexed,
    write_plain,
)

LABELS = [0, 0, 1, 2, 2, 2]
IMAGES = [bytes([i]) * (50 + i) for i in range(6)]


def open_folder(folder):
    index = folder / "train.idx"
    return RecordFile(folder / "train.rec", index if index.exists() else None)


def contents(records):
    return [records.read(i) for i in range(len(records))]


@pytest.mark.parametrize("write", [write_indexed, write_plain])
@pytest.mark.parametrize("with_index", [True, False])
def test_layouts(tmp_path, write, with_index):
    records = open_folder(write(tmp_path, LABELS, IMAGES, with_index=with_index))
    assert contents(records) == IMAGES
    assert records.labels.tolist() == LABELS
    assert records.labels.dtype == np.float32
    assert records.rebuilt_index is not with_index
    assert isinstance(records.keys, range)


def test_header_record_is_read_but_counts_come_from_the_index(tmp_path):
    records = open_folder(write_indexed(tmp_path, LABELS, IMAGES))
    assert records.header == (7.0, 10.0)
    assert records.empty_records == 4
    assert records.keys == range(1, 7)


def test_key_zero_with_an_image_is_no_header(tmp_path):
    records = open_folder(write_plain(tmp_path, LABELS, IMAGES))
    assert records.header is None
    assert records.keys == range(6)


def test_key_zero_with_label_vector_of_two_and_an_image_is_no_header(tmp_path):
    writer = RecordWriter()
    writer.add(0, payload(b"image", [3.0, 9.0]))
    records = open_folder(writer.save(tmp_path))
    assert records.header is None
    assert contents(records) == [b"image"]


def test_unsorted_keys_are_read_in_the_order_of_keys(tmp_path):
    writer = RecordWriter()
    order = [4, 0, 9, 2]
    for key in order:
        writer.add(key, payload(IMAGES[key % 6], float(key)))
    records = open_folder(writer.save(tmp_path))
    assert records.keys.tolist() == [0, 2, 4, 9]
    assert records.labels.tolist() == [0, 2, 4, 9]
    assert contents(records) == [IMAGES[key % 6] for key in (0, 2, 4, 9)]


def test_label_vector_gives_its_first_element(tmp_path):
    writer = RecordWriter()
    writer.add(0, payload(IMAGES[0], [5.0]))
    writer.add(1, payload(IMAGES[1], [6.0, 1.0, 2.0]))
    writer.add(2, payload(IMAGES[2], 7.0))
    records = open_folder(writer.save(tmp_path))
    assert records.labels.tolist() == [5, 6, 7]
    assert contents(records) == IMAGES[:3]


@pytest.mark.parametrize("with_index", [True, False])
def test_magic_inside_an_image_at_all_offsets(tmp_path, with_index):
    images = [
        bytes(offset) + MAGIC_BYTES + b"abc" + MAGIC_BYTES * repeat + b"z" * tail
        for offset in range(9)
        for repeat in (0, 1, 3)
        for tail in (0, 1)
    ]
    labels = list(range(len(images)))
    folder = write_plain(tmp_path, labels, images, with_index=with_index)
    body = (folder / "train.rec").read_bytes()
    # The writer did split: a middle part (flag 2) is in the file.
    assert any(
        body[i : i + 4] == MAGIC_BYTES and body[i + 7] >> 5 == 2
        for i in range(0, len(body) - 8, 4)
    )
    records = open_folder(folder)
    assert contents(records) == images
    assert records.labels.tolist() == labels


def test_magic_inside_the_image_header(tmp_path):
    # The record's id (bytes 8..15 of the payload) happens to be the magic.
    key = int.from_bytes(MAGIC_BYTES, "little")
    writer = RecordWriter()
    writer.add(3, payload(b"first", [11.0, 12.0], key=key))
    writer.add(4, payload(b"second", 13.0, key=key))
    records = open_folder(writer.save(tmp_path))
    assert records.labels.tolist() == [11, 13]
    assert contents(records) == [b"first", b"second"]


def test_reading_is_the_same_from_many_threads(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    images = [bytes([i % 256]) * (100 + i) for i in range(300)]
    records = open_folder(write_plain(tmp_path, [0] * 300, images))
    rows = np.random.default_rng(0).integers(0, 300, 3000)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(records.read, rows))
    assert read == [images[row] for row in rows]


@pytest.mark.parametrize("with_index", [True, False])
@pytest.mark.parametrize("cut", [1, 5, 90, 200])
def test_truncated_file(tmp_path, with_index, cut):
    folder = write_plain(tmp_path, LABELS, IMAGES, with_index=with_index)
    file = folder / "train.rec"
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(DataError, match=r"train\.rec: truncated"):
        open_folder(folder)


def test_truncated_within_a_split_record(tmp_path):
    image = b"abcd" + MAGIC_BYTES + b"efgh"
    folder = write_plain(tmp_path, [0, 0], [IMAGES[0], image])
    file = folder / "train.rec"
    file.write_bytes(file.read_bytes()[:-12])
    with pytest.raises(DataError, match="truncated within a split record"):
        open_folder(folder)


def test_file_that_shrinks_while_open(tmp_path):
    folder = write_plain(tmp_path, LABELS, IMAGES)
    records = open_folder(folder)
    with open(folder / "train.rec", "r+b") as file:
        file.truncate(150)
    with pytest.raises(DataError, match="truncated at byte"):
        records.read(5)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0\t0\n1\t40\n", "no record starts at byte 40"),
        ("0\t0\n1\t2\n", "no record starts at byte 2"),
        ("0\t0\n1\t99999\n", "beyond its"),
        ("0\t0\n0\t84\n", "key 0 twice"),
        ("0\t0\n1\t-4\n", "negative offset"),
        ("0\t0\n1\n", "3 numbers"),
        ("", "0 numbers"),
        ("key\toffset\n", "not an index"),
        ("0\t0\n1\tx\n", "not an index"),
    ],
)
def test_index_that_does_not_fit(tmp_path, text, problem):
    folder = write_plain(tmp_path, LABELS, IMAGES)
    (folder / "train.idx").write_text(text)
    with pytest.raises(DataError, match=problem):
        open_folder(folder)


def test_index_into_a_split_record(tmp_path):
    image = b"abcd" + MAGIC_BYTES + b"efgh" * 20
    folder = write_plain(tmp_path, [0], [image])
    # Chunk head, image header and the four bytes before the magic.
    (folder / "train.idx").write_text(f"0\t0\n1\t{8 + 24 + 4}\n")
    with pytest.raises(DataError, match="key 1 points into a split record"):
        open_folder(folder)


def test_index_that_ends_early_is_noticed(tmp_path):
    folder = write_plain(tmp_path, LABELS, IMAGES)
    lines = (folder / "train.idx").read_text().splitlines(keepends=True)
    (folder / "train.idx").write_text("".join(lines[:4]))
    records = open_folder(folder)
    assert contents(records) == IMAGES[:4]
    assert records.unlisted_bytes > 0


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(500)])
def test_no_record_file_at_all(tmp_path, content):
    (tmp_path / "train.rec").write_bytes(content)
    with pytest.raises(DataError, match=r"too few|no RecordIO record at byte 0"):
        open_folder(tmp_path)


def test_records_without_any_image(tmp_path):
    writer = RecordWriter()
    writer.add(0, payload(b"", [1.0, 1.0]))
    with pytest.raises(DataError, match="none of its 1 records is an image"):
        open_folder(writer.save(tmp_path))


def test_label_vector_longer_than_its_record(tmp_path):
    writer = RecordWriter()
    data = payload(b"tiny", 0.0)
    writer.add(0, (1000).to_bytes(4, "little") + data[4:])
    with pytest.raises(DataError, match="key 0 is too short for its image header"):
        open_folder(writer.save(tmp_path))


@pytest.mark.parametrize(
    ("name", "images", "identities"),
    [("faces_lfw", 7977, 3973), ("faces_celeba", 5990, 292)],
)
def test_files_of_mxnet_itself(faces_dir, name, images, identities):
    rec, idx = faces_dir / name / "train.rec", faces_dir / name / "train.idx"
    indexed, scanned = RecordFile(rec, idx), RecordFile(rec, None)
    assert len(indexed) == len(scanned) == images
    assert indexed.header == (images + 1, images + 1 + identities)
    np.testing.assert_array_equal(indexed.labels, scanned.labels)
    for i in range(0, images, 97):
        image = indexed.read(i)
        assert image == scanned.read(i)
        assert image.startswith(b"\xff\xd8") and image.endswith(b"\xff\xd9")
