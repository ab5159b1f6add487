"""Loading a 1.8 GB checkpoint in four shards: time against reading its bytes, memory against the target and a shard.

    pip install torch==2.13.0 transformers
    python benchmarks/loading.py

The checkpoint has LLaVA-OneVision-0.5B's sizes and random bfloat16 weights, made by transformers. Every measurement is
a process of its own. "read" reads all shards into one array each, one after the other; "load" is
`vidlmm.from_pretrained(folder, dtype=None)` until every array is there, without Python's and JAX's start. The files
are in the system's cache for both. Memory is what the process holds of its own (RssAnon), sampled every 5 ms, above
what it held before.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "loading.json"
SHARD = "500MB"


def anonymous() -> int:
    """Bytes of memory of this process that belong to no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """Seconds, and the most memory above the beginning's, of what runs inside."""
    found: dict[str, float] = {}
    before, most, done = anonymous(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.005):
            most = max(most, anonymous() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    try:
        yield found
    finally:
        found["seconds"] = time.perf_counter() - began
        done.set()
        watcher.join()
        found["bytes"] = max(most, anonymous() - before)


def read(folder: Path) -> dict[str, float]:
    """All shards, byte by byte."""
    kept = []
    with measured() as found:
        for file in sorted(folder.glob("*.safetensors")):
            data = bytearray(file.stat().st_size)
            with file.open("rb", buffering=0) as stream:
                view = memoryview(data)
                while view:
                    view = view[stream.readinto(view) :]
            kept.append(data)
    return found


def load(folder: Path) -> dict[str, float]:
    """The model, ready."""
    import jax
    from flax import nnx

    import vidlmm
    from vidlmm import api

    assert api and len(jax.devices())  # imports and the device are not what is measured
    with measured() as found:
        model = vidlmm.from_pretrained(folder, dtype=None)
        jax.block_until_ready(nnx.state(model.module))
    return found


def make(folder: Path) -> None:
    """The checkpoint, at the sizes of `benchmarks/inference.py`."""
    import torch
    from inference import onevision

    torch.manual_seed(0)
    onevision().to(torch.bfloat16).save_pretrained(folder, max_shard_size=SHARD)


def main() -> int:
    """Measure in turn, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--part", choices=("make", "read", "load"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="keep the checkpoint here, or take the one that is there")
    args = parser.parse_args()
    if args.part == "make":
        make(args.folder)
        return 0
    if args.part:
        print(json.dumps((read if args.part == "read" else load)(args.folder)))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch) / "checkpoint"
        if not any(folder.glob("*.safetensors")):
            _part("make", folder)
        shards = [file.stat().st_size for file in folder.glob("*.safetensors")]
        runs: dict[str, list[dict[str, float]]] = {"read": [], "load": []}
        _part("read", folder)
        for _ in range(args.repeats):
            for part, found in runs.items():
                found.append(json.loads(_part(part, folder)))
    seconds = {part: statistics.median(run["seconds"] for run in found) for part, found in runs.items()}
    most = max(run["bytes"] for run in runs["load"])
    result = {
        "bytes": sum(shards),
        "largest_shard": max(shards),
        "seconds": {part: round(value, 3) for part, value in seconds.items()},
        "time_ratio": round(seconds["load"] / seconds["read"], 3),
        "peak_bytes": int(most),
        "bound_bytes": int(1.2 * max(shards) + sum(shards)),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }
    print(
        f"{sum(shards) / 1e9:.2f} GB in {len(shards)} shards: read {seconds['read']:.2f} s, "
        f"load {seconds['load']:.2f} s (x {result['time_ratio']}); "
        f"peak {most / 1e9:.2f} GB of {result['bound_bytes'] / 1e9:.2f} GB allowed"
    )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def _part(part: str, folder: Path) -> str:
    """The last line that a process of this file prints."""
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder)]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return lines[-1] if lines else ""


if __name__ == "__main__":
    raise SystemExit(main())
