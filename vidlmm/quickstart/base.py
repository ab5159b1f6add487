"""How the packaged base weights are made.

python -m vidlmm.quickstart.base tokenizer
vidlmm train --config quickstart_base --workdir runs/quickstart_base
python -m vidlmm.quickstart.base export runs/quickstart_base
"""

import hashlib
import json
import sys
from pathlib import Path

import jax.numpy as jnp

from vidlmm.checkpoint.files import write_atomic
from vidlmm.checkpoint.run import load_run
from vidlmm.checkpoint.weights import save_weights
from vidlmm.train.metrics import read_metrics
from vidlmm.world.script import write_script
from vidlmm.world.tokenizer import corpus, train_tokenizer

BASE = Path(__file__).resolve().parent / "base"
SEED = 0
# Scripts whose sentences the tokenizer is trained on, and pieces at most.
_SCRIPTS = 2000
_VOCAB = 704
# What of the connector the decoder has learned to read.
_NEWLINE = ("connector.newline",)


def make_tokenizer(folder: Path = BASE) -> Path:
    """Train the tokenizer and write it to `folder`; the same bytes every time."""
    path = folder / "tokenizer.json"
    write_atomic(path, train_tokenizer(corpus(SEED, _SCRIPTS), _VOCAB) + "\n")
    return path


def export_base(run: Path, folder: Path = BASE) -> None:
    """Write a finished base run's weights to `folder` in bfloat16, with the figures that its card quotes.

    Raises:
        RunFolderError: the run is not there or not finished.
    """
    _, _, params = load_run(run, jnp.bfloat16)
    parts = {
        "tower": [name for name in params if name.startswith("tower.")],
        "decoder": [name for name in params if name.startswith("decoder.")],
        "connector": list(_NEWLINE),
    }
    for part, names in parts.items():
        save_weights(folder / f"{part}.safetensors", {name: params[name] for name in names}, jnp.bfloat16)
    write_atomic(folder / "made.json", json.dumps(_made(run, folder, parts, params), indent=2) + "\n")


def _made(run: Path, folder: Path, parts: dict[str, list[str]], params: dict) -> dict:
    """Seed, losses, sizes and hashes of the data and the files."""
    last: dict[str, dict] = {}
    for row in read_metrics(run / "metrics.jsonl"):
        last[row["stage"]] = {key: round(row[key], 4) for key in ("stage_step", "loss", "accuracy", "seconds")}
    data = hashlib.sha256("".join(repr(write_script(SEED, "train", n)) for n in range(1000)).encode()).hexdigest()
    return {
        "command": "vidlmm train --config quickstart_base --workdir runs/quickstart_base",
        "seed": SEED,
        "stages": last,
        "parameters": {part: int(sum(params[name].size for name in names)) for part, names in parts.items()},
        "sha256_of_first_1000_scripts": data,
        "sha256": {
            file.name: hashlib.sha256(file.read_bytes()).hexdigest()
            for file in (*(folder / f"{part}.safetensors" for part in parts), folder / "tokenizer.json")
        },
    }


def main(arguments: list[str]) -> int:
    """See the top of the file."""
    if arguments == ["tokenizer"]:
        print(make_tokenizer())
    elif len(arguments) == 2 and arguments[0] == "export":
        export_base(Path(arguments[1]))
        print(BASE)
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
