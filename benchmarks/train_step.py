"""One train step on the CPU in float32: vidlmm against transformers and torch, same weights, same batch.

    pip install torch==2.13.0 transformers
    python benchmarks/train_step.py [--repeats 11]

A small LLaVA-OneVision with random weights, made by transformers, written to a folder and read from there as a run's
beginning. The batch is 16 videos of 8 frames, of which 42 % have a caption, 41 % a conversation of open questions and
17 % a multiple-choice answer, with as many words as each of them usually has. transformers gets what its processor
makes of it: rows padded to the longest, the attention mask, labels of -100 where nothing is trained. We get three
rows, packed first-fit, the longest first, and as short as they can be (in a run a config's row length is chosen so
that 96 % of the places and more are filled: benchmarks/packing.py). Both run forward, backward, clipping to norm 1
and AdamW (torch's fused one); the rate is 0, so that every step has the same loss, which both must print. Attention
is each side's default.

Useful tokens are those that are no padding: the same number for both. Steps go in pairs, in which each side is first
every second time; the figure is the median of the pairs' ratios, so that a machine that is slow for a while is slow for
both. The ratio of processor times is told next to it; there a thread of torch counts that waits for another.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from vidlmm.checkpoint.layout import Overrides
from vidlmm.checkpoint.released import open_released
from vidlmm.checkpoint.run import video_lm_skeleton
from vidlmm.layout import Batch, Media, assemble, merge, pack, video_plan
from vidlmm.layout.row import VIDEO
from vidlmm.parallel import make_mesh, param_shardings
from vidlmm.spec import ModelSpec
from vidlmm.train.program import stage_program
from vidlmm.train.setup import first_params
from vidlmm.train.stage import Stage

VIDEOS, FRAMES, REPEATS = 16, 8, 11
ROWS = 3
SIDE, PATCH, VOCAB = 96, 12, 4096
IMAGE_TOKEN, VIDEO_TOKEN = VOCAB - 2, VOCAB - 1
RESULTS = Path(__file__).parent / "results" / "train_step.json"


@dataclass(frozen=True)
class Sample:
    """A video and one conversation about it: words before and after it, and how many of the latter are trained."""

    pixels: np.ndarray
    before: np.ndarray
    after: np.ndarray
    trained: int


def samples() -> list[Sample]:
    """The batch; question and answer lengths around those of captions, open questions and choices."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(VIDEOS):
        kind = ("caption",) * 7 + ("open",) * 7 + ("choice",) * 2
        middle = {"caption": (20, 260), "open": (80, 120), "choice": (90, 8)}[kind[number]]
        question, answer = (max(4, round(n * rng.uniform(0.5, 1.5))) for n in middle)
        pixels = rng.standard_normal((FRAMES, SIDE, SIDE, 3)).astype(np.float32)
        words = rng.integers(3, VOCAB - 10, 14 + question + answer).astype(np.int32)
        found.append(Sample(pixels, words[:14], words[14:], answer))
    return found


def made() -> Any:
    """A model of transformers: a tower of 4 layers of 256, a decoder of 6 layers of 384."""
    torch.manual_seed(0)
    vision = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4}
    vision |= {"model_type": "siglip_vision_model", "image_size": SIDE, "patch_size": PATCH, "vision_use_head": False}
    text = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 6}
    text |= {"model_type": "qwen2", "vocab_size": VOCAB, "num_key_value_heads": 2, "max_position_embeddings": 4096}
    config = transformers.LlavaOnevisionConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=IMAGE_TOKEN,
        video_token_id=VIDEO_TOKEN,
        image_grid_pinpoints=[[SIDE, SIDE]],
    )
    return transformers.LlavaOnevisionForConditionalGeneration(config).float().train()


