"""A Pallas call for GPUs (Triton) as a value: grid, warps, and the part of each array that a program touches.

Programs of a GPU run side by side and in any order; what two of them read comes twice from the L2 cache and, where it
stays there, once from main memory. Both are counted from the value that builds the call, and no cache is modelled.
Blocks are powers of two; what stands over is masked, so that it is neither read nor written.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from vidlmm.kernels.choice import KernelError, must_run

LEAST, MOST = 16, 1024


@dataclass(frozen=True)
class Part:
    """An array in main memory.

    along: axes of the grid that choose what a program touches of it; programs that differ elsewhere touch the same.
    numbers: that all parts have together; None where each number of the array is in one part.
    """

    shape: tuple[int, ...]
    dtype: Any
    along: tuple[int, ...]
    numbers: int | None = None

    @property
    def struct(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.shape, self.dtype)

    @property
    def once(self) -> int:
        """Bytes of what is touched at all, each once."""
        whole = prod(self.shape)
        return min(whole if self.numbers is None else self.numbers, whole) * jnp.dtype(self.dtype).itemsize

    def asked(self, grid: tuple[int, ...]) -> int:
        """Bytes that all programs together touch."""
        others = prod(size for axis, size in enumerate(grid) if axis not in self.along)
        numbers = prod(self.shape) if self.numbers is None else self.numbers
        return others * numbers * jnp.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Launch:
    """warps: of 32 threads each, in a program; stages: of loads that a loop over products has under way."""

    name: str
    grid: tuple[int, ...]
    ins: tuple[Part, ...]
    outs: tuple[Part, ...]
    warps: int = 4
    stages: int = 2

    @property
    def once(self) -> int:
        """Bytes if every array comes from main memory once, the floor of this launch."""
        return sum(part.once for part in (*self.ins, *self.outs))

    @property
    def asked(self) -> int:
        """Bytes that the programs ask for, from whichever cache they come."""
        return sum(part.asked(self.grid) for part in (*self.ins, *self.outs))

    def __call__(self, body: Callable[..., None], *arrays: Any, interpret: bool = False) -> Any:
        """Runs `body` in every program. It is given the whole arrays, and finds its part itself.

        Raises:
            KernelError: the program is compiled for a device that is no GPU.
        """
        must_run("gpu", interpret)

        def program(*refs: Any) -> None:
            body(*refs)

        program.__name__ = self.name
        found = pl.pallas_call(
            program,
            out_shape=[part.struct for part in self.outs],
            grid=self.grid,
            compiler_params=plgpu.CompilerParams(num_warps=self.warps, num_stages=self.stages),
            name=self.name,
            interpret=interpret,
        )(*arrays)
        return found[0] if len(self.outs) == 1 else tuple(found)


def block_of(width: int, most: int, chosen: int | None = None) -> int:
    """A power of two: the smallest that holds `width`, or the largest up to `most`.

    Args:
        chosen: that a caller wants.

    Raises:
        KernelError: `chosen` is no power of two from 16 to 1024.
    """
    if chosen is None:
        return max(min(1 << (width - 1).bit_length(), most), LEAST)
    if chosen & (chosen - 1) or not LEAST <= chosen <= MOST:
        raise KernelError(f"a GPU's block of {chosen} columns: it is a power of two from {LEAST} to {MOST}")
    return chosen


def steps(width: int, block: int) -> int:
    """Blocks that hold `width`."""
    return -(-width // block)


def mask_of(at: Any, width: int, block: int) -> Any:
    """Which of the places `at` there are; None where blocks of this size leave nothing over."""
    return at < width if width % block else None


def read(ref: Any, *masks: Any, other: float = 0) -> Any:
    """What masks leave out is not fetched; `other` stands for it."""
    mask = both(*masks)
    return plgpu.load(ref) if mask is None else plgpu.load(ref, mask=mask, other=other)


def write(ref: Any, values: Any, *masks: Any) -> None:
    """In the array's own type; what masks leave out is not written."""
    plgpu.store(ref, values.astype(ref.dtype), mask=both(*masks))


def both(*masks: Any) -> Any:
    """All of them at once; None where there is none."""
    found = None
    for mask in masks:
        if mask is not None:
            found = mask if found is None else found & mask
    return found
