"""The space-time connector's convolutions, by the kernel that pays on the device or in plain JAX (docs/kernels.md)."""

from functools import partial
from math import prod

from jaxtyping import Array, Float, Int

from vidlmm.kernels.choice import Backend, Kernel, choose
from vidlmm.kernels.depthwise_norm import depthwise_norm
from vidlmm.kernels.stc_downsample import stc_downsample
from vidlmm.models.sharding import Spec, axes_of, compiled_for, current_rules, gathered, per_device


def downsampled(
    x: Float[Array, "C T N D"],
    weight: Float[Array, "a b c D W"],
    bias: Float[Array, " W"],
    length: Int[Array, " C"],
    padding: int,
) -> Float[Array, "C t P W"]:
    """SiLU of a convolution over time and space whose stride is its window (`stc_downsample`).

    The kernel is for windows of 2 x 2 x 2. Each device makes some columns of its own clips. What it keeps of their
    weights it joins with the others' parts there, so that the backward pass sends each device its own part's sum.
    """
    backend = _backend("stc_downsample") if weight.shape[:3] == (2, 2, 2) and padding < 2 else "xla"
    call = partial(stc_downsample, padding=padding, backend=backend)
    rules = current_rules()
    if rules is None:
        return call(x, weight, bias, length)
    columns = axes_of(rules.used((*[None] * 4, "mlp"), weight.shape), 4)
    parts = axes_of(rules.stored((*[None] * 4, "embed"), weight.shape), 4)
    if weight.shape[4] % prod(rules.mesh.shape[axis] for axis in (*columns, *parts)):
        parts = ()
    own = axes_of(rules.used(("rows", None, None, None), x.shape), 0) or None

    def apart(x: Array, weight: Array, bias: Array, length: Array) -> Array:
        return call(x, gathered(weight, Spec(*[None] * 4, parts or None), 4), bias, length)

    of_weight, of_bias = Spec(*[None] * 4, (*columns, *parts) or None), Spec(columns or None)
    of_out = Spec(own, None, None, columns or None)
    parts_in = (Spec(own), of_weight, of_bias, Spec(own))
    return per_device(apart, rules, parts_in, of_out, kernel=backend == "tpu")(x, weight, bias, length)


def convolved(
    x: Float[Array, "F N D"],
    weight: Float[Array, "3 3 D"],
    scale: Float[Array, " D"],
    bias: Float[Array, " D"],
    line: int,
    eps: float,
) -> Float[Array, "F N D"]:
    """SiLU of the norm of every channel's own 3 x 3 convolution (`depthwise_norm`), each device its own pictures."""
    backend = _backend("depthwise_norm")
    call = partial(depthwise_norm, line=line, eps=eps, backend=backend)
    rules = current_rules()
    if rules is None:
        return call(x, weight, scale, bias)
    own = rules.used(("frames", None, None), x.shape)
    parts = (own, Spec(), Spec(), Spec())
    return per_device(call, rules, parts, own, kernel=backend == "tpu")(x, weight, scale, bias)


def _backend(kernel: Kernel) -> Backend:
    """What pays where this is compiled for."""
    device = compiled_for()
    return "xla" if device is None else choose(kernel, device=device).backend
