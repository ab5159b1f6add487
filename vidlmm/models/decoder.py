"""The language model: RMSNorm, RoPE, grouped-query attention, gated SiLU MLP or several of them as experts
(Llama, Mistral, Qwen2, Mixtral)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int

from vidlmm.kernels.tree_attention.rule import Ids, sight
from vidlmm.models.attention import attend
from vidlmm.models.cache import Cache, empty_cache, longer
from vidlmm.models.experts import experts
from vidlmm.models.linear import linear
from vidlmm.models.norms import rms_norm
from vidlmm.models.params import Layer, Maker, layer_arrays, layer_weights
from vidlmm.models.remat import Remat, kept
from vidlmm.models.rope import rope_angles, rotate
from vidlmm.models.row_attention import row_attention
from vidlmm.models.sharding import constrain
from vidlmm.spec.decoder import DecoderSpec


class DecoderLayers(nnx.Module):
    """The parameters of all layers, stacked on a leading axis."""

    def __init__(self, spec: DecoderSpec, *, rngs: nnx.Rngs, param_dtype: Any):
        make = Maker(rngs, param_dtype)
        n, width, depth = spec.layers, spec.width, spec.dim_per_head
        groups = spec.heads // spec.kv_heads
        out_std = (2 * n) ** -0.5
        self.norm1 = make.ones((n, width), ("layers", "embed"))
        # A key head's queries, its key and its value stand side by side: a split over key heads cuts none.
        self.qkv = make.matrix(
            (n, width, spec.kv_heads, (groups + 2) * depth),
            ("layers", "embed", "kv_heads", None),
            width**-0.5,
            {"q_proj": groups, "k_proj": 1, "v_proj": 1},
        )
        bias_shape = (n, spec.kv_heads, (groups + 2) * depth)
        self.qkv_bias = make.zeros(bias_shape, ("layers", "kv_heads", None)) if spec.qkv_bias else None
        self.out = make.matrix(
            (n, spec.kv_heads, groups * depth, width),
            ("layers", "kv_heads", None, "embed"),
            out_std * (spec.heads * depth) ** -0.5,
            "o_proj",
            inputs=2,
        )
        self.norm2 = make.ones((n, width), ("layers", "embed"))
        down_std = out_std * spec.mlp**-0.5
        if spec.experts:
            self._make_experts(spec, make, down_std)
            return
        self.gate = make.matrix((n, width, spec.mlp), ("layers", "embed", "mlp"), width**-0.5, "gate_proj")
        self.up = make.matrix((n, width, spec.mlp), ("layers", "embed", "mlp"), width**-0.5, "up_proj")
        self.down = make.matrix((n, spec.mlp, width), ("layers", "mlp", "embed"), down_std, "down_proj")

    def _make_experts(self, spec: DecoderSpec, make: Maker, down_std: float) -> None:
        n, e, width = spec.layers, spec.experts, spec.width
        into, back = ("layers", "experts", "embed", "mlp"), ("layers", "experts", "mlp", "embed")
        self.router = make.normal((n, width, e), ("layers", "embed", "experts"), width**-0.5)
        self.expert_gate = make.matrix((n, e, width, spec.mlp), into, width**-0.5, "w1")
        self.expert_up = make.matrix((n, e, width, spec.mlp), into, width**-0.5, "w3")
        self.expert_down = make.matrix((n, e, spec.mlp, width), back, down_std, "w2")


class Decoder(nnx.Module):
    """Embeddings of merged rows into hidden states, all at once or token by token through a cache."""

    def __init__(
        self,
        spec: DecoderSpec,
        *,
        rngs: nnx.Rngs,
        dtype: Any = jnp.float32,
        param_dtype: Any = jnp.float32,
        remat: Remat = "dots",
    ):
        if spec.heads % spec.kv_heads:
            raise ValueError(f"heads {spec.heads} is not a multiple of kv_heads {spec.kv_heads}")
        if spec.dim_per_head % 2:
            raise ValueError(f"RoPE needs an even head dimension, got {spec.dim_per_head}")
        if spec.experts and not 1 <= spec.top_k <= spec.experts:
            raise ValueError(f"a token goes through 1 to {spec.experts} experts, got top_k {spec.top_k}")
        make = Maker(rngs, param_dtype)
        self.embed = make.normal((spec.vocab, spec.width), ("vocab", "embed"), spec.width**-0.5)
        self.layers = DecoderLayers(spec, rngs=rngs, param_dtype=param_dtype)
        self.norm = make.ones((spec.width,), ("embed",))
        self.head = (
            None if spec.tied_head else make.normal((spec.vocab, spec.width), ("vocab", "embed"), spec.width**-0.5)
        )
        self.spec = spec
        self.dtype = dtype
        self.remat: Remat = remat

    def __call__(
        self,
        embeds: Float[Array, "B L D"],
        position: Int[Array, "B L"],
        segment: Int[Array, "B L"],
        branch: Int[Array, "B L"],
    ) -> Float[Array, "B L D"]:
        """Hidden states after the final norm. Where segment is 0 (padding) they mean nothing."""
        who = sight(segment, branch)
        angles = rope_angles(position, self.spec.dim_per_head, self.spec.rope_base, self.dtype)

        def layer(x: Array, p: Layer) -> tuple[Array, None]:
            p = layer_weights(self.layers, p)
            q, k, v = self._qkv(x, p, angles)
            return self._rest(x, row_attention(q, k, v, who, who), p), None

        layers = layer_arrays(self.layers, self.dtype)
        embeds = constrain(embeds.astype(self.dtype), "rows", "places", None)
        x = jax.lax.scan(kept(layer, self.remat), embeds, layers)[0]
        return constrain(rms_norm(x, self.norm[...], self.spec.norm_eps), "rows", "places", None)

    def states(
        self,
        embeds: Float[Array, "B L D"],
        position: Int[Array, "B L"],
        segment: Int[Array, "B L"],
        branch: Int[Array, "B L"],
        at: Int[Array, "B K"],
    ) -> tuple[Float[Array, "B L D"], Float[Array, "S B K D"]]:
        """Hidden states after the final norm, and at the places `at` those of the embedding and after each layer,
        the last one normed."""
        who = sight(segment, branch)
        angles = rope_angles(position, self.spec.dim_per_head, self.spec.rope_base, self.dtype)

        def layer(x: Array, p: Layer) -> tuple[Array, Array]:
            p = layer_weights(self.layers, p)
            q, k, v = self._qkv(x, p, angles)
            return self._rest(x, row_attention(q, k, v, who, who), p), _places(x, at)

        layers = layer_arrays(self.layers, self.dtype)
        embeds = constrain(embeds.astype(self.dtype), "rows", "places", None)
        x, before = jax.lax.scan(kept(layer, self.remat), embeds, layers)
        hidden = constrain(rms_norm(x, self.norm[...], self.spec.norm_eps), "rows", "places", None)
        return hidden, jnp.concatenate([before, _places(hidden, at)[None]])

    def head_matrix(self) -> Float[Array, "V D"]:
        """The output matrix: its own, or the embedding table where the head is tied."""
        return (self.embed if self.head is None else self.head)[...].astype(self.dtype)

    def logits(self, hidden: Float[Array, "*n D"]) -> Float32[Array, "*n V"]:
        """Scores of the next token, in float32."""
        return jnp.einsum("...d,vd->...v", hidden, self.head_matrix(), preferred_element_type=jnp.float32)

    def init_cache(self, slots: int, length: int, dtype: Any = None) -> Cache:
        """An empty cache; by default in the compute dtype."""
        return empty_cache(self.spec, slots, length, self.dtype if dtype is None else dtype)

    def prefill(
        self,
        embeds: Float[Array, "B L D"],
        position: Int[Array, "B L"],
        segment: Int[Array, "B L"],
        cache: Cache,
    ) -> tuple[Float[Array, "B L D"], Cache]:
        """Reads whole prompts into the slots, whatever these held before. Padding (segment 0) stands at the right.

        Raises:
            ValueError: the prompts are longer than the cache, or not one a slot.
        """
        self._check(embeds, cache)
        who = sight(segment, jnp.zeros_like(segment))
        angles = rope_angles(position, self.spec.dim_per_head, self.spec.rope_base, self.dtype)

        def layer(x: Array, p: Layer) -> tuple[Array, tuple[Array, Array]]:
            q, k, v = self._qkv(x, p, angles)
            return self._rest(x, row_attention(q, k, v, who, who), p), (
                k.astype(cache.k.dtype),
                v.astype(cache.v.dtype),
            )

        x, (k, v) = jax.lax.scan(layer, embeds.astype(self.dtype), layer_arrays(self.layers, self.dtype))
        room = cache.capacity - embeds.shape[1]
        k, v = (jnp.pad(t, [(0, 0)] * 3 + [(0, room), (0, 0)]) for t in (k, v))
        position, segment = (jnp.pad(ids.astype(jnp.int32), [(0, 0), (0, room)]) for ids in (position, segment))
        filled = Cache(k, v, position, segment, jnp.sum(segment != 0, axis=1, dtype=jnp.int32))
        return rms_norm(x, self.norm[...], self.spec.norm_eps), filled

    def extend(
        self,
        embeds: Float[Array, "B T D"],
        position: Int[Array, "B T"],
        segment: Int[Array, "B T"],
        cache: Cache,
    ) -> tuple[Float[Array, "B T D"], Cache]:
        """Reads T more places into every slot, behind those that it holds; the cache grows by T.

        The places are of the segment that they follow. Padding (segment 0) stands at the right.

        Raises:
            ValueError: not one row a slot.
        """
        cache = longer(cache, embeds.shape[1])
        self._check(embeds, cache)
        slots, place = jnp.arange(embeds.shape[0])[:, None], cache.length[:, None] + jnp.arange(embeds.shape[1])
        positions, segments = (
            old.at[slots, place].set(new.astype(jnp.int32))
            for old, new in ((cache.position, position), (cache.segment, segment))
        )
        own, all_ids = Ids(place, segment, jnp.zeros_like(segment)), sight(segments, jnp.zeros_like(segments))

        def attention(q: Array, k: Array, v: Array) -> Array:
            return row_attention(q, k, v, own, all_ids)

        x, keys, values = self._written(embeds, position, cache, place, attention)
        length = cache.length + jnp.sum(segment != 0, axis=1, dtype=jnp.int32)
        return rms_norm(x, self.norm[...], self.spec.norm_eps), Cache(keys, values, positions, segments, length)

    def step(
        self,
        embeds: Float[Array, "B 1 D"],
        position: Int[Array, " B"],
        cache: Cache,
        active: Bool[Array, " B"] | None = None,
        layers: Sequence[dict[str, Array]] = (),
    ) -> tuple[Float[Array, "B 1 D"], Cache]:
        """One more token in every slot, written at the slot's `length`.

        A slot that is not `active`, or is full, stays as it is; its hidden state then means nothing.

        Args:
            layers: the parameters of each layer in arrays of their own, in the place of the stacked ones; none scans
                over the stacked ones.
        """
        self._check(embeds, cache)
        slots = jnp.arange(embeds.shape[0])
        moves = cache.length < cache.capacity
        moves = moves if active is None else moves & active
        # A place outside the cache is dropped by the writes below.
        place = jnp.where(moves, cache.length, cache.capacity)
        own = jnp.maximum(jnp.take_along_axis(cache.segment, jnp.maximum(cache.length - 1, 0)[:, None], 1)[:, 0], 1)
        segment = cache.segment.at[slots, place].set(own, mode="drop")
        attention = partial(attend, mask=(segment == own[:, None])[:, None])
        x, keys, values = self._written(embeds, position[:, None], cache, place[:, None], attention, layers)
        positions = cache.position.at[slots, place].set(position.astype(jnp.int32), mode="drop")
        after = Cache(keys, values, positions, segment, cache.length + moves.astype(jnp.int32))
        return rms_norm(x, self.norm[...], self.spec.norm_eps), after

    def _written(
        self,
        embeds: Float[Array, "B T D"],
        position: Int[Array, "B T"],
        cache: Cache,
        place: Int[Array, "B T"],
        attention: Callable[[Array, Array, Array], Array],
        layers: Sequence[dict[str, Array]] = (),
    ) -> tuple[Float[Array, "B T D"], Float[Array, "layers B K C d"], Float[Array, "layers B K C d"]]:
        """T more places through all layers: the stream, and the cache's keys and values with theirs at `place`.

        Args:
            place: one outside the cache is dropped.
            attention: of their queries on a layer's keys and values of the whole cache.
            layers: see `step`.
        """
        slots = jnp.arange(embeds.shape[0])[:, None]
        angles = rope_angles(position, self.spec.dim_per_head, self.spec.rope_base, self.dtype)

        def layer(carry: tuple[Array, Array, Array], inputs: tuple[Any, Layer]) -> tuple[Any, None]:
            x, *held = carry
            index, p = inputs
            q, *new = self._qkv(x, p, angles)
            keys, values = (
                old.at[index, slots, :, place].set(one.transpose(0, 2, 1, 3).astype(old.dtype), mode="drop")
                for old, one in zip(held, new, strict=True)
            )
            found = attention(q, keys[index].astype(self.dtype), values[index].astype(self.dtype))
            return (self._rest(x, found, p), keys, values), None

        carry: Any = (embeds.astype(self.dtype), cache.k, cache.v)
        if layers:
            for one in enumerate(layers):
                carry, _ = layer(carry, one)
            return carry
        inputs = (jnp.arange(self.spec.layers), layer_arrays(self.layers, self.dtype))
        return jax.lax.scan(layer, carry, inputs)[0]

    def _qkv(
        self, x: Float[Array, "B L D"], p: Layer, angles: tuple[Array, Array]
    ) -> tuple[Float[Array, "B K G L d"], Float[Array, "B K L d"], Float[Array, "B K L d"]]:
        depth, groups = self.spec.dim_per_head, self.spec.heads // self.spec.kv_heads
        h = rms_norm(x, p["norm1"], self.spec.norm_eps)
        qkv = linear(h, p["qkv"])
        if "qkv_bias" in p:
            qkv = qkv + p["qkv_bias"]
        qkv = qkv.reshape(*qkv.shape[:3], groups + 2, depth)
        qk = rotate(qkv[..., : groups + 1, :], *angles)
        q, k, v = qk[..., :groups, :], qk[..., groups, :], qkv[..., groups + 1, :]
        return q.transpose(0, 2, 3, 1, 4), k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)

    def _rest(self, x: Float[Array, "B L D"], found: Float[Array, "B K G L d"], p: Layer) -> Float[Array, "B L D"]:
        """What follows the attention: output projection and MLP, each added to the stream."""
        rows = found.transpose(0, 3, 1, 2, 4).reshape(*x.shape[:2], -1)
        x = constrain(x + linear(rows, p["out"], inputs=2), "rows", "places", None)
        h = rms_norm(x, p["norm2"], self.spec.norm_eps)
        if self.spec.experts:
            x = x + experts(h, p, self.spec.top_k)
        else:
            h = jax.nn.silu(linear(h, p["gate"])) * linear(h, p["up"])
            x = x + linear(constrain(h, "rows", "places", "mlp"), p["down"])
        return constrain(x, "rows", "places", None)

    def _check(self, embeds: Float[Array, "B L D"], cache: Cache) -> None:
        slots = cache.length.shape[0]
        if embeds.shape[0] != slots:
            raise ValueError(f"got {embeds.shape[0]} rows for a cache of {slots} slots: give one row a slot")
        if embeds.shape[1] > cache.capacity:
            raise ValueError(f"the rows hold {embeds.shape[1]} tokens, the cache {cache.capacity}: make a longer cache")


def _places(x: Float[Array, "B L D"], at: Int[Array, "B K"]) -> Float[Array, "B K D"]:
    return jnp.take_along_axis(x, at[..., None], axis=1)
