"""Prompts into answers, many at a time.

prompts ─ by length ─▶ queue ─▶ slot 0 │ a a a .            a prompt enters as soon as a slot is free
                                slot 1 │ b b b b b b b .
                                slot 2 │ c . d d d d .

What several prompts begin with is read once where it ends in the same media, and so is a prompt to which several
answers are asked (`Prompt.sample`).
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vidlmm.generate import programs
from vidlmm.generate.answers import Answer, Prompt, StopReason
from vidlmm.generate.apart import layers_apart
from vidlmm.generate.check import check_choices, check_prompt
from vidlmm.generate.errors import GenerationError, not_finite
from vidlmm.generate.programs import Draw, Reading, Slots
from vidlmm.generate.reading import Reader
from vidlmm.generate.sampling import Sampling, stream_key
from vidlmm.generate.streaming import TextStream, stop_place
from vidlmm.generate.visual import VisualMemory
from vidlmm.layout.buckets import choose, ladder
from vidlmm.models.video_lm import VideoLM
from vidlmm.text import Tokenizer, clean_answer, get_template, stop_ids

OnToken = Callable[[str, str], None]  # prompt id, the next piece of its answer's text
Progress = Callable[[int, int], None]  # answers so far, prompts
OnAnswer = Callable[[int, Answer], None]  # number of the prompt, its answer
STEPS = 8  # tokens between two looks at the slots when nobody watches
SHORTEST = 128  # places of the smallest prompt bucket
ROOM = 64  # tokens of the smallest answer bucket
FEWEST = 4  # choices of the smallest bucket of prompts that have any
PIECES = ladder(1, 16)
KEPT_BYTES = 1 << 29


class Generator:
    """Answers prompts with one model, by static shapes: each size is compiled once, and kept on disk where the
    compiler's cache is on (`vidlmm.parallel.use_compilation_cache`).

    An answer depends on its prompt, the sampling and these settings, not on the other prompts or their order.

    Args:
        model: the model, with its weights.
        tokenizer: the one that the model was trained with.
        slots: answers that are written at the same time.
        lengths: prompt lengths in places that are compiled; a prompt, and what is read of it at once, takes the
            smallest that holds it. None doubles from 128 to the decoder's longest sequence.
        frames: sizes of the pieces in which the tower sees a clip's frames.
        kept_bytes: how much the visual tokens of earlier clips may take.

    Raises:
        ValueError: no slots, no sizes, or a tokenizer with other ids than the model or without the template's tokens.
    """

    def __init__(
        self,
        model: VideoLM,
        tokenizer: Tokenizer,
        *,
        slots: int = 8,
        lengths: Sequence[int] | None = None,
        frames: Sequence[int] = PIECES,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        longest = model.spec.decoder.max_length
        lengths = ladder(min(SHORTEST, longest), longest) if lengths is None else tuple(sorted(lengths))
        if slots < 1 or not lengths or not frames or min(*lengths, *frames) < 1:
            raise ValueError(f"got {slots} slots, lengths {lengths}, frames {tuple(frames)}; all start at 1")
        if tokenizer.vocab_size > model.spec.decoder.vocab:
            raise ValueError(
                f"the tokenizer has {tokenizer.vocab_size} ids, the model {model.spec.decoder.vocab}; "
                "take the tokenizer that the model was trained with"
            )
        self.spec, self.tokenizer, self.slots = model.spec, tokenizer, slots
        self.template = get_template(model.spec.prompt.template)
        self.lengths = tuple(min(length, longest) for length in lengths)
        self._vocab = tokenizer.vocab_size  # rows of the model beyond it are no text and never chosen
        self._stops = np.asarray(stop_ids(self.template, tokenizer), np.int32)
        self._dtype = np.dtype(model.dtype).name
        self._graph, self._params = nnx.split(model)
        self._layers = layers_apart(model)
        self.visual = VisualMemory(self._graph, self._params, frames, kept_bytes, model.spec.tower.temporal)

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling | None = None,
        on_token: OnToken | None = None,
        progress: Progress | None = None,
        on_answer: OnAnswer | None = None,
    ) -> list[Answer]:
        """The answers, in the order of the prompts. What prompts share is read once (`vidlmm.generate.reading`).

        Args:
            sampling: how tokens are chosen; None takes the likeliest, at most 64.
            on_token: gets (prompt id, piece of text) as answers grow; the pieces of a prompt are its answer's text.
            progress: gets (answers so far, prompts) after each answer.
            on_answer: gets (number of the prompt, its answer) as answers are completed.

        Raises:
            PromptError: a prompt that this model cannot read; before anything is computed.
            GenerationError: scores that are not finite; it holds the answers that were complete.
        """
        sampling = sampling or Sampling()
        for prompt in prompts:
            check_prompt(prompt, self.spec, self.lengths[-1])
            check_choices(prompt, self._stops.tolist(), self._budget(prompt, sampling))
        answers: dict[int, Answer] = {}
        reader = self._reader(prompts)
        try:
            for size, group in self._groups(prompts, reader):
                for number, answer in self._answers(prompts, reader, group, size, sampling, on_token):
                    answers[number] = answer
                    if on_answer is not None:
                        on_answer(number, answer)
                    if progress is not None:
                        progress(len(answers), len(prompts))
        except GenerationError as error:
            error.answers = tuple(answers[number] for number in sorted(answers))
            raise
        return [answers[number] for number in range(len(prompts))]

    def _reader(self, prompts: Sequence[Prompt]) -> Reader:
        return Reader(prompts, self._graph, self._params, self.visual, self.lengths, self._vocab)

    def _groups(self, prompts: Sequence[Prompt], reader: Reader) -> list[tuple[tuple[int, int], list[int]]]:
        """Numbers of the prompts by buckets of their length and of their choices.

        Those of one clip stand together, among them those that begin alike, and among these those of one row.
        """
        groups: dict[tuple[int, int], list[int]] = {}
        first: dict[str, int] = {}
        for number, (prompt, parts) in enumerate(zip(prompts, reader.parts, strict=True)):
            choices = max(FEWEST, 1 << (len(prompt.choices) - 1).bit_length()) if prompt.choices else 0
            groups.setdefault((choose(len(prompt.row), self.lengths), choices), []).append(number)
            for name in (parts.media, parts.prefix, parts.whole):
                first.setdefault(name, number)

        def place(i: int) -> tuple[int, int, int, int]:
            parts = reader.parts[i]
            return first[parts.media], first[parts.prefix], first[parts.whole], i

        return [(size, sorted(groups[size], key=place)) for size in sorted(groups)]

    def _budget(self, prompt: Prompt, sampling: Sampling) -> int:
        """The most tokens that its answer may have."""
        return min(sampling.max_new_tokens, self.spec.decoder.max_length - len(prompt.row))

    def _answers(
        self,
        prompts: Sequence[Prompt],
        reader: Reader,
        group: Sequence[int],
        size: tuple[int, int],
        sampling: Sampling,
        on_token: OnToken | None,
    ) -> Iterator[tuple[int, Answer]]:
        """The answers of prompts of one length bucket, as they are completed."""
        length, choices = size
        longest = self.spec.decoder.max_length
        room = choose(min(sampling.max_new_tokens, longest), ladder(min(ROOM, longest), longest))
        draw = Draw(
            jnp.asarray(sampling.seed, jnp.uint32),
            jnp.asarray(sampling.temperature, jnp.float32),
            jnp.asarray(sampling.top_p, jnp.float32),
            jnp.asarray(self._stops),
        )
        shapes = {"slots": self.slots, "capacity": min(length + room, longest), "room": room, "choices": choices}
        state = programs.empty(self._graph, self._params, **shapes)
        waiting, writing = deque(group), cast("list[_Writing | None]", [None] * self.slots)
        while waiting or any(writing):
            for slot in range(self.slots):
                if writing[slot] is None and waiting:
                    number = waiting.popleft()
                    prompt = prompts[number]
                    budget = self._budget(prompt, sampling)
                    state = self._fork(state, slot, reader.read(number), prompt, budget, draw)
                    writing[slot] = _Writing(number, prompt, TextStream(self.tokenizer, self.template))
            going = np.array([one is not None for one in writing])
            steps = np.int32(STEPS if on_token is None else 1)
            state = programs.advance(
                self._graph, self._params, state, going, steps, draw, self._layers, vocab=self._vocab
            )
            written, counts, active, bad = jax.device_get((state.written, state.count, state.active, state.bad))
            broken: GenerationError | None = None
            for slot, one in enumerate(writing):
                if one is None:
                    continue
                if bad[slot]:
                    broken = broken or not_finite(one.prompt, int(counts[slot]), self._dtype)
                    continue
                answer = self._look(one, written[slot, : counts[slot]].tolist(), not active[slot], on_token)
                if answer is not None:
                    writing[slot] = None
                    yield one.number, answer
            # What the other slots have written is handed out first.
            if broken is not None:
                raise broken

    def _fork(self, state: Slots, slot: int, reading: Reading, prompt: Prompt, budget: int, draw: Draw) -> Slots:
        """The slots with one more answer in them."""
        choices = np.full(state.choices.shape[1:], -1, np.int32)
        for number, ids in enumerate(prompt.choices):
            choices[number, : len(ids)] = ids
        key = stream_key(prompt.id, prompt.sample)
        return programs.fork(state, np.int32(slot), reading, np.int32(budget), key, choices, draw)

    def _look(self, one: "_Writing", ids: list[int], ended: bool, on_token: OnToken | None) -> Answer | None:
        """Hands out the text that is new in a slot; the answer, if it is complete."""
        reason: StopReason = "length"
        if ended and ids[-1] in self._stops:
            ids, reason = ids[:-1], "stop"
        cut = stop_place(self.tokenizer, ids, one.seen, self.template.stop_text)
        if cut is not None:
            ids, reason, ended = ids[:cut], "stop_text", True
        one.seen = len(ids)
        if on_token is not None:
            piece = one.stream.finish(ids) if ended else one.stream.push(ids)
            if piece:
                on_token(one.prompt.id, piece)
        if not ended:
            return None
        text = clean_answer(self.tokenizer.decode(ids), self.template)
        return Answer(one.prompt.id, text, tuple(ids), reason)


@dataclass
class _Writing:
    """An answer in a slot; `seen` tokens have been looked at."""

    number: int
    prompt: Prompt
    stream: TextStream
    seen: int = 0
