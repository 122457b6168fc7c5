import errno

import pytest

from qface_jax.storage import retrying
from qface_jax.storage.retrying import is_transient


class Failing:
    """A call that raises so many times, then returns."""

    def __init__(self, *errors):
        self.errors = list(errors)

    def __call__(self):
        if self.errors:
            raise self.errors.pop(0)
        return "content"


@pytest.fixture
def slept(monkeypatch):
    waits = []
    monkeypatch.setattr(retrying.time, "sleep", waits.append)
    monkeypatch.setattr(retrying, "_counts", {})
    return waits


def test_storage_that_fails_for_a_moment_is_tried_again(slept, caplog):
    opened = []
    call = Failing(
        OSError(errno.EIO, "Input/output error"), RuntimeError("x: Stale file handle")
    )
    found = retrying.retrying(
        call, "a/file", before_again=lambda: opened.append(len(slept))
    )
    assert found == "content"
    assert slept == [0.1, 0.3]
    assert opened == [1, 2]
    assert [record.getMessage() for record in caplog.records] == [
        "a/file: Input/output error; trying again (failed 1 times so far)",
        "a/file: Stale file handle; trying again (failed 2 times so far)",
    ]


def test_the_limit_is_named(slept):
    call = Failing(*[OSError(errno.ESTALE, "Stale file handle")] * 6)
    with pytest.raises(OSError, match=r"Stale file handle \(tried 6 times in 14.4 s\)"):
        retrying.retrying(call, b"a/file")
    assert slept == list(retrying.WAITS)
    assert call() == "content"  # no further try


def test_opening_again_may_fail_too(slept):
    again = Failing(OSError(errno.EIO, "Input/output error"))
    call = Failing(OSError(errno.EIO, "Input/output error"))
    assert retrying.retrying(call, "f", before_again=again) == "content"
    assert len(slept) == 2


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        PermissionError(errno.EACCES, "Permission denied"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("no number"),
        RuntimeError("damaged"),
    ],
)
def test_what_will_not_pass_is_raised_at_once(slept, error):
    assert not is_transient(error)
    with pytest.raises(type(error)) as raised:
        retrying.retrying(Failing(error), "f")
    assert raised.value is error
    assert slept == []
