"""The kernels on a GPU against XLA's and, where torch is installed, torch.compile's program of the same function.

    python benchmarks/kernels_gpu.py [--kernels project_pool,...] [--shapes llava_video_7b,...] [--out FOLDER]
    python benchmarks/kernels_gpu.py --tiny     # on any machine: small shapes, the kernels step by step
    python benchmarks/kernels_gpu.py --compile  # on any machine with JAX's plug-in for GPUs: for an H100, without one

One run measures the device first (bytes/s of a copy, FLOP/s of a product), then each kernel at each shape, forward and
forward and backward, and writes results/kernels_gpu_<device>.json after every line. milliseconds: the least of three
means over calls in a row. bytes/s and FLOP/s are of the function (every input once, every output once; its own
arithmetic), not of what a program does beside it. error: of the result and of each gradient, the largest difference to
the specification in float32 as a share of its largest number; the arrays are drawn and rounded to bfloat16. The scores
of tree_attention's specification are more than a device holds: there it is plain JAX, chunk by chunk, in float32.
temporary: what the compiled program needs beside its arguments and results; --compile prints this alone. A line that
fails has its error in words, and the run goes on.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np

from vidlmm.kernels import (
    compiling_for,
    depthwise_norm,
    project_pool,
    slowfast_pool,
    splice,
    stc_downsample,
    temporal_pool,
)
from vidlmm.kernels.cases import attention_case, gpu
from vidlmm.kernels.depthwise_norm import reference as depthwise_reference
from vidlmm.kernels.grids import pooled_side
from vidlmm.kernels.project_pool import reference as project_reference
from vidlmm.kernels.slowfast_pool import reference as slowfast_reference
from vidlmm.kernels.slowfast_pool.rows import Rows
from vidlmm.kernels.specs import (
    POOLS,
    ROWS,
    SPLICES,
    STAGES,
    STC,
    TEMPORAL,
    ClipSpec,
    PoolSpec,
    RowSpec,
    SpliceSpec,
    StageSpec,
    StcSpec,
    cut_clip,
    cut_pool,
    cut_row,
    cut_splice,
    cut_stage,
    cut_stc,
    splice_plan,
)
from vidlmm.kernels.splice import reference as splice_reference
from vidlmm.kernels.stc_downsample import reference as stc_reference
from vidlmm.kernels.stc_downsample.windows import Windows
from vidlmm.kernels.temporal_pool import reference as temporal_reference

try:
    import torch
    from torch.nn import functional as F
except ImportError:
    torch = None

PASSES = ("forward", "forward and backward")


class Work(NamedTuple):
    """A kernel at a shape. shapes: its arrays and its result; flops: of the function, forward; again: whether
    gradients need the arguments; in torch: the same function of torch's arrays. read: numbers of the arguments that
    are read forward, None for all; summed: products in a sum with the second array, which is drawn to fit."""

    call: Callable[..., Any]
    reference: Callable[..., Any]
    in_torch: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    flops: int
    again: bool
    read: int | None = None
    summed: int = 1


def project_work(spec: PoolSpec) -> Work:
    def call(x: Any, w: Any, b: Any, **options: Any) -> Any:
        return project_pool(x, w, b, mode=spec.mode, stride=spec.stride, activation=spec.activation, **options)

    def reference(x: Any, w: Any, b: Any) -> Any:
        return project_reference.project_pool(x, w, b, spec.mode, spec.stride, spec.activation)

    def in_torch(x: Any, w: Any, b: Any) -> Any:
        h = x @ w + b
        if spec.activation != "none":
            h = F.gelu(h, approximate="tanh" if spec.activation == "gelu_tanh" else "none")
        return torch_grid(h, spec.mode, spec.stride)

    x, w = (spec.frames, spec.side**2, spec.features), (spec.features, spec.width)
    out = (spec.frames, pooled_side(spec.side, spec.mode, spec.stride) ** 2, spec.width)
    shapes, flops = (x, w, (spec.width,), out), 2 * prod(x) * spec.width
    return Work(call, reference, in_torch, shapes, flops, True, summed=spec.features)


def slowfast_work(spec: PoolSpec) -> Work:
    rows = Rows(spec.side, spec.mode, spec.stride, spec.every, spec.newline, spec.every > 0)

    def learned(newline: Any, faster: Any) -> tuple[Any, Any]:
        return newline if spec.newline else None, faster if spec.every else None

    def call(x: Any, newline: Any, faster: Any, **options: Any) -> Any:
        settings = {"mode": spec.mode, "stride": spec.stride, "every": spec.every, **options}
        return slowfast_pool(x, *learned(newline, faster), **settings)

    def reference(x: Any, newline: Any, faster: Any) -> Any:
        return slowfast_reference.slowfast_pool(x, *learned(newline, faster), rows)

    def in_torch(x: Any, newline: Any, faster: Any) -> Any:
        pieces = []
        for frame in range(x.shape[0]):
            level = rows.level(frame)
            cells = torch_grid(x[frame : frame + 1], spec.mode, spec.stride * (level + 1))[0]
            lines = cells.reshape(rows.cells(level), rows.cells(level), -1)
            if spec.newline:
                lines = torch.cat([lines, newline.expand(lines.shape[0], 1, -1)], 1)
            pieces.append(lines.reshape(-1, x.shape[2]))
            pieces += [faster[None]] if spec.every else []
        return torch.cat(pieces)

    x, row = (spec.frames, spec.side**2, spec.width), (spec.width,)
    shapes = (x, row, row, (rows.of(spec.frames), spec.width))
    return Work(call, reference, in_torch, shapes, prod(x), spec.mode == "max")


def temporal_work(spec: ClipSpec) -> Work:
    """Clips of full length."""

    def length(x: Any) -> Any:
        return jnp.full(x.shape[0], spec.frames, jnp.int32)

    def call(x: Any, *layer: Any, **options: Any) -> Any:
        return temporal_pool(x, length(x), *layer, variant=spec.variant, **options)

    def reference(x: Any, *layer: Any) -> Any:
        return temporal_reference.temporal_pool(x, length(x), *(layer or (None, None)))

    def in_torch(x: Any, *layer: Any) -> Any:
        seen = x[:, :, 1:]
        if not layer:
            return seen.mean(1)
        share = torch.softmax(torch.einsum("ctph,ph->ct", seen, layer[0]).float() + layer[1].float(), 1)
        return torch.einsum("ct,ctph->cph", share.to(x.dtype), seen)

    cells = (spec.side**2, spec.width)
    layer = (cells, (1,)) if spec.variant == "v2" else ()
    x = (spec.clips, spec.frames, 1 + spec.side**2, spec.width)
    shapes, scored = (x, *layer, (spec.clips, *cells)), bool(layer)
    flops, summed = (4 if scored else 1) * prod(x), prod(cells) if scored else 1
    return Work(call, reference, in_torch, shapes, flops, scored, summed=summed)


def splice_work(spec: SpliceSpec) -> Work:
    """Of one sequence; a place's row is read, the others are not."""
    plan = splice_plan(spec, 0)

    def given() -> tuple[Any, ...]:
        # No constant, or the compiler would do what a step has to do with its plan.
        return jax.lax.optimization_barrier(tuple(map(jnp.asarray, plan)))

    def call(*tables: Any, **options: Any) -> Any:
        return splice(*given(), tables, **options)

    def reference(*tables: Any) -> Any:
        return splice_reference.splice(*given(), tables, tables[-1].dtype)

    def in_torch(*tables: Any) -> Any:
        table, row = (torch.tensor(one, dtype=torch.long, device=tables[0].device) for one in plan)
        found = tables[0].new_zeros(spec.places, spec.width)
        for number, rows in enumerate(tables):
            found = torch.where((table == number)[:, None], rows[row.clamp(max=len(rows) - 1)], found)
        return found

    shapes = tuple((rows, spec.width) for rows in (spec.vocab, spec.special, *spec.media, spec.places))
    return Work(call, reference, in_torch, shapes, 0, False, int(np.sum(plan[0] >= 0)) * spec.width)


