"""Weights to safetensors and back: bytes, names, shapes, and what is said of a wrong file."""

from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open

from vidlmm.checkpoint.weights import (
    WeightsError,
    check_shapes,
    load_weights,
    read_weights,
    save_weights,
    weight_shapes,
)

PARAMS = {
    "tower.patch": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    "decoder.norm": np.array([1.0, -2.5], ml_dtypes.bfloat16),
    "log_scale": np.float32(2.302585),
}


def shapes(dtype: str = "float32", **changes: tuple[int, ...]) -> dict[str, jax.ShapeDtypeStruct]:
    named = {name: np.shape(value) for name, value in PARAMS.items()} | changes
    return {name: jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)) for name, shape in named.items()}


def test_what_is_written_comes_back_bit_for_bit(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", PARAMS)
    back = read_weights(tmp_path / "w.safetensors")
    assert {n: (str(v.dtype), v.shape) for n, v in back.items()} == {
        "decoder.norm": ("bfloat16", (2,)),
        "log_scale": ("float32", ()),
        "tower.patch": ("float32", (2, 3)),
    }
    assert all(np.array_equal(np.asarray(back[name]), PARAMS[name]) for name in PARAMS)


def test_bfloat16_is_rounded_to_nearest_and_other_readers_agree(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", PARAMS, jnp.bfloat16)
    with safe_open(tmp_path / "w.safetensors", framework="np") as file:
        found = file.get_tensor("tower.patch")
    assert found.dtype == ml_dtypes.bfloat16
    assert np.array_equal(found, PARAMS["tower.patch"].astype(ml_dtypes.bfloat16))
    loaded = load_weights(tmp_path / "w.safetensors", shapes())
    assert loaded["tower.patch"].dtype == jnp.float32
    assert np.array_equal(np.asarray(loaded["tower.patch"]), found.astype(np.float32))


def test_arrays_go_where_they_are_told(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", PARAMS)
    at = jax.sharding.SingleDeviceSharding(jax.devices()[-1])
    loaded = load_weights(tmp_path / "w.safetensors", shapes(), shardings=dict.fromkeys(PARAMS, at))
    assert all(value.sharding == at for value in loaded.values())


def test_the_header_alone_gives_the_shapes(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", PARAMS)
    assert weight_shapes(tmp_path / "w.safetensors") == {n: np.shape(v) for n, v in PARAMS.items()}


def test_one_error_lists_everything_with_the_nearest_names() -> None:
    found = {"tower.patchs": (2, 3), "decoder.norm": (3,), "extra": (1,)}
    with pytest.raises(WeightsError) as error:
        check_shapes("w.safetensors", found, shapes())
    assert str(error.value) == (
        "w.safetensors does not fit the model: missing log_scale; missing tower.patch (nearest is tower.patchs); "
        "unexpected extra; unexpected tower.patchs (nearest is tower.patch); "
        "misshapen decoder.norm is [3], the model has [2]"
    )


def test_left_over_names_may_be_allowed(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", PARAMS)
    wanted = {"tower.patch": shapes()["tower.patch"]}
    assert set(load_weights(tmp_path / "w.safetensors", wanted, ignore=("decoder.", "log_scale"))) == {"tower.patch"}
    with pytest.raises(WeightsError, match="unexpected log_scale"):
        load_weights(tmp_path / "w.safetensors", wanted, ignore=("decoder.",))


@pytest.mark.parametrize("content", [b"", b"not a file of tensors", None])
def test_a_torn_or_missing_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"w\.safetensors is not"):
        read_weights(path)


def test_a_file_cut_short_is_found_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, PARAMS)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(WeightsError, match="is not a whole safetensors file"):
        load_weights(path, shapes())


def test_an_old_file_survives_a_failed_write(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, PARAMS)
    before = path.read_bytes()
    with pytest.raises(OSError, match="Unknown dtype"):
        save_weights(path, {"x": np.array(["text"])})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot write"):
        save_weights(tmp_path / "none" / "w.safetensors", PARAMS)
