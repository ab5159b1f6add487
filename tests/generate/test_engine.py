"""Answers: what they equal, what they do not depend on, when they end, what is compiled and refused."""

from dataclasses import replace
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.generate import tiny
from vidlmm.generate import Generator, PromptError, Sampling, programs
from vidlmm.generate.reading import media_end
from vidlmm.layout import video_plan
from vidlmm.layout.row import IMAGE, merge
from vidlmm.parallel import use_compilation_cache
from vidlmm.text import Tokenizer

DRAWN = Sampling(max_new_tokens=12, temperature=1.5, top_p=0.95, seed=11)
GREEDY = Sampling(max_new_tokens=12)


@pytest.fixture(scope="module")
def prompts():
    return [tiny.prompt(seed) for seed in range(7)] + [tiny.prompt(7, frames=0), tiny.prompt(8, frames=3)]


@pytest.fixture(scope="module", params=[GREEDY, DRAWN], ids=["greedy", "drawn"])
def sampling(request):
    return request.param


@pytest.fixture(scope="module")
def answers(prompts, sampling):
    return tiny.generator().generate(prompts, sampling)


class WithStops:
    """The tokenizer with other end tokens."""

    def __init__(self, *eos_ids: int):
        self.eos_ids = eos_ids

    def __getattr__(self, name):
        return getattr(tiny.tokenizer(), name)


def stopping_at(*ids: int) -> Generator:
    return Generator(tiny.model(), cast("Tokenizer", WithStops(*ids)), slots=4, lengths=tiny.LENGTHS)


def programs_compiled() -> dict[str, int]:
    names = ("empty", "encode", "embed", "read", "extend", "fork", "advance")
    return {name: getattr(programs, name)._cache_size() for name in names}


def test_greedy_answers_are_the_likeliest_tokens_of_the_whole_model(prompts):
    answer = tiny.generator().generate(prompts[:1], GREEDY)[0]
    assert len(answer.ids) == 12 and len(set(answer.ids)) > 2
    assert tiny.forced_choices(prompts[0], answer.ids) == list(answer.ids)


def test_prompts_of_several_buckets_are_answered_in_the_given_order(prompts, answers):
    assert len({len(prompt.row) <= tiny.LENGTHS[0] for prompt in prompts}) == 2
    assert [answer.id for answer in answers] == [prompt.id for prompt in prompts]
    assert len({answer.ids for answer in answers}) > 3


def test_an_answer_alone_has_the_bits_of_one_in_company(prompts, answers, sampling):
    for prompt, answer in zip(prompts, answers, strict=True):
        assert tiny.generator().generate([prompt], sampling) == [answer]


def test_an_answer_does_not_depend_on_the_order(prompts, answers, sampling):
    order = [4, 8, 0, 7, 2, 6, 1, 5, 3]
    turned = tiny.generator().generate([prompts[i] for i in order], sampling)
    assert turned == [answers[i] for i in order]


def test_scores_have_the_same_bits_in_every_slot_and_company(prompts):
    """Equal tokens can hide unequal bits; the cache cannot."""
    made = tiny.generator()

    def state_with(placed: dict[int, int]):
        state = programs.empty(made._graph, made._params, slots=4, capacity=192, room=64, choices=0)
        draw = programs.Draw(*(jnp.asarray(x) for x in (np.uint32(0), np.float32(0), np.float32(1), made._stops)))
        reader = made._reader(prompts)
        for slot, number in placed.items():
            state = made._fork(state, slot, reader.read(number), prompts[number], 12, draw)
        going = np.array([slot in placed for slot in range(4)])
        return programs.advance(
            made._graph, made._params, state, going, np.int32(8), draw, vocab=tiny.tokenizer().vocab_size
        )

    fitting = [i for i, prompt in enumerate(prompts) if len(prompt.row) <= 128]
    one, *others = fitting[:4]
    alone = state_with({0: one})
    for slot in range(4):
        rest = dict(zip([s for s in range(4) if s != slot], others, strict=False))
        among = state_with({slot: one, **rest})
        for name in ("k", "v"):
            np.testing.assert_array_equal(getattr(among.cache, name)[:, slot], getattr(alone.cache, name)[:, 0])
        np.testing.assert_array_equal(among.written[slot], alone.written[0])


