"""The compiled program's text: loops with their turns, products, bytes and exchanges, against programs made here."""

import os
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidlmm.plan.collectives import Collective, Links, axes_of, find_collectives, replica_groups
from vidlmm.plan.errors import PlanError
from vidlmm.plan.hlo import Instruction, parse
from vidlmm.plan.loops import Loops
from vidlmm.plan.products import flops
from vidlmm.plan.runs import count_runs
from vidlmm.plan.traffic import bytes_moved

# Programs as the TPU compiler writes them, cut down.
PROGRAMS = Path(__file__).parent / "programs"
NEVER = "no loop of this program is open"


def closed(loop: Instruction) -> float:
    raise AssertionError(f"{NEVER}: {loop.origin}")


def all_of_it(call: Instruction) -> float:
    return 1.0


def compiled(function, *shapes: tuple[int, ...]) -> str:
    structs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    text = jax.jit(function).lower(*structs).compile().as_text()
    assert text is not None
    return text


def test_a_loop_counts_as_often_as_it_turns() -> None:
    def scanned(x, weights):
        return jax.lax.scan(lambda c, w: (jnp.sin(c @ w), None), x, weights)[0]

    module = parse(compiled(scanned, (16, 32), (7, 32, 32)))
    runs = count_runs(module, closed)
    assert flops(module, runs, all_of_it) == 7 * 2 * 16 * 32 * 32
    # Every turn reads its own matrix and no other: all of them once, beside what goes from turn to turn.
    matrices, carried = 7 * 32 * 32 * 4, 7 * 16 * 32 * 4
    assert matrices <= bytes_moved(module, runs, all_of_it) <= matrices + 12 * carried


def test_an_open_loop_is_asked_for_and_told() -> None:
    def open_ended(x, n):
        with jax.named_scope("how_often"):
            return jax.lax.fori_loop(0, n[0].astype(jnp.int32), lambda _, c: jnp.cos(c @ c), x)

    module = parse(compiled(open_ended, (8, 8), (1,)))
    runs = count_runs(module, lambda loop: 11.0 if "how_often" in loop.origin else 0.0)
    assert flops(module, runs, all_of_it) == 11 * 2 * 8**3
    assert list(runs.open_loops.values()) == [11]
    with pytest.raises(AssertionError, match=NEVER):
        count_runs(module, closed)


def test_nested_loops_multiply() -> None:
    def nested(x, weights):
        def outer(c, w):
            return jax.lax.fori_loop(0, 5, lambda _, d: jnp.tanh(d @ w), c), None

        return jax.lax.scan(outer, x, weights)[0]

    module = parse(compiled(nested, (4, 8), (3, 8, 8)))
    assert flops(module, count_runs(module, closed), all_of_it) == 3 * 5 * 2 * 4 * 8 * 8


def test_a_convolution_counts_its_true_products() -> None:
    def convolution(x, w, **options):
        return jax.lax.conv_general_dilated(x, w, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)

    plain = partial(convolution, window_strides=(2, 2), padding="VALID")
    module = parse(compiled(plain, (2, 8, 8, 3), (2, 2, 3, 5)))
    assert flops(module, count_runs(module, closed), all_of_it) == 2 * (2 * 4 * 4 * 5) * (2 * 2 * 3)


TPU_TEXT = (PROGRAMS / "loop.txt").read_text()
MESH = {"data": 4, "tensor": 2}


def test_the_tpu_compilers_text() -> None:
    module = parse(TPU_TEXT)
    runs = count_runs(module, closed)
    assert runs.times["body"] == 24  # from 4 to 28, which the condition tells and no attribute
    assert runs.fused == {"all-reduce-scatter.1"}
    found = find_collectives(module, runs, MESH)
    gather = Collective("all-gather", ("data",), 4, 24.0, 24.0 * 16 * 8 * 2, (0, 2, 4, 6))
    scatter = Collective("reduce-scatter", ("data",), 4, 1.0, 4.0 * 8 * 2, (0, 2, 4, 6))
    assert found == [gather, scatter]
    # A batch of two products, written as a convolution over holes: of four places of the window two meet the input.
    assert flops(module, runs, all_of_it) == 2 * (2 * 8 * 16) * 64


ASIDE = (PROGRAMS / "aside.txt").read_text()


def test_an_exchange_on_the_side_counts_once() -> None:
    """The compiler names it where it starts, in what is computed meanwhile, and where it ends."""
    module = parse(ASIDE)
    runs = count_runs(module, closed)
    found = find_collectives(module, runs, MESH)
    assert [(one.kind, one.times, one.bytes) for one in found] == [("all-gather", 1.0, 16.0 * 8 * 2)]
    # The gather reads its part and writes the whole, and meanwhile 32 numbers are read and written.
    assert bytes_moved(module, runs, all_of_it) == (4 * 8 + 16 * 8) * 2 + 2 * 32 * 4


def test_only_what_lies_in_main_memory_is_traffic() -> None:
    module = parse(TPU_TEXT)
    body = next(one for one in module.computations["body"].instructions if one.name == "gathered")
    assert [shape.space for shape in body.shapes] == [1]
    runs = count_runs(module, closed)
    # A turn reads 64 bytes for the gather, whose result stays in the chip, and writes 64 of its slice.
    outside = 2 * (8 * 1 * 64 + 2 * 64 * 16 + 2 * 8 * 16) + 64 + 16
    scalar = 24 * (4 + 4 + 4)
    assert bytes_moved(module, runs, all_of_it) == 24 * (64 + 64) + scalar + outside


KERNEL = (PROGRAMS / "kernel.txt").read_text()


