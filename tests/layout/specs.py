"""Small specs for drawings: a grid of 5 x 5 patches pools to 2 x 2 (average) or 3 x 3 (bilinear)."""

from dataclasses import dataclass

import numpy as np

from vidlmm.spec import ConnectorSpec, ModelSpec, TowerSpec


@dataclass(frozen=True)
class Sequence:
    ids: np.ndarray
    labels: np.ndarray


def spec(grid: int = 5, **connector) -> ModelSpec:
    tower = TowerSpec(image_size=grid * 2, patch_size=2)
    return ModelSpec(name="small", tower=tower, connector=ConnectorSpec(**connector))


def ids(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def sequence(numbers, trained=()) -> Sequence:
    """Ids with labels at the places in `trained`, counted from the end when negative."""
    tokens = ids(*numbers)
    labels = np.full_like(tokens, -100)
    where = list(trained)
    labels[where] = tokens[where]
    return Sequence(tokens, labels)
