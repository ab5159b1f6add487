"""Open-ended answers that must be equal, whatever their case, punctuation, articles and spaces."""

import re
import unicodedata

_ARTICLES = frozenset(("a", "an", "the"))
_APOSTROPHES = str.maketrans("", "", "'’ʼ`")
# A point or comma between digits belongs to the number; any other mark separates words.
_WORD = re.compile(r"\d+(?:[.,]\d+)+|\w+")


def words(text: str) -> tuple[str, ...]:
    """The words of a text in lower case, without punctuation and articles.

    A text that has nothing but articles keeps them: "A" may be the whole answer.
    """
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_APOSTROPHES).replace("_", " ")
    found = tuple(_WORD.findall(plain))
    return tuple(word for word in found if word not in _ARTICLES) or found


def normalise(text: str) -> str:
    """A text as it is compared: " The red  Ball. " is "red ball"."""
    return " ".join(words(text))


def equal(answer: str, truth: str) -> bool:
    """Whether an answer says the same words as the truth; an empty answer never does."""
    said = normalise(answer)
    return bool(said) and said == normalise(truth)
