"""How far bfloat16 is from float32: weights, activations and the cache in bfloat16; norms, softmax and scores not.

A bfloat16 number is off by up to 2^-9 of itself, and the errors of the layers add up like noise. A place's distance is
the root mean square over the vocabulary of how far its scores are apart, in units of the spread (standard deviation) of
the row's float32 scores. The bounds, of random weights:

    system                                  median place    worst place
    tower, projector, decoder                      0.02           0.05
    with a space-time connector                    0.05           0.13
    and with experts                               0.05           0.60

The space-time connector is some thirty convolutions deep. A token for which two experts score alike may be sent to
another one, which changes that token as a whole and leaves most others alone.
"""

import numpy as np
import pytest

from tests.generate import systems
from vidlmm.spec import ModelSpec


def bounds(spec: ModelSpec) -> tuple[float, float]:
    """Of the median place and of the worst one; see the table above."""
    if spec.decoder.experts:
        return 0.05, 0.6
    return (0.02, 0.05) if spec.connector.stc is None else (0.05, 0.13)


@pytest.mark.parametrize("name", systems.CASES)
def test_bfloat16_stays_near_float32(name: str):
    full, half = systems.model(name), systems.model(name, "bfloat16")
    median, worst = bounds(full.spec)
    rows = systems.rows(full.spec)
    pairs = zip(rows, full.logits_batch(list(rows.values())), half.logits_batch(list(rows.values())), strict=True)
    for kind, wanted, found in pairs:
        apart = np.sqrt((((found - wanted) / wanted.std()) ** 2).mean(-1))
        assert 0 < np.median(apart) <= median, kind
        assert apart.max() <= worst, kind
