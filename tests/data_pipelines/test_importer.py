"""Import into ArrayRecord: complete, faithful, resumable, and honest about failure."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recordio_writer import jpeg, write_plain

from qface_jax.configs.base import get_config
from qface_jax.data_pipelines import importer
from qface_jax.data_pipelines.importer import import_source
from qface_jax.data_pipelines.sources import open_source
from qface_jax.errors import DataError

N = 40
LABELS = [i // 4 for i in range(N)]
# Small enough for several shards.
SHARD_BYTES = 12_000


class ListSource:
    """Images from a list; `fetch` can be told to misbehave."""

    name = "list"

    def __init__(self, images, labels=LABELS):
        self.images = list(images)
        self._labels = np.asarray(labels, np.int32)
        self.num_classes = int(self._labels.max()) + 1
        self.unreadable: set[int] = set()
        self.fail_at = None
        self.fetched: list[int] = []

    def __len__(self):
        return len(self.images)

    def labels(self):
        return self._labels

    def fetch(self, indices):
        for index in np.asarray(indices).tolist():
            self.fetched.append(index)
            if index in self.unreadable:
                raise DataError(f"list: record {index}: cannot be read")
            if index == self.fail_at:
                raise KeyboardInterrupt
        return [self.images[i] for i in indices], self._labels[indices]

    def describe(self):
        return {"source": self.name, "images": len(self), "notes": ["not in the plan"]}


@pytest.fixture(scope="module")
def images():
    return [jpeg(i) for i in range(N)]


@pytest.fixture
def source(images):
    return ListSource(images)


def open_imported(path):
    data = get_config().data
    data.source, data.path = "array_record", str(path)
    return open_source(data)


def files_of(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def check_equal(imported, source):
    rows = np.random.default_rng(0).permutation(len(source))
    images, labels = imported.fetch(rows)
    expected, expected_labels = source.fetch(rows)
    assert images == expected
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, expected_labels)
    np.testing.assert_array_equal(imported.labels(), source.labels())
    assert (len(imported), imported.num_classes) == (len(source), source.num_classes)


@pytest.fixture
def whole(tmp_path, source):
    """An uninterrupted import of `source`."""
    import_source(source, tmp_path / "whole", shard_bytes=SHARD_BYTES)
    return tmp_path / "whole"


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
    data = get_config().data
    data.source, data.path = "mxnet", str(write_plain(tmp_path / "m", LABELS, images))
    source = open_source(data)
    import_source(source, tmp_path / "out", shard_bytes=SHARD_BYTES)
    check_equal(open_imported(tmp_path / "out"), source)


BROKEN = {
    "text": (b"this is no image at all", "no JPEG or PNG image"),
    "empty": (b"", "empty"),
    "cut": (jpeg(7)[:900], "JPEG image cut short"),
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
    assert problem in report["examples"][0]
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


def test_skipped_records_are_not_forgotten_on_resuming(tmp_path, images):
    source = ListSource([b"no image", *images[1:]])
    source.fail_at = N - 5
    with pytest.raises(KeyboardInterrupt):
        import_source(
            source, tmp_path / "out", skip_broken=True, shard_bytes=SHARD_BYTES
        )
    source.fail_at = None
    with pytest.raises(DataError, match="list: record 0: no JPEG"):
        import_source(source, tmp_path / "out", shard_bytes=SHARD_BYTES)


def interrupt(source, out):
    """Stops an import by Ctrl-C after some shards are finished."""
    source.fail_at = N - 8
    # Sampling for the size estimate must not be what is interrupted.
    estimate = importer._estimated_bytes(ListSource(source.images))
    original, importer._estimated_bytes = importer._estimated_bytes, lambda _: estimate
    try:
        with pytest.raises(KeyboardInterrupt):
            import_source(source, out, shard_bytes=SHARD_BYTES)
    finally:
        importer._estimated_bytes = original
    source.fail_at = None
    source.fetched.clear()


def test_interrupted_import_goes_on_where_it_was(tmp_path, source, whole):
    out = tmp_path / "out"
    source.fetched.clear()
    interrupt(source, out)
    assert not out.exists()
    finished = list((tmp_path / "out.importing" / "parts").glob("*.array_record-*"))
    assert len(finished) >= 3 and not any(f.suffix == ".tmp" for f in finished)
    before = {file.name: file.stat().st_mtime_ns for file in finished}
    import_source(source, out, shard_bytes=SHARD_BYTES)
    assert files_of(out) == files_of(whole)
    # The finished shards were taken as they were.
    assert before == {name: (out / name).stat().st_mtime_ns for name in before}
    assert not (tmp_path / "out.importing").exists()


def test_import_stopped_while_it_is_put_together(tmp_path, source, whole, monkeypatch):
    out = tmp_path / "out"
    moves = []

    def replace(origin, target):
        moves.append(target)
        if len(moves) > 12 and Path(target).parent.name == "1.0.0":
            raise KeyboardInterrupt
        return os.rename(origin, target)

    with monkeypatch.context() as patch:
        patch.setattr(importer.os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            import_source(source, out, shard_bytes=SHARD_BYTES)
    assert not out.exists()
    import_source(source, out, shard_bytes=SHARD_BYTES)
    assert files_of(out) == files_of(whole)


KILLED = """
import os, sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import numpy as np
from test_importer import ListSource, N, SHARD_BYTES
from recordio_writer import jpeg
from qface_jax.data_pipelines.importer import import_source

