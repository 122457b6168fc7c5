"""What fine-tuning changed: the printed table and the section of the report."""

import dataclasses
import html
import re

import numpy as np
import pytest

from qface_jax.evals import results
from qface_jax.evals.measures.roc import roc
from qface_jax.evals.protocols.verification_rows import rows_of
from qface_jax.evals.text_table import percent_and_spread
from qface_jax.report import before_after, figures
from qface_jax.report.before_after import change_table, matching
from qface_jax.report.figures import Line, roc_plot
from qface_jax.report.page import read_results, write_report


@pytest.fixture(scope="module")
def pair(toy):
    """A worse result, at low resolution above all, and a better one."""
    old = lambda images: toy.embed(images) + 0.8 * noise(images)  # noqa: E731
    return toy.evaluate(embed=old), toy.evaluate()


def noise(images):
    rows = images[:, 0, 0, 2].astype(int) + 100 * images[:, 0, 0, 1]
    return np.stack([np.random.default_rng(r).normal(size=32) for r in rows]).astype(
        np.float32
    )


def lines_of(text):
    return [re.split(r"  +", line.strip()) for line in text.splitlines()]


def test_the_table_says_what_changed(pair):
    before, after = pair
    table = lines_of(change_table(before, after))
    assert table[0] == ["toy: accuracy before and after, in percent"]
    assert table[2] == ["side", "cross before", "after", "change",
                        "same before", "after", "change"]  # fmt: skip
    body = {cells[0]: cells[1:] for cells in table[4:] if len(cells) == 7}
    assert list(body)[:3] == ["112 px", "28 px", "7 px"]
    assert list(body)[-1] == "mean"
    for old, new in zip(rows_of(before), rows_of(after), strict=True):
        scores = (old.cross, new.cross, old.same, new.same)
        a, b, c, d = (100 * score.accuracy for score in scores)
        cross = [f"{a:.2f}", f"{b:.2f}", f"{b - a:+.2f}"]
        same = [f"{c:.2f}", f"{d:.2f}", f"{d - c:+.2f}"]
        assert body[f"{new.side} px"] == cross + same
    change = 100 * (after.scalars["mean_cross"] - before.scalars["mean_cross"])
    assert change > 0
    assert body["mean"][2] == f"{change:+.2f}"
    widths = {len(line) for line in change_table(before, after).splitlines()[2:]}
    assert len(widths) == 1


def test_results_with_other_settings_are_not_taken_for_the_runs_own(pair):
    before, after = pair
    best = dataclasses.replace(after, changed={"which": {"got": "best", "run": "last"}})
    assert best.manifest == before.manifest
    assert matching([before], [best, after, best]) == [(before, after)]
    assert matching([before], [best]) == []


def test_no_change_has_no_minus(pair):
    same = pair[1].scalars["mean_same"] - 1e-16
    less = dataclasses.replace(pair[1], scalars=pair[1].scalars | {"mean_same": same})
    assert "-0.00" not in change_table(pair[1], less)
    assert change_table(pair[1], pair[1]).count("+0.00") == 2 * 4


def test_what_cannot_be_computed_is_a_dash(toy, pair):
    def broken(images):
        features = toy.embed(images)
        features[images[:, 0, 0, 1] == 7] = np.nan
        return features

    table = change_table(toy.evaluate(embed=broken), pair[1])
    body = {cells[0]: cells[1:] for cells in lines_of(table)[4:]}
    row = rows_of(pair[1])[-1]
    after = [f"{100 * score.accuracy:.2f}" for score in (row.cross, row.same)]
    assert body["7 px"] == ["-", after[0], "-", "-", after[1], "-"]
    assert body["mean"][::2][0] == "-"
    assert "-" not in body["112 px"]


def test_resolutions_that_one_lacks_are_left_out(toy, pair):
    few = toy.evaluate(resolutions=(112, 7))
    table = change_table(few, pair[1])
    assert "112 px" in table
    assert " 28 px" not in table


def test_results_are_compared_only_by_one_protocol(toy, pair):
    before, after = pair
    other = toy.evaluate(toy.pairs(name="other"))
    assert matching([before, other], [after]) == [(before, after)]
    assert matching([other], [after]) == []
    flipped = toy.evaluate(flip=True)
    assert matching([flipped], [after]) == []
    assert before_after.before_and_after([flipped], [after]) is None
    assert matching([other, before], [after, other]) == [
        (before, after),
        (other, other),
    ]


def test_what_was_written_is_compared_with_what_is_at_hand(pair, tmp_path):
    """Reading back changes no protocol: `qface train` prints the table."""
    before, after = pair
    results.write(results.before(tmp_path), before)
    found = read_results(results.before(tmp_path))
    assert matching(found, [after]) == [(before, after)]
    assert read_results(tmp_path) == []


def run_of(toy, folder, before, after):
    folder = toy.write_run(folder, result=after)
    if before is not None:
        results.write(results.before(folder), before)
    return write_report(folder).read_text("utf-8")


def section(page):
    assert page.count('id="changes"') == 1
    return page.split('id="changes"')[1].split("</section>")[0]


def test_the_report_shows_both(toy, pair, tmp_path):
    before, after = pair
    page = run_of(toy, tmp_path / "run", before, after)
    assert '<a href="#changes">Before and after</a>' in page
    part = section(page)
    texts = html.unescape(re.sub(r"<[^>]+>", " ", part))
    words = " ".join(texts.split())
    for result, label in ((before, "before"), (after, "after")):
        scores = [row.cross for row in rows_of(result)]
        cells = [percent_and_spread(score.accuracy, score.std) for score in scores]
        mean = f"{100 * result.scalars['mean_cross']:.2f}"
        assert " ".join([label, *cells, mean]) in words
    for title in ("Cross-resolution", "Same resolution", "112 px 28 px 7 px Mean",
                  "ROC before and after, cross-resolution", "change, points",
                  "Change of accuracy, cross-resolution"):  # fmt: skip
        assert title in words
    for side in (112, 28, 7):
        assert f"{side} px, before" in words
        assert f"{side} px, after" in words
    assert part.count("<svg") == 2 + 1 + 1


