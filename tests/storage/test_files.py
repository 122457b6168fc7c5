"""Small files are read whole where storage fails for a moment, and named where not."""

import errno
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from qface_jax.evals import npz_file
from qface_jax.storage import files, retrying


class FailingCalls:
    """The system's calls, of which every third one on a file fails."""

    def __init__(self):
        self.calls = self.failed = 0

    def __getattr__(self, name):
        real = getattr(os, name)
        return self.at_times(real) if name in ("open", "pread", "fstat") else real

    def at_times(self, real):
        def call(*args, **kwargs):
            self.calls += 1
            if self.calls % 3 == 1:
                self.failed += 1
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            return real(*args, **kwargs)

        return call


@pytest.fixture
def failing(monkeypatch):
    monkeypatch.setattr(retrying.time, "sleep", lambda seconds: None)
    system = FailingCalls()
    monkeypatch.setattr(files, "os", system)
    return system


def test_all_of_a_file_is_read(tmp_path, failing):
    content = np.random.default_rng(0).bytes(300_000)
    path = tmp_path / "file"
    path.write_bytes(content)
    assert files.read_bytes(path) == content
    assert failing.failed > 1


def test_lines_and_archives_are_read(tmp_path, failing):
    path = tmp_path / "lines"
    path.write_bytes(b"one\ntwo\nthree")
    with files.open_to_read(path) as file:
        assert file.readline() == b"one\n"
        assert file.seek(-5, os.SEEK_END) == 8
        assert file.read() == b"three"
        assert file.seek(4) == 4
        assert file.seek(1, os.SEEK_CUR) == 5
        assert file.read(2) == b"wo"
        with pytest.raises(OSError, match="got -1"):
            file.seek(-1)
    values = np.arange(50_000)
    np.savez_compressed(tmp_path / "a.npz", values=values)
    failing.failed = 0
    np.testing.assert_array_equal(npz_file.read(tmp_path / "a.npz")["values"], values)
    assert failing.failed > 1
    with files.open_to_read(tmp_path / "a.npz") as file:
        assert zipfile.ZipFile(file).namelist() == ["values.npy"]


def test_a_file_that_is_not_there_is_said_at_once(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.read_bytes(tmp_path / "none")


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(retrying.time, "sleep", lambda seconds: None)
    path = tmp_path / "file"
    path.write_bytes(b"content")

    def fail(*unused):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with files.open_to_read(path) as file:
        monkeypatch.setattr(os, "pread", fail)
        with pytest.raises(OSError, match=r"tried 6 times.*file"):
            file.read()


def test_folders_and_logs_are_opened_again(tmp_path, monkeypatch):
    system = FailingCalls()
    monkeypatch.setattr(retrying.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(os, "mkdir", system.at_times(os.mkdir))
    monkeypatch.setattr(Path, "open", system.at_times(Path.open))
    folder = tmp_path / "a" / "b"
    files.make_folder(folder)
    files.make_folder(folder)
    for text in (b"one", b"two"):
        with files.open_to_append(folder / "log") as file:
            file.write(text)
    assert files.read_bytes(folder / "log") == b"onetwo"
    assert system.failed > 1
