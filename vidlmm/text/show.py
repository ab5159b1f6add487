"""A sample for the eye: its text with the trained tokens marked."""

from collections.abc import Sequence

import numpy as np

from vidlmm.text.conversation import AUDIO, IGNORE, IMAGE, VIDEO, Encoded
from vidlmm.text.tokenizer import Tokenizer

_NAMES = {IMAGE: "<image>", VIDEO: "<video>", AUDIO: "<audio>"}
_GREEN, _CYAN, _DIM, _OFF = "\033[1;32m", "\033[36m", "\033[2m", "\033[0m"


def show(encoded: Encoded, tokenizer: Tokenizer, *, colour: bool = True) -> str:
    """The sample's text for a terminal, a first line with its counts before it.

    Args:
        colour: trained tokens green and media cyan by ANSI codes; without, trained stretches stand between
            ⟦ and ⟧.
    """
    trained, total = encoded.trained, len(encoded.ids)
    marks = f"{_GREEN}green{_OFF}" if colour else "⟦ ⟧"
    lines = [f"{total} tokens, {trained} trained ({100 * trained / max(1, total):.0f} %), shown in {marks}"]
    body = "".join(_paint(text, kind, colour) for text, kind in _stretches(encoded, tokenizer))
    return "\n".join([*lines, body]) + "\n"


def _paint(text: str, kind: str, colour: bool) -> str:
    visible = text.replace("\n", "↵\n") if kind == "trained" else text
    if not colour:
        return f"⟦{visible}⟧" if kind == "trained" else visible
    code = {"trained": _GREEN, "media": _CYAN, "masked": _DIM}[kind]
    # Codes end with each line, so that a pager can cut anywhere.
    return "\n".join(f"{code}{line}{_OFF}" if line else "" for line in visible.split("\n"))


def _stretches(encoded: Encoded, tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """(text, "trained" | "masked" | "media") in order."""
    ids = encoded.ids.tolist()
    kinds = [_kind(i, kept) for i, kept in zip(ids, encoded.labels.tolist(), strict=True)]
    cuts = [0, *(i for i in range(1, len(ids)) if kinds[i] != kinds[i - 1]), len(ids)]
    stretches: list[tuple[str, str]] = []
    begin = 0  # of the text since the last medium: a tokenizer decodes a stretch by what stands before it
    for low, high in zip(cuts, cuts[1:], strict=False):
        if low == high:
            continue
        if kinds[low] == "media":
            stretches.append((_media(ids[low:high]), "media"))
            begin = high
        else:
            stretches.append((_text_between(ids[begin:low], ids[begin:high], tokenizer), kinds[low]))
    return stretches


def _kind(token: int, kept: int) -> str:
    if token < 0:
        return "media"
    return "masked" if kept == IGNORE else "trained"


def _media(ids: Sequence[int]) -> str:
    """Placeholders by name, equal neighbours counted."""
    values, places = np.unique(np.asarray(ids), return_index=True)
    counted = sorted(zip(places.tolist(), values.tolist(), strict=True))
    names = [(_NAMES.get(value, f"<{value}>"), ids.count(value)) for _, value in counted]
    return "".join(name if count == 1 else f"{name}×{count}" for name, count in names)


def _text_between(before: Sequence[int], upto: Sequence[int], tokenizer: Tokenizer) -> str:
    """What the last tokens of `upto` add to the text of `before`."""
    known, text = (tokenizer.decode(ids, skip_special=False) for ids in (before, upto))
    # A character cut by the border decodes differently on its two sides: it is shown once, behind it.
    shared = next((i for i, (a, b) in enumerate(zip(known, text, strict=False)) if a != b), min(len(known), len(text)))
    return text[shared:]
