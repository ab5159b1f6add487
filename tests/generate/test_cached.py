"""Reading in parts and decoding through the cache, as the generator's programs do it: at every step what the whole
sequence at once says."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.generate import systems
from vidlmm.generate import Prompt, programs
from vidlmm.generate.apart import layers_apart
from vidlmm.generate.items import prompt_of
from vidlmm.generate.programs import Draw, Reading, Slots
from vidlmm.generate.reading import Reader
from vidlmm.generate.sampling import stream_key
from vidlmm.generate.visual import VisualMemory
from vidlmm.layout.shows import padded_blends
from vidlmm.models import VideoLM

STEPS = 5
ROOM = 8
# Scores and keys of order one, summed in float32 in another order.
ROUNDING = 2e-5
GREEDY = Draw(
    jnp.zeros((), jnp.uint32), jnp.zeros((), jnp.float32), jnp.ones((), jnp.float32), jnp.full((1,), -1, jnp.int32)
)


class Decoding:
    """The generator's programs around one model, all slots of which are seen."""

    def __init__(self, model: VideoLM, slots: int, length: int) -> None:
        self.vocab = model.spec.decoder.vocab
        self._graph, self._params = nnx.split(model)
        self._layers = layers_apart(model)
        self._visual = VisualMemory(self._graph, self._params, (8,), 0, model.spec.tower.temporal)
        self._slots, self._length = slots, length

    def empty(self) -> Slots:
        shapes = {"slots": self._slots, "capacity": self._length + ROOM, "room": ROOM, "choices": 0}
        return programs.empty(self._graph, self._params, **shapes)

    def in_parts(self, prompts: list[Prompt]) -> list[Reading]:
        reader = Reader(prompts, self._graph, self._params, self._visual, (self._length,), self.vocab)
        return [reader.read(number) for number in range(len(prompts))]

    def at_once(self, prompt: Prompt) -> Reading:
        table, row = np.zeros((2, self._length), np.int32)
        table[: len(prompt.row)], row[: len(prompt.row)] = prompt.row.table, prompt.row.row
        taps, shares = padded_blends(prompt.row.shows.blends)
        pieces = self._visual.encode(prompt)
        embeds = programs.embed(self._graph, self._params, table, row, pieces, taps, shares)
        return programs.read(self._graph, self._params, embeds, np.int32(len(prompt.row)), vocab=self.vocab)

    def enter(self, state: Slots, slot: int, prompt: Prompt, reading: Reading) -> Slots:
        free = np.zeros((0, ROOM), np.int32)
        return programs.fork(
            state, np.int32(slot), reading, np.int32(STEPS + 1), stream_key(prompt.id, 0), free, GREEDY
        )

    def advance(self, state: Slots) -> Slots:
        going = np.ones(self._slots, bool)
        return programs.advance(
            self._graph, self._params, state, going, np.int32(1), GREEDY, self._layers, vocab=self.vocab
        )


@pytest.mark.parametrize("name", systems.CASES)
def test_every_step_is_that_of_the_whole_sequence(name: str):
    model = systems.model(name)
    rows = list(systems.rows(model.spec).values())
    prompts = [prompt_of(*row, model.spec, str(number)) for number, row in enumerate(rows)]
    decoding = Decoding(model.module, len(prompts), max(len(prompt.row) for prompt in prompts) + STEPS)
    state = decoding.empty()
    for slot, (prompt, reading) in enumerate(zip(prompts, decoding.in_parts(prompts), strict=True)):
        np.testing.assert_allclose(reading.logits, decoding.at_once(prompt).logits, rtol=0, atol=ROUNDING)
        state = decoding.enter(state, slot, prompt, reading)
    for count in range(1, STEPS + 1):
        assert np.asarray(state.count).tolist() == [count] * len(prompts)
        state = decoding.advance(state)
    written = np.asarray(state.written)[:, : STEPS + 1].tolist()

    longer = [([*ids, *answer], media) for (ids, media), answer in zip(rows, written, strict=True)]
    for prompt, logits, answer in zip(prompts, model.logits_batch(longer), written, strict=True):
        at = logits[len(prompt.row) - 1 : -1]
        chosen = at[np.arange(STEPS + 1), answer]
        assert (chosen >= at.max(-1) - ROUNDING).all(), prompt.id
    # The memory after the steps is the one that the whole sequence leaves: every layer saw the same.
    whole = decoding.empty()
    for slot, (ids, media) in enumerate(longer):
        prompt = prompt_of(ids[:-1], media, model.spec, str(slot))
        whole = decoding.enter(whole, slot, prompt, decoding.at_once(prompt))
    np.testing.assert_array_equal(state.cache.length, whole.cache.length)
    np.testing.assert_array_equal(state.cache.position, whole.cache.position)
    seen = np.asarray(whole.cache.segment)[None, :, None, :, None] > 0
    for part in ("k", "v"):
        found, wanted = (np.asarray(getattr(one.cache, part)) for one in (state, whole))
        np.testing.assert_allclose(np.where(seen, found, 0), np.where(seen, wanted, 0), rtol=0, atol=ROUNDING)
