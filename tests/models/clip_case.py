"""CLIP towers of reference cases, and modules filled with a case's seeded tensors."""

from collections.abc import Callable
from typing import Any

import numpy as np
from flax import nnx

from tests.checkpoint.released import case_tensors
from vidlmm.checkpoint.keymap import Rule, Rules
from vidlmm.checkpoint.parts import tower_rules
from vidlmm.models import Tower
from vidlmm.spec import CLIP_MEAN, CLIP_STD, PixelSpec, TowerSpec

Get = Callable[[str], np.ndarray]


def clip_spec(vision: dict[str, Any], select_layer: int, **changes: Any) -> TowerSpec:
    """The tower of a `vision_config` that is run up to `select_layer` (-1: all layers)."""
    fields: dict[str, Any] = {
        "image_size": vision["image_size"],
        "patch_size": vision["patch_size"],
        "width": vision["hidden_size"],
        "layers": vision["num_hidden_layers"] + 1 + select_layer,
        "heads": vision["num_attention_heads"],
        "mlp": vision["intermediate_size"],
        "activation": vision["hidden_act"],
        "norm_eps": vision["layer_norm_eps"],
    }
    return TowerSpec(**{**fields, "class_token": True, "pre_norm": True, "patch_bias": False, **changes})


def seeded_get(case: dict[str, Any]) -> Get:
    """The tensors of a case by their released names, made when they are asked for."""
    return lambda key: case_tensors({**case, "tensors": {key: case["tensors"][key]}})[key]


def filled(module: nnx.Module, values: dict[str, np.ndarray]) -> Any:
    """An abstract module with `values` as its parameters, none left over on either side."""
    graph, params = nnx.split(module)
    flat = dict(nnx.to_flat_state(params))
    names = {".".join(map(str, path)): path for path in flat}
    assert set(names) == set(values), set(names) ^ set(values)
    for name, value in values.items():
        assert flat[names[name]].shape == value.shape, (name, flat[names[name]].shape, value.shape)
        flat[names[name]] = flat[names[name]].replace(value)
    return nnx.merge(graph, nnx.from_flat_state(flat))


def ruled(module: nnx.Module, rules: Rules, get: Get, ours: str = "") -> Any:
    """An abstract module with what the rules of names below `ours` make of a release's tensors."""
    flat = nnx.to_flat_state(nnx.state(module, nnx.Param))
    layers = {".".join(map(str, path)): leaf.get_value().shape[:1] for path, leaf in flat}
    values = {}
    for rule in (rule for rule in rules if isinstance(rule, Rule) and rule.ours.startswith(ours)):
        name = rule.ours.removeprefix(ours)
        places = [(i,) for i in range(*layers[name])] if rule.stacked else [()]
        found = [np.asarray(rule.load([get(names[0]) for names in rule.keys(place)])) for place in places]
        values[name] = np.stack(found) if rule.stacked else found[0]
    return filled(module, values)


def clip_tower(get: Get, prefix: str, spec: TowerSpec) -> Tower:
    """The tower of `spec` with the weights below `prefix`."""
    pixels = PixelSpec(size=spec.image_size, mean=CLIP_MEAN, std=CLIP_STD)
    return ruled(nnx.eval_shape(lambda: Tower(spec, pixels, rngs=nnx.Rngs(0))), tower_rules(spec, prefix, ""), get)
