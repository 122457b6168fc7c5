"""An objective from outside the package: one file, named where a name is expected."""

import json

import numpy as np
import pytest

from qface_jax.runs.checkpoint import load_parts
from qface_jax.train import loop
from support.small_run import small

TOY = '''
import jax
import jax.numpy as jnp

from qface_jax.objectives.objective import Hooks, Objective, ObjectiveEntry, Outcome
from qface_jax.options import NOT_NEGATIVE, Option


class Doubling(Hooks):
    """Doubles a number of the state before every step."""

    def describe(self):
        return "toy: it doubles"

    def due(self, step):
        return True

    def refresh(self, model):
        doubled = 2 * jax.device_get(model.state["number"])
        place = model.state["number"].sharding
        return model.state | {"number": jax.device_put(doubled, place)}, {"toy": 1.0}

    def draw(self, run, model, evaluated):
        (run / "samples" / "toy.txt").write_text(f"{model.step} {evaluated is None}")


def build(config, options, num_classes, mesh):
    """Features keep the length `length` and stay like those of the start."""

    def init(key):
        return {"bias": jnp.zeros(())}, {"number": jnp.float32(1.0)}

    def start(state, encoder):
        return state | {"original": encoder}

    def loss(encode, params, batch, context):
        features, stats = encode.train(params["backbone"], batch["images"])
        first = encode.evaluate(context.state["original"], batch["images"])
        norms = jnp.sqrt(jnp.sum(features**2, axis=1) + 1e-6)
        off = jnp.mean((norms + params["head"]["bias"] - options["length"]) ** 2)
        metrics = jax.lax.stop_gradient({"off": off})
        return off + jnp.mean((features - first) ** 2), Outcome(
            stats, context.state, metrics
        )

    return Objective(init, loss, start=start)


OBJECTIVE = ObjectiveEntry(
    build,
    options={"length": Option(3.0, NOT_NEGATIVE, "of a feature")},
    hooks=lambda config, options, **unused: Doubling(),
)
'''


@pytest.fixture
def toy(tmp_path):
    path = tmp_path / "toy_objective.py"
    path.write_text(TOY)
    return str(path)


def test_it_trains_and_its_hooks_are_called(toy, tmp_path, capsys):
    name, run = f"{toy}:OBJECTIVE", tmp_path / "run"
    changes = ("total_steps=3", "eval.sets=()", "log.interval=1", "log.pictures=True",
               f"objective={name}")  # fmt: skip
    loop.train(small(*changes), run)
    lines = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "off" in line] == [1, 2, 3]
    assert sum("toy" in line for line in lines) == 3
    assert all(np.isfinite(line["loss"]) for line in lines if "loss" in line)
    _, saved = load_parts(run, "last", ("aux/number", "original", "params/head"))
    assert saved["aux/number"] == 8.0
    assert set(saved["original"]) == {"backbone", "stats"}
    assert (run / "samples" / "toy.txt").read_text() == "3 True"
    assert not (run / "samples" / "gst.png").exists()
    said = capsys.readouterr().err
    assert f"{name} with tiny" in said and "toy: it doubles" in said