def test_a_run_without_a_look_before_has_no_such_section(toy, pair, tmp_path):
    page = run_of(toy, tmp_path / "run", None, pair[1])
    assert "changes" not in page
    # One that was stopped during that look has the folder, and nothing in it.
    (results.before(tmp_path / "run") / "eval").mkdir(parents=True)
    page = write_report(tmp_path / "run").read_text("utf-8")
    assert "changes" not in page
    assert "no evaluation yet" not in page


def test_another_protocol_is_said_not_compared(toy, pair, tmp_path):
    page = run_of(toy, tmp_path / "run", toy.evaluate(flip=True), pair[1])
    assert 'id="changes"' not in page
    assert "was evaluated on other sets or by another protocol" in page


def test_results_that_cannot_be_read_are_named(toy, pair, tmp_path):
    run_of(toy, tmp_path / "run", pair[0], pair[1])
    results.result_path(results.before(tmp_path / "run"), "toy").write_text("{")
    page = write_report(tmp_path / "run").read_text("utf-8")
    assert 'id="changes"' not in page
    assert "before/eval/toy.json: cannot be read" in page


def test_without_arrays_there_are_tables_and_no_roc(pair):
    bare = [dataclasses.replace(result, arrays={}) for result in pair]
    found = before_after.before_and_after(bare[:1], bare[1:])
    assert [len(one["figures"]) for one in found["sets"]] == [2]
    cross = found["sets"][0]["tables"][0]
    assert cross["title"] == "Cross-resolution"
    assert [row["run"] for row in cross["rows"]] == ["before", "after"]
    half = before_after.before_and_after(bare[:1], [pair[1]])
    assert "before" not in half["sets"][0]["figures"][2].svg().replace("ROC before", "")


def test_nothing_to_compare_at_any_resolution_draws_no_change(toy):
    nothing = toy.evaluate(embed=lambda images: np.nan * toy.embed(images))
    assert "mean_cross" not in nothing.scalars
    assert before_after.before_and_after([nothing], [nothing])["figure"] is None


@pytest.mark.parametrize(
    ("sides", "chosen"),
    [((112,), [112]), ((112, 28, 7), [112, 28, 7]),
     ((112, 56, 28, 14, 7), [112, 14, 7])],
)  # fmt: skip
def test_resolutions_whose_roc_is_drawn(toy, sides, chosen):
    *_, roc_cross, _ = toy.evaluate(resolutions=sides).curves
    labels = [line.label for line in roc_cross.lines]
    assert before_after._chosen(labels) == [f"{side} px" for side in chosen]


def test_the_roc_is_dashed_before_and_solid_after(pair, monkeypatch):
    drawn = []
    monkeypatch.setitem(
        figures.KINDS, "roc", lambda curve, lines: drawn.append(lines) or "<svg>"
    )
    before_after.before_and_after([pair[0]], [pair[1]])
    ((*lines,),) = drawn
    assert [(line.label, line.dashed, line.colour) for line in lines] == [
        ("112 px, before", True, 0), ("112 px, after", False, 0),
        ("28 px, before", True, 1), ("28 px, after", False, 1),
        ("7 px, before", True, 2), ("7 px, after", False, 2),
    ]  # fmt: skip
    before, after = (result.arrays for result in pair)
    expected = roc(before["cross_7"], before["issame"])
    np.testing.assert_array_equal(lines[4].y, expected[1])
    expected = roc(after["cross_7"], after["issame"])
    np.testing.assert_array_equal(lines[5].y, expected[1])


def strokes(picture):
    """(colour, dashed) of the long paths of a picture, in order."""
    styles = re.findall(r'<path d="M[^"]{200,}"[^>]*style="([^"]*)"', picture)
    found = [(re.search(r"--series-(\d)", style), style) for style in styles]
    return [(int(hit.group(1)), "dasharray" in style) for hit, style in found if hit]


def test_a_dashed_line_is_drawn_dashed_in_its_colour():
    far, tar = np.geomspace(1e-3, 1, 50), np.linspace(0.1, 1, 50)
    lines = [
        Line("a", far, tar, dashed=True, colour=2),
        Line("b", far, tar**2, colour=2),
        Line("c", far, tar**3),
    ]
    assert strokes(roc_plot("ROC", lines).svg()) == [(3, True), (3, False), (3, False)]
    # Without a colour it is that of the line's place; colours repeat after eight.
    many = [Line(str(i), far, tar, colour=9) for i in range(2)]
    assert strokes(roc_plot("ROC", many).svg()) == [(2, False), (2, False)]
    assert figures.Line("a", far, tar).dashed is False


@pytest.mark.parametrize("long", [True, False])
def test_the_report_shortens_a_packed_graph(toy, tmp_path, long):
    graph = "c%0|" * (20_000 if long else 20)
    config = {"model": {"backbone": "onnx", "graph": graph}, "total_steps": 30}
    folder = toy.write_run(tmp_path / "run", config=config)
    page = html.unescape(write_report(folder).read_text("utf-8"))
    assert (graph in page) is not long
    assert ('"' + graph[:60] + "... (80,000 characters, hash" in page) is long
    assert graph in (folder / "config.json").read_text()
