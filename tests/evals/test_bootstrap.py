"""Properties of the intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidlmm.evals.bootstrap import gain, share

answers = st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=60)


@settings(max_examples=25, deadline=None)
@given(answers)
def test_the_interval_holds_the_mean(rows: list[tuple[int, bool]]) -> None:
    clips, right = [clip for clip, _ in rows], [float(ok) for _, ok in rows]
    found = share(right, clips)
    assert found.value == pytest.approx(np.mean(right))
    assert 0 <= found.low <= found.value + 1e-9
    assert found.value - 1e-9 <= found.high <= 1


def test_it_shrinks_with_the_number_of_clips() -> None:
    widths = []
    for clips in (10, 40, 160, 640):
        found = share([1.0, 0.0] * clips + [1.0] * clips, [*np.repeat(np.arange(clips), 2), *range(clips, 2 * clips)])
        widths.append(found.high - found.low)
    assert widths == sorted(widths, reverse=True)
    assert widths[0] / widths[2] == pytest.approx(4, rel=0.35)  # one over the root of the number


def test_more_questions_about_the_same_clips_are_no_more_evidence() -> None:
    right = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    once = share(right, range(8))
    repeated = share(np.repeat(right, 50).tolist(), np.repeat(range(8), 50).tolist())
    apart = share(np.repeat(right, 50).tolist(), range(400))
    assert (repeated.low, repeated.high) == pytest.approx((once.low, once.high))
    assert apart.high - apart.low < 0.3 * (once.high - once.low)


def test_coverage_of_a_known_share() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(60):
        found = share((rng.random(60) < 0.7).astype(float).tolist(), range(60), seed=trial)
        held += found.low <= 0.7 <= found.high
    assert 52 <= held <= 60


def test_all_right_is_not_certain() -> None:
    few, many = share([1.0] * 10, range(10)), share([1.0] * 1000, range(1000))
    assert few.high == 1 == many.high
    assert few.low == pytest.approx(0.7225, abs=1e-3)  # Wilson's interval for 10 of 10
    assert many.low > 0.99


def test_the_seed_decides() -> None:
    right = np.random.default_rng(0).random(70).tolist()
    assert share(right, range(70), seed=3) == share(right, range(70), seed=3)
    assert share(right, range(70), seed=3) != share(right, range(70), seed=4)


def test_a_paired_gain_is_narrower_than_two_intervals() -> None:
    rng = np.random.default_rng(1)
    blind = (rng.random(200) < 0.4).astype(float)
    seen = np.maximum(blind, rng.random(200) < 0.3)
    found = gain(seen.tolist(), blind.tolist(), range(200))
    assert found.value == pytest.approx(seen.mean() - blind.mean())
    assert found.low <= found.value <= found.high
    a, b = share(seen.tolist(), range(200)), share(blind.tolist(), range(200))
    assert found.high - found.low < (a.high - b.low) - (a.low - b.high)


def test_an_equal_gain_everywhere_is_not_certain() -> None:
    found = gain([1.0] * 5, [1.0] * 5, range(5))
    assert found.value == 0
    assert found.low < 0 < found.high


@pytest.mark.parametrize("call", [lambda: share([], []), lambda: share([1.0], []), lambda: gain([1.0], [], [1])])
def test_wrong_lengths(call) -> None:
    with pytest.raises(ValueError, match="value"):
        call()
