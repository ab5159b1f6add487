"""Rows of different kinds and lengths in one batch: each has the numbers that it has alone."""

import numpy as np
import pytest

from tests.generate import systems

# Sums in float32 that are split differently for one row and for many; scores are of order one.
ROUNDING = 2e-5


@pytest.mark.parametrize("name", systems.CASES)
def test_each_row_of_a_mixed_batch_has_its_own_numbers(name: str):
    model = systems.model(name)
    rows = systems.rows(model.spec)
    together = model.logits_batch(list(rows.values()))
    assert len({len(logits) for logits in together}) > 4
    for (kind, row), logits in zip(rows.items(), together, strict=True):
        np.testing.assert_allclose(logits, model.logits(*row), rtol=0, atol=ROUNDING, err_msg=kind)


@pytest.mark.parametrize("name", ["llava_video", "videollama2_av"])
def test_the_order_of_the_rows_is_the_order_of_the_numbers(name: str):
    model = systems.model(name)
    rows = list(systems.rows(model.spec).values())
    there, back = model.logits_batch(rows), model.logits_batch(rows[::-1])[::-1]
    for one, other in zip(there, back, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=ROUNDING)
