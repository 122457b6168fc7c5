import argparse
import dataclasses
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from qface_jax.errors import ConfigError
from qface_jax.evals import results
from qface_jax.launch.commands import report as command
from qface_jax.report.page import write_comparison, write_report

HOSTILE = '<script>alert("x")</script><img src="http://evil.invalid/a.png">&\'{{ 7*7 }}'


class Page(HTMLParser):
    """Elements, visible text and addresses of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self.addresses, self.ids, self.stack = [], [], [], [], []
        self.source = path.read_text("utf-8")
        self.feed(self.source)
        self.words = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "action", "data", "xlink:href", "srcset"):
                self.addresses.append(value)
            if name == "id":
                self.ids.append(value)

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def run(toy, tmp_path_factory):
    return toy.write_run(tmp_path_factory.mktemp("runs") / "run_a")


@pytest.fixture(scope="module")
def page(run):
    assert write_report(run) == run / "report.html"
    return Page(run / "report.html")


def test_every_part_is_there(page, run):
    for words in (
        "run_a", "Backbone tiny", "Total steps 30", "Checkpoints 30",
        "Last logged step 30", "commit feedbeef", "versions: jax 1.2.3",
        "112 px", "28 px", "7 px", "colour order RGB", "config hash 0123abcd",
        "Accuracy over resolution", "Feature norms", "ROC, cross-resolution",
        "ROC, same resolution", "Loss", "Learning rate", "Training accuracy", "Speed",
        "toy: cross-resolution accuracy", "Gradient scaling term", "train batch",
        '"backbone": "tiny"',
    ):  # fmt: skip
        assert words in page.words, words
    assert "missing" not in page.source.split("<body>")[1]
    result = results.read(run / "eval" / "toy.json")
    for side in (112, 28, 7):
        assert f"{100 * result.scalars[f'cross_{side}']:.2f} ±" in page.words
    assert page.tags.count("svg") == 4 + 6
    assert page.tags.count("img") == 2


def test_nothing_is_loaded_from_outside(page):
    assert page.addresses
    for address in page.addresses:
        assert address.startswith(("#", "data:image/png;base64,")), address
    assert not re.search(r"https?:|@import|url\((?!#)", page.source)
    assert "script" not in page.tags and "link" not in page.tags


def test_ids_are_unique_and_references_found(page):
    assert len(set(page.ids)) == len(page.ids)
    used = {a[1:] for a in page.addresses if a.startswith("#")}
    used |= set(re.findall(r"url\(#([^)]+)\)", page.source))
    assert used <= set(page.ids)


def test_hostile_strings_are_escaped(toy, tmp_path):
    config = {"model": {"backbone": HOSTILE}, HOSTILE: HOSTILE}
    result = toy.evaluate(toy.pairs(name=HOSTILE), checkpoint={"path": HOSTILE})
    folder = toy.write_run(tmp_path / "<b>run", config=config, result=result)
    with (folder / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"step": 3, HOSTILE: 1.0, f"{HOSTILE}/cross_7": 1}) + "\n")
    found = Page(write_report(folder))
    assert "script" not in found.tags and "b" not in found.tags[:12]
    assert all(a.startswith(("#", "data:")) for a in found.addresses)
    assert "{{ 7*7 }}" in found.words and "49" not in found.words[:300]
    assert found.words.count("<script>alert") >= 5


def test_a_new_run_names_what_is_missing(tmp_path):
    (tmp_path / "config.json").write_text('{"config": {"seed": 3}}')
    found = Page(write_report(tmp_path))
    assert f"no evaluation yet: run qface eval --checkpoint={tmp_path}" in found.words
    assert "no training log yet: run qface train" in found.words
    assert "no pictures in samples/" in found.words
    assert "Seed 3" in found.words


@pytest.mark.parametrize("objective", ["octuplet", "classification"])
def test_facts_are_of_the_objective(toy, tmp_path, objective):
    config = {
        "objective": objective,
        "loss": {"margin": "adaface", "scale": 64.0},
        "octuplet": {"metric": "cosine", "margin": 0.5, "terms": ["hhh", "lll"]},
    }
    folder = toy.write_run(tmp_path / "run", config=config)
    words = Page(write_report(folder)).words.split("Versions")[0]
    octuplet = "Distance cosine Octuplet margin 0.5 Octuplet terms hhh, lll"
    assert (octuplet in words) is (objective == "octuplet")
    assert ("Margin adaface Scale 64.0" in words) is (objective != "octuplet")


def test_a_run_without_config(tmp_path):
    (tmp_path / "eval").mkdir()
    assert "no config.json" in Page(write_report(tmp_path)).words


def test_a_config_that_is_none(tmp_path):
    (tmp_path / "config.json").write_text('{"config": 3, "commit": "feedbeef"}')
    assert "commit feedbeef" in Page(write_report(tmp_path)).words


@pytest.mark.parametrize("content", ["{", "[1]", "\x00"])
def test_broken_parts_are_named(tmp_path, content):
    (tmp_path / "eval").mkdir()
    (tmp_path / "samples").mkdir()
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "eval" / "toy.json").write_text(content)
    (tmp_path / "samples" / "x.png").write_text("no picture")
    found = Page(write_report(tmp_path))
    assert "config.json cannot be read" in found.words
    assert "toy.json: cannot be read" in found.words
    assert "x.png is left out: not a PNG picture" in found.words


def test_degenerate_results_are_loud(toy, tmp_path):
    def broken(images):
        features = toy.embed(images)
        features[images[:, 0, 0, 1] == 7] = np.nan
        return features

    folder = toy.write_run(tmp_path / "run", result=toy.evaluate(embed=broken))
    found = Page(write_report(folder))
    assert "NaN or infinite features of 80 of 80 images" in found.words
    assert "7 px (non-finite) - - " in found.words


def test_result_without_arrays(toy, tmp_path):
    folder = toy.write_run(tmp_path / "run")
    (folder / "eval" / "toy.npz").unlink()
    found = Page(write_report(folder))
    assert (
        "not drawn: feature norm, by resolution; ROC, cross-resolution; ROC, same "
        "resolution; run qface eval again" in found.words
    )
    assert "Accuracy over resolution" in found.words


@pytest.mark.parametrize("label", [True, False])
def test_pairs_of_one_kind(toy, tmp_path, label):
    pair_set = toy.pairs()
    pair_set.issame = np.full(40, label)
    folder = toy.write_run(tmp_path / "run", result=toy.evaluate(pair_set))
    assert "ROC" not in Page(write_report(folder)).words.split("Training")[0]


@pytest.mark.parametrize(
    ("name", "words"), [("gone", "does not exist"), ("empty", "holds no part")]
)
def test_no_run_folder(tmp_path, name, words):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=words):
        write_report(tmp_path / name)


def test_output_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_report(run, tmp_path / "file" / "x.html")


def test_comparison(toy, run, tmp_path):
    other = toy.write_run(
        tmp_path / "run_b", result=toy.evaluate(embed=lambda im: 0.5 + toy.embed(im))
    )
    found = Page(write_comparison([run, other], tmp_path / "both.html"))
    for words in ("2 runs", "run_a", "run_b", "Cross-resolution", "Same resolution"):
        assert words in found.words
    assert "cannot be compared" not in found.words
    assert found.tags.count("svg") == 2
    assert all(a.startswith("#") for a in found.addresses)


def test_any_name_can_be_drawn(toy, run, tmp_path):
    names = ("$\\broken{$", "_hidden", "面孔")
    others = [toy.write_run(tmp_path / name) for name in names]
    found = Page(write_comparison([run, *others], tmp_path / "all.html"))
    for name in names:
        # In two tables and in two legends.
        assert found.words.count(name) == 4


def test_comparison_warns_of_different_protocols(toy, run, tmp_path):
    other = toy.write_run(tmp_path / "run_a", result=toy.evaluate(flip=True))
    found = Page(write_comparison([run, other], tmp_path / "both.html"))
    assert "their numbers cannot be compared" in found.words
    # Two folders of one name are told apart by their paths.
    assert str(other) in found.words


def test_other_settings_are_compared_among_themselves(toy, run, tmp_path):
    folders = [toy.write_run(tmp_path / name) for name in "ab"]
    changed = {"eval.flip": {"got": True, "run": False}}
    fields = {"settings": {"eval.flip": True}, "changed": changed}
    for folder in folders:
        result = dataclasses.replace(toy.evaluate(flip=True), **fields)
        results.write(folder, result)
    page = Page(write_comparison(folders, tmp_path / "both.html"))
    assert "cannot be compared" not in page.words
    assert page.tags.count("h2") == 2
    title = "toy, verification, with eval.flip: true (the run's own: false)"
    assert title in page.words
    page = Page(write_report(folders[0]))
    assert page.words.count(title) == 1
    assert page.words.count("toy.json") == 1


def test_command(toy, run, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    out = tmp_path / "one.html"
    assert command.run(parser.parse_args([str(run), "--out", str(out)])) == 0
    *listed, last = capsys.readouterr().out.splitlines()
    assert last == str(out) and out.is_file()
    assert len(listed) == 3 and listed[-1].split()[-2:] == ["none", "toy.json"]
    other = toy.write_run(tmp_path / "run_b")
    both = tmp_path / "both.html"
    arguments = [str(run), str(other), "--out", str(both)]
    assert command.run(parser.parse_args(arguments)) == 0
    printed = [one for one in capsys.readouterr().out.split() if "html" in one]
    assert printed == [str(run / "report.html"), str(other / "report.html"), str(both)]


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """Loads a page in headless Chromium; returns its DOM and its console lines."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no Chromium: apt-get install chromium (or google-chrome)")
    profile = tmp_path_factory.mktemp("profile")

    def load(path):
        done = subprocess.run(
            [
                program, "--headless", "--no-sandbox", "--disable-gpu",
                "--disable-dev-shm-usage", "--no-first-run", "--enable-logging=stderr",
                "--v=0", f"--user-data-dir={profile}", "--virtual-time-budget=2000",
                "--dump-dom", path.as_uri(),
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        return done.stdout, console

    return load


def test_chromium_shows_the_report_without_errors(browse, page, run, tmp_path):
    dom, console = browse(run / "report.html")
    assert console == []
    for part in ('id="evaluation"', 'id="training"', "ROC, cross-resolution", "<svg"):
        assert part in dom
    # The same page with a load from outside does complain: the check can fail.
    spoiled = tmp_path / "spoiled.html"
    outside = '<img src="http://127.0.0.1:9/x.png"></main>'
    spoiled.write_text(page.source.replace("</main>", outside))
    _, console = browse(spoiled)
    assert any("Content Security Policy" in line for line in console)
