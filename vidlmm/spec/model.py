"""ModelSpec: everything that defines a model's numbers, as one value that travels with its weights."""

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from vidlmm.spec.connector import ConnectorSpec, pooled_side
from vidlmm.spec.decoder import DecoderSpec
from vidlmm.spec.frames import FrameSpec
from vidlmm.spec.pixels import PixelSpec
from vidlmm.spec.prompt import PromptSpec
from vidlmm.spec.tower import TowerSpec

T = TypeVar("T")


@dataclass(frozen=True)
class ModelSpec:
    """A published system, or one of your own: one value, no subclass."""

    name: str
    tower: TowerSpec = field(default_factory=TowerSpec)
    connector: ConnectorSpec = field(default_factory=ConnectorSpec)
    decoder: DecoderSpec = field(default_factory=DecoderSpec)
    frames: FrameSpec = field(default_factory=FrameSpec)
    pixels: PixelSpec = field(default_factory=PixelSpec)
    prompt: PromptSpec = field(default_factory=PromptSpec)

    @property
    def grids(self) -> tuple[int, ...]:
        """Cells a side of each pooling level."""
        mode = self.connector.pool_mode
        return tuple(pooled_side(self.tower.grid, mode, s) for s in self.connector.strides)


def to_json(spec: Any) -> str:
    """A spec as JSON text with every field written out."""
    return json.dumps(dataclasses.asdict(spec), indent=2) + "\n"


def from_json(text: str) -> ModelSpec:
    """The spec back from `to_json`.

    Raises:
        ValueError: an unknown field; the message names it and the known ones.
    """
    return from_dict(ModelSpec, json.loads(text))


def from_dict(kind: type[T], values: dict[str, Any]) -> T:
    """A (nested) spec dataclass from plain dicts and lists."""
    hints = typing.get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"{kind.__name__}: unknown field(s) {unknown}; known are {sorted(known)}")
    return kind(**{name: _coerce(hints[name], value) for name, value in values.items()})


def _coerce(hint: Any, value: Any) -> Any:
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for option in options:
        if dataclasses.is_dataclass(option) and isinstance(value, dict):
            return from_dict(option, value)  # type: ignore[arg-type]
    return tuple(value) if isinstance(value, list) else value
