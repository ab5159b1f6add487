"""Rules that layouts share: decoders, towers and projectors as transformers names their parameters."""

from collections.abc import Sequence
from typing import Any

from vidlmm.checkpoint.keymap import Load, Rule, Rules, Save, Template, Unused
from vidlmm.spec.decoder import DecoderSpec
from vidlmm.spec.tower import TowerSpec


def transposed(tensors: Sequence[Any]) -> Any:
    """A linear layer's weight [out, in] as [in, out]."""
    return tensors[0].T


def untransposed(array: Any) -> Sequence[Any]:
    """The inverse of `transposed`."""
    return [array.T]


def fused(heads: int, shares: tuple[int, ...]) -> tuple[Load, Save]:
    """Projections [heads * share * d, in] side by side, head by head, as [in, heads, sum of shares * d].

    With grouped queries `heads` are key heads, and a query projection has a share of several heads.
    """

    def load(tensors: Sequence[Any]) -> Any:
        parts = [tensor.reshape(heads, -1, tensor.shape[-1]) for tensor in tensors]
        return parts[0].__array_namespace__().concat(parts, axis=1).transpose(2, 0, 1)

    def save(array: Any) -> Sequence[Any]:
        rows = array.transpose(1, 2, 0)
        return [part.reshape(-1, array.shape[0]) for part in _split(rows, shares)]

    return load, save


def fused_bias(heads: int, shares: tuple[int, ...]) -> tuple[Load, Save]:
    """The biases of `fused` projections as [heads, sum of shares * d]."""

    def load(tensors: Sequence[Any]) -> Any:
        parts = [tensor.reshape(heads, -1) for tensor in tensors]
        return parts[0].__array_namespace__().concat(parts, axis=1)

    def save(array: Any) -> Sequence[Any]:
        return [part.reshape(-1) for part in _split(array, shares)]

    return load, save


def output(heads: int) -> tuple[Load, Save]:
    """An output projection [out, heads * d] as [heads, d, out]."""
    return (
        lambda tensors: tensors[0].T.reshape(heads, -1, tensors[0].shape[0]),
        lambda array: [array.reshape(-1, array.shape[-1]).T],
    )


def patches(side: int) -> tuple[Load, Save]:
    """A patch embedding [out, colours, side, side] as [side * side * colours, out]."""
    return (
        lambda tensors: tensors[0].transpose(2, 3, 1, 0).reshape(-1, tensors[0].shape[0]),
        lambda array: [array.reshape(side, side, -1, array.shape[-1]).transpose(3, 2, 0, 1)],
    )


def reshaped(ours: tuple[int, ...], theirs: tuple[int, ...]) -> tuple[Load, Save]:
    """The same numbers in another shape; -1 once in each stands for what is left."""
    return lambda tensors: tensors[0].reshape(ours), lambda array: [array.reshape(theirs)]


def named(prefix: Template, name: str) -> Template:
    """A key under a prefix; under several where releases differ in it."""
    return f"{prefix}{name}" if isinstance(prefix, str) else tuple(f"{one}{name}" for one in prefix)


def unused(prefix: Template, pattern: str, start: int = 0) -> tuple[Unused, ...]:
    """Keys under a prefix that the graph does not use."""
    prefixes = (prefix,) if isinstance(prefix, str) else prefix
    return tuple(Unused(f"{one}{pattern}", start) for one in prefixes)


