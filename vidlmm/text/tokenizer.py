"""One small interface over `tokenizer.json` and sentencepiece `.model` files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from vidlmm.text.tokenizer_files import NamedTokens, TokenizerError, read_named_tokens

__all__ = ["Tokenizer", "TokenizerError", "load_tokenizer"]


@runtime_checkable
class Tokenizer(Protocol):
    """Text into ids and back.

    vocab_size: one more than the largest id.
    eos_id is the first of eos_ids (a generation_config.json may list several); ids are None where the
    files beside the tokenizer name none.
    legacy: the flag of sentencepiece Llama tokenizers; label masks of several systems depend on it.
    """

    @property
    def vocab_size(self) -> int: ...
    @property
    def bos_id(self) -> int | None: ...
    @property
    def eos_id(self) -> int | None: ...
    @property
    def eos_ids(self) -> tuple[int, ...]: ...
    @property
    def pad_id(self) -> int | None: ...
    @property
    def legacy(self) -> bool: ...

    def encode(self, text: str, *, bos: bool = False) -> list[int]:
        """Ids of `text`; special tokens written in the text become their ids.

        bos: begin with the start token where this tokenizer begins texts with one (Llama does, Qwen
        does not).
        """
        ...

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Text of `ids`; placeholders (negative ids) are left out."""
        ...

    def token_id(self, piece: str) -> int | None:
        """Id of one token by its stored text, or None."""
        ...


def load_tokenizer(path: str | Path, *, legacy: bool | None = None) -> Tokenizer:
    """Reads the tokenizer of a folder, or the file named.

    A folder's sentencepiece model goes before its tokenizer.json: the originals load Llama tokenizers
    with use_fast=False, and the two differ after special tokens. Name the file to choose yourself. The
    special tokens come from tokenizer_config.json, special_tokens_map.json, added_tokens.json and
    generation_config.json beside it. Nothing is executed: chat templates in these files are not used.

    Args:
        path: a folder, a tokenizer.json, or a sentencepiece `.model`.
        legacy: overrides the flag of tokenizer_config.json (absent there, Llama's default is True).

    Raises:
        TokenizerError: no tokenizer file, or one that cannot be read; the message names it.
    """
    file = _tokenizer_file(Path(path))
    named = read_named_tokens(file.parent)
    if legacy is not None:
        named = named.with_legacy(legacy)
    return _load(file, named)


def _tokenizer_file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.exists():
        raise TokenizerError(f"{path}: no such file or folder; expected a tokenizer.json, a .model or their folder")
    for name in ("tokenizer.model", "tokenizer.json"):
        if (path / name).is_file():
            return path / name
    found = sorted(p.name for p in path.iterdir())[:12]
    raise TokenizerError(
        f"{path}: no tokenizer.json and no tokenizer.model here (found: {', '.join(found) or 'nothing'}); "
        "save the tokenizer in one of these two forms"
    )


def _load(file: Path, named: NamedTokens) -> Tokenizer:
    if file.suffix == ".model":
        from vidlmm.text.sentencepiece_tokenizer import SentencePieceTokenizer

        return SentencePieceTokenizer(file.read_bytes(), named, source=str(file))
    if file.suffix == ".json":
        from vidlmm.text.json_tokenizer import JsonTokenizer

        return JsonTokenizer(file.read_text(encoding="utf-8"), named, source=str(file))
    raise TokenizerError(f"{file}: expected a tokenizer.json or a sentencepiece .model file, got '{file.suffix}'")
