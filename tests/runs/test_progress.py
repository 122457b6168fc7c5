import io

import pytest
from tqdm import std

from qface_jax.processes import hosts
from qface_jax.runs.progress import Progress


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Seconds that pass only when told to."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(std, "time", lambda: Clock.now)
    return Clock


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def work(clock):
    def do(stream, *, total=1000, steps=10, seconds=20.0, start=0):
        with Progress(total, "images", "reading", start=start, stream=stream) as bar:
            for step in range(steps):
                clock.now += seconds
                bar.update(100, f"step {step}")
        assert bar.rate() == pytest.approx(100 / seconds)
        return stream.getvalue()

    return do


def test_plain_lines_say_how_far_how_fast_and_how_long(work):
    lines = work(io.StringIO()).splitlines()
    assert len(lines) == 12
    assert lines[1] == (
        "reading: 100/1,000 images (10%) in 00:20, 5.00 images/s, 03:00 left, step 0"
    )
    assert lines[-1] == (
        "reading: 1,000/1,000 images (100%) in 03:20, 5.00 images/s, 00:00 left, step 9"
    )


def test_lines_come_seconds_apart(work):
    lines = work(io.StringIO(), steps=650, total=100_000, seconds=1 / 32).splitlines()
    times = [line.split(" in ")[1][:5] for line in lines]
    assert times == ["00:00", "00:10", "00:20", "00:20"]


def test_a_terminal_keeps_one_line(work):
    text = work(Terminal())
    assert text.count("\n") == 1 and text.endswith("\n")
    assert text.count("\r") == 12


def test_a_line_never_wraps(work, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    shown = work(Terminal()).rstrip("\n").split("\r")[1:]
    assert max(map(len, shown)) < 60


def test_unknown_total(work):
    lines = work(io.StringIO(), total=None).splitlines()
    assert lines[1] == "reading: 100 images in 00:20, 5.00 images/s, step 0"


def test_a_resumed_count_does_not_flatter_the_rate(work):
    lines = work(io.StringIO(), total=2000, start=1000).splitlines()
    assert "1,100/2,000 images (55%) in 00:20, 5.00 images/s" in lines[1]
    assert "5.00 images/s" in lines[-1]


def test_time_left_forgets_a_slow_start(clock):
    stream = io.StringIO()
    progress = Progress(5000, "images", "reading", stream=stream)
    clock.now += 500  # compilation
    progress.update(100)
    for _ in range(39):
        clock.now += 10
        progress.update(100)
    assert "10.00 images/s, 01:40 left" in stream.getvalue().splitlines()[-1]


def test_an_exception_is_no_success():
    stream = io.StringIO()
    with pytest.raises(KeyError), Progress(9, "images", "x", stream=stream) as progress:
        progress.update(3)
        raise KeyError("gone")
    assert "3/9 images (33%)" in stream.getvalue().splitlines()[-1]


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_of_several_processes_one_speaks(work, monkeypatch, stream):
    monkeypatch.setattr(hosts, "_place", hosts.Place(1, 2, ("a", "b")))
    assert work(stream) == ""


def test_what_was_done_before_counts_towards_the_total_alone(clock):
    stream = io.StringIO()
    with Progress(1000, "images", "reading", stream=stream) as bar:
        bar.skip(600)
        clock.now += 20
        bar.update(200)
        assert bar.rate() == pytest.approx(10)
    last = stream.getvalue().splitlines()[-1]
    assert last.startswith("reading: 800/1,000 images (80%) in 00:20, 10.00 images/s")
