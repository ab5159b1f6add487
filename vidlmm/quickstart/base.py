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
_TOWER_SCALE = 2.0**-3
_STREAM = frozenset(
    ("patch", "patch_bias", "position", "layers.out", "layers.out_bias", "layers.down", "layers.down_bias")
)
# What of the connector the decoder has learned to read.
_NEWLINE = ("connector.newline",)


def make_tokenizer(folder: Path = BASE) -> Path:
    """Train the tokenizer and write it to `folder`; the same bytes every time."""
    path = folder / "tokenizer.json"
    write_atomic(path, train_tokenizer(corpus(SEED, _SCRIPTS), _VOCAB) + "\n")
    return path


def export_base(tower: Path, decoder: Path, folder: Path = BASE) -> None:
    """Write the weights of finished base runs to `folder` in bfloat16, with the figures that the card points to.

    Args:
        tower, decoder: the runs that trained the tower and the decoder; the same one where one run did both.

    Raises:
        RunFolderError: a run is not there or not finished.
    """
    of_tower, of_decoder = (load_run(run, jnp.bfloat16)[2] for run in (tower, decoder))
    parts = {
        "tower": {name: array * _scale(name) for name, array in of_tower.items() if name.startswith("tower.")},
        "decoder": {name: array for name, array in of_decoder.items() if name.startswith("decoder.")},
        "connector": {name: of_decoder[name] for name in _NEWLINE},
    }
    for part, params in parts.items():
        save_weights(folder / f"{part}.safetensors", params, jnp.bfloat16)
    made = {
        "command": "vidlmm train --config quickstart_base --workdir runs/quickstart_base",
        "seed": SEED,
        "stages": _stages(tower) | _stages(decoder),
        "parameters": {part: sum(int(array.size) for array in params.values()) for part, params in parts.items()},
        "sha256_of_first_1000_scripts": _sha256(
            "".join(repr(write_script(SEED, "train", number)) for number in range(1000)).encode()
        ),
        "sha256": {
            name: _sha256((folder / name).read_bytes())
            for name in (*(f"{part}.safetensors" for part in parts), "tokenizer.json")
        },
    }
    write_atomic(folder / "made.json", json.dumps(made, indent=2) + "\n")


def _scale(name: str) -> float:
    """What a tower parameter is multiplied with, so that the features come out small.

    The loss sees unit vectors, and every block begins with a norm: nothing kept the residual stream
    from growing far beyond the size of the decoder's embeddings. Its parts are the patches, the positions, and what the
    blocks add; scaling them all scales the features and changes nothing else. A power of two is exact in bfloat16.
    """
    return _TOWER_SCALE if name.removeprefix("tower.") in _STREAM else 1.0


def _stages(run: Path) -> dict[str, dict[str, float]]:
    """The last logged figures of each stage of a run."""
    rows = {row["stage"]: row for row in read_metrics(run / "metrics.jsonl")}
    return {
        stage: {key: round(row[key], 4) for key in ("stage_step", "loss", "accuracy")} for stage, row in rows.items()
    }


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main(arguments: list[str]) -> int:
    """See the top of the file."""
    if arguments == ["tokenizer"]:
        print(make_tokenizer())
    elif len(arguments) in (2, 3) and arguments[0] == "export":
        export_base(Path(arguments[1]), Path(arguments[-1]))
        print(BASE)
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
