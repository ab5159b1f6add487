"""A model that takes a moment: 32 wide, 2 layers, random weights, and prompts for it."""

from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vidlmm.generate import Generator, Prompt, make_prompt, programs
from vidlmm.generate.prompts import Shown
from vidlmm.layout import Batch
from vidlmm.models import VideoLM
from vidlmm.spec import ConnectorSpec, DecoderSpec, FrameSpec, ModelSpec, PixelSpec, PromptSpec, TowerSpec
from vidlmm.text import Tokenizer, Turn, load_tokenizer

TOKENIZER = Path(__file__).parents[1] / "goldens" / "llava_video" / "12_tokenization"
SPEC = ModelSpec(
    name="tiny",
    tower=TowerSpec(image_size=16, patch_size=4, width=16, layers=2, heads=2, mlp=32),
    connector=ConnectorSpec(pool_mode="average", pool_stride=2, newline="grid"),
    decoder=DecoderSpec(vocab=288, width=32, layers=2, heads=4, kv_heads=2, mlp=64, tied_head=True, max_length=512),
    frames=FrameSpec(count=4, time_text="none"),
    pixels=PixelSpec(size=16),
    prompt=PromptSpec(template="qwen_1_5"),
)
LENGTHS = (128, 512)
QUESTIONS = ("Why?", "What moves to the left, and what comes after it?", "Describe the clip.", "Is it red or blue?")


@cache
def tokenizer() -> Tokenizer:
    return load_tokenizer(TOKENIZER)


@cache
def model(seed: int = 0) -> VideoLM:
    """Random weights, spread widely enough that answers differ."""
    made = VideoLM(SPEC, rngs=nnx.Rngs(seed))
    graph, params = nnx.split(made)
    return nnx.merge(graph, jax.tree.map(lambda leaf: leaf * 1.7 if leaf.ndim > 1 else leaf, params))


@cache
def generator() -> Generator:
    return Generator(model(), tokenizer(), slots=4, lengths=LENGTHS)


def clip(seed: int, frames: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, 16, 16, 3), dtype=np.uint8)


def prompt(seed: int, frames: int = 4, **changes) -> Prompt:
    """Prompt number `seed`, about a clip of its own; the text decides the length bucket."""
    question = QUESTIONS[seed % len(QUESTIONS)] * (1 + 3 * (seed % 3 == 2))
    turns = [Turn("user", f"<video>\n{question}" if frames else question)]
    media = [Shown("video", clip(seed, frames))] if frames else []
    return make_prompt(turns, media, SPEC, tokenizer(), **{"id": f"q{seed}", **changes})


def forced_choices(asked: Prompt, ids: tuple[int, ...]) -> list[int]:
    """The likeliest token at each place of an answer, by the whole model on the whole sequence at once."""
    table = jnp.concatenate([asked.row.table, np.ones(len(ids), np.int32)])[None]
    places = jnp.concatenate([asked.row.row, np.array(ids, np.int32)])[None]
    position = jnp.arange(table.shape[1], dtype=jnp.int32)[None]
    one, none, weight = jnp.ones_like(position), jnp.zeros_like(position), jnp.zeros(position.shape)
    graph, params = nnx.split(model())

    @jax.jit
    def scores(params, frames):
        whole = nnx.merge(graph, params)
        hidden = whole.hidden(Batch(frames, table, places, position, one, none, none, weight))  # type: ignore[arg-type]
        return whole.logits(hidden[0, len(asked.row) - 1 : -1])

    found = np.asarray(scores(params, asked.frames))[:, : tokenizer().vocab_size]
    return found.argmax(axis=-1).tolist()


def readings(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Places that each program reads from here on, call by call."""
    seen: dict[str, list[int]] = {"read": [], "extend": []}

    def counted(name: str) -> None:
        plain = getattr(programs, name)

        def call(*args, **more):
            seen[name].append(int(args[-1]))
            return plain(*args, **more)

        monkeypatch.setattr(programs, name, call)

    for name in seen:
        counted(name)
    return seen
