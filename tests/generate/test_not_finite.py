"""Scores that are not finite: the prompt by name, what to do, and what the others had said until then."""

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.generate import tiny
from vidlmm.generate import Chat, GenerationError, Generator, Prompt, Sampling
from vidlmm.generate.prompts import Shown
from vidlmm.models import VideoLM

# Tokens of a first look at the slots, of a second, and a few of a third.
GREEDY = Sampling(max_new_tokens=12)
UNTIED = replace(tiny.SPEC, decoder=replace(tiny.SPEC.decoder, tied_head=False))


def generator(model: VideoLM) -> Generator:
    made = Generator(model, tiny.tokenizer(), slots=4, lengths=tiny.LENGTHS)
    made._stops = np.full_like(made._stops, -1)  # every answer is as long as it may be
    return made


@cache
def untied() -> VideoLM:
    graph, params = nnx.split(VideoLM(UNTIED, rngs=nnx.Rngs(3)))
    return nnx.merge(graph, jax.tree.map(lambda leaf: leaf * 1.7 if leaf.ndim > 1 else leaf, params))


def damaged(dtype: Any) -> VideoLM:
    """A model without a single good weight."""
    graph, params = nnx.split(VideoLM(tiny.SPEC, rngs=nnx.Rngs(0), dtype=dtype, param_dtype=dtype))
    return nnx.merge(graph, jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), params))


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return [tiny.prompt(seed) for seed in (0, 1, 3)]


@pytest.fixture(scope="module")
def whole(prompts: list[Prompt]) -> list[tuple[int, ...]]:
    return [answer.ids for answer in generator(untied()).generate(prompts, GREEDY)]


def poisoned(whole: list[tuple[int, ...]], prompts: list[Prompt]) -> tuple[VideoLM, int]:
    """A model that cannot read a token which the first answer alone holds, and the token's place in it."""
    read = {int(one) for prompt in prompts for one in prompt.row.row[prompt.row.table == 1]}
    others = {token for ids in whole[1:] for token in ids} | read
    place = next(n for n, token in enumerate(whole[0]) if n < 11 and token not in others)
    graph, params = nnx.split(untied())
    model = nnx.merge(graph, jax.tree.map(jnp.copy, params))
    model.decoder.embed[...] = model.decoder.embed[...].at[whole[0][place]].set(jnp.nan)
    return model, place


def test_the_error_names_the_prompt_the_token_and_the_type():
    with pytest.raises(GenerationError, match=r"prompt q0: the scores of token 1 are not finite") as caught:
        generator(damaged(jnp.float32)).generate([tiny.prompt(0)], GREEDY)
    assert "computed in float32; in float32 that means damaged weights: fetch them again" in str(caught.value)
    assert (caught.value.prompt, caught.value.token, caught.value.answers) == ("q0", 1, ())


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [
        (jnp.bfloat16, "computed in bfloat16; load the model with dtype='float32'"),
        (
            jnp.float16,
            "float16; float16 ends at 65504, so load the model with dtype='bfloat16' or 'float32'",
        ),
    ],
)
def test_a_narrow_type_is_told_to_become_a_wider_one(dtype, advice):
    with pytest.raises(GenerationError, match=advice):
        generator(damaged(dtype)).generate([tiny.prompt(0)], GREEDY)


def test_pixels_that_are_not_finite_are_told_from_damaged_weights():
    seen = tiny.prompt(1)
    frames = np.full(seen.frames.shape, np.nan, np.float32)
    with pytest.raises(GenerationError, match="prompt q1: .* neither are its pixels or sounds"):
        generator(untied()).generate([tiny.prompt(0), replace(seen, frames=frames)], GREEDY)


def test_a_token_in_the_middle_stops_its_answer_and_the_others_keep_what_they_said(prompts, whole):
    model, place = poisoned(whole, prompts)
    pieces = {prompt.id: "" for prompt in prompts}

    def collect(name: str, piece: str) -> None:
        pieces[name] += piece

    with pytest.raises(GenerationError) as caught:
        generator(model).generate(prompts, GREEDY, collect)
    assert (caught.value.prompt, caught.value.token) == ("q0", place + 2)
    for prompt, ids in zip(prompts, whole, strict=True):
        text = tiny.tokenizer().decode(ids)
        assert text.strip().startswith(pieces[prompt.id].strip())
    assert pieces["q1"] and pieces["q3"]


def test_answers_that_are_complete_come_with_the_error(prompts, whole):
    model, place = poisoned(whole, prompts)
    # As long as the broken answer got: the others are complete at the same look at the slots.
    length = Sampling(max_new_tokens=max(place + 2, 2))
    seen = []
    with pytest.raises(GenerationError) as caught:
        generator(model).generate(prompts, length, progress=lambda *now: seen.append(now))
    assert [answer.id for answer in caught.value.answers] == ["q1", "q3"]
    for answer, ids in zip(caught.value.answers, whole[1:], strict=True):
        assert answer.ids == ids[: place + 2]
    assert seen == [(1, 3), (2, 3)]


def test_a_conversation_is_as_it_was_before():
    chat = Chat(generator(damaged(jnp.float32)))
    chat._media.append(Shown("video", tiny.clip(0)))
    for _ in range(2):
        with pytest.raises(GenerationError):
            chat.ask("Why?")
    assert chat.turns == ()
