"""Parameters by dotted name into safetensors files and back, every name and shape accounted for."""

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

Params = dict[str, jax.Array]
# What safetensors calls a dtype that numpy has no name of its own for.
_NUMPY = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "F64": np.float64}


class WeightsError(ValueError):
    """Weights that do not belong to the model; one message lists everything that does not fit."""


def read_fields(path: Path, whose: str) -> dict[str, Any]:
    """The fields of a JSON file beside weights; `whose` says what has such a file.

    Raises:
        WeightsError: it is not there, or holds something else.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is not there; {whose} has one")
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise WeightsError(f"{path} is not the JSON it should be: {error}") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path} holds {type(found).__name__}, expected fields and values")
    return found


def save_weights(path: str | Path, params: Mapping[str, Any], dtype: Any = None) -> None:
    """Write arrays under their dotted names; the file appears whole or not at all.

    Args:
        path: the safetensors file.
        params: name to array.
        dtype: stored type, such as jnp.bfloat16; None keeps each array's own.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    arrays = {}
    for name in sorted(params):
        array = np.asarray(params[name])
        arrays[name] = np.asarray(
            array, array.dtype if dtype is None else dtype, order="C"
        )  # a scalar keeps its shape ()
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(arrays, beside, metadata={"format": "vidlmm"})
        os.replace(beside, path)
    except SafetensorError as error:
        raise OSError(f"cannot write {path}: {error}") from error
    finally:
        beside.unlink(missing_ok=True)


def weight_shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """Name to shape of every tensor in a file, read from its header alone.

    Raises:
        WeightsError: missing, or not a safetensors file.
    """
    with _open(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (not a dict)


def load_weights(
    path: str | Path,
    shapes: Mapping[str, Any],
    *,
    shardings: Mapping[str, Any] | None = None,
    ignore: Sequence[str] = (),
) -> Params:
    """The arrays that `shapes` names, one tensor at a time, in the dtypes that `shapes` gives.

    Args:
        path: a safetensors file.
        shapes: name to anything with `.shape` and `.dtype`.
        shardings: name to where the array goes; None leaves it to jax.
        ignore: prefixes of names in the file that may be left over.

    Raises:
        WeightsError: missing, unexpected or misshapen tensors (all of them, with the nearest known names), or no
            safetensors file.
    """
    check_shapes(str(path), weight_shapes(path), shapes, ignore)
    params: Params = {}
    with _open(path) as file:
        for name, wanted in shapes.items():
            host = file.get_tensor(name).astype(wanted.dtype)
            params[name] = jax.device_put(host, None if shardings is None else shardings[name])
    return params


def read_weights(path: str | Path, dtype: Any = None) -> Params:
    """Everything in a file, by name, as stored or as `dtype`.

    Raises:
        WeightsError: missing, or not a safetensors file.
    """
    with _open(path) as file:
        return {name: jnp.asarray(file.get_tensor(name), dtype) for name in file.keys()}  # noqa: SIM118 (not a dict)


def check_shapes(
    source: str, found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, Any], ignore: Sequence[str] = ()
) -> None:
    """Compare what a file holds with what a model needs.

    Raises:
        WeightsError: they differ; the message lists missing, unexpected and misshapen names.
    """
    missing = sorted(set(wanted) - set(found))
    ignored = tuple(ignore)
    unexpected = sorted(n for n in set(found) - set(wanted) if not (ignored and n.startswith(ignored)))
    misshapen = [
        f"{name} is {list(found[name])}, the model has {list(wanted[name].shape)}"
        for name in sorted(set(wanted) & set(found))
        if tuple(found[name]) != tuple(wanted[name].shape)
    ]
    lines = [f"missing {name}{_near(name, unexpected)}" for name in missing]
    lines += [f"unexpected {name}{_near(name, missing)}" for name in unexpected]
    lines += [f"misshapen {line}" for line in misshapen]
    if lines:
        raise WeightsError(f"{source} does not fit the model: " + "; ".join(lines))


def _near(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f" (nearest is {close[0]})" if close else ""


class _open:
    """`safe_open` whose errors name the file in plain words."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __enter__(self) -> Any:
        if not self.path.is_file():
            raise WeightsError(f"{self.path} is not there; a safetensors file was expected")
        try:
            self.file = safe_open(self.path, framework="np")
            return self.file.__enter__()
        except SafetensorError as error:
            raise WeightsError(f"{self.path} is not a whole safetensors file: {error}") from error

    def __exit__(self, *stop: Any) -> None:
        self.file.__exit__(*stop)
