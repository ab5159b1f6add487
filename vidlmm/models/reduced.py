"""The kernels of `vidlmm.kernels` where the models use them: each device runs one on the part that it holds.

Which backend runs follows the device that the program is compiled for. Where that is not known, and where a kernel does
not pay, it is plain JAX, which the compiler may cut as it likes.
"""

from functools import partial

import jax
from jaxtyping import Array, Float, Int

from vidlmm.kernels import choose, project_pool, temporal_attend, temporal_pool
from vidlmm.kernels.activations import Activation
from vidlmm.kernels.choice import Backend, Kernel
from vidlmm.models.sharding import Spec, axes_of, current_rules, per_device
from vidlmm.spec.connector import PoolMode


def backend_of(kernel: Kernel) -> Backend:
    """What runs here: what pays on the device that the program is compiled for. Of several devices without rules nobody
    knows which part each will hold, so there it is plain JAX."""
    return "xla" if current_rules() is None and jax.device_count() > 1 else choose(kernel).backend


def projected_cells(
    x: Float[Array, "F N D"],
    weight: Float[Array, "D W"],
    bias: Float[Array, " W"],
    mode: PoolMode,
    stride: int,
    activation: Activation,
    backend: Backend,
    interpret: bool = False,
) -> Float[Array, "F P W"]:
    """The pooled cells of a projector's first layer (`project_pool`): a device its own frames and hidden columns."""
    options = {"mode": mode, "stride": stride, "activation": activation, "backend": backend, "interpret": interpret}
    call, rules = partial(project_pool, **options), current_rules()
    if rules is None:
        return call(x, weight, bias)
    where = rules.used(("frames", None, "mlp"), (*x.shape[:2], weight.shape[1]))
    frames, columns = (axes_of(where, d) or None for d in (0, 2))
    parts = (Spec(frames), Spec(None, columns), Spec(columns))
    return per_device(call, rules, parts, where, kernel=True)(x, weight, bias)


def pooled_over_time(
    x: Float[Array, "C T M H"],
    length: Int[Array, " C"],
    weight: Float[Array, "P H"] | None = None,
    bias: Float[Array, "1"] | None = None,
    backend: Backend | None = None,
    interpret: bool = False,
) -> Float[Array, "C P H"]:
    """Valley's mean over a clip's frames, or with a layer the sum by its scores (`temporal_pool`): a device its own
    clips."""
    backend = backend or backend_of("temporal_pool")
    variant = "v1" if weight is None else "v2"
    call, rules = partial(temporal_pool, variant=variant, backend=backend, interpret=interpret), current_rules()
    layer = () if weight is None or bias is None else (weight, bias)
    if rules is None or backend == "xla":
        return call(x, length, *layer)
    where = rules.used(("rows", None, None, None), x.shape)
    clips = Spec(axes_of(where, 0) or None)
    own = per_device(call, rules, (where, clips, *[Spec()] * len(layer)), where, kernel=True)
    return own(x, length, *layer)


def attended_over_time(
    x: Float[Array, "C T N H"],
    length: Int[Array, " C"],
    position: Float[Array, "T H"],
    ask: Float[Array, "C E N H"],
    backend: Backend | None = None,
    interpret: bool = False,
) -> tuple[Float[Array, "C E N H"], Float[Array, "C N H"]]:
    """What the questions of v3 find in a clip's frames, and the frames' mean (`temporal_attend`): a device its own
    clips and heads."""
    backend = backend or backend_of("temporal_pool")
    call, rules = partial(temporal_attend, backend=backend, interpret=interpret), current_rules()
    if rules is None or backend == "xla":
        return call(x, length, position, ask)
    where = rules.used(("rows", "heads", None, None), ask.shape)
    clips, heads = (axes_of(where, d) or None for d in (0, 1))
    parts, outs = (Spec(clips), Spec(clips), Spec(), Spec(clips, heads)), (Spec(clips, heads), Spec(clips))
    return per_device(call, rules, parts, outs, kernel=True)(x, length, position, ask)