def stc_work(spec: StcSpec) -> Work:
    """Clips of full length."""
    windows = Windows(spec.frames, spec.side, spec.padding)

    def call(*arrays: Any, **options: Any) -> Any:
        return stc_downsample(*arrays, padding=spec.padding, **options)

    def reference(*arrays: Any) -> Any:
        length = jnp.full(spec.clips, spec.frames, jnp.int32)
        return stc_reference.stc_downsample(*arrays, length, spec.padding)

    def in_torch(x: Any, w: Any, b: Any) -> Any:
        grid = x.reshape(*x.shape[:2], spec.side, spec.side, -1).permute(0, 4, 1, 2, 3)
        found = F.silu(F.conv3d(grid, w.permute(4, 3, 0, 1, 2), b, stride=2, padding=spec.padding))
        return found.permute(0, 2, 3, 4, 1).reshape(spec.clips, windows.steps, windows.cells, -1)

    x, w = (spec.clips, spec.frames, spec.side**2, spec.width), (2, 2, 2, spec.width, spec.width)
    out = (spec.clips, windows.steps, windows.cells, spec.width)
    shapes, flops = (x, w, (spec.width,), out), 16 * prod(out) * spec.width
    return Work(call, reference, in_torch, shapes, flops, True, summed=8 * spec.width)


