"""Tokenizers stored as tokenizer.json (Hugging Face's `tokenizers` library reads them)."""

from collections.abc import Sequence

import tokenizers

from vidlmm.text.tokenizer_files import NamedTokens, TokenizerError


class JsonTokenizer:
    """A `Tokenizer` over the text of a tokenizer.json."""

    def __init__(self, text: str, named: NamedTokens, *, source: str = "tokenizer.json"):
        """
        Args:
            text: the content of the file.
            named: what the files beside it say.
            source: the file's name, for messages.

        Raises:
            TokenizerError: the text is no tokenizer, or a named token is not in it.
        """
        try:
            self._inner = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises bare Exception
            raise TokenizerError(f"{source}: not a readable tokenizer.json: {error}") from error
        self._inner.no_truncation()
        self._inner.no_padding()
        self.legacy = named.legacy
        self.bos_id = self._named_id(named.bos, "bos_token", source)
        self.pad_id = self._named_id(named.pad, "pad_token", source)
        eos = self._named_id(named.eos, "eos_token", source)
        self.eos_ids = named.all_eos_ids(eos)
        self.eos_id: int | None = self.eos_ids[0] if self.eos_ids else None
        self.vocab_size = max(self._inner.get_vocab(with_added_tokens=True).values()) + 1
        begun = self._inner.encode("", add_special_tokens=True).ids
        self._begins = self.bos_id is not None and begun[:1] == [self.bos_id]
        self._skipped = frozenset(i for i, token in self._inner.get_added_tokens_decoder().items() if token.special)

    def _named_id(self, piece: str | None, field: str, source: str) -> int | None:
        if piece is None:
            return None
        token_id = self._inner.token_to_id(piece)
        if token_id is None:
            raise TokenizerError(f"{source}: the files beside it name {field} {piece!r}, which it does not contain")
        return token_id

    def encode(self, text: str, *, bos: bool = False) -> list[int]:
        ids = self._inner.encode(text, add_special_tokens=False).ids
        return [self.bos_id, *ids] if bos and self._begins and self.bos_id is not None else ids

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        kept = [int(i) for i in ids if i >= 0 and not (skip_special and int(i) in self._skipped)]
        return self._inner.decode(kept, skip_special_tokens=False)

    def token_id(self, piece: str) -> int | None:
        return self._inner.token_to_id(piece)
