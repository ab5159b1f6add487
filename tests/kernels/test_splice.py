"""splice: rows by plan, gradients in the order of the places, for TPU and GPU step by step on this machine."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.kernels.close import compare, drawn, exactly, rounded
from vidlmm.kernels import KernelError, splice
from vidlmm.kernels.specs import SPLICES, SpliceSpec, cut_splice, splice_plan
from vidlmm.kernels.splice import gpu, reference, tpu, xla

INTERPRETED: dict[str, Any] = {"backend": "tpu", "interpret": True}
ON_GPU: dict[str, Any] = {"backend": "gpu", "interpret": True}
XLA: dict[str, Any] = {"backend": "xla"}


def _arrays(spec: SpliceSpec, seed: int) -> list[np.ndarray]:
    return drawn(seed, *((rows, spec.width) for rows in (spec.vocab, spec.special, *spec.media)))


def _values(of: Any, plan: Any, arrays: Any, pull_seed: int) -> list[np.ndarray]:
    """Values and gradients, of a plan that is no constant of the program."""
    pull = np.random.default_rng(pull_seed).standard_normal((len(plan[0]), arrays[0].shape[1]))

    @jax.jit
    def both(plan: Any, arrays: Any) -> Any:
        out, back = jax.vjp(lambda *tables: of(*plan, tables), *arrays)
        return out, back(jnp.asarray(pull, out.dtype))

    out, pulls = both(plan, tuple(arrays))
    return [np.asarray(x, np.float64) for x in (out, *pulls)]


def _specified(plan: Any, arrays: Any, pull_seed: int) -> list[np.ndarray]:
    with jax.enable_x64(True):
        whole = [jnp.asarray(x, jnp.float64) for x in exactly(arrays)]
        return _values(partial(reference.splice, dtype=jnp.float64), plan, whole, pull_seed)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("spec", SPLICES, ids=lambda spec: spec.name)
def test_values_and_gradients(spec, dtype):
    """Lines of odd length, tables of odd length, a text row and a newline that many places read, padding."""
    spec = cut_splice(spec)
    arrays, plan = rounded(_arrays(spec, spec.line), dtype), splice_plan(spec, 3)
    wanted = _specified(plan, arrays, 7)
    for options in (INTERPRETED, ON_GPU, XLA):
        found = _values(partial(splice, **options), plan, arrays, 7)
        np.testing.assert_array_equal(found[0], wanted[0])
        # Without newlines nothing reads the learned rows.
        read = [np.any(one) for one in wanted]
        assert not any(np.any(one) for one, some in zip(found, read, strict=True) if not some)
        found, right = ([one for one, some in zip(all_, read, strict=True) if some] for all_ in (found, wanted))
        compare(found, right, dtype)


def test_tables_of_two_types():
    """A vocabulary that is trained in float32 beside bfloat16 features: its gradients are float32, too."""
    spec = cut_splice(SPLICES[0])
    text, *others = _arrays(spec, 5)
    arrays, plan = [*rounded([text], "float32"), *rounded(others, "bfloat16")], splice_plan(spec, 5)
    wanted = _specified(plan, arrays, 7)
    for options in (INTERPRETED, ON_GPU, XLA):
        compare(_values(partial(splice, **options), plan, arrays, 7), wanted, "bfloat16")
        out, back = jax.vjp(
            lambda *tables, o=options: splice(jnp.asarray(plan[0]), jnp.asarray(plan[1]), tables, **o), *arrays
        )
        assert out.dtype == jnp.bfloat16
        assert [pull.dtype for pull in back(out)] == [one.dtype for one in arrays]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_row_with_many_readers_is_summed_in_float32(dtype):
    """All places read one row; a sum of ones in bfloat16 would stand still at 256. What nobody reads gets nothing."""
    table, row = jnp.zeros(1000, jnp.int32), jnp.full(1000, 3, jnp.int32)
    tables = jnp.ones((20, 128), dtype), jnp.ones((2, 128), dtype)
    for options in (INTERPRETED, ON_GPU, XLA):
        _, back = jax.vjp(lambda *tables, o=options: splice(table, row, tables, **o), *tables)
        first, second = back(jnp.ones((1000, 128), dtype))
        assert np.asarray(first[3], np.float32).tolist() == [1000.0] * 128
        assert not np.any(np.delete(np.asarray(first, np.float32), 3, axis=0)) and not np.any(second)


def test_what_no_place_reads_is_never_looked_at():
    """Rows of other tables, and the pulls of padding."""
    table, row = jnp.asarray([1, -1, 0, 1, 7]), jnp.asarray([1, 0, 2, 99, 0])
    first, second = (jnp.full((n, 128), jnp.nan).at[1:3].set(n * 1.0) for n in (5, 3))
    pull = jnp.ones((5, 128)).at[jnp.asarray([1, 4])].set(jnp.nan)
    for options in (INTERPRETED, ON_GPU, XLA):
        out, back = jax.vjp(lambda *tables, o=options: splice(table, row, tables, **o), first, second)
        assert np.asarray(out[:, 0]).tolist() == [3.0, 0.0, 5.0, 3.0, 0.0]
        found = [np.asarray(one[:, 0]).tolist() for one in back(pull)]
        assert found == [[0.0, 0.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]


def test_blocks_do_not_matter(monkeypatch):
    """Pieces of columns and chunks of readers of other sizes; on a GPU every bit stays."""
    spec = cut_splice(SPLICES[1])
    arrays, plan = rounded(_arrays(spec, 9), "float32"), splice_plan(spec, 9)
    kinds = (INTERPRETED, ON_GPU, XLA)
    whole = [_values(partial(splice, **options), plan, arrays, 5) for options in kinds]
    monkeypatch.setattr(tpu, "PIECE", 128)
    monkeypatch.setattr(xla, "CHUNK", 32)
    for name, size in {"ROWS": 8, "COLUMNS": 64, "TOGETHER": 3}.items():
        monkeypatch.setattr(gpu, name, size)
    for one, options in zip(whole, kinds, strict=True):
        compare(_values(partial(splice, **options), plan, arrays, 5), one, "float32")
    for one, right in zip(_values(partial(splice, **ON_GPU), plan, arrays, 5), whole[1], strict=True):
        np.testing.assert_array_equal(one, right)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_gpu_adds_in_the_order_of_the_places(dtype):
    """One by one in float32, to the last bit, also for a row that hundreds read; a width of no whole lanes."""
    rng = np.random.default_rng(1)
    table, row = rng.integers(-1, 3, 700), rng.integers(0, 2, 700)
    tables = [jnp.asarray(rng.standard_normal((count, 72)), dtype) for count in (1, 0, 5)]
    pull = jnp.asarray(rng.standard_normal((700, 72)), dtype)
    _, back = jax.vjp(lambda *own: splice(jnp.asarray(table), jnp.asarray(row), own, **ON_GPU), *tables)
    wanted = [np.zeros(one.shape, np.float32) for one in tables]
    for t, r, one in zip(table, row, np.asarray(pull, np.float32), strict=True):
        if t >= 0 and len(wanted[t]):
            wanted[t][min(r, len(wanted[t]) - 1)] += one
    for found, right in zip(back(pull), wanted, strict=True):
        np.testing.assert_array_equal(found, right.astype(found.dtype))


def test_a_gpu_fetches_the_rows_that_places_name():
    """LLaVA-Video-7B's plan: forward each place's row and the result; backward each pull, and every row once."""
    spec = SPLICES[0]
    struct = jax.ShapeDtypeStruct
    shapes = [(rows, spec.width) for rows in (spec.vocab, spec.special, *spec.media)]
    sizes = gpu.sizes_of(spec.places, [struct(shape, jnp.bfloat16) for shape in shapes], jnp.bfloat16)
    readers = np.bincount(splice_plan(spec, 0)[0] + 1)[1:].tolist()
    forward = gpu.forward_launch(sizes, readers)
    row, blocks = 2 * spec.width, 7
    assert forward.asked == (sum(readers) + spec.places) * row + blocks * 4 * spec.places
    assert forward.once == forward.asked - 6 * 4 * spec.places - (readers[1] - spec.special) * row
    backward = gpu.backward_launch(sizes, 0, readers[0])
    assert backward.grid == (blocks, spec.vocab // gpu.ROWS)
    assert backward.asked == (readers[0] + spec.vocab) * row + blocks * 4 * (2 * spec.vocab + readers[0])


def test_traffic_is_counted_from_the_plan():
    """A run of bfloat16 rows is fetched in pairs, each once; a row alone brings its neighbour along."""
    struct = jax.ShapeDtypeStruct
    sizes = tpu.sizes_of(128, [struct((64, 256), jnp.bfloat16), struct((32, 256), jnp.float32)], jnp.bfloat16)
    number = jnp.full(128, -1).at[:7].set(jnp.arange(5, 12)).at[10].set(20).at[12].set(70)
    fetch, code = tpu.forward_plan(number, sizes)
    assert tpu.fetched(fetch, sizes) == 4 * 256 * (4 + 1 + 1)
    assert code[0, 0, :13].tolist() == [2, 1, 3, 1, 3, 1, 3, 0, 0, 0, 1, 0, 4]
    assert tpu.forward_launch(sizes).moved() == 3 * 4 * 128 + 2 * 128 * 256


def test_limits():
    """Raised before anything is traced."""
    place, rows = jnp.zeros(4, jnp.int32), jnp.zeros((4, 128))
    call = partial(splice, place, place, **INTERPRETED)
    with pytest.raises(KernelError, match="tables of one width"):
        call((rows, rows[:, :64]))
    with pytest.raises(KernelError, match="multiples of 128 up to 8192"):
        call((rows[:, :64],))
    with pytest.raises(KernelError, match="bfloat16 or float32"):
        call((rows.astype(jnp.float16),))
    with pytest.raises(KernelError, match="bfloat16 or float32"):
        splice(place, place, (rows.astype(jnp.float16),), **ON_GPU)