def stage_work(spec: StageSpec) -> Work:
    def call(*arrays: Any, **options: Any) -> Any:
        return depthwise_norm(*arrays, line=spec.side, **options)

    def reference(*arrays: Any) -> Any:
        return depthwise_reference.depthwise_norm(*arrays, spec.side, 1e-5)

    def in_torch(x: Any, w: Any, scale: Any, bias: Any) -> Any:
        grid = x.reshape(spec.frames, spec.side, spec.side, -1).permute(0, 3, 1, 2)
        y = F.conv2d(grid, w.permute(2, 0, 1)[:, None], padding=1, groups=spec.width)
        return F.silu(F.layer_norm(y.permute(0, 2, 3, 1).reshape(x.shape), (spec.width,), scale, bias, 1e-5))

    x, width = (spec.frames, spec.side**2, spec.width), (spec.width,)
    return Work(call, reference, in_torch, (x, (3, 3, *width), width, width, x), 18 * prod(x), True, summed=9)


def attention_work(spec: RowSpec) -> Work:
    """A plain causal row: one segment, no branches."""

    def call(q: Any, k: Any, v: Any, **options: Any) -> Any:
        return attention_case(spec, **options).call(q, k, v)

    def in_torch(q: Any, k: Any, v: Any) -> Any:
        found = F.scaled_dot_product_attention(q.flatten(1, 2), k, v, is_causal=True, enable_gqa=True)
        return found.reshape(q.shape)

    q, k = (1, spec.heads, spec.groups, spec.length, spec.depth), (1, spec.heads, spec.length, spec.depth)
    flops = 2 * spec.depth * spec.length * (spec.length + 1) * spec.heads * spec.groups
    return Work(call, partial(call, backend="xla"), in_torch, (q, k, k, q), flops, True)


