import errno
import threading

import jax.numpy as jnp
import pytest

from qface_jax.errors import UserError
from qface_jax.runs import checkpoint_writer
from qface_jax.runs.checkpoint_writer import CheckpointWriter
from qface_jax.storage import retrying

FAILED = ValueError("Error writing local file: Input/output error [os_error_code='5']")


class Response:
    def __init__(self, error):
        self.error = error

    def result(self, timeout=None):
        if self.error is not None:
            raise self.error
        return True


class Checkpointer:
    """Stands for Orbax's: raises what it is told, and keeps what it was given."""

    def __init__(self, storage):
        self.storage = storage

    def save_checkpointables_async(self, step, parts, *, force, overwrite):
        if self.storage.at_start:
            raise self.storage.at_start.pop(0)
        error = self.storage.later.pop(0) if self.storage.later else None
        if error is None:
            self.storage.saved[step] = parts
        return Response(error)

    def save_checkpointables(self, step, parts, *, force, overwrite):
        assert overwrite
        self.save_checkpointables_async(
            step, parts, force=force, overwrite=overwrite
        ).result()

    def close(self):
        self.storage.closed += 1
        if self.storage.at_closing is not None:
            raise self.storage.at_closing


class Storage:
    def __init__(self, *, at_start=(), later=()):
        self.at_start, self.later = list(at_start), list(later)
        self.at_opening, self.at_closing = [], None
        self.saved, self.closed, self.opened = {}, 0, 0

    def reopen(self):
        self.opened += 1
        if self.at_opening:
            raise self.at_opening.pop(0)
        return Checkpointer(self)


@pytest.fixture(autouse=True)
def slept(monkeypatch):
    waits = []
    monkeypatch.setattr(retrying.time, "sleep", waits.append)
    return waits


def state(value):
    return {"state": {"weight": jnp.full((3,), value)}, "digests": {"a": 1}}


def taken(parts):
    """The state after a step of the training that took over its memory."""
    parts["state"]["weight"].delete()
    return parts


def writer(tmp_path, storage):
    return CheckpointWriter(tmp_path / "checkpoints", storage.reopen)


def test_a_write_that_cannot_start_is_started_again(tmp_path, slept):
    storage = Storage(at_start=[OSError(errno.ESTALE, "Stale file handle")])
    one = writer(tmp_path, storage)
    assert one.save(5, state(1.0)) == []
    assert one.close() == []
    assert list(storage.saved) == [5]
    assert (storage.opened, slept) == (2, [0.1])


def test_a_state_that_is_still_there_is_written_again(tmp_path):
    storage = Storage(later=[FAILED, FAILED])
    one = writer(tmp_path, storage)
    parts = state(1.0)
    one.save(5, parts)
    assert storage.saved == {}
    assert one.settle() == []
    assert storage.saved == {5: parts}
    # Once for each failure, since Orbax keeps the error of a write.
    assert storage.opened == 3


def test_a_state_that_is_gone_is_lost_and_said_to_be(tmp_path, capsys):
    storage = Storage(later=[FAILED])
    one = writer(tmp_path, storage)
    parts = state(1.0)
    one.save(5, parts)
    taken(parts)
    assert one.save(10, state(2.0)) == [5]
    assert one.close() == []
    assert list(storage.saved) == [10]
    said = capsys.readouterr().err
    assert "step 5 could not be saved" in said
    assert "Input/output error" in said


def test_a_storage_that_keeps_failing_ends_the_run(tmp_path):
    storage = Storage(later=[FAILED] * 3)
    one = writer(tmp_path, storage)
    for step in (5, 10, 15):
        parts = state(1.0)
        one.save(step, parts)
        taken(parts)
    with pytest.raises(UserError, match=r"step 15 could not be saved.*nor the 2 check"):
        one.save(20, state(2.0))


def test_one_that_was_written_between_two_that_were_not_counts(tmp_path):
    storage = Storage(later=[FAILED, FAILED, None, FAILED])
    one = writer(tmp_path, storage)
    lost = []
    for step in (5, 10, 15, 20):
        parts = state(1.0)
        lost += one.save(step, parts)
        taken(parts)
    assert lost + one.close() == [5, 10, 20]
    assert list(storage.saved) == [15]


def test_other_errors_are_raised_as_they_are(tmp_path):
    storage = Storage(later=[ValueError("no such type")])
    one = writer(tmp_path, storage)
    one.save(5, state(1.0))
    with pytest.raises(ValueError, match="no such type"):
        one.close()
    assert storage.closed == 1


class LateResponse(Response):
    """Ends at the second time of asking."""

    asked = 0

    def result(self, timeout=None):
        self.asked += 1
        if self.asked == 1:
            threading.Event().wait(timeout)
            raise TimeoutError
        return super().result()


def test_a_write_that_takes_long_is_waited_for_and_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoint_writer, "_PATIENCE", 0.01)
    one = writer(tmp_path, Storage())
    one.save(5, state(1.0))
    one._pending = one._pending._replace(response=LateResponse(None))
    assert one.close() == []
    assert "step 5 is still being written" in capsys.readouterr().err


def test_a_timeout_of_the_write_itself_is_raised(tmp_path):
    storage = Storage(later=[TimeoutError("no answer from process 3")])
    one = writer(tmp_path, storage)
    one.save(5, state(1.0))
    with pytest.raises(TimeoutError, match="process 3"):
        one.close()


def test_what_is_still_being_written_is_removed_a_moment_later(tmp_path, slept):
    busy = OSError(errno.ENOTEMPTY, "Directory not empty", "5.orbax-checkpoint-tmp")
    storage = Storage(later=[FAILED])
    one = writer(tmp_path, storage)
    parts = state(1.0)
    one.save(5, parts)
    taken(parts)
    storage.at_opening = [busy, busy]
    assert one.save(10, state(2.0)) == [5]
    assert one.close() == []
    assert list(storage.saved) == [10]
    assert slept == [0.1, 0.3]


def test_what_orbax_kept_of_a_failure_does_not_hide_how_often_it_was_tried(tmp_path):
    storage = Storage(later=[FAILED] * 9)
    one = writer(tmp_path, storage)
    one.save(5, state(1.0))
    storage.at_closing = FAILED
    with pytest.raises(OSError, match=r"tried 6 times.*checkpoints"):
        one.close()


def test_what_fails_while_the_folder_is_closed_is_said(tmp_path, capsys):
    storage = Storage()
    one = writer(tmp_path, storage)
    one.save(5, state(1.0))
    storage.at_closing = FAILED
    assert one.close() == []
    assert list(storage.saved) == [5]
    said = capsys.readouterr().err
    assert "Input/output error" in said and "may not have been removed" in said
