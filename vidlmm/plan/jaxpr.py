"""FLOPs of the matrix products of a traced program, loops counted as often as they run.

XLA's own count takes the body of a loop once. This one walks the traced program: a scan counts as often as it is long,
a loop whose length is decided while it runs (the pairs of chunks of the attention of rows) as often as the caller says.
With `loops=False` every body counts once, which is what XLA's count can be compared with. Of what each platform does in
its own way a CPU's counts, of other branches the one that multiplies most (a chunk of tokens of which some are scored).
"""

import math
from typing import Any


def products(program: Any, turns: int, *, loops: bool = True) -> float:
    """FLOPs of the products and convolutions of a traced program (`jax.make_jaxpr`).

    Args:
        turns: of each loop whose length the program itself does not say.
        loops: whether a loop counts as often as it runs.
    """
    return sum((_of(equation, turns, loops) for equation in getattr(program, "jaxpr", program).eqns), 0.0)


def _of(equation: Any, turns: int, loops: bool) -> float:
    name, given = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = given["dimension_numbers"]
        inner = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        return 2.0 * inner * math.prod(equation.outvars[0].aval.shape)
    if name == "conv_general_dilated":
        kernel, out = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
        channel = given["dimension_numbers"].rhs_spec[0]
        return 2.0 * math.prod(out) * math.prod(kernel) / kernel[channel]
    if name == "pallas_call" and given["cost_estimate"] is not None:
        return float(given["cost_estimate"].flops)
    if name == "scan":
        return products(given["jaxpr"], turns, loops=loops) * (given["length"] if loops else 1)
    if name == "while":
        return products(given["body_jaxpr"], turns, loops=loops) * (turns if loops else 1)
    if name == "cond" and given.get("branches_platforms"):
        own = next(n for n, names in enumerate(given["branches_platforms"]) if names is None or "cpu" in names)
        return products(given["branches"][own], turns, loops=loops)
    if name == "cond":
        return max(products(branch, turns, loops=loops) for branch in given["branches"])
    inside = [value for value in given.values() if hasattr(value, "eqns") or hasattr(value, "jaxpr")]
    return sum((products(value, turns, loops=loops) for value in inside), 0.0)
