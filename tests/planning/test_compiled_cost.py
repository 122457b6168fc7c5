"""Work and traffic of compiled programs against what they are by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from qface_jax.planning import compiled_cost
from qface_jax.planning.compiled_cost import Cost
from qface_jax.sharded import parallel
from qface_jax.sharded.parallel import DATA

FLOAT = 4  # bytes


def compiled(function, *shapes):
    """The compiled program; a shape is that of a float32 array."""
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(function).lower(*arguments).compile()


def cost(function, *shapes):
    return compiled_cost.read(compiled(function, *shapes).as_text())


def product(a, b):
    return jnp.einsum("ik,kj->ij", a, b)


def test_a_matrix_product():
    assert cost(product, (30, 50), (50, 70)) == Cost(2 * 30 * 50 * 70, {})
    batched = partial(jnp.einsum, "bik,bkj->bij")
    assert cost(batched, (3, 30, 50), (3, 50, 70)).work == 2 * 3 * 30 * 50 * 70
    assert cost(lambda x: jnp.tanh(x) + 1.0, (30, 50)) == Cost(0, {})


def convolve(images, kernel, **options):
    return lax.conv_general_dilated(
        images, kernel, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


@pytest.mark.parametrize(
    ("options", "pairs"),
    [
        # Pairs of an output and a kernel position along one axis of 8 pixels.
        ({"window_strides": (1, 1), "padding": "VALID"}, 6 * 3),
        ({"window_strides": (1, 1), "padding": [(1, 1)] * 2}, 6 * 3 + 2 * 2),
        ({"window_strides": (2, 2), "padding": [(1, 1)] * 2}, 3 * 3 + 2),
        (
            {"window_strides": (1, 1), "padding": "VALID", "rhs_dilation": (2, 2)},
            4 * 3,
        ),
    ],
)
def test_a_convolution_counts_no_padding(options, pairs):
    shapes = ((5, 8, 8, 6), (3, 3, 6, 7))
    program = compiled(partial(convolve, **options), *shapes)
    found = compiled_cost.read(program.as_text())
    assert found.work == 2 * 5 * 6 * 7 * pairs**2
    assert found.work == program.cost_analysis()["flops"]


def test_groups_of_a_convolution():
    grouped = partial(
        convolve, window_strides=(1, 1), padding="VALID", feature_group_count=3
    )
    found = cost(grouped, (5, 8, 8, 6), (3, 3, 2, 9))
    assert found.work == 2 * 5 * 9 * 2 * 18**2


def test_gradients_agree_with_the_compiler_where_nothing_loops():
    options = {"window_strides": (2, 2), "padding": [(1, 1)] * 2}

    def loss(images, kernel, weights):
        seen = convolve(images, kernel, **options)
        return jnp.sum(product(seen.reshape(5, -1), weights) ** 2)

    shapes = ((5, 16, 16, 6), (3, 3, 6, 32), (8 * 8 * 32, 64))
    program = compiled(jax.grad(loss, argnums=(0, 1, 2)), *shapes)
    ours = compiled_cost.read(program.as_text()).work
    # The compiler also counts the few sums and products of single numbers.
    assert ours == pytest.approx(program.cost_analysis()["flops"], rel=0.02)


def test_a_loop_counts_as_often_as_it_runs():
    def loop(a, b):
        return lax.fori_loop(0, 7, lambda _, x: product(x, b), a)

    def nested(a, b):
        return lax.fori_loop(0, 5, lambda _, x: loop(x, b), a)

    once = 2 * 30 * 50 * 50
    assert cost(loop, (30, 50), (50, 50)) == Cost(7 * once, {})
    assert cost(nested, (30, 50), (50, 50)) == Cost(35 * once, {})
    # What this module is for: the compiler's own count has the body once.
    assert compiled(loop, (30, 50), (50, 50)).cost_analysis()["flops"] < 2 * once


def test_what_cannot_be_counted_is_refused():
    def until_small(a, b):
        return lax.while_loop(lambda x: jnp.max(x) > 1, lambda x: product(x, b), a)

    def either(a, b):
        return lax.cond(a[0, 0] > 0, lambda: product(a, b), lambda: a)

    for function, words in ((until_small, "unknown length"), (either, "in a branch")):
        with pytest.raises(ValueError, match=words):
            cost(function, (30, 50), (50, 50))
    # Loops and branches without products or collectives may do as they like.
    quiet = lambda a: lax.while_loop(lambda x: jnp.max(x) > 1, lambda x: x / 2, a)  # noqa: E731
    assert cost(quiet, (30, 50)) == Cost(0, {})
    with pytest.raises(ValueError, match="no program"):
        compiled_cost.read("")
    line = "ENTRY %main (x: f32[8]) -> f32[8] {{\n  ROOT %y = f32[8]{{0}} {}\n}}\n"
    for call in (
        "all-gather-start(%x), replica_groups={{0,1}}",
        "collective-broadcast(%x), replica_groups={{0,1}}",
        'custom-call(%x), custom_call_target="__onednn$matmul"',
        "all-reduce(%x), replica_groups={}, to_apply=%add",
    ):
        with pytest.raises(ValueError, match="%y: "):
            compiled_cost.read(line.format(call))


def per_device(devices, function, rows=16, repeats=1):
    """Cost of a function of each device's [rows, 3] in a loop."""
    mesh = parallel.make_mesh(jax.devices()[:devices])

    def shard(x):
        return lax.fori_loop(0, repeats, lambda _, y: function(y), x)

    wrapped = jax.shard_map(
        shard, mesh=mesh, in_specs=P(DATA), out_specs=P(DATA), check_vma=False
    )
    return cost(wrapped, (devices * rows, 3))


