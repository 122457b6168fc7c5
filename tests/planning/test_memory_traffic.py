"""Bytes of programs of a TPU against what they are by hand."""

import pytest

from qface_jax.planning import memory_traffic

# A program as the compiler of TPUs writes it: bfloat16 [16, 300] in tiles of 8 by 128,
# two rows in one, takes 16 * 384 * 2 bytes.
ARRAY = "bf16[16,300]{1,0:T(8,128)(2,1)}"
BYTES = 16 * 384 * 2
IN_CORE = "bf16[16,300]{1,0:T(8,128)(2,1)S(1)}"


def program(body, more=""):
    lines = "\n".join(f"  {line}" for line in body.strip().splitlines())
    entry = "ENTRY %main (a: bf16[16,300]) -> bf16[16,300] {"
    return f"HloModule m\n{more}\n{entry}\n{lines}\n}}\n"


def test_arrays_lie_in_tiles_in_memory_and_not_in_the_core():
    assert memory_traffic.in_memory(ARRAY) == BYTES
    assert memory_traffic.in_memory(IN_CORE) == 0
    assert memory_traffic.in_memory("f32[]") == 4
    assert memory_traffic.in_memory(f"({ARRAY}, {IN_CORE}, u32[3])") == BYTES + 12
    assert memory_traffic.in_memory("pred[9]{0:T(1024)}") == 1024
    # Axes in the order in which they lie: the first one is the fastest here.
    assert memory_traffic.in_memory("f32[130,8]{0,1:T(8,128)}") == 256 * 8 * 4


def test_each_instruction_reads_its_operands_and_writes_its_result():
    found = memory_traffic.read(
        program(
            f"""
%a = {ARRAY} parameter(0)
%b = {ARRAY} add({ARRAY} %a, {ARRAY} %a)
%c = {IN_CORE} multiply({ARRAY} %b, {ARRAY} %a)
ROOT %d = {ARRAY} negate({IN_CORE} %c)
"""
        )
    )
    assert found == (2 + 1) * BYTES + 2 * BYTES + BYTES


def test_what_is_copied_into_the_core_is_read_once():
    found = memory_traffic.read(
        program(
            f"""
%a = {ARRAY} parameter(0)
%s = ({IN_CORE}, {ARRAY}, u32[]{{:S(2)}}) copy-start({ARRAY} %a)
%c = {IN_CORE} copy-done(({IN_CORE}, {ARRAY}, u32[]{{:S(2)}}) %s)
ROOT %d = {ARRAY} negate({IN_CORE} %c)
"""
        )
    )
    assert found == 2 * BYTES


STATE = f"(s32[], {ARRAY})"
LOOP = f"""
%body (p: {STATE}) -> {STATE} {{
  %p = {STATE} parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = {ARRAY} get-tuple-element(%p), index=1
  %one = s32[] constant(1)
  %next = s32[]{{:S(2)}} add(%i, %one)
  %y = {ARRAY} negate(%x)
  ROOT %t = {STATE} tuple(%next, %y)
}}
%cond (p: {STATE}) -> pred[] {{
  %p = {STATE} parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %last = s32[] constant(9)
  ROOT %c = pred[]{{:T(512)S(6)}} compare(%i, %last), direction=DIRECTION
}}
"""
COUNTER = 4 + 4  # bytes: of the counter and what is added to it; the sum stays inside


@pytest.mark.parametrize(
    ("direction", "note", "times"),
    [
        ("LT", ', backend_config={"known_trip_count":{"n":"5"}}', 5),
        ("LT", "", 7),  # from 2 up to 9
        ("NE", "", 1),  # only the data says how often
    ],
)
def test_a_loop_counts_as_often_as_it_runs(direction, note, times):
    found = memory_traffic.read(
        program(
            f"""
%a = {ARRAY} parameter(0)
%two = s32[] constant(2)
%start = s32[]{{:S(2)}} copy(%two)
%t = {STATE} tuple(%start, %a)
%w = {STATE} while(%t), condition=%cond, body=%body{note}
ROOT %r = {ARRAY} get-tuple-element(%w), index=1
""",
            LOOP.replace("DIRECTION", direction),
        )
    )
    copied = 4
    assert found == copied + times * (2 * BYTES + COUNTER)


ROWS = "bf16[8,300]{1,0:T(8,128)(2,1)}"
SLICED = f"""
%fused (p: {ARRAY}, i: s32[]) -> bf16[8,300] {{
  %p = {ARRAY} parameter(0)
  %i = s32[] parameter(1)
  %z = s32[] constant(0)
  ROOT %s = {ROWS} dynamic-slice(%p, %i, %z)
}}
%changed (p: {ARRAY}, u: bf16[8,300], i: s32[]) -> {ARRAY} {{
  %p = {ARRAY} parameter(0)
  %u = {ROWS} parameter(1)
  %i = s32[] parameter(2)
  %z = s32[] constant(0)
  ROOT %d = {ARRAY} dynamic-update-slice(%p, %u, %i, %z)
}}
"""


def test_of_a_slice_only_the_slice_counts():
    found = memory_traffic.read(
        program(
            f"""
%a = {ARRAY} parameter(0)
%i = s32[] parameter(1)
%s = {ROWS} fusion({ARRAY} %a, s32[] %i), kind=kLoop, calls=%fused
ROOT %d = {ARRAY} fusion(%a, %s, %i), kind=kLoop, calls=%changed
""",
            SLICED,
        )
    )
    half, numbers = 8 * 384 * 2, 8 * 300 * 2
    index = 4
    first = numbers + index + half  # reads the slice, writes it in tiles
    second = half + index + numbers  # reads what is written, changes it in place
    assert found == first + second
