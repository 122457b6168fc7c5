"""Every training step, evaluation and export compiles for TPUs that are not there.

They need libtpu: installed, or in the folder of the variable QFACE_LIBTPU, as
`launch/test.sh --all` sets it.
"""

import importlib.util
import os
import sys

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from qface_jax import models
from qface_jax.errors import ConfigError
from qface_jax.export import interface as interfaces
from qface_jax.inference import embedder
from qface_jax.launch import main
from qface_jax.planning import compiled_cost, memory_traffic, plan, topology
from qface_jax.runs import digest
from qface_jax.sharded import parallel
from qface_jax.tables import MARGINS
from qface_jax.train.setup import build
from support.small_run import small
from support.user_types import types_as_users_have_them  # noqa: F401

if folder := os.environ.get("QFACE_LIBTPU"):
    sys.path.insert(0, folder)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None,
        reason=f"no libtpu: pip install 'qface_jax[{topology.EXTRA}]'",
    ),
]
TOPOLOGIES = ("v5e:2x4", "v5p:2x2x1")
CLASSES = 1000

STEPS = {
    **{f"margin {name}": (f"loss.margin={name}",) for name in MARGINS},
    **{
        f"proxy {name}": (f"loss.adaface.proxy={name}",)
        for name in ("brisque", "probability")
    },
    "Partial FC": ("classifier.sample_rate=0.1",),
    "bfloat16": ("model.dtype=bfloat16", "classifier.dtype=bfloat16"),
    "recomputed": ("model.remat=True",),
    "accumulated": ("optim.accumulation_steps=2",),
    "adam": ("optim.name=adam",),
    "adagrad": ("optim.name=adagrad",),
    **{
        f"queue {name}": ("objective=qgface", f"qgface.queue={name}")
        for name in ("none", "batch", "momentum", "proxy")
    },
    "octuplet": ("objective=octuplet", "degrade.recipe=octuplet"),
    "siamese": ("objective=siamese",),
    "recognizability": ("objective=recognizability", "degrade.recipe=recognizability"),
    **{
        f"{name} on the device": ("degrade.on=device", *words)
        for name, words in {
            "adaface": ("degrade.recipe=adaface",),
            "hue": ("degrade.adaface.photometric_third=hue",),
            "qgface": ("objective=qgface", "degrade.recipe=qgface"),
            "octuplet": ("objective=octuplet", "degrade.recipe=octuplet"),
            "recognizability": (
                "objective=recognizability",
                "degrade.recipe=recognizability",
                "degrade.recognizability.low_probability=0.5",
                "degrade.recognizability.jpeg_probability=0.5",
            ),
        }.items()
    },
}


@pytest.fixture(scope="module", params=TOPOLOGIES)
def mesh(request):
    cached = jax.config.jax_enable_compilation_cache
    yield parallel.make_mesh(topology.open_topology(request.param).devices)
    jax.config.update("jax_enable_compilation_cache", cached)
    compilation_cache.reset_cache()


@pytest.mark.parametrize("name", STEPS)
def test_a_training_step_compiles(name, mesh):
    config = small(*STEPS[name])
    setup = build(config, plan.Counts(CLASSES, 20 * CLASSES), mesh)
    compiled = plan.compile_step(config, setup)
    text = compiled.as_text()
    assert compiled_cost.read(text).work > 0
    assert memory_traffic.read(text) > 0
    plan.compile_class_side(config, setup)
    plan.compile_creation(setup)


def abstract(tree, sharding):
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_evaluation_compiles(dtype, mesh):
    config = small(f"model.dtype={dtype}")
    setup, shard = build(config, plan.Counts(9, 99), mesh), parallel.shardings(mesh)
    embed = embedder.jit_embed(models.build(config.model), shard)
    shape = (8 * mesh.size, models.IMAGE_SIDE, models.IMAGE_SIDE, 3)
    images = jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=shard.rows)
    weights = setup.abstract.params["backbone"], setup.abstract.stats
    assert memory_traffic.read(embed.lower(*weights, images).compile().as_text()) > 0


def test_an_exported_model_compiles(mesh):
    config = small()
    model, shard = models.build(config.model), parallel.shardings(mesh)
    state = build(config, plan.Counts(9, 99), mesh).abstract
    params, stats = (
        jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)
        for tree in (state.params["backbone"], state.stats)
    )

    def features(images):
        return model.apply(params, stats, images, train=False, key=None)[0]

    interface = interfaces.Interface()
    exported_function = interfaces.function(features, interface, interfaces.OURS, None)
    images = jax.ShapeDtypeStruct((4, *interface.image_shape), interface.dtype)
    exported = jax.export.export(jax.jit(exported_function), platforms=("tpu",))(images)
    there = abstract(images, shard.replicated)
    assert jax.jit(exported.call).lower(there).compile().as_text()


def test_digests_of_checkpoints_compile(mesh):
    rows = parallel.shardings(mesh).rows
    for dtype in (jnp.float32, jnp.bfloat16, jnp.int32, jnp.bool_):
        leaf = jax.ShapeDtypeStruct((8 * mesh.size, 16), dtype, sharding=rows)
        assert digest.lanes_on_devices.lower(leaf).compile().as_text()


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_the_command_prints_a_bound(name, capsys):
    cached = jax.config.jax_enable_compilation_cache
    words = ["plan", "--config=demo", f"--topology={name}", "--classes=1000"]
    small_backbone = ["--config.model.backbone=tiny", "--config.model.embedding_dim=16"]
    status = main.main([*words, "--batch-per-device=8", *small_backbone])
    jax.config.update("jax_enable_compilation_cache", cached)
    compilation_cache.reset_cache()
    printed = capsys.readouterr()
    assert status == 0, printed.err
    assert f"{name}: " in printed.out and "images/s" in printed.out
    assert "bound by" in printed.out and "fits into" in printed.out


def test_a_slice_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match="--topology=v5e:3x5: no such slice"):
        topology.open_topology("v5e:3x5")
