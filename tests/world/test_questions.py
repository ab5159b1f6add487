"""Questions: each is true of its script, answerable, and no answer is given away by its form."""

import re
from collections import Counter

import pytest

from vidlmm.world.captions import doing, level_1, level_2, level_3, still_caption, stretches
from vidlmm.world.dataset import FULL_OPTION, LETTER_ONLY, OPTION_TEXT, all_turns, multiple_choice
from vidlmm.world.questions import TYPES, Question, ask
from vidlmm.world.script import Script, Thing, combination_split, write_script
from vidlmm.world.words import COLOURS, DIRECTIONS, SHAPES

SCRIPTS = [write_script(1, "train", number) for number in range(600)]
ASKED = [(script, question) for script in SCRIPTS for question in ask(script, 0)]


def scene(*things: Thing, kind: str = "moves", camera: str = "still") -> Script:
    return Script("test-0-00000", "train", kind, things, "sand", ((0.5, 0.5),), camera)


def moving(shape: str, colour: str, action: str, x0: float, x1: float, **more) -> Thing:
    return Thing(shape, colour, "big", action, ((x0, 0.3), (x1, 0.3)), **more)


def test_all_sixteen_types_are_asked():
    assert {question.type for _, question in ASKED} == set(TYPES) and len(TYPES) == 16


def test_options_are_distinct_and_hold_the_answer_once():
    for _, question in ASKED:
        assert 2 <= len(question.options) <= 4
        assert len(set(question.options)) == len(question.options)
        assert question.options.count(question.answer) == 1


def test_the_letter_of_the_answer_says_nothing():
    letters = Counter(q.letter for _, q in ASKED if len(q.options) == 4)
    for letter in "ABCD":
        assert abs(letters[letter] / letters.total() - 0.25) < 0.03


def test_yes_and_no_are_about_as_frequent():
    answers = Counter(q.answer for _, q in ASKED if q.type == "Binary")
    assert abs(answers["yes"] / answers.total() - 0.5) < 0.06


def test_questions_of_a_type_are_limited():
    for script in SCRIPTS[:50]:
        assert max(Counter(q.type for q in ask(script, 0, most=2)).values()) <= 4


def test_asking_is_a_function_of_script_and_seed():
    assert ask(SCRIPTS[0], 4) == ask(SCRIPTS[0], 4)
    assert ask(SCRIPTS[0], 4) != ask(SCRIPTS[0], 5)


def found(script: Script, start: str) -> Question:
    questions = [q for seed in range(20) for q in ask(script, seed) if q.question.startswith(start)]
    assert questions, f"no question starts with {start!r}"
    assert len({q.answer for q in questions}) == 1
    return questions[0]


def test_answers_of_a_known_scene():
    script = scene(
        moving("circle", "red", "right", 0.15, 0.8, fast=True),
        Thing("star", "blue", "small", "still", ((0.2, 0.75), (0.2, 0.75))),
    )
    assert found(script, "Which way does the red circle move").answer == "right"
    assert found(script, "Where is the red circle at the end").answer == "at the top right"
    assert found(script, "Where is the blue star?").answer == "at the bottom left"
    assert found(script, "Does the red circle move fast").answer == "fast"
    assert found(script, "What colour is the star").answer == "blue"
    assert found(script, "What is the background").answer == "sand"
    assert found(script, "How many things move").answer == "one"


def test_order_and_cause():
    first = moving("cross", "green", "left", 0.8, 0.2, start=0.0, stop=0.45)
    second = moving("square", "white", "left", 0.7, 0.1, start=0.55, stop=1.0)
    script = scene(second, first, kind="order")
    assert found(script, "Which moves first").answer == "the green cross"
    assert found(script, "What happens before the white square").answer == "the green cross moves to the left"
    ball = Thing("circle", "red", "small", "bounce", ((0.14, 0.5), (0.86, 0.5)), turns=2)
    bounced = scene(ball, kind="bounce")
    assert found(bounced, "How many times").answer == "twice"
    assert found(bounced, "Why does the red circle turn back").answer == "because it hits the wall"


def test_captions_of_a_known_scene():
    script = scene(moving("circle", "red", "right", 0.15, 0.8, fast=True))
    assert level_3(script) == "On a sand background a big red circle moves to the right fast. The camera stays still."
    assert stretches(script) == 3
    assert level_1(script, 0) == "The red circle moves to the right."
    assert level_2(script, 3) == "So far the red circle moves to the right."
    assert still_caption(script, 0.0) == "a big red circle at the top left on a sand background."
    assert doing(script.things[0]) == "moves to the right"


@pytest.mark.parametrize(("tail", "answer"), [(LETTER_ONLY, "B."), (FULL_OPTION, "B. up."), (OPTION_TEXT, "up")])
def test_multiple_choice_is_written_as_released(tail, answer):
    question = Question("Object Direction", "Which way?", "up", ("left", "up", "down"))
    assert multiple_choice(question, tail) == (f"Which way?\nA. left.\nB. up.\nC. down.\n{tail}", answer)


@pytest.mark.parametrize(("form", "tail"), list(enumerate((LETTER_ONLY, FULL_OPTION, OPTION_TEXT), start=1)))
def test_questions_take_the_form_that_is_asked_for(form, tail):
    turns = all_turns(SCRIPTS[3], 0, 3, forms=tuple(float(form == n) for n in range(4)))
    assert all(question.endswith(tail) for question, _ in turns[3:])


def test_all_turns_begin_with_captions_and_repeat_no_question():
    turns = all_turns(SCRIPTS[3], 0, 3)
    assert turns[0] == ("Describe the video.", level_3(SCRIPTS[3]))
    asked = [question.split("\n")[0] for question, _ in turns]
    assert len(asked) > 6


_PHRASES = {
    "moves to the left": "left",
    "moves to the right": "right",
    "moves up": "up",
    "moves down": "down",
    "grows": "grow",
    "shrinks": "shrink",
    "appears": "appear",
    "vanishes": "vanish",
    "bounces": "bounce",
    "turns": "recolour",
}


def _said(question: Question) -> set[tuple[str, str, str]]:
    """Every (shape, colour, action) that a question or an option of it names, be it true or not."""
    name = re.compile(rf"({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})")
    claim = re.compile(rf"{name.pattern} ({'|'.join(_PHRASES)})")
    found = {(s, c, _PHRASES[v]) for text in (question.question, *question.options) for c, s, v in claim.findall(text)}
    asked = name.findall(question.question)
    if len(asked) == 1:
        [(colour, shape)] = asked
        for option in question.options:
            action = option if option in DIRECTIONS else next((a for p, a in _PHRASES.items() if p in option), "")
            if action and not name.search(option):
                found.add((shape, colour, action))
    return found


def test_training_names_no_combination_of_another_split_not_even_as_a_falsehood():
    named = set()
    for number in range(400):
        for question in ask(write_script(3, "train", number), 3, most=99):
            if question.type not in ("Camera Direction", "Causal"):
                named |= _said(question)
    assert len(named) > 200
    assert {combination_split(*combination) for combination in named} == {"train"}
