"""The small clips, tokenizer and spec of the data tests."""

import pytest

from tests.data.conftest import clips, spec, tokenizer, tokenizer_dir

__all__ = ["clips", "spec", "tokenizer", "tokenizer_dir"]


@pytest.fixture(autouse=True)
def no_compile_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written outside the tests' own folders."""
    monkeypatch.setenv("VIDLMM_CACHE", "off")
