"""Devices into a mesh with the axes `data` and `fsdp`, and where arrays lie on it.

A batch is split over all devices. Parameters are copied to every device of the `data` axis and split over the `fsdp`
axis, each along its largest divisible dimension.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

Tree = TypeVar("Tree")
AXES = ("data", "fsdp")


class MeshError(ValueError):
    """Numbers that do not divide one another; the message says which must divide which."""


def make_mesh(data: int = -1, fsdp: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of shape [data, fsdp]; -1 for one of them takes what the devices leave.

    Raises:
        MeshError: data * fsdp is not the number of devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    if data == -1 and fsdp == -1:
        data, fsdp = len(devices), 1
    elif data == -1:
        data = len(devices) // max(1, fsdp)
    elif fsdp == -1:
        fsdp = len(devices) // max(1, data)
    if data < 1 or fsdp < 1 or data * fsdp != len(devices):
        raise MeshError(f"mesh data={data} x fsdp={fsdp} does not give the {len(devices)} device(s) that are here")
    return Mesh(np.array(devices).reshape(data, fsdp), AXES)


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def param_sharding(mesh: Mesh | AbstractMesh, shape: tuple[int, ...]) -> NamedSharding:
    """Split over `fsdp` along the largest dimension that it divides; replicated where none is."""
    size = mesh.shape["fsdp"]
    divisible = [axis for axis, dim in enumerate(shape) if dim % size == 0 and dim >= size]
    if size == 1 or not divisible:
        return replicated(mesh)
    widest = max(divisible, key=lambda axis: shape[axis])
    return NamedSharding(mesh, PartitionSpec(*(["fsdp" if a == widest else None for a in range(widest + 1)])))


def param_shardings(mesh: Mesh | AbstractMesh, tree: Any) -> Any:
    """The sharding of every array (or shape) in a tree of parameters or optimizer state."""
    return jax.tree.map(lambda leaf: param_sharding(mesh, leaf.shape), tree)


def batch_shardings(mesh: Mesh | AbstractMesh, batch: Mapping[str, Any]) -> dict[str, NamedSharding]:
    """Every array of a batch split along its first dimension over all devices; an empty one is copied.

    Raises:
        MeshError: a first dimension that the number of devices does not divide.
    """
    shardings = {}
    for name, array in batch.items():
        rows = array.shape[0]
        if rows % mesh.size:
            raise MeshError(f"batch.{name} has {rows} rows, which {mesh.size} devices do not divide")
        shardings[name] = NamedSharding(mesh, PartitionSpec(AXES)) if rows else replicated(mesh)
    return shardings


def place_batch(mesh: Mesh | AbstractMesh, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
    """A host batch on the mesh's devices."""
    shardings = batch_shardings(mesh, batch)
    return {name: jax.device_put(array, shardings[name]) for name, array in batch.items()}
