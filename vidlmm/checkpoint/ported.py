"""What the layouts of transformers' ports share: one tensor's names in several releases, and ids of media tokens."""

from collections.abc import Mapping
from dataclasses import replace

from vidlmm.checkpoint.keymap import Rule, Rules, Unused
from vidlmm.checkpoint.layout import Config, Shapes

# The beginnings of the keys of the first release, and what stands there in others. Of several that fit the first is
# meant, so that longer ones stand first.
Elsewhere = Mapping[str, tuple[str, ...]]


def released(shapes: Shapes, elsewhere: Elsewhere) -> Shapes:
    """The shapes under the names of the first release."""
    return Shapes({_first(key, elsewhere): shape for key, shape in shapes.theirs.items()})


def everywhere(rules: Rules, elsewhere: Elsewhere) -> Rules:
    """Rules of the first release's names as rules of the names of all releases."""
    found: list[Rule | Unused] = []
    for rule in rules:
        if isinstance(rule, Unused):
            found += [replace(rule, pattern=name) for name in _names(rule.pattern, elsewhere)]
        else:
            found.append(replace(rule, theirs=tuple(_names(str(name), elsewhere) for name in rule.theirs)))
    return tuple(found)


def media_token(config: Config, kind: str, otherwise: int) -> int:
    """The id of a kind's token, where older and newer config.json files write it."""
    found = config.get(f"{kind}_token_index", config.get(f"{kind}_token_id"))
    return otherwise if found is None else int(found)


def _first(key: str, elsewhere: Elsewhere) -> str:
    if key.startswith(tuple(elsewhere)):
        return key
    for beginning, others in elsewhere.items():
        other = next((one for one in others if key.startswith(one)), None)
        if other is not None:
            return beginning + key.removeprefix(other)
    return key


def _names(template: str, elsewhere: Elsewhere) -> tuple[str, ...]:
    beginning = next(one for one in elsewhere if template.startswith(one))
    return (template, *(other + template.removeprefix(beginning) for other in elsewhere[beginning]))
