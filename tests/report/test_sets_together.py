"""All sets in one picture, and the ROC's equal errors."""

import dataclasses

import numpy as np

from qface_jax.evals.results import Result, Series
from qface_jax.report.figures import Line, roc_plot
from qface_jax.report.sets_together import sets_together


def result(name, **changes):
    sides = (112, 14)
    cross = Series(
        "cross",
        "Cross-resolution",
        [f"{side} px" for side in sides],
        [f"cross_{side}" for side in sides],
        x=list(sides),
        xlabel="side, px",
    )
    scalars = {"cross_112": 0.9, "cross_14": 0.6}
    return dataclasses.replace(Result(name, scalars, series=[cross]), **changes)


def test_each_set_has_a_line():
    (plot,) = sets_together([result("lfw"), result("cplfw")])
    svg = plot.svg()
    assert ">lfw<" in svg and ">cplfw<" in svg
    assert 'aria-label="Each set: cross-resolution"' in svg and ">14<" in svg


def test_one_set_or_another_setting_has_no_picture():
    assert sets_together([result("lfw")]) == []
    other = result("cplfw", changed={"eval.flip": {"got": True, "run": False}})
    assert sets_together([result("lfw"), other]) == []
    assert sets_together([result("lfw"), result("broken", scalars={})]) == []


def test_a_roc_names_the_equal_error_rate():
    far = np.array([0.01, 0.1, 1.0])
    line = Line("7 px", far, np.array([0.5, 0.9, 1.0]), note="EER 10.00 %")
    assert ">7 px, EER 10.00 %<" in roc_plot("ROC", [line]).svg()
    without = roc_plot("ROC", [line._replace(note="")]).svg()
    assert ">7 px<" in without and "stroke-dasharray" in without
