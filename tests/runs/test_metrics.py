"""The table of scalars: its columns stay, its lines are whole, none is twice there."""

import csv
import json

import pytest

from qface_jax.runs import metrics
from qface_jax.runs.metrics import Metrics


class NoEvents:
    """Stands in for the writer of events, which takes seconds to load."""

    def __init__(self, *unused):
        pass

    def write_scalars(self, step, values):
        pass

    def close(self):
        pass


@pytest.fixture(autouse=True)
def without_events(monkeypatch):
    monkeypatch.setattr(metrics.metric_writers, "SummaryWriter", NoEvents)
    monkeypatch.setattr(metrics.metric_writers, "AsyncMultiWriter", NoEvents)


def write(run, first_step, events, **options):
    log = Metrics(run, first_step=first_step, **options)
    for step, values in events:
        log.scalars(step, values)
    log.close()


def rows(run):
    with (run / "metrics.csv").open(newline="") as file:
        return [(int(r["step"]), r["name"], r["value"]) for r in csv.DictReader(file)]


def lines(run):
    return [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]


def test_scalars_that_come_later_add_rows_and_no_columns(tmp_path):
    write(tmp_path, 0, [(1, {"loss": 0.1}), (2, {"loss": 1e-9}), (2, {"a, b/x": 1.0})])
    text = (tmp_path / "metrics.csv").read_text()
    assert text == 'step,name,value\n1,loss,0.1\n2,loss,1e-09\n2,"a, b/x",1.0\n'
    assert rows(tmp_path) == [(1, "loss", "0.1"), (2, "loss", "1e-09"),
                              (2, "a, b/x", "1.0")]  # fmt: skip


def test_every_call_is_on_the_disk_at_once(tmp_path):
    log = Metrics(tmp_path, first_step=0)
    log.scalars(1, {"loss": 0.5})
    assert rows(tmp_path) == [(1, "loss", "0.5")] and len(lines(tmp_path)) == 1
    log.close()


@pytest.mark.parametrize("cut", ["", "3,lo", "3,loss,0.1\n3,accur"])
def test_a_resumed_run_goes_on_after_its_checkpoint(tmp_path, cut):
    write(tmp_path, 0, [(step, {"loss": step / 2}) for step in (1, 2, 3, 4)])
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write(cut)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    write(tmp_path, 2, [(step, {"loss": step / 4}) for step in (3, 4)])
    expected = [(1, "0.5"), (2, "1.0"), (3, "0.75"), (4, "1.0")]
    assert rows(tmp_path) == [(step, "loss", value) for step, value in expected]
    assert [event["step"] for event in lines(tmp_path)] == [1, 2, 3, 4]


def test_an_evaluation_that_is_done_again_is_not_twice_there(tmp_path):
    last = [(4, {"loss": 0.5}), (4, {"set/auc": 0.7, "set/eer": 0.1})]
    write(tmp_path, 0, [(2, {"set/auc": 0.6}), *last])
    write(tmp_path, 4, [(4, {"set/auc": 0.8, "set/eer": 0.2})])
    assert rows(tmp_path) == [(2, "set/auc", "0.6"), (4, "loss", "0.5"),
                              (4, "set/auc", "0.8"), (4, "set/eer", "0.2")]  # fmt: skip
    assert len(lines(tmp_path)) == 3


def test_it_can_be_switched_off_and_on_later(tmp_path):
    write(tmp_path, 0, [(1, {"loss": 0.5})], table=False)
    assert not (tmp_path / "metrics.csv").exists()
    write(tmp_path, 1, [(2, {"loss": 0.25})])
    assert rows(tmp_path) == [(1, "loss", "0.5"), (2, "loss", "0.25")]


def test_values_without_a_number_can_be_read(tmp_path):
    write(tmp_path, 0, [(1, {"loss": float("nan"), "norm": float("inf")})])
    write(tmp_path, 1, [])
    assert [float(value) for _, _, value in rows(tmp_path)][1] == float("inf")
    assert rows(tmp_path)[0] == (1, "loss", "nan")
