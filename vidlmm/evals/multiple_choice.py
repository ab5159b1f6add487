"""The letter that an answer chooses.

The parsers of published evaluations guess where an answer says nothing: they take the article of "a man runs"
for option A, draw a letter by chance, or fall back to C. Here an answer that does not name exactly one
option is unparsed; it counts as wrong and its share is shown.
"""

import re
from collections.abc import Sequence

from vidlmm.evals.exact import words

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_MARKDOWN = re.compile(r"[*`\"“”]|</?s>|<\|[^|>]*\|>")
# The whole answer is one letter: "B", "b.", "(B)", "[B]:".
_ALONE = re.compile(r"[(\[]?\s?([A-Za-z])\s?[)\].:]*")
# The answer begins with a marked letter: "B. left", "(b) left", "B: left"; not "A left".
_LEADING = re.compile(r"(?:[(\[]\s?([A-Za-z])\s?[)\]]|([A-Za-z])\s?[).:])[.:]*(?:\s+|$)(.*)")
# Two letters or more, which choose nothing: "A or B", "A, B", "(A) and (C)"; not "B, I think".
_SEVERAL = re.compile(
    r"(?<![\w'’-])[(\[]?[A-Z][)\].]?(?:\s*(?:,|/|&|\band\b|\bor\b)\s*[(\[]?(?![AI]\s+[a-z])[A-Z]\b[)\].]?)+"
)
_NEGATED = re.compile(r"\b(?i:not|isn't|isn’t|never|neither|nor)\s+(?:option\s+|choice\s+)?[(\[]?[A-Z]\b[)\].]?")
_BRACKETED = re.compile(r"[(\[]([A-Z])[)\]]")
_NAMED = r"(?i:\b(?:answer|option|choice|choose|chose|pick|select|go with|going with)(?:\s+(?:is|would be|should be))?)"
# "the answer is B", "Option B", "Answer: (B)". After the letter a word may follow ("B because ..."); after
# A and I, which are words themselves, only a mark, the end or the reason may.
_PHRASE = re.compile(
    _NAMED + r"\s*[:=]?\s*(?i:option\s+|choice\s+)?[(\[]?"
    r"(?:([B-HJ-Z])\b(?!['’-])|([AI])(?=[)\].,:;!?]|\s*$|\s+(?:because|since|as|and|or)\b))"
)
_PHRASE_LOWER = re.compile(_NAMED + r"\s*[:=]?\s*[(\[]?([a-z])[)\]]?[.!]?\s*$")
_DENIAL = frozenset(
    ("not", "no", "never", "neither", "nor", "none", "without", "cannot", "cant", "wont", "isnt", "arent")
    + ("wasnt", "werent", "doesnt", "dont", "didnt")
)


def parse_choice(answer: str, letters: Sequence[str], options: Sequence[str] = ()) -> str | None:
    """The one option that an answer names, or None if it names none or several.

    Read in this order: the letter alone; a marked letter and text ("A. left"); an option's text alone;
    a letter in brackets or after "answer", "option", "choose"; an option's text inside a sentence
    without a negation. A letter whose text is that of another option ("A. right" where right is B)
    names two.

    Args:
        answer: what the model said.
        letters: the upper-case letters of the options.
        options: their texts in the same order; () if they are not known.

    Raises:
        ValueError: another number of options than letters, or a letter that is none.
    """
    letters = tuple(letters)
    if any(letter not in LETTERS or len(letter) != 1 for letter in letters):
        raise ValueError(f"letters must be single letters A to Z, got {letters}")
    if options and len(options) != len(letters):
        raise ValueError(f"{len(options)} options for {len(letters)} letters; give one text a letter")
    text = " ".join(_MARKDOWN.sub("", answer).split())
    alone = _ALONE.fullmatch(text)
    if alone:
        return _known(alone[1], letters)
    texts = {letter: words(option) for letter, option in zip(letters, options, strict=False)}
    leading = _LEADING.match(text)
    if leading:  # before whole texts, because the letter of "A. left" reads as an article there
        return _agreed(leading[1] or leading[2], leading[3], letters, texts)
    whole = _with_words(words(text), texts)
    if whole:
        return whole[0] if len(whole) == 1 else None
    if _SEVERAL.search(text):
        return None
    spaced = re.match(r"([A-Z])\s+(.*)", text)
    if spaced and spaced[1] in _with_words(words(spaced[2]), texts):
        return spaced[1]
    named = _named(text)
    if named:
        return _known(next(iter(named)), letters) if len(named) == 1 else None
    return _mentioned(text, texts)


def _known(letter: str, letters: tuple[str, ...]) -> str | None:
    return letter.upper() if letter.upper() in letters else None


def _with_words(said: tuple[str, ...], texts: dict[str, tuple[str, ...]]) -> list[str]:
    """Letters whose option has exactly these words."""
    return [letter for letter, option in texts.items() if said and option == said]


def _agreed(letter: str, rest: str, letters: tuple[str, ...], texts: dict[str, tuple[str, ...]]) -> str | None:
    """A leading letter, unless what follows names another one."""
    letter = letter.upper()
    others = _named(rest) - {letter}
    others |= {m[1] or m[2] for m in re.finditer(r"(?:^|\s)(?:([B-HJ-Z])|([AI]))[.)](?=\s|$)", rest)} - {letter}
    same = _with_words(words(rest), texts)
    if others or (same and letter not in same):
        return None
    return _known(letter, letters)


def _named(text: str) -> set[str]:
    """Upper-case letters that stand in brackets or after a word such as "answer", without negated ones."""
    text = _NEGATED.sub(" ", text)
    lower = _PHRASE_LOWER.search(text)
    found = {match[1] for match in _BRACKETED.finditer(text)}
    found |= {match[1] or match[2] for match in _PHRASE.finditer(text)}
    return found | ({lower[1].upper()} if lower else set())


def _mentioned(text: str, texts: dict[str, tuple[str, ...]]) -> str | None:
    """The option whose words stand in the sentence; one that is part of another found one does not count."""
    said = words(text)
    found = [letter for letter, option in texts.items() if option and _inside(option, said)]
    longest = [a for a in found if not any(_inside(texts[a], texts[b]) for b in found if texts[b] != texts[a])]
    if len(longest) != 1:
        return None
    first_clause = words(re.split(r"[,.;:!\n]", text, maxsplit=1)[0])
    chosen = texts[longest[0]]
    if first_clause != chosen and (_DENIAL & set(said)) - set(chosen):
        return None
    return longest[0]


def _inside(part: tuple[str, ...], whole: tuple[str, ...]) -> bool:
    return any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))
