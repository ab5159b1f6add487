"""A folder of low-rank adapters as PEFT writes it, and its sum with the model that it belongs to.

adapter_config.json                      what kind of adapters
adapter_model.safetensors                base_model.model.<module>.lora_A.weight [r, in], .lora_B.weight [out, r],
                                         and whole tensors of modules that were trained themselves
non_lora_trainables.safetensors          LLaVA's file of such tensors (llava/train/train.py,
                                         get_peft_state_non_lora_maybe_zero_3)
config.json                              of the whole model, where its base is the decoder alone
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidlmm.checkpoint.tensors import DTYPES, Stored, read_header
from vidlmm.checkpoint.weights import WeightsError, read_fields

CONFIG, WEIGHTS, WHOLE = "adapter_config.json", "adapter_model.safetensors", "non_lora_trainables.safetensors"
PREFIX = "base_model.model."
_WHOSE = "an adapter's folder as PEFT writes it"
_ENDS = (".lora_A.weight", ".lora_B.weight")
# Fields of adapter_config.json under which the sum is another one.
_UNKNOWN = ("use_dora", "lora_bias", "fan_in_fan_out", "use_qalora", "alora_invocation_tokens", "arrow_config")


@dataclass(frozen=True)
class Low:
    """The adapters of one tensor: scale * b @ a is added to it."""

    a: Stored
    b: Stored
    scale: float

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.b.shape[0], self.a.shape[1])

    def change(self) -> np.ndarray:
        """What is added, in float32."""
        return self.scale * (self.b.read().astype(np.float32) @ self.a.read().astype(np.float32))


@dataclass(frozen=True)
class Merged(Stored):
    """A tensor with its adapters; read as their sum, in the tensor's own type."""

    of: Stored
    low: Low

    def read(self) -> np.ndarray:
        """The tensor, in memory."""
        return (self.of.read().astype(np.float32) + self.low.change()).astype(DTYPES[self.dtype])


@dataclass(frozen=True)
class PeftFolder:
    """An adapter that is understood. low: by the key of the tensor. whole: tensors that take the place of the base's.

    config: the whole model's config.json, None where the folder has none.
    """

    path: Path
    low: Mapping[str, Low] = field(repr=False)
    whole: Mapping[str, Stored] = field(repr=False)
    config: Mapping[str, Any] | None

    def added(self, tensors: Mapping[str, Stored], names: Mapping[str, str] | None = None) -> dict[str, Stored]:
        """Tensors with the adapters added to them.

        Args:
            names: further names that keys may have in the adapter, to those in `tensors`.

        Raises:
            WeightsError: adapters of tensors that are not there, or have other shapes; all are listed.
        """
        found, odd = dict(tensors), []
        for key, low in self.low.items():
            here = key if key in tensors else (names or {}).get(key, key)
            if here not in tensors:
                odd.append(f"{key} is not there")
            elif tensors[here].shape != low.shape:
                odd.append(f"{here} is {list(tensors[here].shape)}, the adapter's {list(low.shape)}")
            else:
                one = tensors[here]
                found[here] = Merged(one.file, one.dtype, one.shape, one.offset, one, low)
        self._refuse(odd)
        return found

    def _refuse(self, odd: list[str]) -> None:
        if odd:
            raise WeightsError(f"the adapter in {self.path} is not one of this model: {'; '.join(odd)}")


def read_peft(path: Path) -> PeftFolder:
    """Understand an adapter's folder; nothing but headers is read.

    Raises:
        WeightsError: no such folder, pickle files, another kind of adapter, or damaged files.
    """
    config = read_fields(path / CONFIG, _WHOSE)
    kind, on = config.get("peft_type"), [name for name in _UNKNOWN if config.get(name)]
    if kind != "LORA" or on:
        what = f"peft_type {kind!r}" + "".join(f", {name} {config[name]!r}" for name in on)
        raise WeightsError(f"{path / CONFIG} says {what}; known is LORA without {', '.join(_UNKNOWN)}")
    for name in (WEIGHTS, WHOLE):
        pickle = (path / name).with_suffix(".bin")
        if pickle.is_file() and not (path / name).is_file():
            raise WeightsError(
                f"{path} holds {pickle.name}, a pickle file, which can run any code when it is read and is never "
                "opened here. Convert it where you trust it, with torch: safetensors.torch.save_file({k: "
                f"v.contiguous() for k, v in torch.load({pickle.name!r}, map_location='cpu', weights_only=True)"
                f".items()}}, {name!r})"
            )
    halves: dict[str, dict[str, Stored]] = {}
    whole: dict[str, Stored] = {}
    odd = []
    for key, tensor in read_header(path / WEIGHTS).tensors.items():
        end = next((end for end in _ENDS if key.endswith(end)), None)
        if end is not None and len(tensor.shape) == 2:
            halves.setdefault(_plain(key.removesuffix(end)), {})[end] = tensor
        elif "lora_" in key:
            odd.append(f"{key} {list(tensor.shape)}")
        else:
            whole[_plain(key)] = tensor
    odd += [f"{module} has no {end[1:]}" for module, one in halves.items() for end in _ENDS if end not in one]
    if odd:
        raise WeightsError(f"{path / WEIGHTS} holds more than adapters of linear layers: {'; '.join(odd)}")
    if (path / WHOLE).is_file():
        whole |= {_plain(key): tensor for key, tensor in read_header(path / WHOLE).tensors.items()}
    low = {}
    for module, one in halves.items():
        a, b = (one[end] for end in _ENDS)
        if a.shape[0] != b.shape[1]:
            raise WeightsError(
                f"{path / WEIGHTS}: {module} has ranks {a.shape[0]} and {b.shape[1]}, expected equal ones"
            )
        low[f"{module}.weight"] = Low(a, b, _scale(config, module, a.shape[0]))
    model = read_fields(path / "config.json", _WHOSE) if (path / "config.json").is_file() else None
    return PeftFolder(path, low, whole, model)


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """alpha / r, as peft's LoraLayer.update_layer; a module may have an alpha of its own."""
    alpha = config.get("lora_alpha", 8)
    for pattern, own in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = own
            break
    return float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)


def _plain(key: str) -> str:
    """A key without what PEFT puts around it."""
    return key.removeprefix(PREFIX).removeprefix("base_model.").replace(".base_layer.", ".")