class Slow(ListSource):
    def fetch(self, indices):
        if len(indices) > 1:
            os.write(1, b"fetch\\n")  # standard output is silenced
            time.sleep(0.05)
        return super().fetch(indices)

import_source(Slow([jpeg(i) for i in range(N)]), Path(sys.argv[1]),
              shard_bytes=SHARD_BYTES)
"""


def test_killed_import_is_resumed_to_the_same_bytes(tmp_path, source, whole):
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(out), str(Path(__file__).parent)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        for _ in range(4):  # the fourth shard is being read: three are finished
            assert process.stdout.readline() == b"fetch\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    parts = tmp_path / "out.importing" / "parts"
    assert len(list(parts.glob("*.array_record-*-of-?????"))) >= 3
    source.fetched.clear()
    import_source(source, out, shard_bytes=SHARD_BYTES)
    assert files_of(out) == files_of(whole)


def test_unfinished_import_of_something_else_is_not_mixed_in(tmp_path, source):
    interrupt(source, tmp_path / "out")
    other = ListSource(source.images[:-4], LABELS[:-4])
    with pytest.raises(DataError, match="unfinished import of another source"):
        import_source(other, tmp_path / "out", shard_bytes=SHARD_BYTES)


def test_two_imports_at_once(tmp_path, source):
    interrupt(source, tmp_path / "out")
    with importer._locked(tmp_path / "out.importing" / "lock"):
        with pytest.raises(DataError, match="another import is writing"):
            import_source(source, tmp_path / "out", shard_bytes=SHARD_BYTES)


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


def test_too_little_space_is_said_before_anything_is_written(
    tmp_path, source, monkeypatch
):
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"no space: .* 0\.00 GB are free"):
        import_source(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from test_importer import ListSource, N
from recordio_writer import jpeg
from qface_jax.data_pipelines.importer import import_source
from qface_jax.errors import DataError

# A limit on the size of files fails inside the writer as a full disk does.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
try:
    import_source(ListSource([jpeg(i) for i in range(N)]), Path(sys.argv[1]))
except DataError as error:
    print(error)
"""


def test_disk_that_fills_up_while_writing(tmp_path, source):
    out = tmp_path / "out"
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(out)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert "cannot be written" in done.stdout, done.stderr
    assert not out.exists()
    assert not list((tmp_path / "out.importing").rglob("*.array_record-*"))
    import_source(source, out)
    check_equal(open_imported(out), source)


def test_full_disk_at_the_small_files(tmp_path, source, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        with pytest.raises(DataError, match="No space left on device; what was"):
            import_source(source, tmp_path / "out", shard_bytes=SHARD_BYTES)
    assert not (tmp_path / "out").exists()
    import_source(source, tmp_path / "out", shard_bytes=SHARD_BYTES)
    check_equal(open_imported(tmp_path / "out"), source)


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


def test_labels_file(whole, source, caplog):
    file = whole / "labels.npy"
    labels = np.load(file)
    np.save(file, labels[:-1])
    with pytest.raises(DataError, match=r"expected int32 \(40,\)"):
        open_imported(whole)
    np.save(file, labels + 100)
    with pytest.raises(DataError, match=r"labels reach from 100 to 109.* 0 to 9"):
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


def test_real_faces(faces_dir, tmp_path):
    data = get_config().data
    data.source, data.path = "folder", str(faces_dir / "folder")
    source = open_source(data)
    report = import_source(source, tmp_path / "out")
    assert (report["images"], report["identities"], report["odd"]) == (204, 40, 0)
    imported = open_imported(tmp_path / "out")
    check_equal(imported, source)
