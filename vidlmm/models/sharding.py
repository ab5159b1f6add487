"""How a model says where its arrays lie: by the names of their axes, under rules that someone else gives.

Models know no mesh. Under `placed(rules)` the functions here split arrays by those rules; without rules, as on one
device, they leave everything as it is.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Shaped

from vidlmm.kernels.choice import compiling_for

Names = Sequence[str | None]
Spec = jax.sharding.PartitionSpec


@runtime_checkable
class Rules(Protocol):
    """Axis names into places on a mesh (`vidlmm.parallel.Rules`)."""

    @property
    def mesh(self) -> Any: ...

    def stored(self, names: Names, shape: Sequence[int]) -> Spec:
        """Where a parameter is kept."""
        ...

    def used(self, names: Names, shape: Sequence[int]) -> Spec:
        """Where an activation lies, or a parameter that is multiplied with."""
        ...


_RULES: ContextVar[Rules | None] = ContextVar("rules", default=None)


@contextmanager
def placed(rules: Rules | None) -> Iterator[None]:
    """What is traced inside lies where the rules say, and its kernels are those of the mesh's devices."""
    token = _RULES.set(rules)
    mesh = None if rules is None else rules.mesh
    try:
        with compiling_for(mesh.devices.flat[0]) if isinstance(mesh, jax.sharding.Mesh) else nullcontext():
            yield
    finally:
        _RULES.reset(token)


def current_rules() -> Rules | None:
    """The rules of the surrounding `placed`."""
    return _RULES.get()


def constrain(x: Shaped[Array, "..."], *names: str | None) -> Shaped[Array, "..."]:
    """x, an activation with these axis names, where the rules want it."""
    rules = current_rules()
    return x if rules is None else _at(x, rules, rules.used(names, x.shape))


def weight(x: Shaped[Array, "..."], names: Names) -> Shaped[Array, "..."]:
    """A parameter as a product reads it: joined where it is only stored in parts. Its gradient is split again."""
    rules = current_rules()
    if rules is None:
        return x
    used, stored = rules.used(names, x.shape), rules.stored(names, x.shape)
    return x if used == stored else _joined(x, rules, used, stored)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _joined(x: Array, rules: Rules, used: Spec, stored: Spec) -> Array:
    return _at(x, rules, used)


def _joined_forward(x: Array, rules: Rules, used: Spec, stored: Spec) -> tuple[Array, None]:
    return _at(x, rules, used), None


def _joined_backward(rules: Rules, used: Spec, stored: Spec, _: None, gradient: Array) -> tuple[Array]:
    # Without this the sum over devices would be formed whole on each of them.
    return (_at(gradient, rules, stored),)


_joined.defvjp(_joined_forward, _joined_backward)


def _at(x: Array, rules: Rules, spec: Spec) -> Array:
    return jax.lax.with_sharding_constraint(x, jax.sharding.NamedSharding(rules.mesh, spec))


def per_device(
    function: Callable[..., Any], rules: Rules, in_specs: Any, out_specs: Any, *, kernel: bool = False
) -> Callable[..., Any]:
    """`function` of the parts that each device holds; what a spec does not split is whole.

    Args:
        kernel: it calls a kernel, which the compiler takes only where every axis of the mesh is named.
    """
    # Over an axis of one device nothing is summed, also not in the backward pass.
    wide = frozenset(name for name, size in rules.mesh.shape.items() if size > 1 or kernel)
    specs = {"in_specs": in_specs, "out_specs": out_specs, "axis_names": wide}
    return jax.shard_map(function, mesh=rules.mesh, check_vma=False, **specs)


def axes_of(spec: Spec, dimension: int) -> tuple[str, ...]:
    """The mesh axes that split a dimension."""
    part = spec[dimension] if dimension < len(spec) else None
    return () if part is None else (part,) if isinstance(part, str) else tuple(part)


def gathered(x: Shaped[Array, "..."], spec: Spec, dimension: int) -> Shaped[Array, "..."]:
    """Inside `per_device`: x, split by `spec`, whole along one dimension."""
    axes = axes_of(spec, dimension)
    return jax.lax.all_gather(x, axes, axis=dimension, tiled=True) if axes else x
