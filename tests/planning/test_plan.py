"""The plan: what is stored, what a step costs, and advice when it does not fit."""

import jax
import pytest

from qface_jax.launch import main
from qface_jax.planning import compiled_cost, plan, plan_text
from qface_jax.sharded import parallel
from qface_jax.train.setup import build
from support.small_run import small
from support.user_types import types_as_users_have_them  # noqa: F401

DEVICES = 8


def planned(config, num_classes=4000, devices=DEVICES):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    return plan.plan(config, mesh, num_classes=num_classes, images=100)


@pytest.fixture(scope="module")
def found():
    return planned(small("total_steps=7"))


def test_what_is_stored_is_exact(found):
    rows = 4096  # 4,000 classes, padded to a multiple of 512
    centres = rows // DEVICES * 16 * 4
    assert found.items["class centres"] == centres
    assert found.items["class centres' optimizer state"] == centres
    assert found.items["batch"] == 16 // DEVICES * (112 * 112 * 3 + 4)
    # Adam keeps two moments where SGD keeps one.
    adam = planned(small("optim.name=adam"))
    assert adam.items["class centres' optimizer state"] == 2 * centres


def test_the_queue_is_cut_and_counted():
    """Features and centres of 1,000 slots, padded to 1,024, their labels; no more."""
    config = small("objective=qgface", "qgface.queue_size=1000")
    found = planned(config)
    queue = 1024 // DEVICES * (2 * 16 + 1) * 4
    assert 0 <= found.items[plan.STATE] - queue < 64
    assert found.items["batch"] == 16 // DEVICES * (2 * 112 * 112 * 3 + 4)


def test_the_peak_holds_all_items(found):
    stored = sum(v for name, v in found.items.items() if "temporary" not in name)
    temporary = sum(v for name, v in found.items.items() if "temporary" in name)
    assert stored + temporary <= found.peak
    # A few scalars beside the items: step, statistics, metrics.
    assert found.peak < stored + temporary + 64 * 1024
    assert (found.batch_size, found.total_steps) == (16, 7)


def test_making_the_state_holds_the_state(found):
    stored = sum(v for name, v in found.items.items() if "temporary" not in name)
    assert found.creation > stored - found.items["batch"]


def test_partial_fc_needs_less_where_classes_dominate():
    many = 400_000
    full = planned(small(), many)
    part = planned(small("classifier.sample_rate=0.1"), many)
    name = plan.CLASS_SIDE
    assert part.items[name] < 0.5 * full.items[name]
    assert part.items["class centres"] == full.items["class centres"]
    assert part.peak < full.peak


@pytest.mark.slow
def test_more_devices_do_not_grow_the_class_side():
    sizes = {n: planned(small(), 200_000, devices=n).items for n in (2, 8)}
    assert sizes[8]["class centres"] * 4 == pytest.approx(sizes[2]["class centres"])
    assert sizes[8][plan.CLASS_SIDE] < sizes[2][plan.CLASS_SIDE]


PER_DEVICE, DIM, FLOAT = 8, 64, 4
CLASSES, BLOCKS = 65_536, 512


def class_side(devices, *changes, classes=CLASSES):
    """Cost above the features with the same batch on each device."""
    sizes = (f"data.batch_size={PER_DEVICE * devices}", f"model.embedding_dim={DIM}")
    config = small(*sizes, "classifier.chunk=256", *changes)
    mesh = parallel.make_mesh(jax.devices()[:devices])
    setup = build(config, plan.Counts(classes, 100), mesh)
    return compiled_cost.read(plan.compile_class_side(config, setup).as_text())


def most_sent(devices, sampled):
    """Bytes that a device may send above the features; the classes are not in it.

    The features and what belongs to each sample are gathered once, the features'
    gradient is scattered; sums over the devices go around twice.
    """
    samples = PER_DEVICE * devices
    features = samples * DIM * FLOAT
    # Label, own cosine, logsumexp and the gradients of the two.
    gathered = 5 * samples * FLOAT
    # Own cosine for the margin's state and again with its gradient; maximum, sum.
    summed = 4 * samples * FLOAT
    scalars = 8 * FLOAT  # means over the batch
    total = 2 * features + gathered + 2 * (summed + scalars)
    if sampled:
        total += samples * FLOAT  # labels, for the draw
    return total * (devices - 1) / devices


