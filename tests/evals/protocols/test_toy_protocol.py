"""A protocol of a user's own, named in a config: nothing of the package knows it."""

import contextlib
import html
import io
import re
import shutil

import jax
import pytest

from qface_jax.data_pipelines.synthetic.faces import SyntheticPairs
from qface_jax.evals import results
from qface_jax.launch import main
from qface_jax.report.page import write_comparison
from support.small_run import words

MODULE = '''
"""Rank-1 identification: each probe looks for its other image in the gallery."""
import numpy as np

from qface_jax.evals.measures.unit import unit
from qface_jax.evals.protocols.protocol import ImageRequest, ProtocolEntry
from qface_jax.evals.results import Column, Curve, Headline, Line, Result, Table
from qface_jax.data_pipelines.synthetic.faces import SyntheticPairs


class Identification:
    """A gallery of people, and a small probe of each."""

    def __init__(self, settings, name):
        self.name = name
        self.images = SyntheticPairs(**settings.synthetic)
        self.mated = np.flatnonzero(self.images.issame)
        self.total = 2 * len(self.mated)

    def describe(self):
        return self.images.describe()

    def evaluate(self, embed, share):
        mine = self.mated[list(share.pairs(len(self.mated)))]
        most = share.most_pairs(len(self.mated))
        gallery = embed(ImageRequest(self.images, 2 * mine, most))
        probes = embed(ImageRequest(self.images, 2 * mine + 1, most, side=14))
        gallery, probes = (
            unit(share.gather(of.features)) for of in (gallery, probes)
        )
        similar = probes @ gallery.T
        ranks = (similar > np.diag(similar)[:, None]).sum(axis=1)
        hits = [float(np.mean(ranks < k)) for k in (1, 5)]
        scalars = {"rank_1": hits[0], "rank_5": hits[1], "probes": float(len(ranks))}
        table = Table(
            title=f"{self.name}: {len(ranks)} probes",
            columns=[Column("rank", left=True), Column("found", "percent")],
            rows=[["1", hits[0]], ["5", hits[1]]],
            notes=["Found: share of the probes, in percent."],
        )
        return Result(
            set=self.name,
            scalars=scalars,
            best="rank_1",
            headlines=[Headline("rank_1", "found at rank 1")],
            tables=[table],
            curves=[Curve("line", "Cumulative match", [Line("all", hits, [1, 5])],
                          "rank", "share found")],
            manifest={"probes": len(ranks)},
        )


IDENTIFICATION = ProtocolEntry(Identification, "rank-1 identification")
'''
NAME = "toy_protocols:IDENTIFICATION"
SETS = f"eval.sets=('{NAME}=x','synthetic')"


@pytest.fixture(scope="module")
def evaluated(whole_run, tmp_path_factory):
    """A run that was evaluated on the toy, and what the command printed."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy_protocols.py").write_text(MODULE)
    run = shutil.copytree(whole_run[0], folder / "run")
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.syspath_prepend(str(folder))
        command = ["eval", f"--checkpoint={run}", f"--config.{SETS}"]
        assert main.main([*command, "--which=last"]) == 0
        yield run, printed.getvalue()


def shown(page):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.read_text())).split())


def test_it_found_what_the_features_say(evaluated):
    result = results.read(results.result_path(evaluated[0], "x"))
    pairs = SyntheticPairs(identities=6, pairs=20, seed=1)
    assert result.scalars["probes"] == pairs.issame.sum()
    assert 0 <= result.scalars["rank_1"] <= result.scalars["rank_5"] <= 1
    assert result.protocol == NAME and result.images_per_second > 0
    assert result.checkpoint["step"] == 6
    assert result.arrays == {}


def test_it_is_printed_and_reported(evaluated, tmp_path):
    run, out = evaluated
    result = results.read(results.result_path(run, "x"))
    rank_1, rank_5 = (f"{100 * result.scalars[f'rank_{k}']:.2f}" for k in (1, 5))
    assert f"x: {result.manifest['probes']} probes\n\nrank" in out
    assert re.search(rf"^1 +{rank_1}$", out, re.MULTILINE)
    assert re.search(rf"^5 +{rank_5}$", out, re.MULTILINE)
    page = shown(run / "report.html")
    assert f"rank found 1 {rank_1} 5 {rank_5} Found: share of the probes" in page
    assert f"{rank_1} % found at rank 1" in page
    assert 'aria-label="Cumulative match"' in (run / "report.html").read_text()
    other = shutil.copytree(run, tmp_path / "run")
    both = shown(write_comparison([run, other], tmp_path / "both.html"))
    assert both.count(f"6 {rank_1}") == 2


def test_a_best_metric_that_no_result_has_is_refused(evaluated, tmp_path, capsys):
    command = ["train", "--config=demo", f"--workdir={tmp_path / 'run'}"]
    command += words(
        f"eval.sets=('{NAME}=x',)", "eval.best_metric=mean_cross", "total_steps=1"
    )
    with jax.numpy_dtype_promotion("standard"):
        assert main.main(command) == 2
    said = capsys.readouterr().err
    assert "eval.best_metric: got 'mean_cross', must be one of the scalars of x" in said
    assert "rank_1, rank_5, probes" in said
