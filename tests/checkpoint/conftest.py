"""Compiled programs go into a folder of the test run, never into the user's; checkpoints that several files convert."""

from pathlib import Path

import pytest

from tests.checkpoint.converted import ONE_TOKEN
from tests.checkpoint.parity import Parity
from tests.checkpoint.released import case_tensors, write_tensors
from tests.generate.conftest import _cache, compile_cache
from tests.media.golden_case import Case
from vidlmm.checkpoint.layout import Overrides

__all__ = ["_cache", "compile_cache"]

TOWER = "model.vision_tower.vision_tower."


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Parity:
    case = Case(ONE_TOKEN).text
    return Parity(ONE_TOKEN, tmp_path_factory.mktemp("one_token"), vision_config=case["vision_config"])


@pytest.fixture
def towerless(tmp_path) -> tuple[Path, Overrides]:
    """A checkpoint without the tower that it was trained on, and where that is."""
    text = Case(ONE_TOKEN).text
    tensors = case_tensors(text)
    own = {name.removeprefix(TOWER): tensors.pop(name) for name in list(tensors) if name.startswith(TOWER)}
    write_tensors(tmp_path / "tower", own, {"model_type": "siglip"})
    source = write_tensors(tmp_path / "a", tensors, text["config"], files=2)
    return source, Overrides(text["vision_config"], towers={"mm_vision_tower": str(tmp_path / "tower")})
