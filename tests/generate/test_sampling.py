"""The choice of a token: its distribution, and what its random number depends on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidlmm.generate import Sampling
from vidlmm.generate.sampling import FEW, choose, nucleus, ordered, stream_key, uniforms

SHARES = np.array([0.05, 0.4, 0.25, 0.2, 0.1], np.float32)
SCORES = np.log(SHARES) + 3


def f32(values) -> jax.Array:
    return jnp.asarray(values, jnp.float32)


def shares_drawn(temperature: float, top_p: float, draws: int = 1000) -> np.ndarray:
    """How often each token is chosen when the drawn number runs evenly over [0, 1)."""
    even = f32((np.arange(draws) + 0.5) / draws)
    tokens = choose(f32(np.tile(SCORES, (draws, 1))), even, f32(temperature), f32(top_p))
    return np.bincount(np.asarray(tokens), minlength=len(SCORES)) / draws


def numbers(seed: int, keys, places) -> list[float]:
    found = uniforms(jnp.asarray(seed, jnp.uint32), jnp.asarray(np.stack(keys)), jnp.asarray(places, jnp.int32))
    return np.asarray(found).tolist()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": 1e-9}, "temperature is 1e-09"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"top_p": float("nan")}, "top_p is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296"),
    ],
)
def test_values_outside_their_range_are_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        Sampling(**changes)


def test_temperature_0_takes_the_likeliest_token_whatever_is_drawn():
    assert shares_drawn(0, 1).tolist() == [0, 1, 0, 0, 0]


def test_temperature_1_draws_each_token_with_its_probability():
    np.testing.assert_allclose(shares_drawn(1, 1), SHARES, atol=0.0021)


def test_a_temperature_divides_the_scores():
    sharper = SHARES**2 / np.sum(SHARES**2)
    np.testing.assert_allclose(shares_drawn(0.5, 1), sharper, atol=0.0021)


@pytest.mark.parametrize(("top_p", "kept"), [(0.3, [1]), (0.5, [1, 2]), (0.8, [1, 2, 3]), (0.9, [1, 2, 3, 4])])
def test_top_p_draws_from_the_smallest_set_that_reaches_it(top_p, kept):
    wanted = np.where(np.isin(np.arange(5), kept), SHARES, 0)
    np.testing.assert_allclose(shares_drawn(1, top_p), wanted / wanted.sum(), atol=0.0021)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.95, 1.0])
def test_the_kept_mass_reaches_top_p_and_no_token_could_be_left_out(temperature, top_p):
    scores = f32(np.random.default_rng(7).normal(0, 3, (32, 50)))
    found = ordered(scores / temperature)
    order, share = np.asarray(found.order), np.asarray(nucleus(found, f32(top_p)))
    assert all(sorted(row) == list(range(50)) for row in order.tolist())
    mass = share.sum(axis=-1)
    assert (mass >= top_p - 1e-5).all() and (mass <= 1 + 1e-5).all()
    least = np.where(share > 0, share, 2).min(axis=-1)
    assert (mass - least < top_p + 1e-5).all()
    likelier = np.take_along_axis(np.asarray(scores), order, axis=-1)
    assert (np.diff(likelier, axis=-1) <= 0).all()


def test_the_likeliest_tokens_alone_give_what_all_give():
    """Of 40 rows of 300 tokens some have their nucleus among the first FEW, some not, and rows do not mix."""
    random = np.random.default_rng(3)
    scores = f32(random.normal(0, 1, (40, 300)) * np.linspace(0.1, 6, 40)[:, None]).at[:, 7].set(2).at[:, 3].set(2)
    even, one, most = f32(random.random(40)), f32(1), f32(0.9)
    share = np.asarray(nucleus(ordered(scores), most))
    reached = np.cumsum(share, axis=-1) <= (np.asarray(even) * share.sum(axis=-1))[:, None]
    wanted = np.take_along_axis(np.asarray(ordered(scores).order), reached.sum(axis=-1)[:, None], axis=-1)[:, 0]
    few = np.asarray((share > 0).sum(axis=-1) <= FEW)
    assert 5 < few.sum() < 35
    found = choose(scores, even, one, most)
    assert found.tolist() == wanted.tolist()
    assert choose(scores[few], even[few], one, most).tolist() == found[few].tolist()


def test_the_coldest_temperature_gives_numbers_with_any_scores():
    scores = f32([[-3e38, 3e38, 0, 1e30]])
    assert choose(scores, f32([0.99]), f32(1e-4), f32(1)).tolist() == [1]


def test_the_last_number_below_1_takes_a_token_that_is_kept():
    below = np.nextafter(np.float32(1), np.float32(0))
    for top_p, rarest in ((0.3, 1), (0.5, 2), (0.8, 3), (1.0, 0)):
        assert choose(f32(SCORES[None]), f32([below]), f32(1), f32(top_p)).tolist() == [rarest]


def test_a_number_depends_on_seed_id_sample_and_place_alone():
    keys = [stream_key("a", 0), stream_key("b", 0), stream_key("a", 1)]
    first = numbers(3, keys, [0, 5, 9])
    assert numbers(3, keys[::-1], [9, 5, 0]) == first[::-1]
    assert all(0 <= number < 1 for number in first)


def test_each_of_seed_id_sample_and_place_changes_the_number():
    keys = [stream_key("a", 0), stream_key("b", 0), stream_key("a", 1), stream_key("a", 0)]
    assert len({*numbers(3, keys, [0, 0, 0, 1]), *numbers(4, keys, [0, 0, 0, 1])}) == 8


def test_numbers_are_spread_evenly():
    found = numbers(0, [stream_key(str(i), 0) for i in range(2000)], np.zeros(2000))
    counts = np.histogram(found, bins=10, range=(0, 1))[0]
    assert counts.min() > 140 and counts.max() < 260