def gather(x):
    return lax.all_gather(x, DATA, tiled=True)[: x.shape[0]] + 1.0


def reduce(x):
    return lax.psum(x, DATA)


def reduce_scatter(x):
    part = lax.psum_scatter(x, DATA, scatter_dimension=0, tiled=True)
    return jnp.resize(part, x.shape)


def exchange(x):
    return lax.all_to_all(x, DATA, 0, 0, tiled=True)


def shift(x):
    count = lax.axis_size(DATA)
    return lax.ppermute(x, DATA, [(i, (i + 1) % count) for i in range(count)])


SENT = {
    # What one device of n sends of an array of 16 x 3 numbers on each.
    "all-gather": (gather, lambda n: (n - 1) * 48 * FLOAT),
    "all-reduce": (reduce, lambda n: 2 * (n - 1) * 48 * FLOAT / n),
    "reduce-scatter": (reduce_scatter, lambda n: (n - 1) * 48 * FLOAT / n),
    "all-to-all": (exchange, lambda n: (n - 1) * 48 * FLOAT / n),
    "collective-permute": (shift, lambda n: 48 * FLOAT),
}


@pytest.mark.parametrize("kind", SENT)
@pytest.mark.parametrize("devices", [2, 8])
def test_bytes_sent(kind, devices):
    function, sent = SENT[kind]
    assert per_device(devices, function) == Cost(0, {kind: sent(devices)})
    in_a_loop = per_device(devices, function, repeats=6)
    assert in_a_loop == Cost(0, {kind: 6 * sent(devices)})


def test_groups_of_devices():
    groups = [[0, 1, 2, 3], [4, 5, 6, 7]]
    found = per_device(8, lambda x: lax.psum(x, DATA, axis_index_groups=groups))
    assert found.traffic == {"all-reduce": 2 * 3 * 48 * FLOAT / 4}
    line = (
        "ENTRY %main (x: f32[8]) -> f32[8] {\n"
        "  ROOT %y = (f32[8]{0}, /*index=1*/bf16[4,3]{1,0}) all-reduce(%x, %x), "
        "replica_groups=GROUPS, to_apply=%add\n}\n"
    )
    for written in ("{{0,1},{2,3}}", "[4,2]<=[8]", "mesh['a'=4,'b'=2] {'b'}"):
        found = compiled_cost.read(line.replace("GROUPS", written))
        assert found.traffic == {"all-reduce": 2 * (8 * 4 + 12 * 2) / 2}


def test_one_device_sends_nothing():
    assert per_device(1, reduce).traffic == {}
