"""What a kernel of Pallas declares of itself: the compiler does not look into it, but its text tells."""

import json
import re
from dataclasses import dataclass

from vidlmm.plan.hlo import Instruction

_DECLARED = re.compile(r'"cost_estimate":(\{[^}]*\})')


@dataclass(frozen=True)
class Declared:
    """Of one call; bytes between chip and main memory, re-reads included."""

    flops: float
    bytes: float


def declared(one: Instruction) -> Declared | None:
    """None where the instruction is no kernel's call, or one that declares nothing."""
    found = _DECLARED.search(one.attributes) if one.opcode == "custom-call" else None
    if found is None:
        return None
    told = json.loads(found[1])
    return Declared(float(told["flops"]), float(told["bytes_accessed"]))
