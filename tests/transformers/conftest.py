"""Compiled programs go into a folder of the test run, never into the user's; nothing is fetched."""

import os

from tests.generate.conftest import _cache, compile_cache

__all__ = ["_cache", "compile_cache"]

os.environ["HF_HUB_OFFLINE"] = "1"
