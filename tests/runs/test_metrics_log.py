"""`metrics.jsonl` that was cut short, or edited by hand: what is an event."""

import math

import pytest

from qface_jax.runs import metrics_log
from qface_jax.runs.metrics_log import Event, event_of


@pytest.mark.parametrize(
    "line",
    [
        b"", b"\n", b"[]", b"null", b"3", b'{"loss": 1.0}', b'{"step": 1, "lo',
        b'{"step": null}', b'{"step": "3"}', b'{"step": 1.5}', b'{"step": true}',
        b'{"step": -1}', b'{"step": 2147483648}', b'{"step": 1' + b"0" * 400 + b"}",
        b'{"step": 1' + b"0" * 5000 + b"}", b'{"step": [1]}', b"\xff\xfe",
        b'{"step": 1, "loss": \xff}', b"[" * 10**5, b'{"a":' * 10**4,
        b'{"step": 1, "note": "' + b"a" * metrics_log.MAX_LINE + b'"}',
    ],
)  # fmt: skip
def test_what_is_no_event(line):
    assert event_of(line) is None


def test_numbers_are_kept_and_all_else_is_left_out():
    line = (
        b'{"step": 3, "time": 1.5, "loss": 2, "nan": NaN, "inf": 1e999, "text": "a", '
        b'"list": [1], "flag": true, "none": null, "huge": 1' + b"0" * 400 + b", "
        b'"\\ud800": 1, "\\u001b[2J": 1, "": 1, "' + b"n" * 300 + b'": 1}'
    )
    event = event_of(line)
    assert (event.step, event.time) == (3, 1.5)
    assert event.values.keys() == {"loss", "nan", "inf"}
    assert event.values["loss"] == 2.0 and math.isnan(event.values["nan"])
    assert event.to_json().keys() == {"step", "time", "loss", "nan", "inf"}


def test_a_time_that_is_none_is_left_out():
    assert event_of(b'{"step": 1, "time": "noon"}') == Event(1, None, {})
    assert event_of(b'{"step": 1, "time": NaN}').to_json() == {"step": 1}


def test_a_line_without_end_takes_no_memory_and_hides_no_other(tmp_path):
    path = tmp_path / "metrics.jsonl"
    long = b'{"step": 1, "note": "' + b"a" * (3 * metrics_log.MAX_LINE) + b'"}\n'
    path.write_bytes(b'{"step": 1}\n' + long + b'{"step": 7}\n{"step": 5')
    read = list(metrics_log.events(path))
    assert [event and event.step for event in read] == [1, None, 7, None]
    assert metrics_log.last_logged_step(path) == 7


def test_without_a_file_there_is_nothing(tmp_path):
    assert metrics_log.last_logged_step(tmp_path / "none") is None
    assert list(metrics_log.events(tmp_path)) == []
