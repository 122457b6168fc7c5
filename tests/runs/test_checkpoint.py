"""What was saved comes back bit for bit, or is named; nothing is lost in silence."""

import errno
import json
import os
import random
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from qface_jax.errors import ConfigError, UserError
from qface_jax.runs import checkpoint, digest_record, run_folder, saved_marker
from qface_jax.runs.checkpoint import Checkpoints, load_parts, save_parts, saved_steps
from qface_jax.runs.saved_tree import leaves

ALL = ("params", "step")


def state_of(seed):
    """Arrays of all types that a state has; noise, which does not shrink."""
    draw = np.random.default_rng(seed)
    return {
        "params": {
            "kernel": jnp.asarray(draw.normal(size=(64, 32)).astype(np.float32)),
            "half": jnp.asarray(draw.normal(size=(48,)).astype(ml_dtypes.bfloat16)),
            "labels": jnp.asarray(draw.integers(-1, 9, 33, np.int32)),
            "used": jnp.asarray(draw.random(17) < 0.5),
        },
        "step": jnp.asarray(seed, jnp.int32),
    }


def abstract_of(state):
    place = NamedSharding(jax.make_mesh((8,), ("data",)), PartitionSpec())
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), state
    )


def restore(run, **options):
    with Checkpoints(run, keep=2, **options) as checkpoints:
        return checkpoints.restore_latest(abstract_of(state_of(0)))