@pytest.mark.parametrize(
    "cost",
    [
        '{"flops":"4000","transcendentals":"0","bytes_accessed":"5000"}',
        '{"bytes_accessed":"5000","flops":"4000","remote_bytes_transferred":"0"}',
    ],
)
def test_a_kernel_counts_what_it_declares(cost: str) -> None:
    """Its FLOPs, and what it reads again beside its arrays, as much of both as the data ask for."""
    module = parse(KERNEL.replace("COST", cost))
    runs = count_runs(module, closed)
    half, once = Loops(1, 1, meetings=0.5).share, 3 * 8 * 16 * 2
    assert (flops(module, runs, all_of_it), bytes_moved(module, runs, all_of_it)) == (4000, 5000)
    assert (flops(module, runs, half), bytes_moved(module, runs, half)) == (2000, once + (5000 - once) / 2)


def test_a_text_without_a_program_is_refused() -> None:
    with pytest.raises(PlanError, match="no entry computation"):
        parse("HloModule nothing\n")


def instruction(attributes: str) -> Instruction:
    return Instruction("x", "all-reduce", (), (), "", attributes)


def test_groups_in_every_form() -> None:
    iota = replica_groups(instruction("replica_groups=[2,4]<=[4,2]T(1,0)"), 8)
    assert iota == [(0, 2, 4, 6), (1, 3, 5, 7)]
    assert replica_groups(instruction("replica_groups=[4,2]<=[8]"), 8) == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert replica_groups(instruction("replica_groups={{0,2},{1,3}}, x"), 4) == [(0, 2), (1, 3)]
    assert replica_groups(instruction("source_target_pairs={{0,1},{1,0}}"), 4) == [(0, 1), (1, 0)]
    named = "replica_groups=mesh['x'=2,'y'=3] {'%s'}, use_global_device_ids=true"
    assert replica_groups(instruction(named % "x"), 6) == [(0, 3), (1, 4), (2, 5)]
    assert replica_groups(instruction(named % "y"), 6) == [(0, 1, 2), (3, 4, 5)]
    assert replica_groups(instruction("replica_groups={}"), 3) == [(0, 1, 2)]
    assert axes_of((0, 1), MESH) == ("tensor",)
    assert axes_of((0, 2), MESH) == ("data",)
    assert axes_of(range(8), MESH) == ("data", "tensor")


def links(shape: tuple[int, ...], wrap: tuple[bool, ...], slices: int = 1) -> Links:
    coords = tuple(np.ndindex(shape)) * slices
    size = len(coords) // slices
    return Links(coords, tuple(i // size for i in range(len(coords))), wrap, rate=1.0, dcn=0.1)


def test_seconds_of_an_exchange() -> None:
    ring = links((4, 4), (True, False))
    row = tuple(range(0, 16, 4))  # along the first axis, a ring: links in both directions
    column = tuple(range(4))  # along the second, a line: one link at its ends
    assert ring.seconds(Collective("all-gather", (), 4, 1.0, 80.0, row)) == (80 * 3 / 4 / 2, 0)
    assert ring.seconds(Collective("all-gather", (), 4, 1.0, 80.0, column)) == (80 * 3 / 4, 0)
    assert ring.seconds(Collective("all-reduce", (), 4, 1.0, 80.0, row)) == (2 * 80 * 3 / 4 / 2, 0)
    assert ring.seconds(Collective("all-to-all", (), 4, 1.0, 80.0, row)) == (80 * 4 / 4 / 2, 0)
    assert ring.seconds(Collective("collective-permute", (), 2, 1.0, 80.0, (0, 4))) == (80, 0)
    whole = tuple(range(16))
    assert ring.seconds(Collective("all-gather", (), 16, 1.0, 80.0, whole)) == (80 * 15 / 16 / 3, 0)


def test_what_crosses_slices_takes_the_network() -> None:
    two = links((2, 2), (False, False), slices=2)
    pair = Collective("all-reduce", ("slice",), 2, 1.0, 80.0, (0, 4))
    assert two.seconds(pair) == (0, pytest.approx(2 * 80 / 2 / 0.1))
    # Of a sum over everything each device of a slice takes its share across.
    everything = Collective("all-reduce", ("slice", "data"), 8, 1.0, 80.0, tuple(range(8)))
    assert two.seconds(everything) == (0, pytest.approx(2 * 80 / 2 / 4 / 0.1))


SHARDED = """
import jax, jax.numpy as jnp
from jax.sharding import PartitionSpec as P, NamedSharding
from vidlmm.plan.collectives import find_collectives
from vidlmm.plan.hlo import parse
from vidlmm.plan.runs import count_runs
mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
def struct(shape, *spec):
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, P(*spec)))
def gathered(x, weights):
    whole = jax.shard_map(lambda w: jax.lax.all_gather(w, "data", axis=0, tiled=True), mesh=mesh,
                          in_specs=P("data"), out_specs=P(), check_vma=False)
    summed = jax.shard_map(lambda c: jax.lax.psum(c, "tensor"), mesh=mesh, in_specs=P(None, "tensor"),
                           out_specs=P(), check_vma=False)
    def turn(c, w):
        return jnp.sin(c @ whole(w)), None
    return summed(jax.lax.scan(turn, x, weights)[0])
text = jax.jit(gathered).lower(struct((4, 64)), struct((6, 64, 64), None, "data")).compile().as_text()
module = parse(text)
runs = count_runs(module, lambda loop: 1 / 0)
for one in find_collectives(module, runs, dict(mesh.shape)):
    print(one.kind, *one.axes, one.group, int(one.times), int(one.bytes))
"""


def test_exchanges_of_a_program_on_simulated_devices() -> None:
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SHARDED)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = set(done.stdout.splitlines())
    assert f"all-gather data 4 6 {6 * 64 * 64 * 4}" in lines
    assert f"all-reduce tensor 2 1 {4 * 32 * 4}" in lines
