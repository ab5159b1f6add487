"""FLOPs of a compiled program on one device: of matrix products, of convolutions, and what kernels declare."""

import math
import re
from collections.abc import Callable

import numpy as np

from vidlmm.plan.declared import declared
from vidlmm.plan.hlo import Computation, Instruction, Module, Shape
from vidlmm.plan.runs import Runs


def flops(module: Module, runs: Runs, share: Callable[[Instruction], float]) -> float:
    """What one device multiplies and adds, each computation as often as it runs.

    Args:
        share: of what a kernel's call declares, how much its data ask for.
    """
    found = (
        times * _of(module.computations[name], one, share)
        for name, times in runs.times.items()
        for one in module.computations[name].instructions
        if one.opcode in ("dot", "convolution", "custom-call")
    )
    return sum(found, 0.0)


def _of(computation: Computation, one: Instruction, share: Callable[[Instruction], float]) -> float:
    if one.opcode == "custom-call":
        told = declared(one)
        return 0.0 if told is None else told.flops * share(one)
    left, right = (computation.by_name[name].shapes[0] for name in one.operands[:2])
    return _dot(one, left) if one.opcode == "dot" else _convolution(one, left, right)


def _dot(one: Instruction, left: Shape) -> float:
    contracted = _numbers(one, "lhs_contracting_dims")
    return 2.0 * one.shapes[0].size * math.prod(left.dims[axis] for axis in contracted)


def _convolution(one: Instruction, left: Shape, right: Shape) -> float:
    """The products of true elements alone: back ends write batches of products as convolutions of dilated inputs, most
    of whose places are holes."""
    labels = re.search(r"dim_labels=([^,\s]+)", one.attributes)
    if labels is None:
        return 0.0
    of_left, of_right, of_out = re.split(r"_|->", labels[1])
    out, pairs = one.shapes[0], 1.0
    fields = _window(one, sum(label.isdigit() for label in of_out))
    for axis, label in enumerate(sorted(label for label in of_out if label.isdigit())):
        pairs *= _pairs(
            left.dims[of_left.index(label)], right.dims[of_right.index(label)], out.dims[of_out.index(label)],
            **{name: values[axis] for name, values in fields.items()},
        )  # fmt: skip
    features = out.dims[of_out.index("b")] * out.dims[of_out.index("f")] * right.dims[of_right.index("i")]
    batches = re.search(r"batch_group_count=(\d+)", one.attributes)
    return 2.0 * features * pairs / (int(batches[1]) if batches else 1)


def _pairs(
    left: int, right: int, out: int, pad: tuple[int, int], stride: int, lhs_dilate: int, rhs_dilate: int
) -> float:
    """Pairs of an output and a tap of the window that meet a true element of the input along one axis."""
    at = np.arange(out)[:, None] * stride + np.arange(right)[None] * rhs_dilate - pad[0]
    return float(np.sum((at >= 0) & (at < (left - 1) * lhs_dilate + 1) & (at % lhs_dilate == 0)))


def _window(one: Instruction, axes: int) -> dict[str, list]:
    """The fields of `window={...}` by axis."""
    text = re.search(r"window=\{([^}]*)\}", one.attributes)
    given = dict(part.split("=") for part in text[1].split()) if text else {}
    whole = {name: list(map(int, given[name].split("x"))) for name in given if name in _FIELDS}
    found: dict[str, list] = {name: whole.get(name, [1] * axes) for name in _FIELDS}
    pads = given["pad"].split("x") if "pad" in given else ["0_0"] * axes
    found["pad"] = [tuple(map(int, pad.split("_"))) for pad in pads]
    return found


_FIELDS = ("stride", "lhs_dilate", "rhs_dilate")


def _numbers(one: Instruction, name: str) -> list[int]:
    found = re.search(name + r"=\{([\d,]*)\}", one.attributes)
    return [int(number) for number in found[1].split(",") if number] if found else []
