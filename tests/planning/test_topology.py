"""Topologies by name, the bound of a chip, and the sizes of public training sets."""

import importlib.util

import pytest

from qface_jax.errors import ConfigError, UserError
from qface_jax.launch import main
from qface_jax.planning import plan_text, roofline, topology, training_sets
from qface_jax.planning.compiled_cost import Cost
from qface_jax.planning.plan import Counts, Plan
from support.user_types import types_as_users_have_them  # noqa: F401

V5E = topology.CHIPS["v5e"]


@pytest.mark.parametrize(
    "name",
    ["", "v5e", "v5e:", "v5e:0x4", "v5e:2x4x4x4", "v4:2x2x1", "v5e:-1", "tpu:8",
     "v5e:2x4\n", "V5E:2x4"],
)  # fmt: skip
def test_other_names_are_refused_with_what_there_is(name):
    with pytest.raises(ConfigError, match=r"expected cpu:N or a TPU \(v5e, v5p, v6e\)"):
        topology.open_topology(name)


@pytest.mark.parametrize("name", ["cpu", "cpu:", "cpu:0", "cpu:x", "cpu:123456"])
def test_a_count_of_cpus_is_a_number(name):
    with pytest.raises(ConfigError, match="expected cpu:N"):
        topology.open_topology(name)


def test_cpus_are_those_of_this_process():
    found = topology.open_topology("cpu:8")
    assert (found.name, len(found.devices), found.chip) == ("cpu:8", 8, None)


def test_without_the_compiler_of_tpus_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'qface_jax\[tpu-plan\]'"):
        topology.open_topology("v5e:2x4")


def test_the_bound_is_what_takes_longest():
    # A second of arithmetic, half a second of memory, a quarter of network.
    found = roofline.bound(
        V5E, work=197 * 10**12, moved=819 * 10**9 // 2, sent=5 * 10**10
    )
    assert found == pytest.approx((1.0, 0.5, 0.25))
    assert (found.limit, found.seconds, found.utilisation) == ("work", 1.0, 1.0)
    slow = roofline.bound(V5E, work=197 * 10**12, moved=4 * 819 * 10**9, sent=0)
    assert (slow.limit, slow.seconds, slow.utilisation) == ("memory", 4.0, 0.25)


def test_the_text_says_what_bounds_and_how_many_images():
    step = Cost(197 * 10**10, {"all-reduce": 10**9, "all-gather": 10**9})
    found = Plan({}, 0, 0, step, Cost(0, {}), 819 * 2 * 10**7, 8 * 128, 10)
    text = plan_text.bounds(found, topology.Topology("v5e:2x4", [None] * 8, V5E))
    # 10 ms of arithmetic, 20 ms of memory, 10 ms of network, for 128 images a chip.
    assert text.count("10.00 ms") == 2 and "20.00 ms" in text
    assert "bound by memory traffic: at most 51,200 images/s, 6,400 a chip" in text
    assert "50% of the peak" in text and "no forecast" in text
    assert "8 chips of 197 TFLOP/s (bfloat16), 16 GB at 819 GB/s" in text
    with pytest.raises(ValueError, match="nothing is published"):
        plan_text.bounds(found, topology.Topology("cpu:8", [None] * 8, None))


def test_classes_are_given_or_known_by_the_name_of_the_config():
    known = training_sets.counts("adaface_r100_webface4m", None, None)
    assert known == Counts(205_990, 4_235_242)
    assert training_sets.counts("adaface_r50_ms1mv2", None, 100) == Counts(85_742, 100)
    assert training_sets.counts("adaface_r50_ms1mv2", 7, None) == Counts(7, 140)
    with pytest.raises(ConfigError, match="--classes is missing: 'demo'"):
        training_sets.counts("demo", None, None)


def test_the_command_takes_a_topology_or_a_number(capsys):
    words = ["plan", "--config=demo", "--classes=9"]
    small = ["--config.model.backbone=tiny", "--config.model.embedding_dim=16"]
    for where in ("--topology=cpu:8", "--devices=8"):
        assert main.main([*words, where, *small]) == 0
        said = capsys.readouterr()
        assert "8 devices" in said.out and "at most" not in said.out
        assert "compiling the training step (1 of 3) for cpu:8" in said.err
    assert main.main([*words, "--topology=v5e:two"]) == 2
    assert "got 'v5e:two', expected cpu:N or a TPU" in capsys.readouterr().err
    assert main.main(["plan", "--config=demo", "--devices=8"]) == 2
    assert "--classes is missing" in capsys.readouterr().err
    assert main.main(["plan", "--config=adaface_r10_ms1mv9", "--devices=8"]) == 2
    assert "adaface_r10_ms1mv9" in (said := capsys.readouterr().err)
    assert "--classes" not in said
    with pytest.raises(SystemExit):
        main.main([*words, "--devices=8", "--topology=cpu:8"])
    assert "not allowed with" in capsys.readouterr().err
