"""An answer's text while it is being written."""

from collections.abc import Sequence

from vidlmm.text import Template, Tokenizer, clean_answer

TORN = "\ufffd"  # what a tokenizer writes for bytes that are no whole character


class TextStream:
    """Pieces of an answer's text that together are `clean_answer` of the whole.

    A piece is given out only once no further token can change it: half a character waits for its other half, a
    beginning of the stop text or of a role name for what follows, white space for the next word.
    """

    def __init__(self, tokenizer: Tokenizer, template: Template) -> None:
        self._tokenizer, self._template = tokenizer, template
        self._given = 0

    def push(self, ids: Sequence[int]) -> str:
        """What can be shown beyond the pieces so far, given all tokens so far."""
        return self._rest(settled(self._tokenizer.decode(ids), self._template))

    def finish(self, ids: Sequence[int]) -> str:
        """The last piece."""
        return self._rest(clean_answer(self._tokenizer.decode(ids), self._template))

    def _rest(self, text: str) -> str:
        piece = text[self._given :]
        self._given = max(self._given, len(text))
        return piece


def settled(text: str, template: Template) -> str:
    """The part of the cleaned answer that stays, whatever is written after `text`."""
    text = clean_answer(text.rstrip(TORN), template)
    if any(prefix.startswith(text) for prefix in template.answer_prefixes):
        return ""
    stop = template.stop_text
    begun = next((n for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n])), 0)
    return text[: len(text) - begun].rstrip()


def stop_place(tokenizer: Tokenizer, ids: Sequence[int], since: int, stop_text: str) -> int | None:
    """How many of the tokens it takes to write the stop text; None where it is not there.

    Args:
        since: tokens that are known not to hold it.
    """
    if not stop_text or stop_text not in tokenizer.decode(ids):
        return None
    counts = range(since + 1, len(ids) + 1)
    return next((n for n in counts if stop_text in tokenizer.decode(ids[:n])), None)
