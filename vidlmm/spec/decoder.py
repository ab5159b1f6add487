"""The language model that reads text and visual tokens."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DecoderSpec:
    """A pre-norm decoder with RMSNorm, RoPE, grouped-query attention and a gated SiLU MLP.

    head_dim: 0 means width // heads.
    experts: MLPs beside each other, of which every token goes through the `top_k` best (Mixtral); 0 means one MLP.
    """

    vocab: int = 152064
    width: int = 3584
    layers: int = 28
    heads: int = 28
    kv_heads: int = 4
    mlp: int = 18944
    head_dim: int = 0
    rope_base: float = 1e6
    norm_eps: float = 1e-6
    qkv_bias: bool = True
    tied_head: bool = False
    max_length: int = 32768
    experts: int = 0
    top_k: int = 2

    @property
    def dim_per_head(self) -> int:
        return self.head_dim or self.width // self.heads