def theirs(model: Any, batch: list[Sample], places: int) -> tuple[Callable[[], float], int]:
    """A step of torch on padded rows, which gives the loss, and the number of its places."""
    rows = [[*one.before, *[VIDEO_TOKEN] * places, *one.after] for one in batch]
    length = max(map(len, rows))
    ids, mask, labels = (torch.full((len(rows), length), fill) for fill in (0, 0, -100))
    for number, (row, one) in enumerate(zip(rows, batch, strict=True)):
        ids[number, : len(row)] = torch.tensor([int(word) for word in row])
        mask[number, : len(row)] = 1
        labels[number, len(row) - one.trained : len(row)] = ids[number, len(row) - one.trained : len(row)]
    pixels = torch.from_numpy(np.stack([one.pixels for one in batch])).permute(0, 1, 4, 2, 3).contiguous()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0, fused=True)

    def step() -> float:
        optimizer.zero_grad()
        loss = model(input_ids=ids, attention_mask=mask, pixel_values_videos=pixels, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    return step, ids.numel()


def ours(folder: Path, spec: ModelSpec, batch: list[Sample]) -> tuple[Callable[[], float], int, float]:
    """A step of vidlmm on packed rows, which gives the loss, the number of its places, and seconds to compile it."""
    plan = video_plan(FRAMES, spec)
    rows = []
    for one in batch:
        ids = np.concatenate([one.before, [VIDEO], one.after]).astype(np.int32)
        labels = np.where(np.arange(len(ids)) >= len(ids) - one.trained, ids, -100).astype(np.int32)
        rows.append((merge(ids, labels, [plan]), Media(one.pixels)))
    rows.sort(key=lambda one: -len(one[0]))
    lengths = [len(row) for row, _ in rows]
    length = row_length(lengths)
    count, frames = ROWS, len(rows) * FRAMES
    made = assemble(rows, count, length, frames, spec.tables(), pack(lengths, length))
    stage = Stage(
        name="step", objective="sft", trainable=("tower", "connector", "decoder"), lr=0.0, rows=count,
        length=length, frames=frames,
    )  # fmt: skip
    mesh, whole = make_mesh(devices=jax.devices()[:1]), video_lm_skeleton(spec)
    program = stage_program(
        stage, spec, whole, mesh, seed=0, dtype=jnp.float32, param_dtype=jnp.float32, remat="dots", chunk=1024
    )
    shardings = param_shardings(mesh, whole.shapes, whole.axes)
    state, frozen, _ = program.begin(first_params(str(folder), spec, 0, jnp.float32, shardings, print))
    arrays = {f.name: jnp.asarray(getattr(made, f.name)) for f in fields(Batch)}
    rates = jnp.zeros(1)
    began = time.perf_counter()
    compiled = jax.jit(program.step(), donate_argnums=0).lower(state, frozen, arrays, rates).compile()
    took = time.perf_counter() - began
    held = [state]

    def step() -> float:
        held[0], metrics = compiled(held[0], frozen, arrays, rates)
        return float(jax.block_until_ready(metrics)["loss"])

    return step, made.table.size, took


def row_length(lengths: list[int]) -> int:
    """The least multiple of 64 at which `ROWS` rows hold all samples."""
    length = max(max(lengths), -(-sum(lengths) // ROWS))
    length += -length % 64
    while max(pack(lengths, length)) >= ROWS:
        length += 64
    return length


@dataclass(frozen=True)
class Times:
    """Seconds of each step of both, by the clock and of the processor, pair by pair."""

    clock: dict[str, list[float]]
    processor: dict[str, list[float]]


def timed(steps: Mapping[str, Callable[[], float]], repeats: int) -> Times:
    """Pairs of steps, the first of a pair by turns."""
    times = Times({name: [] for name in steps}, {name: [] for name in steps})
    for turn in range(repeats):
        for name in list(steps)[:: -1 if turn % 2 else 1]:
            clock, processor = time.perf_counter(), time.process_time()
            steps[name]()
            times.clock[name].append(time.perf_counter() - clock)
            times.processor[name].append(time.process_time() - processor)
    return times


def ratios(seconds: Mapping[str, Sequence[float]]) -> list[float]:
    """How much faster ours was, pair by pair."""
    return [one / other for one, other in zip(seconds["transformers"], seconds["vidlmm"], strict=True)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Time both in turn, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=REPEATS, help=f"pairs of timed steps (default: {REPEATS})")
    repeats = parser.parse_args(arguments).repeats
    if repeats < 1:
        parser.error(f"--repeats is {repeats}; at least 1 pair of steps is timed")
    torch.set_num_threads(os.cpu_count() or 1)
    batch, model = samples(), made()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        spec = open_released(Path(folder), Overrides()).spec
        plan = video_plan(FRAMES, spec)
        useful = sum(len(one.before) + len(plan) + len(one.after) for one in batch)
        padded, padded_places = theirs(model, batch, len(plan))
        packed, packed_places, compiling = ours(Path(folder), spec, batch)
    steps = {"transformers": padded, "vidlmm": packed}
    losses = {name: step() for name, step in steps.items()}
    times = timed(steps, repeats)
    medians = {name: statistics.median(own) for name, own in times.clock.items()}
    places = {"transformers": padded_places, "vidlmm": packed_places}
    rows = {
        name: {
            "places": places[name],
            "useful_share": round(useful / places[name], 3),
            "seconds": round(medians[name], 4),
            "processor_seconds": round(statistics.median(times.processor[name]), 4),
            "useful_tokens_a_second": round(useful / medians[name]),
            "loss": losses[name],
        }
        for name in steps
    }
    by_clock, by_processor = sorted(ratios(times.clock)), ratios(times.processor)
    ratio, of_processor = (round(statistics.median(found), 2) for found in (by_clock, by_processor))
    for name, row in rows.items():
        print(
            f"{name:13} {row['places']:6} places, {row['useful_share']:.0%} useful   {row['seconds']:.3f} s   "
            f"{row['useful_tokens_a_second']:6} useful tokens/s   loss {row['loss']:.6f}"
        )
    print(
        f"ratio {ratio}   (of {repeats} pairs, {by_clock[0]:.2f} to {by_clock[-1]:.2f}; of processor times "
        f"{of_processor}; {useful} useful tokens, compiled in {compiling:.1f} s)"
    )
    about = {
        "ratio_of_processor_times": of_processor, "pairs": repeats, "useful_tokens": useful,
        "compile_seconds": round(compiling, 1), "torch": torch.__version__,
        "transformers": transformers.__version__, "jax": jax.__version__, "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }  # fmt: skip
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"rows": rows, "ratio": ratio, **about}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