def torch_grid(h: Any, mode: str, stride: int) -> Any:
    side = round(h.shape[1] ** 0.5)
    grid = h.reshape(-1, side, side, h.shape[2]).permute(0, 3, 1, 2)
    if mode == "bilinear":
        size = (-(-side // stride),) * 2
        found = F.interpolate(grid, size, mode="bilinear", align_corners=False)
    else:
        found = F.avg_pool2d(grid, stride) if mode == "average" else F.max_pool2d(grid, stride)
    return found.permute(0, 2, 3, 1).reshape(h.shape[0], -1, h.shape[2])


def works(tiny: bool) -> dict[str, dict[str, Work]]:
    pools = {spec.name: cut_pool(spec) if tiny else spec for spec in POOLS}
    clips = {spec.name: cut_clip(spec) if tiny else spec for spec in TEMPORAL[:3]}
    rows = {spec.name: cut_row(spec) if tiny else spec for spec in ROWS}
    return {
        "project_pool": {name: project_work(spec) for name, spec in pools.items()},
        "slowfast_pool": {name: slowfast_work(spec) for name, spec in pools.items()},
        "splice": {spec.name: splice_work(cut_splice(spec) if tiny else spec) for spec in SPLICES},
        "temporal_pool": {name: temporal_work(spec) for name, spec in clips.items()},
        "stc_downsample": {spec.name: stc_work(cut_stc(spec) if tiny else spec) for spec in STC},
        "depthwise_norm": {spec.name: stage_work(cut_stage(spec) if tiny else spec) for spec in STAGES},
        "tree_attention": {name: attention_work(spec) for name, spec in rows.items()},
    }


def drawn(work: Work) -> list[np.ndarray]:
    """The arrays and the pull; a layer's numbers are small enough for sums of about one."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape, np.float32) for shape in work.shapes]
    arrays[1] *= work.summed**-0.5
    return arrays


def both(function: Callable[..., Any], backward: bool) -> Callable[..., Any]:
    """Of the arrays and the pull, a tuple: the result and, backward, the gradients."""

    def run(*arrays: Any) -> tuple:
        if not backward:
            return (function(*arrays[:-1]),)
        out, back = jax.vjp(function, *arrays[:-1])
        return out, *back(arrays[-1])

    return run


def wanted(work: Work, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The specification's numbers, in float32 throughout, of the rounded arrays."""
    with jax.default_matmul_precision("highest"):
        rounded = [jnp.asarray(one, jnp.bfloat16).astype(jnp.float32) for one in arrays]
        return [np.asarray(one) for one in jax.jit(both(work.reference, True))(*rounded)]


def seconds(run: Callable[[], Any], wait: Callable[[Any], Any], quick: bool) -> float:
    """Of one call: the least of three means."""
    wait(run())
    start = time.perf_counter()
    wait(run())
    once = time.perf_counter() - start
    calls = 1 if quick else int(min(max(0.1 / once, 3), 200))
    means = []
    for _ in range(1 if quick else 3):
        start = time.perf_counter()
        found = [run() for _ in range(calls)][-1]
        wait(found)
        means.append((time.perf_counter() - start) / calls)
    return min(means)


def with_jax(work: Work, arrays: Sequence[np.ndarray], backward: bool, backend: str, tiny: bool) -> tuple:
    """(seconds, results, temporary bytes)."""
    options = {"backend": backend} | ({"interpret": tiny} if backend == "gpu" else {})
    rounded = [jnp.asarray(one, jnp.bfloat16) for one in arrays]
    program = jax.jit(both(lambda *own: work.call(*own, **options), backward)).lower(*rounded).compile()
    took = seconds(lambda: program(*rounded), jax.block_until_ready, tiny)
    return took, program(*rounded), program.memory_analysis().temp_size_in_bytes


def with_torch(work: Work, arrays: Sequence[np.ndarray], backward: bool, tiny: bool) -> tuple:
    place = "cpu" if tiny else "cuda"
    own = [torch.tensor(one).to(place, torch.bfloat16).requires_grad_(backward) for one in arrays]
    function = torch.compile(work.in_torch, backend="eager" if tiny else "inductor")

    def run() -> tuple:
        out = function(*own[:-1])
        pulls = torch.autograd.grad(out, own[:-1], own[-1].detach(), allow_unused=True) if backward else ()
        return (out, *pulls)

    took = seconds(run, lambda _: None if tiny else torch.cuda.synchronize(), tiny)
    zero = [torch.zeros(()) if one is None else one for one in run()]
    return took, [one.detach().float().cpu().numpy() for one in zero], None


def measure(work: Work, backward: bool, backend: str, tiny: bool, arrays: list, right: list) -> dict[str, Any]:
    """What is measured of one program."""
    if backend == "torch":
        took, found, temporary = with_torch(work, arrays, backward, tiny)
    else:
        took, found, temporary = with_jax(work, arrays, backward, backend, tiny)
    ins, out = sum(2 * prod(shape) for shape in work.shapes[:-1]), 2 * prod(work.shapes[-1])
    read = ins if work.read is None else 2 * work.read
    moved = read + out + (out + (2 if work.again else 1) * ins if backward else 0)
    flops = work.flops * (3 if backward else 1)
    line: dict[str, Any] = {"milliseconds": 1e3 * took, "bytes": moved, "bytes_per_s": moved / took}
    line |= {"flops": flops, "flops_per_s": flops / took, "temporary": temporary}
    return line | {"error": [relative(one, best) for one, best in zip(found, right, strict=False)]}


def relative(found: Any, best: np.ndarray) -> float | None:
    """None where the right numbers are zero but for rounding: the pull on an absent row, or on the scores' bias."""
    found, most = np.asarray(found, np.float32), float(np.max(np.abs(best)))
    if not np.all(np.isfinite(found)):
        raise ValueError("a number that is not finite: something was not written")
    return float(np.max(np.abs(found - best))) / most if most > 1e-4 else None


def held(work: Work, backward: bool, backend: str, device: Any) -> int:
    """Bytes beside arguments and results of the program for a device that is not here."""
    place = jax.sharding.SingleDeviceSharding(device)
    arrays = [jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=place) for shape in work.shapes]
    with compiling_for(device):
        program = jax.jit(both(lambda *own: work.call(*own, backend=backend), backward)).lower(*arrays).compile()
    return program.memory_analysis().temp_size_in_bytes


def compiled(kernels: Sequence[str], shapes: Sequence[str]) -> None:
    """Print a line for each kernel, shape and pass, in MB."""
    device = gpu()
    for kernel, all_shapes in works(False).items():
        for shape, work in all_shapes.items():
            if (not kernels or kernel in kernels) and (not shapes or shape in shapes):
                for one in PASSES:
                    sizes = [held(work, one != "forward", backend, device) for backend in ("gpu", "xla")]
                    print(f"| {kernel} | {shape} | {one} |", *(f"{size / 1e6:,.0f} |" for size in sizes), flush=True)


def peaks(tiny: bool) -> dict[str, float]:
    """bytes/s of a copy, read and written, and FLOP/s of a square product in bfloat16."""
    size, side = (2**20, 256) if tiny else (2**30, 8192)
    x, square = jnp.ones(size // 2, jnp.bfloat16), jnp.ones((side, side), jnp.bfloat16)
    copy, product = jax.jit(lambda x: x + 1), jax.jit(lambda a: a @ a)
    took = [
        seconds(lambda: copy(x), jax.block_until_ready, tiny),
        seconds(lambda: product(square), jax.block_until_ready, tiny),
    ]
    return {"bytes_per_s": 2 * size / took[0], "flops_per_s": 2 * side**3 / took[1]}


def about() -> dict[str, Any]:
    """Device, versions, commit."""
    packages = ("jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin", "torch")
    versions = {"python": sys.version.split()[0]}
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    said = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    commit = said.stdout.strip() or os.environ.get("COMMIT")
    return {"device": jax.devices()[0].device_kind, "dtype": "bfloat16", "versions": versions, "commit": commit}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and store; 1 where a line failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", default="", help="names, separated by commas; all where none is given")
    parser.add_argument("--shapes", default="", help="the same of the systems")
    parser.add_argument("--backends", default="gpu,xla" + (",torch" if torch else ""))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--tiny", action="store_true", help="small shapes, step by step, on any machine")
    parser.add_argument("--compile", action="store_true", help="what the programs for an H100 hold, without one")
    args = parser.parse_args(arguments)
    kernels, chosen = ([one for one in given.split(",") if one] for given in (args.kernels, args.shapes))
    if args.compile:
        compiled(kernels, chosen)
        return 0
    found: dict[str, Any] = about()
    if not args.tiny and jax.devices()[0].platform != "gpu":
        parser.error(f"JAX sees {found['device']} and no GPU: --tiny runs everywhere")
    name = re.sub(r"\W+", "_", found["device"]).strip("_").lower() + ("_tiny" if args.tiny else "")
    found |= {"peaks": peaks(args.tiny), "rows": []}
    print(found["device"], *(f"{key} {value:.3g}" for key, value in found["peaks"].items()), flush=True)
    for kernel, shapes in works(args.tiny).items():
        for shape, work in shapes.items():
            if (not kernels or kernel in kernels) and (not chosen or shape in chosen):
                arrays = drawn(work)
                right = wanted(work, arrays)
                for one in ((p, b) for p in PASSES for b in args.backends.split(",")):
                    line = {"kernel": kernel, "shape": shape, "pass": one[0], "backend": one[1]}
                    try:
                        line |= measure(work, one[0] != "forward", one[1], args.tiny, arrays, right)
                        line |= {f"of_{key}": line[key] / found["peaks"][key] for key in found["peaks"]}
                    except Exception as error:
                        line["failed"] = f"{type(error).__name__}: {str(error)[:500]}"
                    found["rows"].append(line)
                    args.out.mkdir(parents=True, exist_ok=True)
                    (args.out / f"kernels_gpu_{name}.json").write_text(json.dumps(found, indent=1) + "\n")
                    shown = line.get("failed") or (
                        f"{line['milliseconds']:9.3f} ms  {line['of_bytes_per_s']:5.0%} of a copy  "
                        f"{line['of_flops_per_s']:5.0%} of a product  error {max(e or 0 for e in line['error']):.1e}"
                    )
                    print(kernel, shape, one[0], one[1], shown, flush=True)
    return 1 if any("failed" in line for line in found["rows"]) else 0


if __name__ == "__main__":
    raise SystemExit(main())
