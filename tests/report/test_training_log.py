import json

import numpy as np
import pytest

from qface_jax.report.training_log import panels, read_log


@pytest.fixture
def log_of(tmp_path):
    def write(*events, tail=""):
        path = tmp_path / "metrics.jsonl"
        path.write_text("".join(json.dumps(e) + "\n" for e in events) + tail)
        return read_log(path)

    return write


def test_curves_are_sorted_and_the_later_event_of_a_step_counts(log_of):
    log = log_of(
        {"step": 10, "time": 1.0, "loss": 5.0},
        {"step": 20, "time": 2.0, "loss": 4.0, "note": "text", "flag": True},
        {"step": 10, "time": 3.0, "loss": 4.5},
    )
    steps, values = log.curves["loss"]
    np.testing.assert_array_equal(steps, [10, 20])
    np.testing.assert_array_equal(values, [4.5, 4.0])
    assert set(log.curves) == {"loss"}


def test_a_line_cut_short_is_counted_and_skipped(log_of):
    log = log_of({"step": 1, "loss": 1.0}, {"loss": 2.0}, tail='[]\n{"step": 2, "lo')
    assert log.skipped == 3
    assert len(log.curves["loss"][0]) == 1


def test_nan_leaves_a_gap(log_of):
    log = log_of({"step": 1, "loss": float("nan")}, {"step": 2, "loss": 1.0})
    assert np.isnan(log.curves["loss"][1][0])


def test_panels(log_of):
    event = {"step": 1, "time": 1.0, "loss": 1.0, "lr": 0.1, "accuracy": 0.5}
    event |= {"norm_mean": 20.0, "norm_std": 3.0, "images_per_second": 9.0}
    event |= {"zeta": 1.0, "grad_norm": 2.0, "toy/degenerate": 0.0}
    event |= {f"toy/cross_{side}": 0.9 for side in (7, 14, 112)}
    event |= {"toy/mean_cross": 0.9, "toy/auc_7": 0.8}
    found = panels(log_of(event))
    assert [panel.title for panel in found] == [
        "Loss",
        "Learning rate",
        "Training accuracy",
        "Gradient norm",
        "Feature norms",
        "Speed",
        "toy: cross-resolution accuracy",
        "toy: cross-resolution AUC",
        "zeta",
    ]
    cross = found[6]
    assert [line.label for line in cross.lines] == ["112 px", "14 px", "7 px", "mean"]
    assert (cross.unit, cross.factor) == ("%", 100.0)


def test_panels_of_joint_training(log_of):
    names = {
        "Loss": ["loss", "loss_classification", "loss_contrastive"],
        "Training accuracy": ["accuracy"],
        "Kept by the quality partition": ["kept_classification", "kept_contrastive"],
        "Queue filled": ["queue_fill"],
        "Cosine similarity": [
            "cos_dropped", "cos_kept", "cos_target",
            "similarity_negative", "similarity_positive",
        ],
        "Feature norms": ["norm", "norm_dropped", "norm_kept"],
    }  # fmt: skip
    event = {name: 0.5 for panel in names.values() for name in panel}
    found = panels(log_of({"step": 1, "time": 1.0} | event))
    assert {panel.title: [line.label for line in panel.lines] for panel in found} == {
        title: [name.replace("_", " ") for name in of_panel]
        for title, of_panel in names.items()
    }
    shares = {
        panel.title for panel in found if (panel.unit, panel.factor) == ("%", 100)
    }
    assert shares == {
        "Training accuracy", "Kept by the quality partition", "Queue filled"
    }  # fmt: skip


def test_a_degenerate_evaluation_is_drawn(log_of):
    found = panels(log_of({"step": 1, "toy/degenerate": 1.0}))
    assert [panel.title for panel in found] == ["toy/degenerate"]


def test_long_curves_are_averaged(log_of):
    log = log_of(*({"step": s, "loss": float(s)} for s in range(5000)))
    (panel,) = panels(log)
    assert len(panel.lines[0].x) == 1200
    np.testing.assert_allclose(panel.lines[0].x, panel.lines[0].y)
    # Runs of five, then of four.
    assert (panel.lines[0].y[0], panel.lines[0].y[-1]) == (2.0, 4997.5)
