"""Sentencepiece models as the slow Llama tokenizer of `transformers` reads them.

Two ways to treat the space before a piece of text, chosen by the `legacy` flag:
legacy: every stretch between special tokens gets its own leading space marker.
otherwise: only the start of the text gets one.
Label masks that count tokens (Vicuna, Hound, Valley) depend on it.
"""

import re
from collections.abc import Sequence
from functools import cached_property

import sentencepiece

from vidlmm.text.tokenizer_files import AddedToken, NamedTokens, TokenizerError

SPACE = "▁"
# Field 3 (normalizer_spec) holding only field 3 (add_dummy_prefix) = false. Appended to a serialised
# model it is merged into it: this is how protobuf reads a repeated singular field.
_NO_DUMMY_PREFIX = b"\x1a\x02\x18\x00"


class SentencePieceTokenizer:
    """A `Tokenizer` over the bytes of a sentencepiece model."""

    def __init__(self, model: bytes, named: NamedTokens, *, source: str = "tokenizer.model"):
        """
        Args:
            model: the content of the file.
            named: what the files beside it say; tokens added to the vocabulary among them.
            source: the file's name, for messages.

        Raises:
            TokenizerError: the bytes are no sentencepiece model, or a named token is unknown.
        """
        self.legacy = named.legacy
        self._pieces = _processor(model if named.legacy else model + _NO_DUMMY_PREFIX, source)
        self._specials = self._special_tokens(named)
        self._by_text = {token.text: token for token in self._specials}
        self._by_id = {token.id: token for token in self._specials}
        self.bos_id = self._named_id(named.bos, self._pieces.bos_id(), source)
        self.pad_id = self._named_id(named.pad, self._pieces.pad_id(), source)
        eos = self._named_id(named.eos, self._pieces.eos_id(), source)
        self.eos_ids = named.all_eos_ids(eos)
        self.eos_id: int | None = self.eos_ids[0] if self.eos_ids else None
        self.vocab_size = max([self._pieces.vocab_size() - 1, *self._by_id]) + 1
        # Llama begins every text with bos unless its config says otherwise.
        self._begins = named.add_bos is not False and self.bos_id is not None
        self._unk = named.unk or self._pieces.id_to_piece(self._pieces.unk_id())

    def _special_tokens(self, named: NamedTokens) -> tuple[AddedToken, ...]:
        own = (self._pieces.unk_id(), self._pieces.bos_id(), self._pieces.eos_id(), self._pieces.pad_id())
        tokens = {i: AddedToken(self._pieces.id_to_piece(i), i) for i in own if i >= 0}
        tokens.update({token.id: token for token in named.added})
        return tuple(tokens.values())

    def _named_id(self, piece: str | None, own: int, source: str) -> int | None:
        if piece is None:
            return own if own >= 0 else None
        token_id = self.token_id(piece)
        if token_id is None:
            raise TokenizerError(f"{source}: the files beside it name the token {piece!r}, which it does not contain")
        return token_id

    @cached_property
    def _cut(self) -> re.Pattern[str]:
        """Special tokens, the longest first, with the white space that they swallow."""
        longest_first = sorted(self._specials, key=lambda token: -len(token.text))
        parts = (
            (r"\s*" if token.lstrip else "") + re.escape(token.text) + (r"\s*" if token.rstrip else "")
            for token in longest_first
        )
        return re.compile("(" + "|".join(parts) + ")")

    def encode(self, text: str, *, bos: bool = False) -> list[int]:
        ids = [self.bos_id] if bos and self._begins and self.bos_id is not None else []
        marked = text if self.legacy or not text else SPACE + text.replace(SPACE, " ")
        body: list[int] = []
        for i, part in enumerate(self._cut.split(marked)):
            if i % 2:
                body.append(self._by_text[part if part in self._by_text else part.strip()].id)
            elif part:
                body.extend(self._encode_stretch(part))
        if not self.legacy and len(body) > 1 and self._is_bare_space(body[0]) and body[1] in self._by_id:
            body = body[1:]  # the marker put before a text that begins with a special token
        return ids + body

    def _is_bare_space(self, token_id: int) -> bool:
        return token_id < self._pieces.vocab_size() and self._pieces.id_to_piece(token_id) == SPACE

    def _encode_stretch(self, text: str) -> list[int]:
        if self.legacy or not text.startswith((SPACE, " ")):
            return self._pieces.encode(text)
        # Without the dummy prefix the model drops a leading space; behind an unk token it keeps it.
        return self._pieces.encode(self._unk + text)[len(self._pieces.encode(self._unk)) :]

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        text = ""
        run: list[int] = []
        for i in [*(int(i) for i in ids if i >= 0), None]:
            if i is not None and i not in self._by_id:
                run.append(i)
                continue
            text += self._decode_run(run, first=not text)
            run = []
            if i is not None and not skip_special:
                text += self._by_id[i].text
        return text

    def _decode_run(self, run: list[int], first: bool) -> str:
        if not run:
            return ""
        marked = self._pieces.id_to_piece(run[0]).startswith(SPACE)
        text = self._pieces.decode(run)
        if self.legacy:
            return text  # the model itself takes back the dummy prefix
        return text[1:] if first and marked and text.startswith(" ") else text

    def token_id(self, piece: str) -> int | None:
        if piece in self._by_text:
            return self._by_text[piece].id
        token_id = self._pieces.piece_to_id(piece)
        return None if self._pieces.id_to_piece(token_id) != piece else token_id


def _processor(model: bytes, source: str) -> sentencepiece.SentencePieceProcessor:
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=model)
    except Exception as error:  # the library raises RuntimeError and others
        raise TokenizerError(f"{source}: not a readable sentencepiece model: {error}") from error
