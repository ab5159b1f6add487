"""Attention of rows whose places and heads may lie on several devices."""

from functools import partial

from jaxtyping import Array, Float

from vidlmm.kernels.tree_attention import Ids, tree_attention
from vidlmm.models.bidirectional import attend_all
from vidlmm.models.reduced import backend_of
from vidlmm.models.sharding import Spec, axes_of, current_rules, gathered, per_device


def row_attention(
    q: Float[Array, "B K G Q d"], k: Float[Array, "B K S d"], v: Float[Array, "B K S d"], queries: Ids, keys: Ids
) -> Float[Array, "B K G Q d"]:
    """Attention of rows, or of a part of their places, on whole rows (`vidlmm.kernels.tree_attention`), by what pays on
    the program's devices.

    A device answers the queries of its own rows, heads and places. Where rows are split by places, it first collects
    their keys and values, which are few beside the queries; the backward pass sends each device the sum of its own
    keys' gradients.
    """
    rules, kernel = current_rules(), backend_of("tree_attention") != "xla"
    attend = partial(tree_attention, backend="auto" if kernel else "xla")
    if rules is None:
        return attend(q, k, v, queries, keys)
    of_q = rules.used(("rows", "kv_heads", None, "places", None), q.shape)
    rows, heads, places = (axes_of(of_q, d) or None for d in (0, 1, 3))
    of_k = Spec(rows, heads, axes_of(rules.used(("rows", "kv_heads", "places", None), k.shape), 2) or None)
    parts = (of_q, of_k, of_k, Spec(rows, places), Spec(rows))

    def own(q: Array, k: Array, v: Array, queries: Ids, keys: Ids) -> Array:
        return attend(q, gathered(k, of_k, 2), gathered(v, of_k, 2), queries, keys)

    return per_device(own, rules, parts, of_q, kernel=kernel)(q, k, v, queries, keys)


def encoder_attention(
    q: Float[Array, "F H N d"], k: Float[Array, "F H N d"], v: Float[Array, "F H N d"]
) -> Float[Array, "F H N d"]:
    """Attention of every position of a frame on all of them (`attend_all`), each device its own frames and heads."""
    rules = current_rules()
    if rules is None:
        return attend_all(q, k, v)
    where = rules.used(("frames", "heads", None, None), q.shape)
    return per_device(attend_all, rules, (where, where, where), where)(q, k, v)
