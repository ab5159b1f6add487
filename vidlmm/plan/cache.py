"""Plans on disk, so that a program is compiled once: a search or a table that was stopped goes on."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vidlmm.checkpoint.files import write_atomic
from vidlmm.plan.result import Plan

# Of what a plan holds and how it is read from a program; a change makes the kept ones void.
VERSION = 3
_PLACES = re.compile(r"\bloc\([^)]*\)|#loc\d*.*$", re.MULTILINE)


class Cache:
    """A folder of plans, one file a program, topology and compiler. A folder of None keeps nothing."""

    def __init__(self, folder: Path | None):
        self.folder = folder

    def key(self, program: str, topology: str, versions: Mapping[str, str], assumed: str) -> str:
        """The name of a plan, by its program's digest, what compiles it, and what is assumed of its data."""
        parts = [str(VERSION), program, topology, json.dumps(dict(versions), sort_keys=True), assumed]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]

    def find(self, key: str) -> dict[str, Any] | None:
        """The plan of that name, if there is a whole one."""
        if self.folder is None:
            return None
        try:
            return json.loads((self.folder / f"{key}.json").read_text())
        except (OSError, ValueError):
            return None

    def keep(self, key: str, plan: Plan) -> None:
        """Keep a plan."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self.folder / f"{key}.json", json.dumps(asdict(plan)))


def digest(program: str) -> str:
    """A digest of a program's text, without where its lines came from."""
    return hashlib.sha256(_PLACES.sub("", program).encode()).hexdigest()


def default_folder() -> Path | None:
    """`$VIDLMM_CACHE/plan`, by default ~/.cache/vidlmm/plan; None where the variable is empty or "off"."""
    chosen = os.environ.get("VIDLMM_CACHE")
    if chosen is not None and chosen.strip().lower() in ("", "off"):
        return None
    return (Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "vidlmm") / "plan"