@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_the_class_side_does_not_grow_with_the_devices(rate):
    changes = ("loss.margin=adaface", f"classifier.sample_rate={rate}")
    found = {n: class_side(n, *changes) for n in (1, 2, 4, 8)}
    for n, cost in found.items():
        rows = CLASSES / n
        if rate < 1.0:
            # Each of the blocks draws 0.1 of its 128 rows, rounded up; besides, a
            # device may hold the classes of the whole batch.
            rows = BLOCKS * 13 / n + PER_DEVICE * n
        # Products with the centres: one forward, three backward, 2 operations a pair.
        work = 8 * PER_DEVICE * n * DIM * rows
        assert work <= cost.work <= 1.01 * work
    assert found[1].traffic == {}
    for n in (2, 4, 8):
        sent = sum(found[n].traffic.values())
        assert 0 < sent <= most_sent(n, sampled=rate < 1)


@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_nothing_sent_depends_on_the_number_of_classes(rate):
    change = f"classifier.sample_rate={rate}"
    few = class_side(DEVICES, change)
    many = class_side(DEVICES, change, classes=4 * CLASSES)
    assert many.traffic == few.traffic
    assert many.work > 3.5 * few.work


def test_the_whole_step_is_the_sum_of_its_sides(found):
    backbone = plan_text.backbone_side(found)
    assert min(backbone.work, found.class_side.work) > 0
    # The gradient of every parameter of the backbone goes around once.
    parameters = found.items["backbone optimizer state"]
    ring = 2 * (DEVICES - 1) / DEVICES
    assert backbone.traffic["all-reduce"] > ring * parameters
    assert min(backbone.traffic.values()) >= 0


def test_advice_says_what_to_change(found):
    config = small()
    enough = max(found.peak, found.creation)
    assert plan_text.advice(found, config, enough) == []
    start = found._replace(creation=enough + 1)
    assert "making the state takes 1 B" in plan_text.advice(start, config, enough)[0]
    lines = plan_text.advice(found, config, found.peak // 2)
    assert lines[0].startswith("does not fit: ")
    assert any("more --devices" in line for line in lines)
    assert any("--config.model.remat=true" in line for line in lines)


def test_advice_names_what_is_not_in_use_yet(found):
    large = found._replace(
        items={plan.ACTIVATIONS: 100, "class centres": 100}, peak=200
    )

    def flags(config):
        lines = plan_text.advice(large, config, budget=50)
        return {line.split()[0] for line in lines if line.startswith("--config")}

    assert flags(small()) == {
        "--config.model.dtype=bfloat16",
        "--config.model.remat=true",
        "--config.optim.accumulation_steps=2",
        "--config.classifier.dtype=bfloat16",
        "--config.classifier.sample_rate=0.1",
    }
    # Adam refuses bfloat16 centres.
    assert "--config.classifier.dtype=bfloat16" not in flags(small("optim.name=adam"))
    in_use = small(
        "model.dtype=bfloat16",
        "model.remat=true",
        "optim.accumulation_steps=2",
        "classifier.dtype=bfloat16",
        "classifier.sample_rate=0.1",
    )
    assert flags(in_use) == {"--config.optim.accumulation_steps=4"}


def test_accumulation_counts_every_part(found):
    config = small("optim.accumulation_steps=2")
    setup = build(config, plan.Counts(4000, 100), parallel.make_mesh())
    whole = compiled_cost.read(plan.compile_step(config, setup).as_text())
    once = plan_text.backbone_side(found).work
    again = whole.work - found.class_side.work
    # The forward pass is done twice; as the first layer needs no gradient of the
    # images, it is a little more than a third.
    assert 4 / 3 * once <= again <= 1.5 * once


def test_the_command_says_whether_it_fits(monkeypatch, capsys):
    # The tests' process has its devices already; the command asks for as many.
    arguments = ["plan", "--config=demo", f"--devices={DEVICES}", "--classes=1000"]
    arguments += ["--config.model.backbone=tiny", "--batch-per-device=2"]
    assert main.main(arguments) == 0
    assert "fits into 80 GiB per device" in capsys.readouterr().out
    assert main.main([*arguments, "--memory=0.001"]) == 3
    assert "does not fit" in capsys.readouterr().out
    assert main.main(["plan", "--config=demo", "--devices=0", "--classes=9"]) == 2
    assert "--devices: got 0, must be > 0" in capsys.readouterr().err


def test_the_table_names_every_item_and_both_sides(found):
    text = plan_text.table(found)
    made = "while the state is made"
    for name in (
        *found.items,
        made,
        "peak per device",
        "sent by all-reduce",
        "class side",
    ):
        assert name in text
    assert "global batch 16 images, 7 steps" in text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 FLOP"), (1500, "1.5 kFLOP"), (2 * 10**15, "2,000 TFLOP")]
)
def test_work_reads_well(count, text):
    assert plan_text.work(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(12, "12 B"), (2048, "2 KiB"), (3 << 30, "3.00 GiB")]
)
def test_sizes_read_well(count, text):
    assert plan_text.size(count) == text
