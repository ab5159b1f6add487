"""`vidlmm inspect`: what a model is, before anything of it is loaded."""

import argparse
import dataclasses
from pathlib import Path

from vidlmm.spec import SYSTEMS, DecoderSpec, ModelSpec, from_json

FRAMES = (8, 16, 32, 64, 128, 256, 512)
PARTS = ("tower", "connector", "decoder")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=f"folder of a run, or one of {', '.join(sorted(SYSTEMS))}")


def run(args: argparse.Namespace) -> int:
    spec = find_spec(args.model)
    print("\n\n".join("\n".join(lines) for lines in (describe(spec), sizes(spec), tokens(spec))))
    return 0


def find_spec(model: str) -> ModelSpec:
    """The spec of a run's folder or of a published system.

    Raises:
        ValueError: neither; the message lists the systems.
    """
    stored = Path(model) / "spec.json"
    if stored.is_file():
        return from_json(stored.read_text())
    if model in SYSTEMS:
        return SYSTEMS[model]
    raise ValueError(f"{model}: neither a folder with a spec.json nor one of {', '.join(sorted(SYSTEMS))}")


def describe(spec: ModelSpec) -> list[str]:
    """Every field of the spec, one part a line."""
    lines = [spec.name]
    for part in dataclasses.fields(spec):
        value = getattr(spec, part.name)
        if dataclasses.is_dataclass(value):
            fields = (f"{f.name}={getattr(value, f.name)}" for f in dataclasses.fields(value))
            lines.append(f"  {part.name:10} {' '.join(fields)}")
    return lines


def sizes(spec: ModelSpec) -> list[str]:
    """Parameters and their memory; shapes only, no weight is made."""
    counts = parameter_counts(spec)
    lines = [f"{'parameters':12} {'number':>16} {'float32':>10} {'bfloat16':>10}"]
    for name, count in (*counts.items(), ("all", sum(counts.values()))):
        lines.append(f"  {name:10} {count:16,} {in_words(4 * count):>10} {in_words(2 * count):>10}")
    return lines


def parameter_counts(spec: ModelSpec) -> dict[str, int]:
    """Parameters of tower, connector and decoder."""
    import jax
    from flax import nnx

    from vidlmm.models.video_lm import VideoLM

    model = nnx.eval_shape(lambda: VideoLM(spec, rngs=nnx.Rngs(0)))
    counts = {}
    for part in PARTS:
        leaves = jax.tree.leaves(nnx.state(getattr(model, part), nnx.Param))
        counts[part] = sum(leaf.size for leaf in leaves)
    return counts


def tokens(spec: ModelSpec) -> list[str]:
    """What a video of so many frames takes in the decoder: tokens, and the cache that holds them."""
    from vidlmm.layout.video import video_plan

    lines = [f"{'frames':12} {'tokens':>16} {'cache, bfloat16':>21}"]
    for frames in FRAMES:
        count = len(video_plan(frames, spec).table)
        note = "" if count < spec.decoder.max_length else f"  over the decoder's {spec.decoder.max_length} positions"
        lines.append(f"  {frames:<10} {count:16,} {in_words(2 * count * cache_values(spec.decoder)):>21}{note}")
    return lines


def cache_values(spec: DecoderSpec) -> int:
    """Numbers that the cache keeps for one token: a key and a value in every layer and key-value head."""
    return 2 * spec.layers * spec.kv_heads * spec.dim_per_head


def in_words(count: int) -> str:
    """A number of bytes in the largest unit that it fills."""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.1f} {unit}"
