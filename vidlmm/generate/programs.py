"""The compiled programs of generation, each compiled once a size.

    encode    frames of a clip              -> visual tables      a size of the frame pieces
    embed     places and visual tables      -> embedded prompt    cheap to compile
    read      an embedded prompt or prefix  -> keys and values    a length
    extend    text behind what was read     -> keys and values    a length and one of the text
    fork      what was read                 -> a slot             these and a capacity
    advance   all slots, some tokens ahead  -> all slots          a capacity

A prompt is read alone and the slots move together in a program of one shape, so an answer has the same bits
whichever prompts stand in the other slots. Several prompts may extend one reading (`vidlmm.generate.reading`), and
several answers to one prompt are forks of one.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int32, UInt8, UInt32

from vidlmm.generate.sampling import choose, uniforms
from vidlmm.models.cache import Cache
from vidlmm.models.merge import gather_rows, text_rows
from vidlmm.models.video_lm import VideoLM


class Draw(NamedTuple):
    """How tokens are drawn (`Sampling`), and which end an answer."""

    seed: UInt32[Array, ""]
    temperature: Float32[Array, ""]
    top_p: Float32[Array, ""]
    stops: Int32[Array, " S"]


class Slots(NamedTuple):
    """The answers being written; B slots, at most M tokens each.

    written: the tokens so far, `count` of them; the last one is not in the cache yet.
    budget: most tokens of this answer.
    active: whether it goes on. bad: its scores were not finite.
    key: see `stream_key`.
    choices: ids of the C answers that may be given, -1 behind the end of each and in rows without an answer;
        a slot without any is free.
    """

    cache: Cache
    written: Int32[Array, "B M"]
    count: Int32[Array, " B"]
    budget: Int32[Array, " B"]
    active: Bool[Array, " B"]
    bad: Bool[Array, " B"]
    key: UInt32[Array, "B 3"]
    choices: Int32[Array, "B C M"]


@partial(jax.jit, static_argnames=("graph", "slots", "capacity", "room", "choices"))
def empty(graph: Any, params: Any, *, slots: int, capacity: int, room: int, choices: int) -> Slots:
    """Free slots of `capacity` places, for answers of at most `room` tokens, one of at most `choices` if any."""
    return Slots(
        cache=nnx.merge(graph, params).decoder.init_cache(slots, capacity),
        written=jnp.zeros((slots, room), jnp.int32),
        count=jnp.zeros(slots, jnp.int32),
        budget=jnp.zeros(slots, jnp.int32),
        active=jnp.zeros(slots, bool),
        bad=jnp.zeros(slots, bool),
        key=jnp.zeros((slots, 3), jnp.uint32),
        choices=jnp.full((slots, choices, room), -1, jnp.int32),
    )


@partial(jax.jit, static_argnames=("graph",))
def encode(
    graph: Any,
    params: Any,
    frames: UInt8[Array, "F H W 3"] | Float[Array, "F H W 3"],
    clips: Int32[Array, "C T"] | None = None,
    pictures: UInt8[Array, "P h w 3"] | Float[Array, "P h w 3"] | None = None,
    sounds: Float32[Array, "S A m"] | None = None,
    sound_frames: Int32[Array, " S"] | None = None,
) -> tuple[Float[Array, "_ D"], ...]:
    """Visual tables of some media; see `VideoLM.encode`."""
    return nnx.merge(graph, params).encode(frames, clips, pictures, sounds, sound_frames, answering=True)


@partial(jax.jit, static_argnames=("graph",))
def embed(
    graph: Any,
    params: Any,
    table: Int32[Array, " L"],
    row: Int32[Array, " L"],
    pieces: Sequence[tuple[Float[Array, "_ D"], ...]],
    taps: Int32[Array, "M 4"],
    shares: Float32[Array, "M 4"],
) -> Float[Array, "1 L D"]:
    """Places of a prompt as vectors; `pieces` are the tables of its media, piece by piece."""
    model = nnx.merge(graph, params)
    visual = tuple(jnp.concatenate(level) for level in zip(*pieces, strict=True))
    if model.spec.connector.blends:
        visual = model.blended(visual, taps, shares)
    return gather_rows(table[None], row[None], model.decoder.embed[...], model.connector.special(), visual)


class Reading(NamedTuple):
    """A prompt or a prefix that was read: what any number of answers, or of rests, go on from.

    cache: one slot. logits: scores of the next token.
    """

    cache: Cache
    logits: Float32[Array, "1 V"]


@partial(jax.jit, static_argnames=("graph", "vocab"))
def read(graph: Any, params: Any, embeds: Float[Array, "1 L D"], length: Int32[Array, ""], *, vocab: int) -> Reading:
    """Reads a prompt, or a prefix, of `length` places."""
    model = nnx.merge(graph, params)
    place, inside = _row(embeds.shape[1], length)
    alone = model.decoder.init_cache(1, embeds.shape[1])
    hidden, alone = model.decoder.prefill(embeds, jnp.where(inside, place, 0), inside.astype(jnp.int32), alone)
    return Reading(alone, _last_scores(model, hidden, length, vocab))


@partial(jax.jit, static_argnames=("graph", "vocab"))
def extend(
    graph: Any, params: Any, reading: Reading, ids: Int32[Array, " T"], length: Int32[Array, ""], *, vocab: int
) -> Reading:
    """Reads `length` tokens of text behind what was read; `reading` stays as it is, for others."""
    model = nnx.merge(graph, params)
    place, inside = _row(ids.shape[0], length)
    embeds = text_rows(ids[None], model.decoder.embed[...], jnp.dtype(model.dtype))
    embeds = jnp.where(inside[..., None], embeds, 0)  # what is hidden is multiplied by 0, and has to be finite
    position = jnp.where(inside, reading.cache.length[:, None] + place, 0)
    hidden, cache = model.decoder.extend(embeds, position, inside.astype(jnp.int32), reading.cache)
    return Reading(cache, _last_scores(model, hidden, length, vocab))


def _row(size: int, length: Int32[Array, ""]) -> tuple[Int32[Array, "1 L"], Bool[Array, "1 L"]]:
    """The places of one row, and which of them hold something."""
    place = jnp.arange(size, dtype=jnp.int32)[None]
    return place, place < length


def _last_scores(
    model: VideoLM, hidden: Float[Array, "1 L D"], length: Int32[Array, ""], vocab: int
) -> Float32[Array, "1 V"]:
    last = jax.lax.dynamic_index_in_dim(hidden[0], length - 1, keepdims=True)
    return model.logits(last)[:, :vocab]


@partial(jax.jit, donate_argnames=("slots",))
def fork(
    slots: Slots,
    slot: Int32[Array, ""],
    reading: Reading,
    budget: Int32[Array, ""],
    key: UInt32[Array, "3"],
    choices: Int32[Array, "C M"],
    draw: Draw,
) -> Slots:
    """Begins an answer in a slot: copies what was read into it and chooses the first token.

    What an earlier answer left behind the prompt's places is never seen: its segment is 0. A reading may have more
    places than a slot; what the slot does not hold is padding.
    """
    blank, start = jnp.zeros((1, slots.written.shape[1]), jnp.int32), jnp.zeros(1, jnp.int32)
    may = allowed(blank, start, choices[None], reading.logits.shape[1])
    token, bad = _pick(reading.logits, key[None], start, may, draw)
    old, alone = slots.cache, reading.cache
    kept = min(old.capacity, alone.capacity)

    def filled(ids: Int32[Array, "1 C"]) -> Int32[Array, " S"]:
        return jnp.pad(ids[0, :kept], (0, old.capacity - kept))

    return Slots(
        cache=Cache(
            k=jax.lax.dynamic_update_slice(old.k, alone.k[..., :kept, :], (0, slot, 0, 0, 0)),
            v=jax.lax.dynamic_update_slice(old.v, alone.v[..., :kept, :], (0, slot, 0, 0, 0)),
            position=old.position.at[slot].set(filled(alone.position)),
            segment=old.segment.at[slot].set(filled(alone.segment)),
            length=old.length.at[slot].set(alone.length[0]),
        ),
        written=slots.written.at[slot, 0].set(token[0]),
        count=slots.count.at[slot].set(1),
        budget=slots.budget.at[slot].set(budget),
        active=slots.active.at[slot].set((budget > 1) & ~_ends(token, draw)[0] & ~bad[0]),
        bad=slots.bad.at[slot].set(bad[0]),
        key=slots.key.at[slot].set(key),
        choices=slots.choices.at[slot].set(choices),
    )


@partial(jax.jit, static_argnames=("graph", "vocab"), donate_argnames=("slots",))
def advance(
    graph: Any,
    params: Any,
    slots: Slots,
    going: Bool[Array, " B"],
    steps: Int32[Array, ""],
    draw: Draw,
    layers: Sequence[dict[str, Array]] = (),
    *,
    vocab: int,
) -> Slots:
    """Writes up to `steps` more tokens in every slot; ends early where all answers are complete.

    Args:
        going: False ends an answer from outside.
        layers: see `vidlmm.generate.apart`.
    """
    model = nnx.merge(graph, params)
    count = slots.written.shape[0]
    rows = jnp.arange(count)

    def unfinished(carry: tuple[Int32[Array, ""], Slots]) -> Bool[Array, ""]:
        return (carry[0] < steps) & jnp.any(carry[1].active)

    def step(carry: tuple[Int32[Array, ""], Slots]) -> tuple[Int32[Array, ""], Slots]:
        done, now = carry
        token = now.written[rows, jnp.maximum(now.count - 1, 0)]
        embeds = jnp.take(model.decoder.embed[...], token, axis=0).astype(model.dtype)[:, None]
        hidden, cache = model.decoder.step(embeds, now.cache.length, now.cache, now.active, layers)
        may = allowed(now.written, now.count, now.choices, vocab)
        token, bad = _pick(model.logits(hidden[:, 0])[:, :vocab], now.key, now.count, may, draw)
        # A place outside the buffer is dropped by the write.
        place = jnp.where(now.active, now.count, now.written.shape[1])
        after = now._replace(
            cache=cache,
            written=now.written.at[rows, place].set(token, mode="drop"),
            count=now.count + now.active.astype(jnp.int32),
            active=now.active & ~_ends(token, draw) & (now.count + 1 < now.budget) & ~bad,
            bad=now.bad | (now.active & bad),
        )
        return done + 1, after

    start = slots._replace(active=slots.active & going)
    return jax.lax.while_loop(unfinished, step, (jnp.zeros((), jnp.int32), start))[1]


def allowed(
    written: Int32[Array, "B M"], count: Int32[Array, " B"], choices: Int32[Array, "B C M"], vocab: int
) -> Bool[Array, "B V"]:
    """Tokens that may come next: those that go on with one of a row's choices; all in a row without choices."""
    rows, answers, room = choices.shape
    if answers == 0:
        return jnp.ones((rows, vocab), bool)
    there = choices[..., 0] >= 0
    begun = (choices == written[:, None]) | (jnp.arange(room) >= count[:, None, None])
    following = jnp.take_along_axis(choices, jnp.minimum(count, room - 1)[:, None, None], axis=-1)[..., 0]
    following = jnp.where(there & jnp.all(begun, axis=-1) & (following >= 0), following, vocab)
    may = jnp.zeros((rows, vocab), bool).at[jnp.arange(rows)[:, None], following].set(True, mode="drop")
    return may | ~jnp.any(there, axis=-1, keepdims=True)


def _pick(
    logits: Float32[Array, "B V"],
    keys: UInt32[Array, "B 3"],
    place: Int32[Array, " B"],
    may: Bool[Array, "B V"],
    draw: Draw,
) -> tuple[Int32[Array, " B"], Bool[Array, " B"]]:
    """The next token of each row among those that may come, and whether its scores were not finite."""
    scores = jnp.where(may, logits, -jnp.inf)
    token = choose(scores, uniforms(draw.seed, keys, place), draw.temperature, draw.top_p)
    return token, ~jnp.all(jnp.isfinite(logits), axis=-1)


def _ends(token: Int32[Array, " B"], draw: Draw) -> Bool[Array, " B"]:
    return jnp.any(token[:, None] == draw.stops, axis=-1)
