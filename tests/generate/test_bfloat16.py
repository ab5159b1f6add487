"""How far bfloat16 is from float32: weights, activations and the cache in bfloat16; norms, softmax and scores not.

A bfloat16 number is off by up to 2^-9 of itself, and the errors of a few layers add up like noise. In units of the
spread (standard deviation) of the float32 scores of a row, over all its places and the vocabulary:

    root mean square     at most MEAN
    largest              at most LARGEST

An expert that wins or loses a place by less than rounding changes a token as a whole, so that Mixtral has a wider bound
on the largest, and the same on the mean.
"""

import numpy as np
import pytest

from tests.generate import systems

MEAN, LARGEST, LARGEST_OF_EXPERTS = 0.03, 0.15, 0.5


@pytest.mark.parametrize("name", systems.CASES)
def test_bfloat16_stays_near_float32(name: str):
    full, half = systems.model(name), systems.model(name, "bfloat16")
    rows = systems.rows(full.spec)
    pairs = zip(rows, full.logits_batch(list(rows.values())), half.logits_batch(list(rows.values())), strict=True)
    most = LARGEST_OF_EXPERTS if full.spec.decoder.experts else LARGEST
    for kind, wanted, found in pairs:
        apart = np.abs(found - wanted) / wanted.std()
        assert 0 < np.sqrt((apart**2).mean()) <= MEAN, kind
        assert apart.max() <= most, kind
