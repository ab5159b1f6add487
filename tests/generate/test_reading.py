"""Reading in two parts: the values of one, what is read once, what is told apart, and that company changes no bit."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.generate import tiny
from vidlmm.generate import Generator, Prompt, Sampling, programs
from vidlmm.generate.prompts import Shown, make_prompt
from vidlmm.generate.reading import media_end, parts_of
from vidlmm.layout import video_plan
from vidlmm.layout.row import VIDEO, merge
from vidlmm.layout.shows import Blends
from vidlmm.models import VideoLM
from vidlmm.text import Turn

DRAWN = Sampling(max_new_tokens=8, temperature=1.5, top_p=0.95, seed=3)
GREEDY = Sampling(max_new_tokens=8)
SHOWN = len(video_plan(4, tiny.SPEC))
ROUNDING = 2e-5  # scores and keys of order one, summed in float32 in another order


def laid(before: int, after: int, *, shown: bool = True, seed: int = 0) -> Prompt:
    """So many tokens before and behind a clip."""
    words = np.random.default_rng(seed).integers(1, 256, before + after).astype(np.int32)
    media = [VIDEO] if shown else []
    ids = np.array([*words[:before], *media, *words[before:]], np.int32)
    row = merge(ids, None, [video_plan(4, tiny.SPEC)] if shown else [])
    return Prompt(row, tiny.clip(0, 4 if shown else 0), f"{before} {after} {seed}")


def asked(clip: int, question: str, **changes) -> Prompt:
    turns = [Turn("user", f"<video>\n{question}")]
    name = f"{clip} {question}"
    return make_prompt(turns, [Shown("video", tiny.clip(clip))], tiny.SPEC, tiny.tokenizer(), id=name, **changes)


def at_once(made: Generator, prompt: Prompt) -> programs.Reading:
    table, row = np.zeros((2, 256), np.int32)
    table[: len(prompt.row)], row[: len(prompt.row)] = prompt.row.table, prompt.row.row
    none = np.zeros((0, 4), np.int32), np.zeros((0, 4), np.float32)
    embeds = programs.embed(made._graph, made._params, table, row, made.visual.encode(prompt), *none)
    return programs.read(made._graph, made._params, embeds, np.int32(len(prompt.row)), vocab=made._vocab)


@pytest.mark.parametrize(
    ("prompt", "end", "capacity"),
    [
        (laid(5, 0, shown=False), 0, 128),
        (laid(130, 70, shown=False), 0, 512),
        (laid(5, 0), 0, 128),  # ends with what it shows
        (laid(5, 1), 5 + SHOWN, 128 + 32),
        (laid(0, 32), SHOWN, 128 + 32),
        (laid(5, 33), 5 + SHOWN, 128 + 64),
        (laid(128 - SHOWN, 5), 128, 128 + 32),  # a full bucket
        (laid(129 - SHOWN, 65), 129, 512 + 128),  # more places than a slot
    ],
    ids=lambda value: value.id if isinstance(value, Prompt) else str(value),
)
def test_two_parts_have_the_numbers_of_one(prompt: Prompt, end: int, capacity: int):
    # Weights as they are drawn: those of `tiny.model` spread scores, and rounding with them.
    made = Generator(VideoLM(tiny.SPEC, rngs=nnx.Rngs(0)), tiny.tokenizer(), lengths=tiny.LENGTHS)
    assert media_end(prompt.row) == end
    found, wanted = made._reader([prompt]).read(0), at_once(made, prompt)
    count = len(prompt.row)
    assert found.cache.capacity == capacity and found.cache.length.tolist() == [count]
    np.testing.assert_allclose(found.logits, wanted.logits, rtol=0, atol=ROUNDING)
    for part in ("k", "v"):
        ours, theirs = (np.asarray(getattr(one.cache, part))[..., :count, :] for one in (found, wanted))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=ROUNDING)
    np.testing.assert_array_equal(found.cache.segment[0], np.arange(capacity) < count)
    np.testing.assert_array_equal(found.cache.position[0, :count], np.arange(count))


@pytest.mark.parametrize("prompt", [laid(5, 70), laid(129 - SHOWN, 65)], ids=lambda prompt: prompt.id)
def test_a_reading_with_more_places_than_a_slot_is_answered_from(prompt: Prompt):
    made = Generator(tiny.model(), tiny.tokenizer(), slots=2, lengths=(208,))
    made._stops = np.full_like(made._stops, -1)
    assert made._reader([prompt]).read(0).cache.capacity > 208 + 64
    answer = made.generate([prompt], GREEDY)[0]
    assert list(answer.ids) == tiny.forced_choices(prompt, answer.ids) and len(answer.ids) == 8


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_company_and_order_change_no_answer(sampling: Sampling):
    prompts = [asked(clip, question) for question in tiny.QUESTIONS for clip in (0, 1)]
    prompts += [laid(5, 3), laid(5, 0), laid(5, 40, seed=1), laid(9, 0, shown=False)]
    alone = [tiny.generator().generate([prompt], sampling)[0] for prompt in prompts]
    assert len({answer.ids for answer in alone}) > 6
    assert tiny.generator().generate(prompts, sampling) == alone
    order = np.random.default_rng(5).permutation(len(prompts)).tolist()
    assert tiny.generator().generate([prompts[i] for i in order], sampling) == [alone[i] for i in order]


def test_a_reading_has_the_same_bits_whatever_was_read_before():
    prompts = [asked(0, question) for question in tiny.QUESTIONS[:3]] + [asked(1, "Why?")]
    together = tiny.generator()._reader(prompts)
    for number in (2, 3, 1, 0):
        alone = tiny.generator()._reader([prompts[number]]).read(0)
        jax.tree.map(np.testing.assert_array_equal, together.read(number), alone)


def test_what_several_prompts_share_is_read_once(monkeypatch):
    short = [(clip, question) for question in ("Why?", "What?", "Where is it?") for clip in (0, 1)]
    prompts = [asked(clip, question, sample=n) for clip, question in short for n in (0, 1)]
    seen = tiny.readings(monkeypatch)
    tiny.generator().generate(prompts, DRAWN)
    # Two clips, three questions about each, two samples of every answer.
    assert seen["read"] == [media_end(prompts[0].row)] * 2
    assert len(seen["extend"]) == 6
    tiny.generator().generate([laid(5, 0), laid(9, 0, shown=False)], GREEDY)
    assert seen["read"][2:] == [5 + SHOWN, 9] and len(seen["extend"]) == 6


def test_prompts_share_what_they_show_and_what_stands_before_it_alone():
    one, other = asked(0, "Why?"), asked(0, "What?")
    same, further = parts_of([one, other])
    assert same[:2] == further[:2] and same.whole != further.whole
    assert parts_of([asked(0, "Why?")]) == [same]  # other arrays of the same content

    row, shows = one.row, one.row.shows
    ids = row.row.copy()
    ids[0] += 1
    blends = Blends(np.zeros((1, 4), np.int32), np.ones((1, 4), np.float32))
    for changed in (
        replace(one, frames=tiny.clip(1)),
        replace(one, row=replace(row, row=ids)),
        replace(one, row=replace(row, shows=replace(shows, blends=blends))),
    ):
        found = parts_of([changed])[0]
        assert found.prefix != same.prefix and found.whole != same.whole


def test_a_later_medium_is_part_of_what_is_read_first():
    turns = [Turn("user", "<video>\nWhy?"), Turn("assistant", "So."), Turn("user", "<video>\nAnd here?")]
    media = [Shown("video", tiny.clip(seed)) for seed in (0, 1)]
    prompt = make_prompt(turns, media, tiny.SPEC, tiny.tokenizer())
    end = media_end(prompt.row)
    assert (prompt.row.table[end:] == 1).all() and prompt.row.table[end - 1] != 1
    assert len(prompt.row) - end < len("\nAnd here?<|im_end|><|im_start|>assistant\n")


def test_what_stands_for_padding_is_not_seen():
    graph, params = nnx.split(tiny.model())
    model = nnx.merge(graph, jax.tree.map(jnp.copy, params))
    model.decoder.embed[...] = model.decoder.embed[...].at[0].set(jnp.nan)
    made = Generator(model, tiny.tokenizer(), slots=1, lengths=tiny.LENGTHS)
    found, wanted = (one._reader([laid(5, 3)]).read(0) for one in (made, tiny.generator()))
    # Its own score is not a number, for the head is tied; the others are what they were.
    np.testing.assert_array_equal(found.logits[:, 1:], wanted.logits[:, 1:])
