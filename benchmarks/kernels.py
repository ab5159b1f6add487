"""What the kernels move and hold on each TPU, against the floor and against XLA's own program.

    python benchmarks/kernels.py [--kernels project_pool,...] [--targets v5e,...]

Everything is compiled by the TPU's compiler (libtpu); no TPU is needed, and no time is measured.

floor: every input read once, every output written once. kernel: the kernels' traffic from grid x blocks, re-reads
included (`vidlmm.kernels.launch`), and what the compiler counts for the operations around them; a Pallas call that
declares nothing of itself is not in that count. xla: the compiler's count of the same function in plain JAX.
Of an attention the loops turn as often as the rows ask for, which the compiler does not know: both programs are counted
as a plan counts them (`vidlmm.plan.traffic`), for plain causal rows of one segment, on the device that has the last
places. The compiler's count takes a table that rows are gathered from for read as a whole; for splice, whose plan says
which rows are read, XLA's bytes are counted in its program by what its operations touch.
temporary: what the compiled program needs beside its arguments and results. Arrays lie row by row at the borders of the
kernels' programs; XLA's programs choose.

Rows that are in the results already and are not measured again stay.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Format, Layout

from vidlmm.kernels.cases import (
    NAMES,
    Case,
    attend_case,
    attention_case,
    both_directions,
    mesh,
    project_case,
    slowfast_case,
    splice_case,
    stage_case,
    stc_case,
    temporal_case,
)
from vidlmm.kernels.choice import compiling_for
from vidlmm.kernels.depthwise_norm import tpu as stage_tpu
from vidlmm.kernels.launch import Launch
from vidlmm.kernels.project_pool import tpu as project_tpu
from vidlmm.kernels.slowfast_pool import tpu as slowfast_tpu
from vidlmm.kernels.slowfast_pool.rows import Rows
from vidlmm.kernels.specs import (
    ATTENDED,
    POOLS,
    ROWS,
    SPLICES,
    STAGES,
    STC,
    TEMPORAL,
    AttendSpec,
    ClipSpec,
    PoolSpec,
    RowSpec,
    SpliceSpec,
    StageSpec,
    StcSpec,
    splice_plan,
)
from vidlmm.kernels.splice import tpu as splice_tpu
from vidlmm.kernels.splice.plan import by_reader, numbered
from vidlmm.kernels.stc_downsample import launches as stc_launches
from vidlmm.kernels.temporal_pool import attend_tpu
from vidlmm.kernels.temporal_pool import tpu as temporal_tpu
from vidlmm.kernels.tree_attention import launches as attention_launches
from vidlmm.kernels.tree_attention.rule import Ids, sight
from vidlmm.kernels.tree_attention.xla import chunk_pairs
from vidlmm.plan.compiler import PROGRAM
from vidlmm.plan.hlo import parse
from vidlmm.plan.runs import count_runs
from vidlmm.plan.traffic import bytes_moved

RESULTS = Path(__file__).parent / "results" / "kernels.json"
BACKENDS = ("tpu", "xla")


class Row(NamedTuple):
    """A kernel at a shape. launches: forward, then those of the backward pass; numbers: what is prefetched; flops of
    the function alone, forward; again: whether gradients depend on the arguments; turns: of the loops in plain JAX,
    where the compiler does not know them; kept: the forward launch that leaves something for the backward pass, where
    that is another one. bytes, floors: forward, and forward
    and backward, where the plan says what is read."""

    case: Callable[[str], Case]
    launches: tuple[Launch, ...]
    numbers: tuple[np.ndarray, ...]
    flops: int
    again: bool
    turns: int = 0
    kept: Launch | None = None
    bytes: tuple[int, int] | None = None
    floors: tuple[int, int] | None = None


def project_row(spec: PoolSpec) -> Row:
    struct = jax.ShapeDtypeStruct
    x = struct((spec.frames, spec.side**2, spec.features), jnp.bfloat16)
    weight = struct((spec.features, spec.width), jnp.bfloat16)
    setup = project_tpu.Setup(spec.mode, spec.stride, spec.activation)
    sizes = project_tpu.sizes_of(x, weight, spec.frames, setup)
    launches = tuple(
        make(sizes) for make in (project_tpu.forward_launch, project_tpu.features_launch, project_tpu.weights_launch)
    )
    flops = 2 * x.size * spec.width
    return Row(lambda backend: project_case(spec, backend=backend), launches, (np.arange(spec.frames),), flops, True)


def slowfast_row(spec: PoolSpec) -> Row:
    rows = Rows(spec.side, spec.mode, spec.stride, spec.every, spec.newline, spec.every > 0)
    sizes = slowfast_tpu.sizes_of(spec.width, jnp.bfloat16, slowfast_tpu.Setup(rows, spec.frames))
    launches = (slowfast_tpu.forward_launch(sizes, rows), slowfast_tpu.backward_launch(sizes, rows))
    flops = 2 * spec.frames * spec.side**2 * spec.width

    def case(backend: str) -> Case:
        """One video of the two."""
        whole = slowfast_case(spec, backend=backend)
        shapes = tuple(shape[1:] if len(shape) > 2 else shape for shape in whole.shapes)
        return Case(lambda x, *rows: whole.call(x[None], *rows)[0], shapes, whole.splits)

    return Row(case, launches, (), flops, spec.mode == "max")


def temporal_row(spec: ClipSpec) -> Row:
    sizes = temporal_tpu.Sizes(
        max(spec.clips, 4), spec.frames, 1 + spec.side**2, spec.width, jnp.bfloat16, spec.variant == "v2"
    )
    launches = (temporal_tpu.forward_launch(sizes), temporal_tpu.backward_launch(sizes))
    flops = (4 if sizes.scored else 1) * sizes.clips * sizes.frames * sizes.rows * sizes.width
    length = np.full(sizes.clips, sizes.frames)
    return Row(lambda backend: temporal_case(spec, backend=backend), launches, (length,), flops, sizes.scored)


def attend_row(spec: AttendSpec) -> Row:
    x, _, ask = (jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in attend_case(spec).shapes[:3])
    sizes = attend_tpu.sizes_of(x, ask)
    launches = (attend_tpu.forward_launch(sizes), attend_tpu.backward_launch(sizes))
    return Row(lambda backend: attend_case(spec, backend=backend), launches, (), launches[0].flops, True)


def attention_row(spec: RowSpec) -> Row:
    """One row, or of several devices that share it the last."""
    own = spec.length // spec.parts
    of_q, of_k = (1, spec.heads, spec.groups, own, spec.depth), (1, spec.heads, spec.length, spec.depth)
    q, k = (jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in (of_q, of_k))
    sizes = attention_launches.sizes_of(q, k, None, interpret=False)
    parts = [part for _, part in sizes.parts(attention_launches.RESIDENT)]
    launch = attention_launches.launch_of
    launches = (launch(sizes, ""), *(launch(part, "_dx") for part in parts))
    keys = sight(jnp.ones((1, spec.length), jnp.int32), jnp.zeros((1, spec.length), jnp.int32))
    turns = int(chunk_pairs(Ids(*(ids[:, spec.length - own :] for ids in keys)), keys, "tpu"))
    seen = own * (spec.length - own) + own * (own + 1) // 2
    flops = 4 * spec.heads * spec.groups * spec.depth * seen

    def case(backend: str) -> Case:
        whole = attention_case(spec, backend=backend)
        return Case(whole.call, (of_q, of_k, of_k, of_q), whole.splits)

    return Row(case, launches, (), flops, True, turns)


def stc_row(spec: StcSpec) -> Row:
    case = stc_case(spec)
    x, weight = (jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in case.shapes[:2])
    sizes = stc_launches.sizes_of(x, weight, stc_launches.Setup(spec.padding))
    makers = (stc_launches.forward_launch, stc_launches.features_launch, stc_launches.weights_launch)
    launches, kept = tuple(make(sizes) for make in makers), stc_launches.forward_launch(sizes, differentiated=True)
    flops = 2 * prod(case.shapes[-1]) * prod(weight.shape[:4])
    length = np.full(spec.clips, spec.frames)
    return Row(lambda backend: stc_case(spec, backend=backend), launches, (length,), flops, True, kept=kept)


def stage_row(spec: StageSpec) -> Row:
    x = jax.ShapeDtypeStruct(stage_case(spec).shapes[0], jnp.bfloat16)
    sizes = stage_tpu.sizes_of(x, stage_tpu.Setup(spec.side, 1e-5))
    launches = (stage_tpu.forward_launch(sizes), stage_tpu.backward_launch(sizes))
    return Row(lambda backend: stage_case(spec, backend=backend), launches, (), 2 * 9 * x.size, True)


def splice_row(spec: SpliceSpec) -> Row:
    """Floor: the rows that places name and the sequence; backward their pulls and the gradients of all tables."""
    plan, each = splice_plan(spec, 0), 2 * spec.width
    tables = [jax.ShapeDtypeStruct((rows, spec.width), jnp.bfloat16) for rows in (spec.vocab, 16, *spec.media)]
    sizes = splice_tpu.sizes_of(spec.places, tables, jnp.bfloat16)
    number = numbered(*map(jnp.asarray, plan), [rows for rows, _ in sizes.tables])
    fetch, _ = splice_tpu.forward_plan(number, sizes)
    launches = [splice_tpu.forward_launch(sizes)]
    moved = [launches[0].moved() + splice_tpu.fetched(fetch, sizes)]
    for table in range(len(tables)):
        at, fetch, *_ = splice_tpu.backward_plan(*by_reader(number), sizes, table)
        launches.append(splice_tpu.backward_launch(sizes, table))
        moved.append(launches[-1].moved(np.asarray(at)) + splice_tpu.fetched(fetch, sizes))
    read = each * int(np.sum(plan[0] >= 0))
    written = each * (spec.vocab + spec.special + sum(spec.media))
    forward = read + each * spec.places
    floors = forward, forward + read + written

    def case(backend: str) -> Case:
        return splice_case(spec, 1, backend=backend)

    return Row(case, tuple(launches), (), 0, False, bytes=(moved[0], sum(moved)), floors=floors)


KERNELS: dict[str, dict[str, Row]] = {
    "project_pool": {spec.name: project_row(spec) for spec in POOLS[:3]},
    "slowfast_pool": {spec.name: slowfast_row(spec) for spec in POOLS[:2]},
    "splice": {spec.name: splice_row(spec) for spec in SPLICES[:2]},
    "temporal_pool": {spec.name: temporal_row(spec) for spec in (TEMPORAL[0], TEMPORAL[2])},
    "temporal_attend": {spec.name: attend_row(spec) for spec in ATTENDED},
    "tree_attention": {spec.name: attention_row(spec) for spec in ROWS[:6]},
    "stc_downsample": {spec.name: stc_row(spec) for spec in STC},
    "depthwise_norm": {spec.name: stage_row(spec) for spec in STAGES},
}


def program(case: Case, device: Any, backward: bool, plain: bool, folder: str) -> Any:
    """Compiled for one device, with its text in a folder. plain: arrays lie row by row."""

    place = jax.sharding.SingleDeviceSharding(device)
    shapes = case.shapes if backward else case.shapes[: -case.results]
    arrays = [jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=place) for shape in shapes]
    function = both_directions(case.call, case.results) if backward else case.call
    options = {}
    if plain:
        formats = [Format(Layout(tuple(range(len(shape)))), place) for shape in case.shapes]
        results = formats[-1] if case.results == 1 else tuple(formats[-case.results :])
        out = (results, tuple(formats[: -case.results])) if backward else results
        options = {"in_shardings": tuple(formats[: len(shapes)]), "out_shardings": out}
    told = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
    with compiling_for(device):
        return jax.jit(function, **options).lower(*arrays).compile(compiler_options=told)


def floor(case: Case, backward: bool, again: bool) -> int:
    """Bytes: forward reads the arguments and writes the result; backward reads the pull and, where the gradients depend
    on them, the arguments, and writes the gradients."""
    sizes = [2 * prod(shape) for shape in case.shapes]
    ins, out = sum(sizes[: -case.results]), sum(sizes[-case.results :])
    return ins + out + (out + (2 if again else 1) * ins if backward else 0)


def counted(compiled: Any, folder: str, turns: int, touched: bool) -> int:
    """Bytes of a program; with `turns`, of those loops whose length it does not tell, and what kernels declare; or of
    what its operations touch of their operands."""
    if not turns and not touched:
        return int(compiled.cost_analysis()["bytes accessed"])
    module = parse(max(Path(folder).glob(f"*.{PROGRAM}"), key=lambda file: file.stat().st_size).read_text())
    return round(bytes_moved(module, count_runs(module, lambda _: float(turns or 1)), lambda _: 1.0))


def measure(kernel: str, name: str, target: str, backward: bool) -> dict[str, Any]:
    """One line of the table."""
    row = KERNELS[kernel][name]
    device = mesh(target).devices.flat[0]
    launches = (row.kept or row.launches[0], *row.launches[1:]) if backward else row.launches[:1]
    moved = (
        sum(launch.moved(*(launch.usual or row.numbers)) for launch in launches)
        if row.bytes is None
        else (row.bytes[backward])
    )
    least = row.floors[backward] if row.floors else floor(row.case("xla"), backward, row.again)
    found: dict[str, Any] = {"kernel": kernel, "shape": name, "target": target}
    found |= {
        "pass": "forward and backward" if backward else "forward",
        "floor": least,
    }
    for backend in BACKENDS:
        with tempfile.TemporaryDirectory() as folder:
            compiled = program(row.case(backend), device, backward, backend == "tpu", folder)
            touched = backend == "xla" and row.bytes is not None
            found[f"{backend}_counted"] = counted(compiled, folder, row.turns, touched)
        found[f"{backend}_temporary"] = compiled.memory_analysis().temp_size_in_bytes
    declared = all(launch.usual is not None for launch in launches)
    around = found["tpu_counted"] - (moved if declared else 0)
    found |= {"kernel_grid": moved, "kernel_around": around, "kernel_bytes": moved + around}
    found |= {"times_fewer": round(found["xla_counted"] / found["kernel_bytes"], 2)}
    found |= {"flops": row.flops * (3 if backward else 1), "held": max(launch.held for launch in launches)}
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", default=",".join(KERNELS))
    parser.add_argument("--targets", default=",".join(NAMES))
    parser.add_argument("--shapes", default="", help="names, separated by commas; all where none is given")
    parser.add_argument("--passes", default="forward,backward")
    parser.add_argument("--table", action="store_true", help="measure nothing, print the results for docs/kernels.md")
    args = parser.parse_args(arguments)
    if args.table:
        print("\n".join(table(json.loads(RESULTS.read_text())["rows"])))
        return 0
    for kernel in args.kernels.split(","):
        for name in KERNELS[kernel]:
            if args.shapes and name not in args.shapes.split(","):
                continue
            for target in args.targets.split(","):
                for one in args.passes.split(","):
                    line = measure(kernel, name, target, one == "backward")
                    store(line)
                    sizes = [f"{k} {line[k] / 1e6:9.1f}" for k in ("floor", "kernel_bytes", "xla_counted")]
                    print(kernel, name, target, line["pass"], *sizes, "MB", f"{line['times_fewer']} x", flush=True)
    return 0


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The results in lines of Markdown, in MB."""
    heads = ("kernel", "shape", "pass", "target", "floor", "kernel", "XLA", "times fewer", "temporary: kernel", "XLA")
    lines = ["| " + " | ".join(heads) + " |", "|---" * 4 + "|--:" * 6 + "|"]
    for one in rows:
        names = [one[key] for key in ("kernel", "shape", "pass", "target")]
        sizes = [f"{one[key] / 1e6:,.0f}" for key in ("floor", "kernel_bytes", "xla_counted")]
        held = [f"{one[key] / 1e6:,.0f}" for key in ("tpu_temporary", "xla_temporary")]
        lines.append("| " + " | ".join([*names, *sizes, f"{one['times_fewer']:.1f}", *held]) + " |")
    return lines


def store(line: dict[str, Any]) -> None:
    """Put a line into the results in place of the one that it replaces."""
    same = ("kernel", "shape", "target", "pass")
    old = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    rows = [one for one in old if any(one[key] != line[key] for key in same)] + [line]
    rows.sort(key=lambda one: [one[key] for key in same])
    about = {"unit": "bytes", "dtype": "bfloat16", "jax": jax.__version__, "libtpu": version("libtpu")}
    RESULTS.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
