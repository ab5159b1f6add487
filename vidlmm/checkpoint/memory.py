"""Whether a model fits before any of it is read."""

import logging
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import jax
import numpy as np

LOG = logging.getLogger("vidlmm")
_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def need(
    shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, np.dtype], shardings: Mapping[str, Any] | None
) -> int:
    """Bytes that the arrays take on each of their devices."""
    total = 0
    for name, shape in shapes.items():
        held = shape if shardings is None else shardings[name].shard_shape(shape)
        total += prod(held) * dtypes[name].itemsize
    return total


def check_fits(what: str, bytes_needed: int, device: Any, devices: int = 1) -> None:
    """Say how much memory a model takes and refuse one that cannot fit.

    Args:
        what: name and number of parameters, for the line that is logged.
        bytes_needed: on each device. device: one of them. devices: how many share one memory of the host.

    Raises:
        MemoryError: more than is free.
    """
    free = free_bytes(device)
    taken = bytes_needed * (devices if device.platform == "cpu" else 1)
    line = f"{what} takes {taken / 2**30:.2f} GiB of memory"
    if free is None:
        LOG.info("%s", line)
        return
    LOG.info("%s; %s has %.2f GiB free", line, device, free / 2**30)
    if taken > free:
        raise MemoryError(
            f"{line} and {device} has {free / 2**30:.2f} GiB free; load it with a smaller dtype, give a mesh of more "
            "devices, or free memory"
        )


def free_bytes(device: Any) -> int | None:
    """What a device, or for a CPU the host, has left; None where nobody tells."""
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0) if "bytes_limit" in stats else None
    return min((found for found in (_available(), *map(_control_group, _LIMITS)) if found is not None), default=None)


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _control_group(files: tuple[str, str]) -> int | None:
    try:
        limit, used = (Path(file).read_text().strip() for file in files)
        return None if limit == "max" else int(limit) - int(used)
    except (OSError, ValueError):
        return None


def parameters(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Numbers in all arrays."""
    return sum(prod(shape) for shape in shapes.values())


def device_of(shardings: Mapping[str, Any] | None) -> tuple[Any, int]:
    """A device that arrays go to, and how many of this process's do."""
    if shardings is None:
        return jax.local_devices()[0], 1
    devices = next(iter(shardings.values())).addressable_devices
    return min(devices, key=lambda device: device.id), len(devices)
