"""Which backend runs a kernel: one named by the caller, never another, or by "auto" the one that pays.

Backends: "xla" is plain JAX that the compiler fuses, on every platform; "tpu" is a Pallas kernel for the TPU's matrix
cores. "auto" takes "tpu" on those devices for which `PAYS` says so, "xla" elsewhere.
"""

from dataclasses import dataclass
from typing import Any, Literal

import jax

Backend = Literal["auto", "xla", "tpu"]
Kernel = Literal["project_pool", "slowfast_pool", "splice", "temporal_pool"]
Target = Literal["v5e", "v5p", "v6e", "7x"]

_KINDS: dict[str, Target] = {
    "TPU v5 lite": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU7x": "7x",
}
_ALL: frozenset[Target] = frozenset(("v5e", "v5p", "v6e", "7x"))
BACKENDS: dict[Kernel, tuple[Literal["xla", "tpu"], ...]] = {
    "project_pool": ("xla", "tpu"),
    "slowfast_pool": ("xla", "tpu"),
    "splice": ("xla", "tpu"),
    "temporal_pool": ("xla", "tpu"),
}
# Targets on which a kernel moves fewer bytes than XLA's program of the same function (docs/kernels.md has the table).
PAYS: dict[Kernel, frozenset[Target]] = {
    "project_pool": _ALL,
    "slowfast_pool": _ALL,
    "splice": _ALL,
    "temporal_pool": _ALL,
}


class KernelError(ValueError):
    """A kernel is asked for what it does not do: shapes, modes or a backend. Raised before anything is traced."""


@dataclass(frozen=True)
class Choice:
    """backend: what runs; why: in words."""

    backend: Literal["xla", "tpu"]
    why: str


def target_of(device: Any) -> Target | None:
    """The generation of a TPU; None for other devices and other generations."""
    return _KINDS.get(device.device_kind) if device.platform == "tpu" else None


def choose(kernel: Kernel, backend: Backend = "auto", device: Any = None) -> Choice:
    """The backend that a call with these arguments runs.

    Args:
        device: that the program is compiled for; None takes this process's first.

    Raises:
        KernelError: a backend that the kernel does not have.
    """
    if backend not in ("auto", *BACKENDS[kernel]):
        have = ", ".join(BACKENDS[kernel])
        raise KernelError(f"{kernel} has the backends {have}; got {backend!r}: name one of them, or 'auto'")
    if backend != "auto":
        return Choice(backend, "named by the caller")
    device = jax.devices()[0] if device is None else device
    target = target_of(device)
    if target in PAYS[kernel]:
        return Choice("tpu", f"it moves fewer bytes than XLA's program on {target}")
    if device.platform == "tpu":
        return Choice("xla", f"no kernel is known to pay on {target or device.device_kind}")
    return Choice("xla", f"there is no kernel for {device.platform}")
