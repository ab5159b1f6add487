"""The action term against a plain numpy form, for every choice of states."""

from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vidlmm.losses import action_loss
from vidlmm.losses.action import TRAININGS
from vidlmm.models.action import ActionHeads, action_places
from vidlmm.spec import ActionSpec
from vidlmm.spec.action import ActionLayers, Supervision
from vidlmm.spec.tables import Special, Table

STATES, ROWS, WIDTH = 4, 5, 6
TYPES = (("verb", 3), ("noun", 4), ("action", 7))
CLASSES = np.array([[1, 2, 6], [-1, -1, -1], [0, 3, 5], [2, 0, 0], [1, 1, 1]], np.int32)


def heads(supervision: Supervision) -> ActionHeads:
    return ActionHeads(ActionSpec(TYPES, supervision), WIDTH, rngs=nnx.Rngs(0))


def states(places: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((STATES, ROWS, places, WIDTH)).astype(np.float32)


def term(x: Any, module: ActionHeads, classes: np.ndarray, training: str, shown: np.ndarray | None = None) -> Any:
    shown = np.ones(len(classes), bool) if shown is None else shown
    return action_loss(jnp.asarray(x), module, jnp.asarray(classes), jnp.asarray(shown), training)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def plain(x: np.ndarray, module: ActionHeads, classes: np.ndarray, training: str) -> float:
    """State by state and row by row."""
    x = x.astype(np.float64)
    which = {"last_layer": [STATES - 1], "first_layer": [0]}.get(training, list(range(STATES)))
    total, rows = 0.0, [row for row in range(ROWS) if classes[row, 0] >= 0]
    for state in which:
        for number, (name, weight) in enumerate((("verb", 0.5), ("noun", 0.5), ("action", 0.1))):
            matrix = np.asarray(getattr(module, name)[...], np.float64)
            for row in rows:
                scores = matrix @ x[state, row, number if x.shape[2] == 3 else 0]
                total -= weight * np.log(softmax(scores)[classes[row, number]]) / len(rows)
    loss = 0.1 * total / (len(which) + 1)
    if "distillation" in training:
        teacher = 0 if training.startswith("reverse") else STATES - 1
        for state in set(range(STATES)) - {teacher}:
            p, q = softmax(x[teacher]), softmax(x[state])
            loss += 0.1 * (p * np.log(p / q)).sum() / ROWS / STATES
    return float(loss)


def test_the_spec_names_the_trainings():
    assert get_args(ActionLayers) == TRAININGS


def test_an_unknown_training_is_refused():
    with pytest.raises(ValueError, match="training of the action heads is 'every'; choose one of last_layer,"):
        term(states(1), heads("one_token"), CLASSES, "every")


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("supervision", ["one_token", "three_tokens", "newline"])
def test_the_term_is_that_of_the_plain_form(training, supervision):
    module = heads(supervision)
    x = states(module.spec.places)
    found = term(x, module, CLASSES, training)
    np.testing.assert_allclose(found, plain(x, module, CLASSES, training), rtol=1e-5)


def test_without_a_known_verb_the_term_is_zero():
    nothing = np.full_like(CLASSES, -1)
    for training in ("last_layer", "all_layers"):
        loss, slope = jax.value_and_grad(term)(jnp.asarray(states(1)), heads("one_token"), nothing, training)
        assert float(loss) == 0 and not np.asarray(slope).any()


@pytest.mark.parametrize("training", ["all_layers", "distillation"])
def test_a_row_without_a_clip_counts_nothing(training):
    module, x = heads("one_token"), states(1)
    shown = np.arange(ROWS) != 3
    ours = term(x, module, CLASSES, training, shown)
    alone = term(x[:, shown], module, CLASSES[shown], training)
    np.testing.assert_allclose(ours, alone, rtol=1e-6)


@pytest.mark.parametrize(("training", "teacher"), [("distillation", STATES - 1), ("reverse_distillation", 0)])
def test_the_teacher_learns_from_the_classes_alone(training, teacher):
    nothing = np.full_like(CLASSES, -1)
    slope = jax.grad(term)(jnp.asarray(states(1)), heads("one_token"), nothing, training)
    moved = np.abs(np.asarray(slope)).max(axis=(1, 2, 3)) > 0
    assert moved.tolist() == [state != teacher for state in range(STATES)]


def test_a_kind_without_a_weight_is_refused():
    module = ActionHeads(ActionSpec((("mood", 2),)), WIDTH, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"no weight is known for the kind\(s\) \['mood'\]"):
        term(states(1), module, CLASSES[:, :1], "last_layer")


def test_places_are_those_of_the_first_video_of_each_row():
    text, own = int(Table.TEXT), int(Table.SPECIAL)
    table = np.array([[text, own, own, own, text, own, own, own], [text] * 8])
    first = int(Special.ACTION)
    row = np.array([[first, first, first + 1, first + 2, 9, first, first + 1, first + 2], [first] * 8])
    table, row = jnp.asarray(table), jnp.asarray(row)
    assert action_places(table, row, 3).tolist() == [[1, 2, 3], [-1, -1, -1]]
    assert action_places(table, row, 1).tolist() == [[1], [-1]]