def decoder_rules(
    spec: DecoderSpec, prefix: Template = "model.", head: Template = "lm_head.weight", ours: str = "decoder."
) -> Rules:
    """Llama, Mistral, Mixtral and Qwen2.

    prefix: what stands before "layers", or several such where releases differ. head: the output matrix's whole key.
    """
    shares = (spec.heads // spec.kv_heads, 1, 1)
    layer, into = named(prefix, "layers.{i}."), f"{ours}layers."
    weights, biases = (tuple(named(layer, f"self_attn.{n}_proj.{kind}") for n in "qkv") for kind in ("weight", "bias"))
    rules: list[Rule | Unused] = [
        Rule(f"{ours}embed", (named(prefix, "embed_tokens.weight"),)),
        Rule(f"{ours}norm", (named(prefix, "norm.weight"),)),
        Rule(f"{into}norm1", (named(layer, "input_layernorm.weight"),)),
        Rule(f"{into}norm2", (named(layer, "post_attention_layernorm.weight"),)),
        Rule(f"{into}qkv", weights, *fused(spec.kv_heads, shares)),
        Rule(f"{into}out", (named(layer, "self_attn.o_proj.weight"),), *output(spec.kv_heads)),
        *unused(layer, "self_attn.rotary_emb.inv_freq"),
        *unused(prefix, "rotary_emb.inv_freq"),
    ]
    if spec.qkv_bias:
        rules.append(Rule(f"{into}qkv_bias", biases, *fused_bias(spec.kv_heads, shares)))
    if not spec.tied_head:
        rules.append(Rule(f"{ours}head", (head,)))
    if spec.experts:
        keys = {"router": "block_sparse_moe.gate.weight"}
        for name, theirs in {"expert_gate": "w1", "expert_up": "w3", "expert_down": "w2"}.items():
            keys[name] = f"block_sparse_moe.experts.{{e}}.{theirs}.weight"
    else:
        keys = {name: f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")}
    rules += [Rule(f"{into}{name}", (named(layer, key),), transposed, untransposed) for name, key in keys.items()]
    return tuple(rules)


def tower_rules(spec: TowerSpec, prefix: Template, ours: str = "tower.") -> Rules:
    """SigLIP, CLIP and LanguageBind towers: `prefix` stands before "embeddings" and "encoder".

    Layers behind those that are run, the last norm and the pooling head are carried through.
    """
    layer, into = named(prefix, "encoder.layers.{i}."), f"{ours}layers."
    rules: list[Rule | Unused] = [
        Rule(f"{ours}patch", (named(prefix, "embeddings.patch_embedding.weight"),), *patches(spec.patch_size)),
        Rule(f"{ours}position", (named(prefix, "embeddings.position_embedding.weight"),)),
        *norm_rules(f"{into}norm1", named(layer, "layer_norm1")),
        *norm_rules(f"{into}norm2", named(layer, "layer_norm2")),
        *attention_rules(spec.heads, into, named(layer, "self_attn.")),
        *linear_rules(f"{into}up", named(layer, "mlp.fc1")),
        *linear_rules(f"{into}down", named(layer, "mlp.fc2")),
        *unused(prefix, "encoder.layers.{i}.*", start=spec.layers),
        *unused(prefix, "embeddings.position_ids"),
        *unused(prefix, "post_layernorm.*"),
        *unused(prefix, "head.*"),
    ]
    if spec.patch_bias:
        rules.append(Rule(f"{ours}patch_bias", (named(prefix, "embeddings.patch_embedding.bias"),)))
    if spec.class_token:
        rules.append(Rule(f"{ours}class_token", (named(prefix, "embeddings.class_embedding"),)))
    if spec.pre_norm:
        rules += norm_rules(f"{ours}pre_norm", named(prefix, "pre_layrnorm"))
    if spec.temporal:
        time, size = f"{into}temporal.", (spec.temporal, spec.width)
        rules.append(Rule(f"{time}embedding", (named(layer, "temporal_embedding"),), *reshaped(size, (1, *size))))
        rules += norm_rules(f"{time}norm", named(layer, "temporal_layer_norm1"))
        rules += attention_rules(spec.heads, time, named(layer, "temporal_attn."))
    return tuple(rules)


def linear_rules(ours: str, theirs: Template) -> tuple[Rule, ...]:
    """A linear layer with a bias: `ours` and `ours`_bias."""
    weight = Rule(ours, (named(theirs, ".weight"),), transposed, untransposed)
    return weight, Rule(f"{ours}_bias", (named(theirs, ".bias"),))


def mlp_projector_rules(first: Template, second: Template | None = None, ours: str = "connector.") -> tuple[Rule, ...]:
    """Linear, GELU, linear; or one linear layer alone."""
    return linear_rules(f"{ours}fc1", first) + (linear_rules(f"{ours}fc2", second) if second else ())


def norm_rules(ours: str, theirs: Template) -> tuple[Rule, ...]:
    """A LayerNorm: `ours`_scale and `ours`_bias."""
    return Rule(f"{ours}_scale", (named(theirs, ".weight"),)), Rule(f"{ours}_bias", (named(theirs, ".bias"),))


def attention_rules(heads: int, ours: str, theirs: Template) -> tuple[Rule, ...]:
    """Full attention with biases: q, k, v of a head side by side."""
    shares = (1, 1, 1)
    weights, biases = (tuple(named(theirs, f"{n}_proj.{kind}") for n in "qkv") for kind in ("weight", "bias"))
    return (
        Rule(f"{ours}qkv", weights, *fused(heads, shares)),
        Rule(f"{ours}qkv_bias", biases, *fused_bias(heads, shares)),
        Rule(f"{ours}out", (named(theirs, "out_proj.weight"),), *output(heads)),
        Rule(f"{ours}out_bias", (named(theirs, "out_proj.bias"),)),
    )


def _split(array: Any, shares: tuple[int, ...]) -> list[Any]:
    """Parts of the second axis in these proportions."""
    one = array.shape[1] // sum(shares)
    parts, start = [], 0
    for share in shares:
        parts.append(array[:, start : start + share * one])
        start += share * one
    return parts
