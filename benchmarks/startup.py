"""How long it takes until `import vidlmm` and `vidlmm --help` are done, as whole processes.

    python benchmarks/startup.py

Next to a Python that does nothing, since most of it is Python's own start.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "startup.json"
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import vidlmm": [sys.executable, "-c", "import vidlmm"],
    "vidlmm --help": [sys.executable, "-m", "vidlmm", "--help"],
}
RUNS = 15


def main() -> int:
    """Time every command RUNS times in turn; print medians and write RESULTS."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS):
        for name, command in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - began)
    medians = {name: round(statistics.median(times), 3) for name, times in seconds.items()}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"median_seconds": medians, "runs": RUNS}, indent=2) + "\n")
    for name, median in medians.items():
        print(f"{name:16} {median:.3f} s (fastest {min(seconds[name]):.3f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
