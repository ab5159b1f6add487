"""Rules: which tensors make which array, what is said of those that do not fit, and the way back."""

import re
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vidlmm.checkpoint import parts
from vidlmm.checkpoint.keymap import Rule, Unused, plan, their_shapes
from vidlmm.checkpoint.names import dotted
from vidlmm.checkpoint.weights import WeightsError
from vidlmm.models import Connector, Decoder, Tower
from vidlmm.spec import ConnectorSpec, PixelSpec
from vidlmm.spec.decoder import DecoderSpec
from vidlmm.spec.tower import TowerSpec

RULES = (
    Rule("norm", (("model.norm.weight", "norm.weight"),)),
    Rule("layers.up", ("model.layers.{i}.up.weight",), parts.transposed, parts.untransposed),
    Rule("layers.experts", ("model.layers.{i}.experts.{e}.w.weight",)),
    Rule("read", ("read.{i}.weight",), start=1, step=2),
    Unused("model.layers.{i}.*", start=2),
    Unused("head.*"),
)
SHAPES = {"norm": (4,), "layers.up": (2, 4, 3), "layers.experts": (2, 3, 5), "read": (2, 6)}
OURS = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in SHAPES.items()}


def theirs(**changes: tuple[int, ...] | None) -> dict[str, tuple[int, ...]]:
    found: dict[str, Any] = {"norm.weight": (4,), "read.1.weight": (6,), "read.3.weight": (6,)}
    for layer in range(2):
        found[f"model.layers.{layer}.up.weight"] = (3, 4)
        found |= {f"model.layers.{layer}.experts.{e}.w.weight": (5,) for e in range(3)}
    found |= changes
    return {name: shape for name, shape in found.items() if shape is not None}


def test_every_tensor_is_given_its_layer_and_expert() -> None:
    found = plan(RULES, OURS, theirs(), "it")
    assert [part.keys for part in found.parts["layers.up"]] == [
        ("model.layers.0.up.weight",),
        ("model.layers.1.up.weight",),
    ]
    assert found.parts["layers.experts"][4].place == (1, 1)
    assert found.parts["layers.experts"][4].keys == ("model.layers.1.experts.1.w.weight",)
    assert [part.keys for part in found.parts["read"]] == [("read.1.weight",), ("read.3.weight",)]
    assert found.parts["norm"][0].keys == ("norm.weight",), "the name that is there"
    assert sorted(found.origins()) == sorted(theirs())


def test_known_keys_that_the_graph_does_not_use_are_told() -> None:
    extra = {"model.layers.2.up.weight": (3, 4), "model.layers.17.odd": (1,), "head.bias": (9,)}
    assert plan(RULES, OURS, theirs(**extra), "it").unused == tuple(extra)


def test_one_error_lists_everything_with_the_nearest_names() -> None:
    changes = {
        "norm.weight": None,
        "model.layers.1.up.weight": None,
        "model.layers.1.upp.weight": (3, 4),
        "model.layers.0.experts.2.w.weight": (6,),
        "stray": (1,),
    }
    with pytest.raises(WeightsError) as error:
        plan(RULES, OURS, theirs(**changes), "it")
    assert str(error.value) == (
        "it does not fit the model: missing model.layers.1.up.weight (nearest is model.layers.1.upp.weight); "
        "missing model.norm.weight; unexpected model.layers.1.upp.weight (nearest is model.layers.1.up.weight); "
        "unexpected stray; misshapen model.layers.0.experts.2.w.weight is [6], the model has [5]"
    )


def test_thousands_of_wrong_names_are_told_quickly() -> None:
    rules = tuple(Rule(f"p{n}", (f"model.layers.{{i}}.part{n}.weight",)) for n in range(15))
    ours = {f"p{n}": jax.ShapeDtypeStruct((100, 2), jnp.float32) for n in range(15)}
    found = {f"net.layers.{i}.part{n}.weight": (2,) for n in range(15) for i in range(100)}
    start = time.process_time()
    with pytest.raises(WeightsError) as error:
        plan(rules, ours, found, "it")
    assert time.process_time() - start < 2
    assert "missing model.layers.42.part7.weight (nearest is net.layers.42.part7.weight)" in str(error.value)


def test_rules_that_do_not_belong_to_the_model_are_a_fault_of_the_layout() -> None:
    with pytest.raises(ValueError, match=re.escape("do not belong to the model: ['extra']")):
        plan(RULES, OURS | {"extra": OURS["norm"]}, theirs(), "it")


@pytest.mark.parametrize(
    ("pattern", "start", "key", "known"),
    [
        ("a.{i}.*", 3, "a.3.b.c", True),
        ("a.{i}.*", 3, "a.2.b.c", False),
        ("a.b", 0, "a.b", True),
        ("a.b", 0, "axb", False),
        ("a.*", 0, "a.", True),
        ("a.{i}.b", 0, "a.x.b", False),
    ],
)
def test_patterns_of_unused_keys(pattern: str, start: int, key: str, known: bool) -> None:
    assert Unused(pattern, start).matches(key) is known


DECODER = DecoderSpec(vocab=11, width=12, layers=2, heads=6, kv_heads=2, mlp=20, head_dim=4)
EXPERTS = DecoderSpec(vocab=11, width=12, layers=2, heads=6, kv_heads=3, mlp=20, qkv_bias=False, experts=4)
TOWER = TowerSpec(image_size=9, patch_size=3, width=8, layers=2, heads=2, mlp=16)
CLIP = TowerSpec(
    image_size=9, patch_size=3, width=8, layers=2, heads=4, mlp=16, class_token=True, pre_norm=True, temporal=3
)


MODULES = {
    "decoder": (lambda: Decoder(DECODER, rngs=nnx.Rngs(0)), parts.decoder_rules(DECODER)),
    "experts": (lambda: Decoder(EXPERTS, rngs=nnx.Rngs(0)), parts.decoder_rules(EXPERTS, "llm.", "llm.head.weight")),
    "tower": (lambda: Tower(TOWER, PixelSpec(size=9), rngs=nnx.Rngs(0)), parts.tower_rules(TOWER, "siglip.")),
    "clip": (lambda: Tower(CLIP, PixelSpec(size=9), rngs=nnx.Rngs(0)), parts.tower_rules(CLIP, "clip.")),
    "connector": (
        lambda: Connector(ConnectorSpec(newline="no_token"), 5, 9, 7, rngs=nnx.Rngs(0)),
        parts.mlp_projector_rules("p.0", "p.2"),
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_every_rule_makes_its_parameter_and_has_an_exact_inverse(name: str) -> None:
    make, rules = MODULES[name]
    state = nnx.to_flat_state(nnx.state(nnx.eval_shape(make)))
    shapes = {path: leaf.shape for path, leaf in ((dotted(path), leaf) for path, leaf in state)}
    named = [rule for rule in rules if isinstance(rule, Rule)]
    assert sorted(rule.ours.split(".", 1)[1] for rule in named) == sorted(shapes)
    rng = np.random.default_rng(0)
    for rule in named:
        shape = shapes[rule.ours.split(".", 1)[1]]
        array = rng.normal(size=shape[rule.stacked :]).astype(np.float32)
        tensors = [np.ascontiguousarray(tensor) for tensor in rule.save(array)]
        assert tuple(t.shape for t in tensors) == their_shapes(rule, shape, jnp.float32), rule.ours
        np.testing.assert_array_equal(rule.load(tensors), array, err_msg=rule.ours)
