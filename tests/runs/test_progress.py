import io
import itertools

import pytest

from qface_jax.runs.progress import Progress, duration


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def work(stream, *, total=1000, steps=10, seconds=20.0, start=0):
    clock = Clock()
    with Progress(
        total, "images", "reading", start=start, stream=stream, clock=clock
    ) as progress:
        for step in range(steps):
            clock.now += seconds
            progress.update(100, f"step {step}")
    return stream.getvalue()


def test_plain_lines_say_how_far_how_fast_and_how_long():
    lines = work(io.StringIO()).splitlines()
    assert len(lines) == 11
    assert lines[0] == (
        "reading: 100/1,000 images (10%), 5.00 images/s, 3 min 00 s left, step 0"
    )
    assert lines[-1] == "reading: 1,000 images in 3 min 20 s (5.00 images/s)"


def test_lines_come_seconds_apart():
    assert len(work(io.StringIO(), steps=1000, seconds=0.02).splitlines()) == 2


def test_a_terminal_keeps_one_line():
    text = work(Terminal())
    assert text.count("\n") == 1 and text.endswith("\n")
    assert text.count("\r") == 11


def test_a_shorter_line_covers_the_longer_one_before(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    shown = work(Terminal()).rstrip("\n").split("\r")[1:]
    assert max(map(len, shown)) < 60
    assert all(len(b) >= len(a.rstrip()) for a, b in itertools.pairwise(shown))


def test_unknown_total():
    lines = work(io.StringIO(), total=None).splitlines()
    assert lines[0] == "reading: 100 images, 5.00 images/s, step 0"


def test_a_resumed_count_does_not_flatter_the_rate():
    lines = work(io.StringIO(), total=2000, start=1000).splitlines()
    assert "1,100/2,000 images (55%), 5.00 images/s" in lines[0]
    assert lines[-1].endswith("(5.00 images/s)")


def test_time_left_forgets_a_slow_start():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(1000, "images", "reading", stream=stream, clock=clock)
    clock.now += 500  # compilation
    progress.update(100)
    for _ in range(6):
        clock.now += 10
        progress.update(100)
    assert "10.0 images/s, 30 s left" in stream.getvalue().splitlines()[-1]


def test_an_exception_is_no_success():
    stream = io.StringIO()
    with pytest.raises(KeyError), Progress(9, "images", "x", stream=stream) as progress:
        progress.update(3)
        raise KeyError("gone")
    assert "stopped after 3 of 9 images" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 00 s"),
     (3599.9, "1 h 00 min"), (90_000, "25 h 00 min")],
)  # fmt: skip
def test_duration(seconds, text):
    assert duration(seconds) == text
