"""An import that is stopped: by a person, a signal, a full disk, another import."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qface_jax.data_pipelines.tools import importer
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


def test_skipped_records_are_not_forgotten_on_resuming(tmp_path, images):
    source = ListSource([b"no image", *images[1:]])
    source.fail_at = N - 5
    with pytest.raises(KeyboardInterrupt):
        import_source(
            source, tmp_path / "out", skip_broken=True, shard_bytes=SHARD_BYTES
        )
    source.fail_at = None
    with pytest.raises(DataError, match="list: record 0: not a picture"):
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
from pathlib import Path
import numpy as np
from support.import_case import ListSource, N, SHARD_BYTES
from support.recordio_writer import jpeg
from qface_jax.data_pipelines.tools.importer import import_source

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
    command = [sys.executable, "-c", KILLED, str(out)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
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
    import_source(source, out, shard_bytes=SHARD_BYTES)
    assert files_of(out) == files_of(whole)


def test_unfinished_import_of_something_else_is_not_mixed_in(tmp_path, source):
    interrupt(source, tmp_path / "out")
    other = ListSource(source.images[:-4], LABELS[:-4])
    with pytest.raises(DataError, match="unfinished import of another source"):
        import_source(other, tmp_path / "out", shard_bytes=SHARD_BYTES)


def test_two_imports_at_once(tmp_path, source):
    interrupt(source, tmp_path / "out")
    with (tmp_path / "out.importing" / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another import is writing"):
            import_source(source, tmp_path / "out", shard_bytes=SHARD_BYTES)


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
from support.import_case import ListSource, N
from support.recordio_writer import jpeg
from qface_jax.data_pipelines.tools.importer import import_source
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
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(out)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
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
