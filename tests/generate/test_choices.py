"""Answers that are held to some choices."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from tests.generate import tiny
from vidlmm.generate import PromptError, Sampling
from vidlmm.generate.programs import allowed

GREEDY = Sampling(max_new_tokens=12)
STOP = tiny.generator()._stops.tolist()[0]


def held(seed: int, *choices: tuple[int, ...]):
    return replace(tiny.prompt(seed), choices=choices)


@pytest.mark.parametrize("sampling", [GREEDY, replace(GREEDY, temperature=3.0, seed=4)], ids=["greedy", "drawn"])
def test_an_answer_is_one_of_the_choices(sampling):
    choices = ((10, 11, 12, STOP), (10, 11, STOP), (10, 20, 21, STOP), (30, STOP), (40, 41, STOP))
    answers = tiny.generator().generate([held(seed, *choices) for seed in range(7)], sampling)
    assert {(*answer.ids, STOP) for answer in answers} <= set(choices)
    assert {answer.stop_reason for answer in answers} == {"stop"}


def test_each_token_is_the_likeliest_of_those_that_go_on_with_a_choice():
    free = tiny.generator().generate([tiny.prompt(3)], GREEDY)[0].ids[:5]
    assert STOP not in free
    wrong = tuple((token + 1) % 256 for token in free)
    assert STOP not in wrong
    choices = ((*wrong, STOP), (*free[:3], *wrong[3:], STOP), (*free, STOP), (*free[:2], *wrong, STOP))
    assert tiny.generator().generate([held(3, *choices)], GREEDY)[0].ids == free


def test_a_choice_that_begins_another_ends_by_the_stop_token():
    first = tiny.generator().generate([tiny.prompt(0)], GREEDY)[0].ids[0]
    short, long = (first, STOP), (first, (first + 1) % 256, STOP)
    assert tiny.generator().generate([held(0, short)], GREEDY)[0].ids == short[:-1]
    assert tiny.generator().generate([held(0, long)], GREEDY)[0].ids == long[:-1]
    assert tiny.generator().generate([held(0, short, long)], GREEDY)[0].ids in (short[:-1], long[:-1])


def test_free_and_held_prompts_do_not_disturb_each_other():
    prompts = [
        held(0, (5, STOP), (6, 7, STOP)),
        tiny.prompt(1),
        held(2, *((n, STOP) for n in range(9))),
        tiny.prompt(3),
    ]
    together = tiny.generator().generate(prompts, GREEDY)
    assert [tiny.generator().generate([prompt], GREEDY)[0] for prompt in prompts] == together


def test_what_may_follow():
    written = np.array([[3, 4, 0], [9, 0, 0], [3, 4, 0], [0, 0, 0]], np.int32)
    choices = np.full((4, 3, 3), -1, np.int32)
    choices[0] = [[3, 4, 5], [3, 6, 2], [3, 4, 2]]
    choices[1, :2] = [[9, 2, -1], [8, 2, -1]]
    choices[3] = [[3, 2, -1], [7, 2, -1], [3, 1, 2]]
    may = np.asarray(allowed(jnp.asarray(written), jnp.array([2, 1, 2, 0]), jnp.asarray(choices), 10))
    assert [np.flatnonzero(row).tolist() for row in may] == [[2, 5], [2], list(range(10)), [3, 7]]


@pytest.mark.parametrize(
    ("choice", "why"),
    [
        ((), "does not have one stop token"),
        ((5, 6), "does not have one stop token"),
        ((STOP, STOP), "does not have one stop token"),
        ((*range(12), STOP), "takes 13 tokens, its answer may have 12"),
    ],
)
def test_choices_that_cannot_be_written_are_refused(choice, why):
    with pytest.raises(PromptError, match=f"prompt q1: .*{why}"):
        tiny.generator().generate([held(1, choice)], GREEDY)
