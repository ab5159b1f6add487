"""The small JSON files beside a tokenizer: which tokens begin, end and pad a text."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class TokenizerError(ValueError):
    """A tokenizer that is missing or cannot be read."""


@dataclass(frozen=True)
class AddedToken:
    """A token that is cut out of the text before anything else.

    lstrip, rstrip: it swallows the white space on its left, on its right.
    """

    text: str
    id: int
    special: bool = True
    lstrip: bool = False
    rstrip: bool = False


@dataclass(frozen=True)
class NamedTokens:
    """What the files beside a tokenizer say.

    bos, eos, pad, unk: token texts, None where no file names one.
    eos_ids: ids of generation_config.json, which may list several.
    add_bos: whether a text begins with bos; None where no file says so.
    """

    bos: str | None = None
    eos: str | None = None
    pad: str | None = None
    unk: str | None = None
    eos_ids: tuple[int, ...] = ()
    add_bos: bool | None = None
    legacy: bool = True
    added: tuple[AddedToken, ...] = field(default=())

    def with_legacy(self, legacy: bool) -> "NamedTokens":
        return dataclasses.replace(self, legacy=legacy)

    def all_eos_ids(self, own: int | None) -> tuple[int, ...]:
        """The id of the eos token first, then those that only generation_config.json lists."""
        first = () if own is None else (own,)
        return first + tuple(i for i in dict.fromkeys(self.eos_ids) if i != own)


def read_named_tokens(folder: Path) -> NamedTokens:
    """Reads tokenizer_config.json, special_tokens_map.json, added_tokens.json and generation_config.json.

    Raises:
        TokenizerError: one of them is not the JSON it should be.
    """
    config = _read(folder / "tokenizer_config.json")
    names = {**_read(folder / "special_tokens_map.json"), **config}
    generation = _read(folder / "generation_config.json").get("eos_token_id")
    eos_ids = generation if isinstance(generation, list) else [generation]
    legacy = config.get("legacy")
    return NamedTokens(
        **{kind: _text(names.get(f"{kind}_token")) for kind in ("bos", "eos", "pad", "unk")},
        eos_ids=tuple(int(i) for i in eos_ids if i is not None),
        add_bos=config.get("add_bos_token"),
        legacy=True if legacy is None else bool(legacy),
        added=_added_tokens(config.get("added_tokens_decoder", {}), _read(folder / "added_tokens.json")),
    )


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TokenizerError(f"{file}: cannot be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise TokenizerError(f"{file}: expected a JSON object, got {type(values).__name__}")
    return values


def _text(token: Any) -> str | None:
    """A token is written as a string or as an object with its content."""
    return token.get("content") if isinstance(token, dict) else token


def _added_tokens(decoder: dict[str, Any], plain: dict[str, Any]) -> tuple[AddedToken, ...]:
    tokens = {text: AddedToken(text, int(token_id)) for text, token_id in plain.items()}
    for token_id, entry in decoder.items():
        text = entry["content"]
        flags = {name: bool(entry.get(name, False)) for name in ("special", "lstrip", "rstrip")}
        tokens[text] = AddedToken(text, int(token_id), **flags)
    return tuple(sorted(tokens.values(), key=lambda token: token.id))
