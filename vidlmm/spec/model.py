"""ModelSpec: everything that defines a model's numbers, as one value that travels with its weights."""

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal, TypeVar

from vidlmm.spec.action import ActionSpec
from vidlmm.spec.audio import AudioSpec
from vidlmm.spec.connector import ConnectorSpec, pooled_side
from vidlmm.spec.decoder import DecoderSpec
from vidlmm.spec.frames import FrameSpec
from vidlmm.spec.pixels import PixelSpec
from vidlmm.spec.prompt import PromptSpec
from vidlmm.spec.stc import stc_tokens
from vidlmm.spec.tables import TableSpec
from vidlmm.spec.tower import TowerSpec

T = TypeVar("T")


@dataclass(frozen=True)
class ModelSpec:
    """A published system, or one of your own: one value, no subclass.

    tower: of frames, and of pictures where they have none of their own; `NO_TOWER` in a model that reads text alone.
    image_tower: the tower of pictures where it is not that of frames (Video-LLaVA, LLaVA-Hound).
    image_pixels: how pictures enter that tower; None means as frames do.
    placeholders: what stands for media in token ids: "index" is one negative id an item, "frames" one a frame,
        "expanded" a special token for every place that an item fills.
    special_tokens: names and ids of those tokens.
    """

    name: str
    tower: TowerSpec = field(default_factory=TowerSpec)
    connector: ConnectorSpec = field(default_factory=ConnectorSpec)
    decoder: DecoderSpec = field(default_factory=DecoderSpec)
    frames: FrameSpec = field(default_factory=FrameSpec)
    pixels: PixelSpec = field(default_factory=PixelSpec)
    prompt: PromptSpec = field(default_factory=PromptSpec)
    image_tower: TowerSpec | None = None
    image_pixels: PixelSpec | None = None
    audio: AudioSpec | None = None
    action: ActionSpec | None = None
    placeholders: Literal["index", "frames", "expanded"] = "index"
    special_tokens: tuple[tuple[str, int], ...] = ()

    @property
    def text_only(self) -> bool:
        """Whether the model has no tower, and therefore no projector."""
        return not self.tower.layers

    @property
    def grids(self) -> tuple[int, ...]:
        """Cells a side of each table of frames."""
        mode = self.connector.pool_mode
        return tuple(pooled_side(self.tower.grid, mode, s) for s in self.connector.strides)

    def tables(self, clip_length: int = 0, sound_length: int = 0) -> tuple[TableSpec, ...]:
        """The visual tables, in the order in which plans number them.

        Args:
            clip_length: frames that the clips of a batch are padded to.
            sound_length: filter-bank frames that the sounds of a batch are padded to.
        """
        found = list(self._video_tables(clip_length))
        if self.connector.blends:
            found.append(TableSpec("blend", 1))
        if self.image_tower is not None:
            found.append(TableSpec("picture", self.image_tower.tokens, self.image_tower.grid))
        if self.audio is not None:
            found.append(TableSpec("sound", self.audio.tokens(sound_length), self.audio.bands))
        return tuple(found)

    def _video_tables(self, clip_length: int) -> tuple[TableSpec, ...]:
        """Of STC and "mean" the clips; of Valley the clips' patches and the frames' class tokens; else the frames; none
        of a model that reads text alone."""
        connector, grid = self.connector, self.tower.grid
        if self.text_only:
            return ()
        if connector.stc is not None:
            cells = stc_tokens(clip_length, grid, connector.stc) if clip_length else (0, 0, 0)
            return (TableSpec("clip", prod(cells), cells[2]),)
        if connector.temporal == "mean":
            return (TableSpec("clip", grid**2, grid),)
        if connector.temporal != "none":
            return (TableSpec("clip", grid**2, grid), TableSpec("frame", 1))
        if connector.strides == (1,):
            return (TableSpec("frame", self.tower.tokens, grid),)
        return tuple(TableSpec("frame", side**2, side) for side in self.grids)


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
    return _tuples(value)


def _tuples(value: Any) -> Any:
    """Lists, and lists in lists, as tuples."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
