"""Reading back what was imported, and noticing damage."""

import numpy as np
import pytest

from qface_jax.errors import DataError
from support.import_case import (
    LABELS,
    N,
    check_equal,
    open_imported,
)


def test_result_is_an_ordinary_tensorflow_dataset(whole, source):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(whole)
    assert builder.info.features["label"].num_classes == 10
    assert builder.info.splits["train"].num_examples == N
    record = builder.as_data_source(
        "train", decoders={"image": tfds.decode.SkipDecoding()}
    )
    assert record[17]["label"] == LABELS[17]
    assert record[17]["image"] == source.images[17]


def damage(file, kind):
    if kind == "missing":
        file.unlink()
    elif kind == "cut":
        file.write_bytes(file.read_bytes()[:-1000])
    else:
        file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.parametrize("kind", ["missing", "cut", "zeroed"])
def test_damaged_shard(whole, kind):
    damage(sorted(whole.glob("*.array_record-*"))[1], kind)
    with pytest.raises(DataError, match=r"are missing|damaged"):
        open_imported(whole)


def test_record_with_flipped_bytes(whole, source):
    file = min(whole.glob("*.array_record-*"))
    data = bytearray(file.read_bytes())
    at = data.index(source.images[2]) + 500
    data[at] ^= 0xFF
    file.write_bytes(data)
    imported = open_imported(whole)
    assert imported.fetch(np.array([0, 1]))[0] == source.images[:2]
    with pytest.raises(DataError, match=r"array_record-00000-of-\d+: damaged"):
        imported.fetch(np.array([2]))


def test_labels_file(whole, source, caplog):
    file = whole / "labels.npy"
    labels = np.load(file)
    np.save(file, labels[:-1])
    with pytest.raises(DataError, match=r"expected int32 \(40,\)"):
        open_imported(whole)
    np.save(file, labels + 100)
    with pytest.raises(DataError, match=r"labels reach from 100 to 109.* 0 to 9"):
        open_imported(whole)
    for kind in (np.int64, np.uint8, np.float32, np.float64):
        np.save(file, labels.astype(kind))
        assert open_imported(whole).labels().dtype == np.int32
        np.testing.assert_array_equal(open_imported(whole).labels(), labels)
    for odd in (
        labels + 0.5,
        np.full(40, np.nan),
        labels.astype(str),
        labels + np.int64(2**33),
    ):
        np.save(file, odd)
        with pytest.raises(DataError, match=r"expected int32 \(40,\)"):
            open_imported(whole)
    np.save(file, labels.astype(object), allow_pickle=True)
    with pytest.raises(DataError, match=r"labels\.npy: cannot be read"):
        open_imported(whole)
    file.write_bytes(b"not an array")
    with pytest.raises(DataError, match=r"labels\.npy: cannot be read"):
        open_imported(whole)
    file.unlink()
    check_equal(open_imported(whole), source)
    assert "reading every record" in caplog.text


def test_folder_that_is_no_import(tmp_path):
    with pytest.raises(DataError, match=r"no dataset_info\.json"):
        open_imported(tmp_path)


def test_fetch_from_many_threads(whole, source):
    from concurrent.futures import ThreadPoolExecutor

    imported = open_imported(whole)
    batches = np.random.default_rng(0).integers(0, N, (50, 16))
    with ThreadPoolExecutor(8) as pool:
        for rows, (images, labels) in zip(
            batches, pool.map(imported.fetch, batches), strict=True
        ):
            assert images == [source.images[row] for row in rows]
            assert labels.tolist() == [LABELS[row] for row in rows]
