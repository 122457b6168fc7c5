"""Which settings a result is known by, and which of them are not the run's own."""

import dataclasses
import inspect
import re

import pytest

from qface_jax import tables
from qface_jax.errors import ConfigError
from qface_jax.evals import results
from qface_jax.evals.eval_settings import (
    changes,
    named_settings,
    own_entry,
    usual_settings,
)
from qface_jax.evals.protocols.protocol import READS, EvalSettings
from qface_jax.evals.results import Result
from qface_jax.settings import config as configs

RUN = ("eval.sets=('synthetic','pairs.txt::lfw')", "eval.path=/here")


def config_of(*changed):
    return configs.load("demo", [f"--config.{word}" for word in (*RUN, *changed)])


def changed_of(*changed, protocol="verification", set_name="synthetic", earlier=None,
               which="last"):  # fmt: skip
    """What differs from the run's own settings, and what the result is named."""
    evaluated = named_settings(config_of(*changed), protocol, set_name, which=which)
    usual = usual_settings(config_of(), protocol, set_name, earlier)
    differ = changes(evaluated, usual)
    named = Result("x", {}, protocol=protocol, settings=evaluated, changed=differ)
    return differ, results.file_name(named)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("eval.batch_size=7", "eval.path=/elsewhere", "data.workers=3"),
        ("eval.keep_features=False", "eval.best_metric=auc_7", "eval.interval=5"),
        ("eval.resize=crop",),  # as data.resize, which '' stands for
        ("eval.tinyface.ties=optimistic",),  # of another protocol
        ("total_steps=900", "optim.learning_rate=0.5", "log.interval=7"),
    ],
)
def test_what_changes_no_number_keeps_the_plain_name(words):
    assert changed_of(*words) == ({}, "x")


@pytest.mark.parametrize(
    ("word", "name", "got", "of_run"),
    [
        ("eval.flip=False", "eval.flip", False, True),
        (
            "eval.resolutions=(112,7)",
            "eval.resolutions",
            [112, 7],
            [112, 56, 28, 14, 7],
        ),
        ("eval.resize=stretch", "eval.resize", "stretch", "crop"),
        ("eval.antialias=False", "eval.antialias", False, True),
        ("eval.metric=cosine", "eval.metric", "cosine", "euclidean"),
        ("eval.folds=5", "eval.folds", 5, 10),
        ("eval.discard_fmr=0.1", "eval.discard_fmr", 0.1, 0.01),
        ("eval.synthetic.pairs=40", "eval.synthetic.pairs", 40, None),
        ("eval.quality_scores=('norm',)", "eval.quality_scores", ["norm"], []),
    ],
)
def test_what_changes_numbers_is_named(word, name, got, of_run):
    differ, file = changed_of(word)
    of_run = config_of().eval.synthetic.pairs if of_run is None else of_run
    assert differ == {name: {"got": got, "run": of_run}}
    assert re.fullmatch(r"x\.verification-[0-9a-f]{8}", file)
    assert changed_of(word) == (differ, file)


def test_the_synthetic_set_says_nothing_of_others():
    assert changed_of("eval.synthetic.pairs=40", set_name="lfw.bin") == ({}, "x")


def test_checkpoint_protocol_and_images_are_settings_too():
    assert changed_of(which="best")[0] == {"which": {"got": "best", "run": "last"}}
    differ, file = changed_of(protocol="xqlfw")
    assert differ == {"eval.protocol": {"got": "xqlfw", "run": "verification"}}
    assert file.startswith("x.xqlfw-")
    differ, _ = changed_of(set_name="/other/pairs.txt::crops")
    assert differ == {"eval.sets": {"got": "pairs.txt::crops", "run": "pairs.txt::lfw"}}
    assert changed_of(set_name="/other/pairs.txt::/there/lfw")[0] == {}
    differ, file = changed_of("eval.xqlfw.folder=crops", protocol="xqlfw",
                              set_name="xqlfw")  # fmt: skip
    assert list(differ) == ["eval.xqlfw.folder"]


def test_a_set_that_the_run_does_not_have_is_known_by_what_came_first():
    assert changed_of(protocol="ijbc", set_name="IJBC") == ({}, "x")
    assert own_entry(config_of(), "IJBC") is None
    first = named_settings(config_of(), "verification", "a.bin")
    earlier = Result("a", {}, protocol="verification", settings=first)
    assert changed_of(set_name="a.bin", earlier=earlier) == ({}, "x")
    differ, _ = changed_of(protocol="xqlfw", set_name="a.bin", earlier=earlier)
    assert differ == {"eval.protocol": {"got": "xqlfw", "run": "verification"}}
    # A version that wrote no settings.
    older = dataclasses.replace(earlier, settings={})
    assert changed_of(set_name="a.bin", earlier=older) == ({}, "x")


def test_digests_are_the_same_on_every_machine_and_differ_by_setting():
    assert changed_of("eval.flip=False")[1] == "x.verification-29227132"
    words = ("eval.flip=False", "eval.folds=5", "eval.metric=cosine", "eval.folds=6")
    assert len({changed_of(word)[1] for word in words}) == len(words)


def test_a_protocol_that_reads_what_is_no_setting_is_refused(monkeypatch):
    entry = tables.PROTOCOLS["xqlfw"]._replace(reads=("flip", "flop"))
    monkeypatch.setattr(tables, "PROTOCOLS", {"xqlfw": entry})
    with pytest.raises(ConfigError, match="xqlfw: reads: got flop, expected names of"):
        named_settings(config_of(), "xqlfw", "x")


@pytest.mark.parametrize("name", sorted(tables.PROTOCOLS))
def test_protocols_read_no_setting_that_they_do_not_declare(name):
    entry = tables.PROTOCOLS[name]
    opened = getattr(entry.open, "func", entry.open)
    source = inspect.getsource(inspect.getmodule(opened))
    fields = {field.name for field in dataclasses.fields(EvalSettings)}
    read = set(re.findall(r"settings\.([a-z_]+)", source)) & fields & set(READS)
    assert read <= set(entry.reads) <= set(READS)
    assert "flip" in entry.reads
