"""Which tokens are trained: the masks of the published systems, their quirks included.

Every policy returns the ids of a whole conversation and labels of the same length, -100 where there is no loss.
They count tokens of pieces of the text as the originals do, so their results depend on the tokenizer's habits.
"""

from collections.abc import Callable, Sequence

from vidlmm.text.messages import Message, join
from vidlmm.text.placeholders import IGNORE
from vidlmm.text.template import Template
from vidlmm.text.tokenizer import Tokenizer

Encode = Callable[..., list[int]]
"""Text into ids with placeholders; `start=False` leaves out the start token."""
Labelled = tuple[list[int], list[int]]


def label(messages: Sequence[Message], template: Template, tokenizer: Tokenizer, encode: Encode) -> Labelled:
    """Ids and labels of a conversation that ends with an answer, by the template's label rule.

    Raises:
        ValueError: the tokenizer lacks a token that the rule names.
    """
    match template.labels.policy:
        case "answer":
            ids, labels = _answer(messages, template, encode)
        case "answer_by_length":
            ids, labels = _answer_by_length(messages, template, encode)
        case "turns":
            ids, labels = _turns(messages, template, tokenizer, encode)
        case "rounds":
            ids, labels = _rounds(join(messages, template), template, tokenizer, encode)
        case "after_tag":
            ids, labels = _after_tag(join(messages, template), encode)
        case "valley" | "valley_system":
            ids, labels = _valley(messages, template, tokenizer, encode)
    return ids, [IGNORE if i < 0 else kept for i, kept in zip(ids, labels, strict=True)]


def _answer(messages: Sequence[Message], template: Template, encode: Encode) -> Labelled:
    """The answer and its end mark. A token that spans the end of the prompt belongs to the answer."""
    ids = encode(join(messages, template))
    labels = [IGNORE] * len(ids)
    for before, message in _answers(messages):
        first = _common(ids, encode(before + template.open_turn))
        last = _common(ids, encode(before + message.head + message.body + _end_mark(message.tail, template)))
        labels[first:last] = ids[first:last]
    return ids, labels


def _answer_by_length(messages: Sequence[Message], template: Template, encode: Encode) -> Labelled:
    """VideoLLaMA 2, train.py 167-210: the answer and all that follows it, by token counts."""
    ids = encode(join(messages, template))
    labels = [IGNORE] * len(ids)
    for before, message in _answers(messages):
        first, last = len(encode(before + template.open_turn)), len(encode(before + message.text))
        labels[first:last] = ids[first:last]
    return ids, labels


def _turns(messages: Sequence[Message], template: Template, tokenizer: Tokenizer, encode: Encode) -> Labelled:
    """LLaVA-NeXT, preprocess_qwen: each message tokenised alone, answers with their header, marks everywhere."""
    marks = {_single_id(mark, template, tokenizer) for mark in template.labels.always_trained}
    ids: list[int] = []
    labels: list[int] = []
    for i, message in enumerate(messages):
        piece = encode(message.text, start=i == 0)
        trained = message.role == "assistant"
        ids += piece
        labels += [token if trained or token in marks else IGNORE for token in piece]
    return ids, labels


def _rounds(text: str, template: Template, tokenizer: Tokenizer, encode: Encode) -> Labelled:
    """LLaVA, preprocess_v1 and preprocess_llama_2.

    A round's text lacks its end mark and its count includes a start token, so the two make up for each other.
    The 2 stands for the start token and the space of the answer mark. Where the counts do not add up to the
    length, the whole sample is masked: released behaviour.
    """
    rule = template.labels
    ids = encode(text)
    labels = list(ids)
    place = 1
    labels[:place] = [IGNORE] * place
    for i, one in enumerate(text.split(rule.round_end)):
        parts = one.split(rule.answer_mark)
        if len(parts) != 2:
            break
        shift = 1 if i and rule.non_legacy_shift and not tokenizer.legacy else 0
        asked = max(0, len(encode(parts[0] + rule.answer_mark)) - 2 - shift)
        labels[place : place + asked] = [IGNORE] * len(labels[place : place + asked])
        place += len(encode(one)) - shift
    labels[place:] = [IGNORE] * len(labels[place:])
    whole = place == sum(i != tokenizer.pad_id for i in ids)
    return ids, labels if whole else [IGNORE] * len(ids)


def _after_tag(text: str, encode: Encode) -> Labelled:
    """LLaVA, preprocess_plain; VideoLLaMA 2, preprocess_plain: all behind the tag."""
    ids = encode(text)
    behind = max(i for i, token in enumerate(ids) if token < 0) + 1
    return ids, [IGNORE] * behind + ids[behind:]


def _valley(messages: Sequence[Message], template: Template, tokenizer: Tokenizer, encode: Encode) -> Labelled:
    """Valley, data_util.py preprocess: the header, then each question from its third token on.

    Every piece is counted with a start token of its own, so the mask falls behind by one a turn: released
    behaviour. The `### ` at the end is trained.
    """
    ids = encode(join(messages, template))
    labels = list(ids)
    place = 0
    for message in messages:
        count = sum(i != tokenizer.pad_id for i in encode(message.text))
        masked = slice(0, 0)
        if message.role == "system":
            masked = slice(0, count)
        elif message.role == "user" and template.labels.policy == "valley":
            masked = slice(place + 2, place + count)
        labels[masked] = [IGNORE] * len(labels[masked])
        place += count
    return ids, labels


def _answers(messages: Sequence[Message]) -> list[tuple[str, Message]]:
    """Every answer with the text before it."""
    return [
        ("".join(m.text for m in messages[:i]), message)
        for i, message in enumerate(messages)
        if message.role == "assistant"
    ]


def _end_mark(tail: str, template: Template) -> str:
    """The part of a tail up to its stop token, or all of it."""
    for stop in template.stop:
        if stop in tail:
            return tail[: tail.index(stop) + len(stop)]
    return tail


def _common(ids: Sequence[int], prefix: Sequence[int]) -> int:
    """How many ids two sequences share at their beginning."""
    pairs = zip(ids, prefix, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(ids), len(prefix)))


def _single_id(mark: str, template: Template, tokenizer: Tokenizer) -> int:
    ids = tokenizer.encode(mark)
    if len(ids) != 1:
        raise ValueError(
            f"template {template.name!r} trains the token {mark!r} everywhere, but this tokenizer writes it as "
            f"{len(ids)} tokens; take the tokenizer of the checkpoint, or a template with another label rule"
        )
    return ids[0]
