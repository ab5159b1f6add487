"""What a model takes, as lines: parameters and their memory, tokens of videos and the cache that holds them."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

from vidlmm.spec import DecoderSpec, ModelSpec
from vidlmm.spec.systems_valley import VALLEY_TOKENS

FRAMES = (8, 16, 32, 64, 128, 256, 512)
# Parts of VideoLM in the order in which media walk through them.
PARTS = {
    "tower": "vision tower",
    "image_tower": "image tower",
    "audio": "audio tower",
    "audio_projector": "audio projector",
    "connector": "connector",
    "decoder": "decoder",
    "action_heads": "action heads",
}
WIDTH = max(map(len, PARTS.values()))
# A sound of 30 s at a hundred windows a second, the longest that a release hears.
LONGEST_SOUND = 2998


def parameter_counts(shapes: Mapping[str, Any]) -> dict[str, int]:
    """Parameters of each part that a model has, in the order of `PARTS`.

    Args:
        shapes: dotted name to anything with `.shape`, as `Skeleton.shapes`.
    """
    counts = dict.fromkeys(PARTS, 0)
    for name, array in shapes.items():
        counts[name.split(".")[0]] += prod(array.shape)
    return {part: count for part, count in counts.items() if count}


def parameter_lines(spec: ModelSpec, shapes: Mapping[str, Any]) -> list[str]:
    """Parameters and their memory, part by part."""
    counts = parameter_counts(shapes)
    lines = [f"{'parameters':{WIDTH + 2}} {'number':>16} {'float32':>12} {'bfloat16':>12}"]
    for name, count in (*((PARTS[part], count) for part, count in counts.items()), ("all", sum(counts.values()))):
        lines.append(f"  {name:{WIDTH}} {count:16,} {in_words(4 * count):>12} {in_words(2 * count):>12}")
    if spec.decoder.experts:
        idle = (spec.decoder.experts - spec.decoder.top_k) * spec.decoder.layers * 3
        used = sum(counts.values()) - idle * spec.decoder.width * spec.decoder.mlp
        lines.append(
            f"  of which a token goes through {used:,} ({spec.decoder.top_k} of {spec.decoder.experts} experts)"
        )
    return lines


def token_lines(spec: ModelSpec) -> list[str]:
    """What a video of so many frames takes in the decoder, and what else takes places there."""
    from vidlmm.layout.image import image_plan
    from vidlmm.layout.item import sound_plan
    from vidlmm.layout.video import video_plan

    if spec.text_only:
        values = cache_values(spec.decoder)
        cache = f"{in_words(4 * values)} of cache in float32, {in_words(2 * values)} in bfloat16"
        return [f"reads text alone: each of {spec.decoder.max_length:,} positions takes {cache}"]
    spec = _with_ids(spec)
    shown = spec.frames.count
    lines = [f"{'frames':{WIDTH + 2}} {'tokens':>16} {'cache, f32':>12} {'bfloat16':>12}"]
    for frames in sorted({*FRAMES, shown} - {0}):
        try:
            count = len(video_plan(frames, spec))
        except ValueError as error:
            lines.append(f"  {frames:<{WIDTH}} {'none':>16}   {error}")
            continue
        values = count * cache_values(spec.decoder)
        notes = _notes(frames, count, spec)
        figures = f"{count:16,} {in_words(4 * values):>12} {in_words(2 * values):>12}"
        lines.append(f"  {frames:<{WIDTH}} {figures}" + (f"   {'; '.join(notes)}" if notes else ""))
    if shown:
        lines.append(f"  The system shows up to {shown} frames; other rows are what it would take with so many.")
    others = [f"a picture in one view takes {len(image_plan(spec)):,}"]
    if spec.audio is not None:
        others.append(f"30 s of sound take {len(sound_plan(LONGEST_SOUND, spec)):,}")
    lines.append(f"  Of the decoder's {spec.decoder.max_length:,} positions {' and '.join(others)}.")
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


def _notes(frames: int, count: int, spec: ModelSpec) -> list[str]:
    notes = ["as the system does"] if frames == spec.frames.count else []
    window = spec.tower.temporal
    if window and frames > window:
        notes.append(f"not the system's: {frames // window} windows of {window} that do not see one another")
    if count >= spec.decoder.max_length:
        notes.append(f"over the decoder's {spec.decoder.max_length:,} positions")
    return notes


def _with_ids(spec: ModelSpec) -> ModelSpec:
    """Valley's blocks are laid out with ids, which a checkpoint's tokenizer may tell; for the count any will do."""
    return spec if spec.special_tokens else replace(spec, special_tokens=VALLEY_TOKENS)
