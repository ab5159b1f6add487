"""Which backend runs a kernel: one named by the caller, never another, or by "auto" the one that pays.

Backends: "xla" is plain JAX that the compiler fuses, on every platform; "tpu" is a Pallas kernel for the TPU's matrix
cores, "gpu" one for GPUs. "auto" takes "tpu" on those devices for which `PAYS` says so, "xla" elsewhere; it never takes
"gpu", for none was measured.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import jax

Backend = Literal["auto", "xla", "tpu", "gpu"]
Named = Literal["xla", "tpu", "gpu"]
Kernel = Literal[
    "project_pool", "slowfast_pool", "temporal_pool", "stc_downsample", "depthwise_norm", "tree_attention",
    "splice",
]  # fmt: skip
Target = Literal["v5e", "v5p", "v6e", "7x"]

_KINDS: dict[str, Target] = {
    "TPU v5 lite": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU7x": "7x",
}
_ALL: frozenset[Target] = frozenset(("v5e", "v5p", "v6e", "7x"))
BACKENDS: tuple[Named, ...] = ("xla", "tpu", "gpu")
# Targets on which a kernel moves fewer bytes than XLA's program of the same function (docs/kernels.md has the table).
PAYS: dict[Kernel, frozenset[Target]] = {
    "project_pool": _ALL,
    "slowfast_pool": _ALL,
    "splice": _ALL,
    "temporal_pool": _ALL,
    "stc_downsample": _ALL,
    "depthwise_norm": _ALL,
    "tree_attention": _ALL,
}


class KernelError(ValueError):
    """A kernel is asked for what it does not do: shapes, modes or a backend. Raised before anything is traced."""


@dataclass(frozen=True)
class Choice:
    """backend: what runs; why: in words."""

    backend: Named
    why: str


_OTHER: ContextVar[Any] = ContextVar("compiled for", default=None)


@contextmanager
def compiling_for(device: Any) -> Iterator[None]:
    """What is traced inside is compiled for a device that this process need not have.

    Args:
        device: of a topology, or anything with a `platform` ("tpu", "gpu") and a `device_kind`.
    """
    token = _OTHER.set(device)
    try:
        yield
    finally:
        _OTHER.reset(token)


def device_here() -> Any:
    """That of `compiling_for`, or this process's first."""
    other = _OTHER.get()
    return jax.devices()[0] if other is None else other


def must_run(backend: Named, interpret: bool) -> None:
    """Raises KernelError where a kernel for one platform is about to be traced for another."""
    device = device_here()
    if backend != "xla" and device.platform != backend and not interpret:
        raise KernelError(
            f"the backend {backend!r} does not run on {device.platform} ({device.device_kind}), and nothing stands in "
            "for it: name 'xla' or 'auto', or trace inside `vidlmm.kernels.compiling_for(device)` for another device"
        )


def target_of(device: Any) -> Target | None:
    """The generation of a TPU; None for other devices and other generations."""
    return _KINDS.get(device.device_kind) if device.platform == "tpu" else None


def backend_for(kernel: Kernel, backend: Backend, sized: Callable[[], Any]) -> Named:
    """The backend of a call. "auto" leaves shapes beyond a TPU kernel's limits to plain JAX; a named backend refuses
    them itself.

    Args:
        sized: raises KernelError where shapes are beyond the TPU kernel's limits, or where it does not pay for them.

    Raises:
        KernelError: a backend that the kernel does not have.
    """
    found = choose(kernel, backend).backend
    if backend != "auto" or found == "xla":
        return found
    try:
        sized()
    except KernelError:
        return "xla"
    return found


def choose(kernel: Kernel, backend: Backend = "auto", device: Any = None) -> Choice:
    """The backend that a call with these arguments runs.

    Args:
        device: that the program is compiled for; None takes that of `compiling_for`, or this process's first.

    Raises:
        KernelError: a backend that the kernel does not have.
    """
    if backend not in ("auto", *BACKENDS):
        have = ", ".join(BACKENDS)
        raise KernelError(f"{kernel} has the backends {have}; got {backend!r}: name one of them, or 'auto'")
    if backend != "auto":
        return Choice(backend, "named by the caller")
    device = device_here() if device is None else device
    target = target_of(device)
    if target in PAYS[kernel]:
        return Choice("tpu", f"it moves fewer bytes than XLA's program on {target}")
    if device.platform == "tpu":
        return Choice("xla", f"no kernel is known to pay on {target or device.device_kind}")
    if device.platform == "gpu":
        return Choice("xla", f"the kernel for GPUs was not measured on {device.device_kind}")
    return Choice("xla", f"there is no kernel for {device.platform}")
