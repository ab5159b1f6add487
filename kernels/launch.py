"""A Pallas call as a value: grid, blocks and where each step finds them.

The same value builds the call and counts its traffic, so that what is counted is what runs. A block is fetched when its
index differs from that of the step before, and written when it is left (the pipeline of Pallas on TPU); a block that
comes back later is moved again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from vidlmm.kernels.choice import must_run

# The smallest on-chip memory among the targets holds 64 MiB (7x); what a kernel plans stays far enough below it that
# the compiler has room for the values of a step.
VMEM_LIMIT = 60 * 2**20


@dataclass(frozen=True)
class Block:
    """An array in main memory and the part of it that a step holds.

    at: grid indices, and behind them the prefetched arrays, to the number of the block in each dimension.
    kept: the block is the same in all steps; it is held once, not twice.
    apart: the array stays in main memory; the kernel copies all of it itself, once.
    scalar: it is held where single numbers are read from.
    """

    shape: tuple[int, ...]
    dtype: Any
    block: tuple[int, ...]
    at: Callable[..., tuple[Any, ...]]
    kept: bool = False
    apart: bool = False
    scalar: bool = False

    @property
    def struct(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.shape, self.dtype)

    @property
    def spec(self) -> pl.BlockSpec:
        if self.apart:
            return pl.BlockSpec(memory_space=pl.ANY)
        options: dict[str, Any] = {"pipeline_mode": pl.Buffered(1)} if self.kept else {}
        if self.scalar:
            options["memory_space"] = pltpu.SMEM
        return pl.BlockSpec(self.block, self.at, **options)

    def bytes_at(self, index: Sequence[int]) -> int:
        """Bytes of the block of this number; what lies outside the array is not moved."""
        inside = (min(b, n - b * i) for b, n, i in zip(self.block, self.shape, index, strict=True))
        return prod(max(size, 0) for size in inside) * jnp.dtype(self.dtype).itemsize

    @property
    def held(self) -> int:
        """Bytes on the chip, with the second buffer of a pipeline."""
        return 0 if self.apart else prod(self.block) * jnp.dtype(self.dtype).itemsize * (1 if self.kept else 2)


@dataclass(frozen=True)
class Launch:
    """parallel: for each dimension of the grid, whether its steps may run in any order. usual: prefetched arrays by
    which the compiled program declares FLOPs and bytes; where it is None it declares nothing. left: arrays behind the
    inputs that stay in main memory, of which the body fetches what it needs; that is not in `moved`. signals:
    semaphores for it, behind the scratch."""

    name: str
    grid: tuple[int, ...]
    ins: tuple[Block, ...]
    outs: tuple[Block, ...]
    scratch: tuple[tuple[tuple[int, ...], Any], ...] = ()
    parallel: tuple[bool, ...] = ()
    prefetched: int = 0
    flops: int = 0
    usual: tuple[np.ndarray, ...] | None = None
    left: int = 0
    signals: int = 0

    def moved(self, *prefetched: np.ndarray) -> int:
        """Bytes between main memory and the chip, re-reads included."""
        return sum(_traffic(block, self.grid, prefetched) for block in (*self.ins, *self.outs))

    @property
    def declared(self) -> int | None:
        """Bytes that the compiled program is told of."""
        if self.usual is None:
            return None
        # A call is made while a program is traced; where its blocks lie is a number by then.
        with jax.ensure_compile_time_eval():
            return self.moved(*self.usual)

    @property
    def held(self) -> int:
        """Bytes of on-chip memory for blocks and scratch."""
        scratch = sum(prod(shape) * jnp.dtype(dtype).itemsize for shape, dtype in self.scratch)
        return scratch + sum(block.held for block in (*self.ins, *self.outs))

    def __call__(self, body: Callable[..., None], *arrays: Any, interpret: bool = False, last: Any = None) -> Any:
        """Runs `body` on every step. arrays: the prefetched ones, then the inputs. last: how many steps of the last
        dimension are taken, where that is known when the program runs.

        Raises:
            KernelError: the program is compiled for a device that is no TPU.
        """
        must_run("tpu", interpret)
        grid: Any = self.grid if last is None else (*self.grid[:-1], last)
        moved = self.declared
        told = None if moved is None else pl.CostEstimate(self.flops, 0, moved)
        signals = [pltpu.SemaphoreType.DMA((self.signals,))] if self.signals else []
        order: Any = tuple("parallel" if free else "arbitrary" for free in self.parallel)
        found = pl.pallas_call(
            body,
            out_shape=[block.struct for block in self.outs],
            grid_spec=pltpu.PrefetchScalarGridSpec(
                num_scalar_prefetch=self.prefetched,
                grid=grid,
                in_specs=[block.spec for block in self.ins] + [pl.BlockSpec(memory_space=pl.ANY)] * self.left,
                out_specs=[block.spec for block in self.outs],
                scratch_shapes=[pltpu.VMEM(shape, dtype) for shape, dtype in self.scratch] + signals,
            ),
            compiler_params=pltpu.CompilerParams(dimension_semantics=order, vmem_limit_bytes=VMEM_LIMIT),
            cost_estimate=told,
            name=self.name,
            interpret=interpret,
        )(*arrays)
        return found[0] if len(self.outs) == 1 else tuple(found)


def _traffic(block: Block, grid: tuple[int, ...], prefetched: Sequence[np.ndarray]) -> int:
    """All steps at once: `at` is a function of numbers as well as of arrays of them."""
    if block.apart:
        return prod(block.shape) * jnp.dtype(block.dtype).itemsize
    steps = np.unravel_index(np.arange(prod(grid)), grid)
    index = np.stack([np.broadcast_to(np.asarray(i), prod(grid)) for i in block.at(*steps, *prefetched)], axis=-1)
    moved = index[np.concatenate([[True], np.any(index[1:] != index[:-1], axis=-1)])]
    found, times = np.unique(moved, axis=0, return_counts=True)
    return sum(int(count) * block.bytes_at(one) for one, count in zip(found.tolist(), times, strict=True))
