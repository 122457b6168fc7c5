"""Import into ArrayRecord: complete and faithful; bad records are named."""

import json
import re
import socket

import numpy as np
import pytest

from qface_jax.data_pipelines.sources.source import open_source
from qface_jax.data_pipelines.tools.importer import import_source
from qface_jax.errors import DataError
from support.import_case import (
    LABELS,
    SHARD_BYTES,
    ListSource,
    N,
    check_equal,
    files_of,
    open_imported,
)
from support.recordio_writer import jpeg, write_plain


def test_import_gives_back_the_same_bytes(whole, source):
    assert len(list(whole.glob("*.array_record-*"))) > 4
    assert not any(file.is_symlink() for file in whole.iterdir())
    assert not whole.with_name("whole.importing").exists()
    imported = open_imported(whole)
    check_equal(imported, source)
    assert imported.describe()["notes"] == []
    assert imported.record_name(N - 1).endswith(
        f"{N - 1 - int(imported._ends[-2])}"  # counted within the last shard
    )


def test_report(tmp_path, images):
    odd = [*images[:-2], jpeg(1, side=64), jpeg(2)]
    report = import_source(ListSource(odd), tmp_path / "out", shard_bytes=SHARD_BYTES)
    assert report == json.loads((tmp_path / "out" / "import.json").read_text())
    assert (report["images"], report["identities"]) == (N, 10)
    assert (report["skipped"], report["odd"]) == (0, 1)
    assert report["formats"] == {"JPEG": N}
    assert report["bytes"] == sum(map(len, odd))
    assert report["examples"] == [f"list: record {N - 2}: size 64x64, expected 112x112"]


def test_no_network_is_touched(tmp_path, source, monkeypatch):
    def refuse(*args):
        raise AssertionError(f"network: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    import_source(source, tmp_path / "out")
    check_equal(open_imported(tmp_path / "out"), source)


def test_import_of_a_record_file(tmp_path, images):
    source = open_source("mxnet", [write_plain(tmp_path / "m", LABELS, images)])
    import_source(source, tmp_path / "out", shard_bytes=SHARD_BYTES)
    check_equal(open_imported(tmp_path / "out"), source)


BROKEN = {
    "text": (b"this is no image at all", "not a picture, or a damaged one"),
    "empty": (b"", "not a picture: empty"),
    "cut": (jpeg(7)[:900], "not a picture, .*cut short"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_record_that_is_no_image(tmp_path, images, kind):
    data, problem = BROKEN[kind]
    source = ListSource([*images[:20], data, *images[21:]])
    with pytest.raises(DataError, match=f"list: record 20: {problem}.*--skip-broken"):
        import_source(source, tmp_path / "out", shard_bytes=SHARD_BYTES)
    assert not (tmp_path / "out").exists()
    report = import_source(
        source, tmp_path / "out", skip_broken=True, shard_bytes=SHARD_BYTES
    )
    assert (report["images"], report["skipped"]) == (N - 1, 1)
    assert re.search(problem, report["examples"][0])
    imported = open_imported(tmp_path / "out")
    assert imported.fetch(np.arange(N - 1))[0] == images[:20] + images[21:]
    assert imported.labels().tolist() == LABELS[:20] + LABELS[21:]


def test_record_that_cannot_be_read(tmp_path, images):
    source = ListSource(images)
    source.unreadable = {0, 13, 30}
    with pytest.raises(DataError, match="list: record 0: cannot be read"):
        import_source(source, tmp_path / "out", shard_bytes=SHARD_BYTES)
    report = import_source(
        source, tmp_path / "out", skip_broken=True, shard_bytes=SHARD_BYTES
    )
    assert (report["images"], report["skipped"]) == (N - 3, 3)
    kept = [i for i in range(N) if i not in source.unreadable]
    got, labels = open_imported(tmp_path / "out").fetch(np.arange(N - 3))
    assert got == [images[i] for i in kept]
    assert labels.tolist() == [LABELS[i] for i in kept]


def test_folder_that_exists(tmp_path, whole, source):
    before = files_of(whole)
    source.fetched.clear()
    # The same import again: nothing to do.
    report = import_source(source, whole, shard_bytes=SHARD_BYTES)
    assert report["images"] == N and files_of(whole) == before
    other = ListSource(source.images[:8], LABELS[:8])
    with pytest.raises(DataError, match="holds another import"):
        import_source(other, whole)
    (tmp_path / "mine").mkdir()
    import_source(other, tmp_path / "mine")  # empty: taken
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    with pytest.raises(DataError, match="holds something else"):
        import_source(other, tmp_path / "full")
    assert files_of(tmp_path / "full") == {"thesis.txt": b"x"}


def test_real_faces(faces_dir, tmp_path):
    source = open_source("folder", [faces_dir / "folder"])
    report = import_source(source, tmp_path / "out")
    assert (report["images"], report["identities"], report["odd"]) == (204, 40, 0)
    imported = open_imported(tmp_path / "out")
    check_equal(imported, source)
