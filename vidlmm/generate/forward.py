"""The whole sequence at once: the decoder's input, and the scores of every place."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32, Int32

from vidlmm.generate import programs
from vidlmm.generate.answers import Prompt
from vidlmm.generate.check import check_tables
from vidlmm.generate.engine import PIECES, SHORTEST
from vidlmm.generate.visual import VisualMemory
from vidlmm.layout.buckets import choose, ladder
from vidlmm.layout.shows import padded_blends
from vidlmm.models.action import action_places
from vidlmm.models.video_lm import VideoLM

CHUNK = 256  # places whose scores over the vocabulary are held on the device at once


class Forward:
    """Hidden states and scores of prompts, by static shapes that are compiled once.

    A row's numbers depend on its own ids and media; rows of a batch stand beside each other.
    """

    def __init__(self, model: VideoLM) -> None:
        self.spec = model.spec
        self._graph, self._params = nnx.split(model)
        longest = model.spec.decoder.max_length
        self._lengths = ladder(min(SHORTEST, longest), longest)
        self._visual = VisualMemory(self._graph, self._params, PIECES, 0, model.spec.tower.temporal)

    def embeds(self, prompt: Prompt) -> Float[Array, "L D"]:
        """The vectors that enter the decoder."""
        return self._embeds(prompt, self._length(prompt))[0, : len(prompt.row)]

    def logits(self, prompts: Sequence[Prompt]) -> list[Float32[np.ndarray, "L V"]]:
        """Scores of the next token at every place of every prompt."""
        length = max(self._length(prompt) for prompt in prompts)
        embeds = jnp.concatenate([self._embeds(prompt, length) for prompt in prompts])
        rows = choose(len(prompts), ladder(1, max(1, 2 * len(prompts))))
        sizes = np.zeros(rows, np.int32)
        sizes[: len(prompts)] = [len(prompt.row) for prompt in prompts]
        embeds = jnp.pad(embeds, ((0, rows - len(prompts)), (0, 0), (0, 0)))
        hidden = read(self._graph, self._params, embeds, sizes)
        return [self._scores(hidden[number], len(prompt.row)) for number, prompt in enumerate(prompts)]

    def action_logits(self, prompt: Prompt) -> dict[str, Float32[np.ndarray, " C"]]:
        """Scores of the classes of each kind for the first video of a prompt.

        Raises:
            ValueError: a system without action heads, or a prompt without a video.
        """
        if self.spec.action is None:
            raise ValueError(f"{self.spec.name} has no action heads; load a checkpoint of LLaVAction")
        table, row = jnp.asarray(prompt.row.table[None]), jnp.asarray(prompt.row.row[None])
        at = action_places(table, row, self.spec.action.places)
        if int(at.min()) < 0:
            raise ValueError(f"sequence {prompt.id} shows no video, so there is no action to name; give it one")
        embeds = self._embeds(prompt, self._length(prompt))
        hidden = read(self._graph, self._params, embeds, np.array([len(prompt.row)], np.int32))
        found = action_scores(self._graph, self._params, hidden, at)
        return {name: np.asarray(scores[0]) for name, scores in found.items()}

    def _length(self, prompt: Prompt) -> int:
        def refuse(why: str) -> ValueError:
            return ValueError(f"sequence {prompt.id}: {why}")

        check_tables(prompt.row, self.spec, refuse)
        if len(prompt.row) > self._lengths[-1]:
            raise refuse(
                f"with its media it has {len(prompt.row)} places, the model reads {self._lengths[-1]}; show less"
            )
        return choose(len(prompt.row), self._lengths)

    def _embeds(self, prompt: Prompt, length: int) -> Float[Array, "1 L D"]:
        table, row = np.zeros((2, length), np.int32)
        table[: len(prompt.row)], row[: len(prompt.row)] = prompt.row.table, prompt.row.row
        taps, shares = padded_blends(prompt.row.shows.blends)
        tables = self._visual.encode(prompt)
        return programs.embed(self._graph, self._params, table, row, tables, taps, shares)

    def _scores(self, hidden: Float[Array, "L D"], count: int) -> Float32[np.ndarray, "n V"]:
        out = np.empty((count, self.spec.decoder.vocab), np.float32)
        size = min(CHUNK, hidden.shape[0])
        for start in range(0, count, size):
            # The last chunk begins earlier instead of being shorter.
            first = min(start, hidden.shape[0] - size)
            found = scores(self._graph, self._params, hidden, np.int32(first), size=size)
            end = min(start + size, count)
            out[start:end] = np.asarray(found)[start - first : end - first]
        return out


@partial(jax.jit, static_argnames=("graph",))
def read(graph: Any, params: Any, embeds: Float[Array, "B L D"], lengths: Int32[Array, " B"]) -> Float[Array, "B L D"]:
    """Hidden states after the final norm of rows of `lengths` places each."""
    position = jnp.broadcast_to(jnp.arange(embeds.shape[1], dtype=jnp.int32), embeds.shape[:2])
    inside = (position < lengths[:, None]).astype(jnp.int32)
    return nnx.merge(graph, params).decoder(embeds, position * inside, inside, jnp.zeros_like(inside))


@partial(jax.jit, static_argnames=("graph", "size"))
def scores(
    graph: Any, params: Any, hidden: Float[Array, "L D"], first: Int32[Array, ""], *, size: int
) -> Float32[Array, "n V"]:
    """Scores of `size` places from `first` on."""
    return nnx.merge(graph, params).logits(jax.lax.dynamic_slice_in_dim(hidden, first, size))


@partial(jax.jit, static_argnames=("graph",))
def action_scores(
    graph: Any, params: Any, hidden: Float[Array, "B L D"], at: Int32[Array, "B K"]
) -> dict[str, Float32[Array, "B C"]]:
    """Scores of the classes of each kind from the hidden states at the places `at`."""
    return nnx.merge(graph, params).action_heads(jnp.take_along_axis(hidden, at[..., None], axis=1))
