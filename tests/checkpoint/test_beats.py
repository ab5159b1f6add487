"""The names of the audio tower's tensors: what is read from them, and that they come back byte for byte."""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from flax import nnx

from tests.conftest import GOLDENS
from tests.models.beats_case import BeatsCase, Ear
from vidlmm.checkpoint.beats import audio_rules, audio_spec, holds_audio
from vidlmm.checkpoint.keymap import KeyPlan, plan
from vidlmm.checkpoint.layout import Shapes
from vidlmm.checkpoint.names import skeleton
from vidlmm.checkpoint.weights import WeightsError
from vidlmm.spec import AudioSpec

TOWER = "model.audio_tower."
ATTENTION = f"{TOWER}encoder.layers.{{}}.self_attn."
POSITION = f"{TOWER}encoder.pos_conv.0."


@cache
def case() -> BeatsCase:
    return BeatsCase(GOLDENS / "videollama2/av_siglip_beats_qwen2_16f")


def shapes_of(changes: Mapping[str, Any] = MappingProxyType({})) -> dict[str, tuple[int, ...]]:
    """The case's shapes, some changed; None takes a tensor away."""
    found: dict[str, Any] = {key: value.shape for key, value in case().tensors.items()} | dict(changes)
    return {key: shape for key, shape in found.items() if shape is not None}


def planned(shapes: dict[str, tuple[int, ...]]) -> KeyPlan:
    return plan(audio_rules(case().spec), case().skeleton.shapes, shapes, "it")


def test_tensors_come_back_byte_for_byte():
    back = case().released(nnx.state(case().model))
    assert {key for key in case().tensors if key not in back} == {f"{TOWER}predictor.{n}" for n in ("weight", "bias")}
    assert set(case().plan.unused) == set(case().tensors) - set(back)
    for key, value in back.items():
        np.testing.assert_array_equal(value, case().tensors[key], err_msg=key)


def test_sizes_come_from_the_tensors_and_wrong_fields_never_win():
    told = {"encoder_layers": 7, "encoder_attention_heads": 5, "num_buckets": 64, "embed_dim": 9, "conv_pos_groups": 3}
    found = audio_spec({"hidden_size_a": 4096}, Shapes(shapes_of()), told)
    assert found == case().spec
    assert found == AudioSpec(embed=32, layers=3, width=48, heads=4, mlp=96)


def test_what_no_tensor_tells_comes_from_the_audio_config():
    told = {"max_distance": 200, "deep_norm": False, "activation_fn": "relu", "layer_wise_gradient_decay_ratio": 1.0}
    found = audio_spec({}, Shapes(shapes_of()), told)
    assert (found.max_distance, found.deep_norm, found.activation, found.gradient_decay) == (200, False, "relu", 1.0)


@pytest.mark.parametrize("held", [(0,), (2,), (0, 1, 2)])
def test_a_release_may_hold_any_copies_of_the_shared_bias(held):
    copies = {i: ATTENTION.format(i) + "relative_attention_bias.weight" for i in range(3)}
    found = planned(shapes_of({key: None for i, key in copies.items() if i not in held}))
    (part,) = found.parts["audio.relative"]
    assert set(part.keys) == {copies[i] for i in held}
    assert all(origin[0] is part for key, origin in found.origins().items() if key in copies.values())


def test_without_any_copy_of_the_shared_bias_it_is_missing():
    lost = {ATTENTION.format(i) + "relative_attention_bias.weight": None for i in range(3)}
    with pytest.raises(WeightsError, match=r"missing model.audio_tower.encoder.layers.0.self_attn.relative"):
        planned(shapes_of(lost))


def test_both_names_of_the_position_weights_are_known():
    old = {f"{POSITION}weight_g": None, f"{POSITION}weight_v": None}
    newer = [f"{POSITION}parametrizations.weight.original{n}" for n in (0, 1)]
    shapes = shapes_of({**old, newer[0]: (1, 1, 128), newer[1]: (48, 3, 128)})
    assert audio_spec({}, Shapes(shapes), {}) == case().spec
    found = planned(shapes).parts
    assert [found[f"audio.position_{name}"][0].keys for name in ("length", "direction")] == [(key,) for key in newer]


LOST = {f"model.mm_projector_a.{n}.{part}": None for n in "02" for part in ("weight", "bias")}


@pytest.mark.parametrize(
    ("numbers", "layers"), [(("0.", "2."), 2), (("0.", "2.", "4."), 3), (("0.",), 1), (("",), 1), ((), 0)]
)
def test_a_projector_is_as_deep_as_its_tensors(numbers, layers):
    made = {f"model.mm_projector_a.{n}weight": (64, 64 if i else 48) for i, n in enumerate(numbers)}
    made |= {f"model.mm_projector_a.{n}bias": (64,) for n in numbers}
    shapes = shapes_of(LOST | made)
    spec = audio_spec({"mm_projector_a_type": "identity"}, Shapes(shapes), {})
    assert spec.projector_layers == layers
    found = plan(audio_rules(spec), skeleton(lambda: Ear(spec, 64 if layers else 48)).shapes, shapes, "it")
    used = {key for name, parts in found.parts.items() for part in parts for key in part.keys if "projector" in name}
    assert used == set(made)


def test_a_lost_projector_is_missing():
    spec = audio_spec({"mm_projector_a_type": "mlp2x_gelu"}, Shapes(shapes_of(LOST)), {})
    with pytest.raises(WeightsError, match=r"missing model.mm_projector_a.0.bias.*missing .*2.weight"):
        plan(audio_rules(spec), case().skeleton.shapes, shapes_of(LOST), "it")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"layer_norm_first": True}, "layer_norm_first"),
        ({"activation_fn": "glu"}, "activation_fn 'glu'; known are"),
        ({"max_distance": 80}, "do not go together: audio.buckets is 320"),
    ],
)
def test_an_audio_config_that_is_not_known_is_refused(told, message):
    with pytest.raises(WeightsError, match=message):
        audio_spec({}, Shapes(shapes_of()), told)


def test_weights_without_a_tower_hold_no_sound():
    assert holds_audio(Shapes(shapes_of()))
    assert not holds_audio(Shapes({"model.mm_projector.0.weight": (4, 4)}))