def test_samples_of_one_prompt_differ_and_repeat():
    prompts = [tiny.prompt(1, sample=sample) for sample in (0, 1, 2)]
    first = tiny.generator().generate(prompts, DRAWN)
    assert len({answer.ids for answer in first}) == 3
    assert tiny.generator().generate(prompts[::-1], DRAWN) == first[::-1]
    other = tiny.generator().generate(prompts[:1], replace(DRAWN, seed=12))
    assert other[0].ids != first[0].ids


def test_samples_of_one_prompt_are_read_once_and_are_those_of_prompts_read_apart(monkeypatch):
    apart = [tiny.prompt(seed, sample=sample) for seed in (1, 3) for sample in range(6)]
    alone = [tiny.generator().generate([prompt], DRAWN)[0] for prompt in apart]
    seen = tiny.readings(monkeypatch)
    forked = [replace(tiny.prompt(seed), sample=sample) for seed in (1, 3) for sample in range(6)]
    forked = [replace(one, row=forked[n // 6 * 6].row) for n, one in enumerate(forked)]
    mixed = [n for pair in zip(range(6), range(6, 12), strict=True) for n in pair]
    finished = {}
    found = tiny.generator().generate([forked[n] for n in mixed], DRAWN, on_answer=finished.__setitem__)
    assert found == [alone[n] for n in mixed] and finished == dict(enumerate(found))
    ends = [media_end(forked[n].row) for n in (0, 6)]
    assert seen["read"] == ends
    assert seen["extend"] == [len(forked[n].row) - end for n, end in zip((0, 6), ends, strict=True)]


def test_what_an_earlier_answer_left_in_a_slot_is_not_seen():
    """A short prompt enters the slot of a longer one, in one bucket."""
    long, short = tiny.prompt(2), tiny.prompt(0)
    assert len(short.row) < len(long.row)
    made = Generator(tiny.model(), tiny.tokenizer(), slots=1, lengths=(512,))
    alone = made.generate([short], GREEDY)[0]
    assert made.generate([long, short], GREEDY)[1] == alone


def test_ids_that_the_tokenizer_cannot_read_are_never_chosen():
    hot = Sampling(max_new_tokens=64, temperature=50.0)
    ids = [i for answer in tiny.generator().generate([tiny.prompt(i) for i in range(4)], hot) for i in answer.ids]
    assert tiny.SPEC.decoder.vocab > tiny.tokenizer().vocab_size > max(ids)


def test_a_stop_token_ends_the_answer_and_is_not_part_of_it():
    whole = tiny.generator().generate([tiny.prompt(0)], GREEDY)[0]
    place = next(i for i, token in enumerate(whole.ids) if token not in whole.ids[:i] and i >= 2)
    other = tiny.prompt(3)
    ended, further = stopping_at(whole.ids[place]).generate([tiny.prompt(0), other], GREEDY)
    assert ended.ids == whole.ids[:place] and ended.stop_reason == "stop"
    unstopped = tiny.generator().generate([other], GREEDY)[0]
    assert further.ids == unstopped.ids[: len(further.ids)]


def test_a_stop_token_at_once_is_an_empty_answer():
    whole = tiny.generator().generate([tiny.prompt(0)], GREEDY)[0]
    ended = stopping_at(whole.ids[0]).generate([tiny.prompt(0)], GREEDY)[0]
    assert (ended.ids, ended.text, ended.stop_reason) == ((), "", "stop")


@pytest.mark.parametrize("most", [1, 2, 9])
def test_an_answer_has_at_most_max_new_tokens(most):
    whole = tiny.generator().generate([tiny.prompt(2)], GREEDY)[0]
    short = tiny.generator().generate([tiny.prompt(2)], replace(GREEDY, max_new_tokens=most))[0]
    assert short.ids == whole.ids[:most] and short.stop_reason == "length"


def test_an_answer_ends_where_the_model_does():
    made = Generator(tiny.model(), tiny.tokenizer(), slots=4, lengths=tiny.LENGTHS)
    made._stops = np.full_like(made._stops, -1)
    ids = np.array([*([1] * 468), IMAGE], np.int32)
    row = merge(ids, None, [video_plan(4, tiny.SPEC)])
    answer = made.generate([replace(tiny.prompt(0), row=row)], Sampling())[0]
    assert len(answer.ids) == tiny.SPEC.decoder.max_length - len(row) == 20 and answer.stop_reason == "length"


def test_the_stop_text_ends_the_answer_at_its_last_token(monkeypatch):
    made = Generator(tiny.model(), tiny.tokenizer(), slots=4, lengths=tiny.LENGTHS)
    whole = made.generate([tiny.prompt(3)], GREEDY)[0]
    texts = [tiny.tokenizer().decode(whole.ids[:n]) for n in range(13)]
    place = next(n for n in range(4, 13) if texts[n][-1:].isprintable() and texts[n][-1] not in texts[n - 1])
    made.template = replace(made.template, stop_text=texts[place][-1])
    pieces = []
    cut = made.generate([tiny.prompt(3)], GREEDY, lambda _, piece: pieces.append(piece))[0]
    assert cut.ids == whole.ids[:place] and cut.stop_reason == "stop_text"
    assert cut.text == "".join(pieces) == texts[place - 1].strip()
    assert made.generate([tiny.prompt(3)], GREEDY)[0] == cut  # the same, token by token and in strides


def test_streamed_pieces_join_to_the_answers(prompts, answers, sampling):
    pieces = {prompt.id: "" for prompt in prompts}

    def collect(name: str, piece: str) -> None:
        pieces[name] += piece
        assert piece

    assert tiny.generator().generate(prompts, sampling, collect) == answers
    assert pieces == {answer.id: answer.text for answer in answers}


def test_progress_counts_every_answer(prompts):
    seen = []
    tiny.generator().generate(prompts, replace(GREEDY, max_new_tokens=2), progress=lambda *now: seen.append(now))
    assert seen == [(n, len(prompts)) for n in range(1, len(prompts) + 1)]


def test_no_prompts_no_answers():
    assert tiny.generator().generate([]) == []


def test_frames_of_several_questions_are_seen_once():
    made = Generator(tiny.model(), tiny.tokenizer(), slots=4, lengths=tiny.LENGTHS)
    asked = [replace(tiny.prompt(i), frames=tiny.clip(i % 2)) for i in range(6)]
    together = made.generate(asked, GREEDY)
    assert made.visual.encoded == 2
    assert made.generate(asked[:1], GREEDY) == together[:1]
    assert made.visual.encoded == 2


def test_other_frames_under_the_same_name_are_other_frames():
    seen = tiny.prompt(0)
    blank = replace(seen, frames=np.zeros_like(seen.frames))
    a, b = tiny.generator().generate([seen, blank], GREEDY)
    assert a.ids != b.ids


def test_little_memory_changes_no_answer():
    made = Generator(tiny.model(), tiny.tokenizer(), slots=4, lengths=tiny.LENGTHS, kept_bytes=1)
    asked = [replace(tiny.prompt(i), frames=tiny.clip(i % 3)) for i in range(6)]
    assert made.generate(asked, GREEDY) == tiny.generator().generate(asked, GREEDY)
    one_clip = 4 * 4 * tiny.SPEC.decoder.width * 4
    assert made.visual.bytes == one_clip


def test_pieces_of_the_frames_change_no_more_than_rounding():
    made = Generator(tiny.model(), tiny.tokenizer(), slots=4, lengths=tiny.LENGTHS, frames=(1, 2))
    asked = tiny.prompt(5, frames=3)
    pieces = np.concatenate([piece[0] for piece in made.visual.tables("a", asked)])[: 3 * 4]
    whole = programs.encode(made._graph, made._params, asked.frames)[0]
    np.testing.assert_allclose(pieces, whole, rtol=1e-5, atol=1e-5)


def test_a_second_question_compiles_nothing():
    tiny.generator().generate([tiny.prompt(0)], GREEDY)
    before = programs_compiled()
    tiny.generator().generate([tiny.prompt(i) for i in (3, 0, 1)], replace(DRAWN, max_new_tokens=7))
    again = Generator(tiny.model(1), tiny.tokenizer(), slots=4, lengths=tiny.LENGTHS)
    again.generate([tiny.prompt(1)], GREEDY)  # another model of the same shape
    assert programs_compiled() == before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"frames": tiny.clip(0, 3)}, "its row shows 4 frames, 3 came with it"),
        ({"frames": np.zeros((4, 8, 8, 3), np.uint8)}, r"its frames are \[8, 8, 3\], the model sees \[16, 16, 3\]"),
        ({"row": merge(np.array([], np.int32), None, [])}, "it is empty"),
        ({"row": merge(np.ones(512, np.int32), None, [])}, "it takes 512 places, the model reads 511"),
        ({"row": merge(np.array([3, 288], np.int32), None, [])}, "the ids 3 to 288, the model's vocabulary has 288"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused_by_name(changes, says):
    frames = {} if "frames" in changes or len(changes["row"]) == 0 else {"frames": tiny.clip(0, 0)}
    with pytest.raises(PromptError, match=f"prompt q0: .*{says}"):
        tiny.generator().generate([tiny.prompt(1), replace(tiny.prompt(0), **{**frames, **changes})])


def test_rows_of_other_layouts_are_refused():
    prompt = tiny.prompt(0)
    tree = replace(prompt.row, branch=np.ones_like(prompt.row.branch))
    level = replace(prompt.row, table=np.where(prompt.row.table >= 3, 4, prompt.row.table).astype(np.int32))
    beyond = replace(prompt.row, row=np.where(prompt.row.table >= 3, 16, prompt.row.row).astype(np.int32))
    for row, says in ((tree, "a tree"), (level, "visual table 1"), (beyond, "past its 4 frames")):
        with pytest.raises(PromptError, match=says):
            tiny.generator().generate([replace(prompt, row=row)])


def test_a_generator_needs_slots_and_a_tokenizer_that_belongs_to_the_model():
    with pytest.raises(ValueError, match="0 slots"):
        Generator(tiny.model(), tiny.tokenizer(), slots=0)

    class Larger(WithStops):
        vocab_size = 289

    with pytest.raises(ValueError, match="the tokenizer has 289 ids, the model 288"):
        Generator(tiny.model(), cast("Tokenizer", Larger()))


def test_another_process_finds_the_programs_on_disk(tmp_path, compile_cache, monkeypatch):
    """Every program is in the folder after the first question: asking again from nothing adds none."""
    monkeypatch.setenv("VIDLMM_CACHE", str(tmp_path))
    folder = use_compilation_cache()
    assert folder is not None
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    try:
        jax.clear_caches()
        first = tiny.generator().generate([tiny.prompt(0)], GREEDY)
        kept = {file.name for file in folder.iterdir() if file.name.endswith("-cache")}
        assert sum(any(f"jit_{one}-" in name for one in ("advance", "read", "extend", "fork")) for name in kept) == 4
        jax.clear_caches()
        assert tiny.generator().generate([tiny.prompt(0)], GREEDY) == first
        assert {file.name for file in folder.iterdir() if file.name.endswith("-cache")} == kept
    finally:
        monkeypatch.setenv("VIDLMM_CACHE", str(compile_cache))
        use_compilation_cache()
