"""Bytes that one device moves between its main memory and itself, as the compiled program says.

Every operation reads its operands and writes its results; what the compiler keeps inside the chip costs nothing. Of an
array that is only sliced, the slices count; an update in place counts the update. What an operation reads twice because
it does not fit the chip is not seen, so this is a lower bound of the traffic of this program. A kernel declares what it
reads again, and that counts.
"""

import re
from collections.abc import Callable

from vidlmm.plan.declared import declared
from vidlmm.plan.hlo import Computation, Instruction, Module
from vidlmm.plan.runs import Runs, is_echo

_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all",
    "async-start", "async-update", "async-done", "copy-done", "partition-id", "replica-id", "opt-barrier", "domain",
    "add-dependency", "all-gather-done", "all-reduce-done", "collective-permute-done", "send-done", "recv-done",
}  # fmt: skip
_SLICES = ("dynamic-slice", "slice", "gather")


def bytes_moved(module: Module, runs: Runs, share: Callable[[Instruction], float]) -> float:
    """Bytes over the whole program.

    Args:
        share: of what a kernel's call declares to read again, how much its data ask for.
    """
    found = (
        times * _moved(module, module.computations[name], one, share)
        for name, times in runs.times.items()
        if name not in runs.fused
        for one in module.computations[name].instructions
    )
    return sum(found, 0.0)


def _moved(module: Module, around: Computation, one: Instruction, share: Callable[[Instruction], float]) -> float:
    if one.opcode in _FREE:
        return 0.0
    if one.opcode == "fusion":
        inside = module.computations.get(one.called("calls") or "")
        return 0.0 if inside is None else _of_fusion(around, one, inside)
    written = sum((shape.main_bytes for shape in one.shapes), 0.0)
    if one.opcode == "copy-start":  # its results are the copy, what was copied, and a token
        return one.shapes[0].main_bytes + one.shapes[1].main_bytes
    if one.opcode in _SLICES:
        return written + min(written, _read(around, one.operands[0]))
    if one.opcode in ("dynamic-update-slice", "scatter"):
        update = _read(around, one.operands[1 if one.opcode == "dynamic-update-slice" else -1])
        return 2 * update
    once = written + sum((_read(around, name) for name in dict.fromkeys(one.operands)), 0.0)
    told = declared(one)
    return once if told is None else once + max(told.bytes - once, 0.0) * share(one)


def _read(computation: Computation, name: str) -> float:
    found = computation.by_name.get(name)
    return 0.0 if found is None else sum((shape.main_bytes for shape in found.shapes), 0.0)


def _of_fusion(around: Computation, one: Instruction, inside: Computation) -> float:
    if one.name.startswith("async-collective-done"):
        return 0.0
    total = 0.0
    # What is only handed on, of an exchange on the side.
    handed = _handed_on(one) if "async" in one.name or is_echo(one, inside.name) else {}
    for number, name in enumerate(one.operands):
        if number in handed.values() and not one.name.startswith("async-collective-start"):
            continue
        given = around.by_name.get(name)
        parameter = inside.parameters.get(number)
        if given is None or parameter is None:
            continue
        whole = sum((shape.main_bytes for shape in given.shapes), 0.0)
        total += min(whole, _touched(inside, parameter, whole)) if whole else 0
    roots = [inside.root]
    if inside.root.opcode == "tuple":
        roots = [inside.by_name[name] for name in inside.root.operands if name in inside.by_name]
    for number, (shape, root) in enumerate(zip(one.shapes, roots, strict=False)):
        if shape.space == 0 and number not in handed:
            total += _written(inside, root, shape.bytes)
    return total


def _handed_on(one: Instruction) -> dict[int, int]:
    """Results that lie where operands lie: number of the result to that of the operand."""
    found = re.search(r"output_to_operand_aliasing=\{(.*?\))\}(?:,|$)", one.attributes)
    return {int(a): int(b) for a, b in re.findall(r"\{(\d*)\}: \((\d+),", found[1])} if found else {}


def _touched(inside: Computation, value: Instruction, whole: float) -> float:
    """How much of an operand a fusion reads."""
    total = 0.0
    for user in inside.users[value.name]:
        if user.opcode in _SLICES and user.operands[0] == value.name:
            total += sum(shape.bytes for shape in user.shapes)
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == value.name:
            continue  # written in place
        elif user.opcode in ("bitcast", "reshape", "transpose") and len(inside.users[user.name]) > 0:
            total += _touched(inside, user, whole)
        else:
            return whole
    return total


def _written(inside: Computation, root: Instruction, whole: float) -> float:
    """How much of a result a fusion writes."""
    while root.opcode == "bitcast" and root.operands[0] in inside.by_name:
        root = inside.by_name[root.operands[0]]
    if root.opcode == "dynamic-update-slice":
        update = inside.by_name.get(root.operands[1])
        return whole if update is None else min(whole, sum(shape.bytes for shape in update.shapes))
    return whole
