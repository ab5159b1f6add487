"""Small models and batches that the tests of this folder share."""

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import numpy as np
from flax import nnx

from vidlmm.layout import Batch, Row, assemble, merge, video_plan
from vidlmm.models import VideoLM
from vidlmm.spec import ConnectorSpec, DecoderSpec, ModelSpec, PixelSpec, TowerSpec

SPEC = ModelSpec(
    name="tiny",
    tower=TowerSpec(image_size=16, patch_size=4, width=16, layers=2, heads=2, mlp=32),
    connector=ConnectorSpec(pool_mode="average", pool_stride=2),
    decoder=DecoderSpec(
        vocab=50, width=32, layers=3, heads=4, kv_heads=2, mlp=48, rope_base=1e4, tied_head=True, max_length=256
    ),
    pixels=PixelSpec(size=16),
)


def tiny_model(seed: int = 0, **changes: Any) -> VideoLM:
    """A model of SPEC, fresh each time; decoder fields can be changed by name, `dtype` and `remat` go to the model."""
    return nnx.merge(*_built(seed, tuple(sorted(changes.items(), key=str))))


@cache
def _built(seed: int, changes: tuple[tuple[str, Any], ...]) -> tuple[nnx.GraphDef, nnx.State]:
    decoder, model = dict(changes), {}
    for name in {"dtype", "remat"} & set(decoder):
        model[name] = decoder.pop(name)
    spec = replace(SPEC, decoder=replace(SPEC.decoder, **decoder))
    return nnx.split(nnx.jit(lambda: VideoLM(spec, rngs=nnx.Rngs(seed), **model))())


def video_row(frames: int, before: int, after: int, seed: int = 0) -> tuple[Row, np.ndarray]:
    """A sample: `before` text ids, a video of random frames, `after` ids that are all trained."""
    rng = np.random.default_rng(seed)
    text = rng.integers(0, SPEC.decoder.vocab, before + after).astype(np.int32)
    ids = np.concatenate([text[:before], [-201], text[before:]]).astype(np.int32)
    labels = np.concatenate([np.full(before + 1, -100), text[before:]]).astype(np.int32)
    return merge(ids, labels, [video_plan(frames, SPEC)]), rng.integers(0, 256, (frames, 16, 16, 3), np.uint8)


def tiny_batch(rows: int = 3, length: int = 40, frames: int = 5) -> Batch:
    """Samples of different lengths and numbers of frames."""
    samples = [video_row(1 + number % 2, 3 + number, 6, number) for number in range(rows)]
    return assemble(samples, rows=rows, length=length, frames=frames, tables=SPEC.tables())


def on_device(batch: Batch) -> Batch:
    """The same batch with device arrays."""
    return Batch(**{name: jax.numpy.asarray(value) for name, value in batch.arrays().items()})