def assert_same(got, want):
    got, want = leaves(got), leaves(want)
    assert got.keys() == want.keys()
    for name in want:
        assert got[name].dtype == want[name].dtype
        np.testing.assert_array_equal(np.asarray(got[name]), np.asarray(want[name]))


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def damage(folder):
    """Flips a bit in the middle of a checkpoint's arrays."""
    largest = max(files(folder / "state"), key=lambda path: path.stat().st_size)
    flip(largest, 4 * largest.stat().st_size)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Checkpoints of steps 3 and 6, and a best one of step 3."""
    run = tmp_path_factory.mktemp("saved") / "run"
    with Checkpoints(run, keep=2) as checkpoints:
        checkpoints.save(3, state_of(3))
        checkpoints.save_best(3, state_of(3), 0.75)
        checkpoints.save(6, state_of(6))
    return run


@pytest.fixture
def run(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run")
    return tmp_path / "run"


def test_what_was_saved_comes_back(run):
    assert_same(restore(run), state_of(6))
    step, parts = load_parts(run, "last", ALL)
    assert step == 6
    assert_same(parts, state_of(6))
    assert_same(load_parts(run, "best", ALL)[1], state_of(3))


def test_a_changed_array_is_named(run):
    damage(run / "checkpoints" / "6")
    for load in (lambda: restore(run), lambda: load_parts(run, "last", ALL)):
        with pytest.raises(UserError) as error:
            load()
        said = str(error.value)
        assert f"{run}/checkpoints/6: checkpoint is damaged" in said
        assert "1 array not as saved, by the digest: params/kernel" in said
        assert "remove that folder to go on from step 3" in said
        assert "\n" not in said
    # Other arrays of the same checkpoint are whole.
    _, parts = load_parts(run, "last", ("params/half", "step"))
    assert_same(parts["params/half"], state_of(6)["params"]["half"])


def test_the_checkpoint_before_is_taken_only_if_asked(run, capsys):
    damage(run / "checkpoints" / "6")
    with pytest.raises(UserError, match=r"checkpoint\.fall_back=True"):
        restore(run)
    assert saved_steps(run)["last"] == 6
    with Checkpoints(run, keep=2, fall_back=True) as checkpoints:
        state = checkpoints.restore_latest(abstract_of(state_of(0)))
        assert_same(state, state_of(3))
        assert checkpoints.fell_back_from == [6]
        said = capsys.readouterr().err
        assert "params/kernel" in said and "going on from step 3" in said
        assert (run / "damaged" / "6").is_dir()
        checkpoints.save(6, state_of(6))
    assert_same(restore(run), state_of(6))


@pytest.mark.parametrize("gone", ["state", "state/manifest.ocdbt"])
def test_it_falls_back_from_any_damage(run, gone):
    path = run / "checkpoints" / "6" / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert_same(restore(run, fall_back=True), state_of(3))


def test_nothing_is_left_to_fall_back_to(run):
    for step in (3, 6):
        damage(run / "checkpoints" / str(step))
    with pytest.raises(UserError, match="checkpoints/3: checkpoint is damaged"):
        restore(run, fall_back=True)


def test_a_checkpoint_without_digests_is_read_and_said_once(run, capsys):
    shutil.rmtree(run / "checkpoints" / "6" / "digests")
    for _ in range(2):
        assert_same(load_parts(run, "last", ALL)[1], state_of(6))
    assert capsys.readouterr().err.count("was saved without digests") == 1
    assert_same(restore(run), state_of(6))


def rewrite(run, change, folder="checkpoints/6"):
    """Edits the digests, with a fitting sum of the record itself."""
    file = run / folder / "digests" / "data.json"
    content = json.loads(file.read_text())
    del content["sha256"]
    change(content)
    file.write_text(json.dumps(content | {"sha256": digest_record._check(content)}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c["arrays"].pop("step"), "other arrays than were saved: step"),
        (lambda c: c["arrays"].update(new=["int8[1]", "0" * 16]), "were saved: new"),
        (lambda c: c["arrays"].update(step=["int8[1]", "0" * 16]), "were saved: step"),
        (lambda c: c.update(format=2), "format 2, expected 1"),
        (lambda c: c.update(arrays=None), "damaged"),
        (lambda c: c.update(arrays={"a": 3}), "damaged"),
        (lambda c: c.update(score="high"), "damaged"),
    ],
)
def test_another_record_is_refused(run, change, says):
    rewrite(run, change)
    with pytest.raises(UserError, match=says):
        load_parts(run, "last", ALL)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"arrays": {}}', "{" * 9**5])
def test_a_record_that_is_none_is_refused(run, text):
    (run / "checkpoints" / "6" / "digests" / "data.json").write_text(text)
    with pytest.raises(UserError, match="checkpoints/6: checkpoint is damaged"):
        load_parts(run, "last", ALL)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), "0.5", None])
def test_a_best_one_without_a_score_is_refused(run, score):
    rewrite(run, lambda content: content.update(score=score), "best/3")
    with pytest.raises(UserError, match=r"best/3: .*damaged.*saves a best one again"):
        Checkpoints(run, keep=2)


def test_only_a_better_finite_score_is_the_best(run):
    with Checkpoints(run, keep=2) as checkpoints:
        assert checkpoints.best_score == 0.75
        assert not checkpoints.save_best(6, state_of(6), 0.7)
        with pytest.raises(ValueError, match="got nan"):
            checkpoints.save_best(6, state_of(6), float("nan"))
        assert checkpoints.save_best(6, state_of(6), 0.8)
    assert saved_steps(run)["best"] == 6


def test_a_best_one_of_an_older_version_keeps_its_score(tmp_path):
    from orbax.checkpoint import v1 as ocp

    for name, score in (("whole", 0.5), ("nan", float("nan"))):
        folder = tmp_path / name / "best"
        with ocp.training.Checkpointer(folder) as checkpointer:
            checkpointer.save(4, state_of(4), metrics={"score": score})
    with Checkpoints(tmp_path / "whole", keep=1) as checkpoints:
        assert checkpoints.best_score == 0.5
    with pytest.raises(UserError, match="its score is nan, expected a finite number"):
        Checkpoints(tmp_path / "nan", keep=1)
    (tmp_path / "whole" / "best" / "4" / "metrics" / "metrics").write_text("{bad")
    with pytest.raises(UserError, match=r"best/4: checkpoint is damaged"):
        Checkpoints(tmp_path / "whole", keep=1)


def test_leaves_come_in_the_type_and_place_of_this_run(run):
    mesh = jax.make_mesh((8,), ("data",))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    ours = jax.device_put(np.zeros((64, 32), ml_dtypes.bfloat16), rows)
    like = {"params/kernel": ours, "params/half": jnp.zeros(7)}
    _, parts = load_parts(run, "last", ("params",), like=like)
    kernel = parts["params"]["kernel"]
    assert kernel.dtype == ours.dtype
    assert kernel.sharding.is_equivalent_to(rows, ndim=2)
    want = state_of(6)["params"]["kernel"].astype(ours.dtype)
    np.testing.assert_array_equal(np.asarray(kernel), np.asarray(want))
    assert parts["params"]["half"].shape == (48,)
    damage(run / "checkpoints" / "6")
    with pytest.raises(UserError, match="by the digest: params/kernel"):
        load_parts(run, "last", ("params",), like=like)


def test_imported_weights_have_digests_too(tmp_path):
    tree = {"params": {"w": np.arange(600, dtype=np.float32).reshape(20, 30)}}
    save_parts(tmp_path, tree)
    assert_same(load_parts(tmp_path, "last", ("params",))[1], tree)
    damage(tmp_path / "checkpoints" / "0")
    with pytest.raises(UserError, match="damaged"):
        load_parts(tmp_path, "last", ("params",))


def test_no_flipped_bit_passes_unseen(run):
    """`benchmarks/bit_flips.py` does this to a whole run, and counts."""
    chance, seen = random.Random(3), 0
    folder = run / "checkpoints" / "6"
    for path in files(folder) * 2:
        bit = chance.randrange(8 * path.stat().st_size)
        flip(path, bit)
        try:
            parts = load_parts(run, "last", ALL)[1]
        except UserError as error:
            seen += 1
            assert f"{folder}: " in str(error) and "\n" not in str(error)
        else:
            assert_same(parts, state_of(6))
        flip(path, bit)
    assert seen >= 6
    assert_same(load_parts(run, "last", ALL)[1], state_of(6))


@pytest.mark.parametrize("part", ["9.orbax-checkpoint-tmp", "state.", "digests."])
def test_a_folder_that_cannot_be_made_is_made_again(run, part, monkeypatch):
    make, failed = os.mkdir, []

    def once(path, *args, **kwargs):
        if not failed and Path(path).name.startswith(part):
            failed.append(path)
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        make(path, *args, **kwargs)

    monkeypatch.setattr(os, "mkdir", once)
    with Checkpoints(run, keep=2) as checkpoints:
        checkpoints.save(9, state_of(9))
    assert failed
    assert_same(restore(run), state_of(9))


@pytest.mark.parametrize("name", ["²", "007", "7.damaged", "-7", "tmp", "1e3"])
def test_other_names_are_left_alone(run, name):
    (run / "checkpoints" / name).mkdir()
    assert saved_steps(run)["last"] == 6
    assert_same(restore(run), state_of(6))
    assert (run / "checkpoints" / name).is_dir()


@pytest.mark.parametrize("name", ["9" * 30, "2147483648", "٩"])
def test_numbers_that_are_no_steps_are_refused(run, name):
    (run / "checkpoints" / name).mkdir()
    for look in (saved_steps, lambda run: Checkpoints(run, keep=2)):
        with pytest.raises(ConfigError, match="expected steps from 0 to 2,147,483,647"):
            look(run)


def test_a_folder_that_vanished_is_named(run):
    (run / "checkpoints" / "9").mkdir()
    with pytest.raises(UserError, match=r"checkpoints/9: .* go on from step 3, 6"):
        restore(run)


def log_until(run, step):
    (run / run_folder.METRICS).write_text(
        "".join(f'{{"step": {n}, "loss": 1.0}}\n' for n in range(1, step + 1))
    )


def test_checkpoints_that_were_moved_away_are_missed(run):
    saved_marker.refuse_lost_checkpoints(run.parent, 3)  # no run, nothing to miss
    shutil.rmtree(run / "checkpoints")
    log_until(run, 5)
    with pytest.raises(ConfigError) as error:
        saved_marker.refuse_lost_checkpoints(run, 3)
    for part in ("log ends at step 5", "checkpoints has no", "put them back", "step 0"):
        assert part in str(error.value)


def test_of_an_older_run_the_log_tells(tmp_path):
    log_until(tmp_path, 200)
    saved_marker.refuse_lost_checkpoints(tmp_path, 100)  # killed in its first write
    log_until(tmp_path, 201)
    with pytest.raises(ConfigError, match="log ends at step 201"):
        saved_marker.refuse_lost_checkpoints(tmp_path, 100)


def test_what_orbax_logs_is_kept_out_of_the_message(run, capfd):
    (run / "checkpoints" / "6" / "_CHECKPOINT_METADATA").write_text("{bad")
    checkpoint.load_parts(run, "last", ALL)
    assert capfd.readouterr().err == ""


def test_a_run_that_was_removed_meanwhile_is_named(tmp_path):
    run = tmp_path / "run"
    with (
        pytest.raises(UserError, match="was removed or moved while the run"),
        Checkpoints(run, keep=2) as checkpoints,
    ):
        checkpoints.save(1, state_of(1))
        shutil.rmtree(run, ignore_errors=True)
        checkpoints.save(2, state_of(2))


@pytest.mark.parametrize("keeps", [True, False])
def test_another_failure_stays_what_it_is(run, keeps, monkeypatch):
    if keeps:
        (run / run_folder.CONFIG).write_text("{}")
    error = OSError(28, "No space left on device")

    def fail(*unused):
        raise error

    monkeypatch.setattr(checkpoint.shutil, "disk_usage", fail)
    with Checkpoints(run, keep=2) as checkpoints, pytest.raises(Exception) as raised:
        checkpoints.save(7, state_of(7))
    assert (raised.value is error) == keeps
