"""A release's tensors and ours: which make which, and whether all of them are there.

A layout is a tuple of rules. A rule says how tensors of one layer become the array of that layer and back; stacking
over layers and experts, types, placement and reading belong to what uses the rules (`loading`, `saving`).

    Rule("decoder.layers.gate", ("model.layers.{i}.mlp.gate_proj.weight",), transposed, untransposed)

`{i}` stands for the layer where ours is stacked on a leading axis, `{e}` for the expert on the axis after it. In an
`Unused` pattern `{i}` is any number and `*` anything.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import jax

from vidlmm.checkpoint.weights import WeightsError

Load = Callable[[Sequence[Any]], Any]
Save = Callable[[Any], Sequence[Any]]
Shape = tuple[int, ...]
Template = str | tuple[str, ...]  # a key, or the names of one tensor in several releases


def only(tensors: Sequence[Any]) -> Any:
    """The tensor as it is."""
    return tensors[0]


def as_it_is(array: Any) -> Sequence[Any]:
    """The inverse of `only`."""
    return [array]


@dataclass(frozen=True)
class Rule:
    """One of our arrays and the tensors that make it.

    ours: dotted name of the parameter.
    theirs: templates of the keys; one that is a tuple names the same tensor in several releases.
    load: the tensors of one layer (and expert) into our array of that layer; save: its exact inverse. Both use only
        what numpy arrays and jax tracers share: methods, and functions of `array.__array_namespace__()`.
    start, step: the number of the first layer in the keys, and how far two layers' numbers are apart.
    optional: releases may lack its tensors; the array is then zeros and is not written back.
    """

    ours: str
    theirs: tuple[Template, ...]
    load: Load = only
    save: Save = as_it_is
    start: int = 0
    step: int = 1
    optional: bool = False

    @property
    def stacked(self) -> int:
        """Leading axes of ours that stand for layers and experts."""
        return sum(mark in _names(self.theirs[0])[0] for mark in ("{i}", "{e}"))

    def keys(self, place: tuple[int, ...]) -> tuple[tuple[str, ...], ...]:
        """For each tensor at a place of the leading axes the names it may have."""
        marks = {}
        for mark, number in zip([m for m in ("i", "e") if f"{{{m}}}" in _names(self.theirs[0])[0]], place, strict=True):
            marks[mark] = self.start + self.step * number if mark == "i" else number
        return tuple(tuple(name.format(**marks) for name in _names(one)) for one in self.theirs)


@dataclass(frozen=True)
class Unused:
    """Keys that a release may hold and the graph does not use: carried through and written back.

    start: the lowest number that `{i}` stands for.
    """

    pattern: str
    start: int = 0

    def matches(self, key: str) -> bool:
        """Whether a key is one of them."""
        parts = re.split(r"(\{i\}|\*)", self.pattern)
        found = re.fullmatch("".join({"{i}": r"(\d+)", "*": ".*"}.get(p, re.escape(p)) for p in parts), key)
        return found is not None and all(int(number) >= self.start for number in found.groups())


Rules = tuple[Rule | Unused, ...]


@dataclass(frozen=True)
class Part:
    """One layer of one of our arrays: the rule, its place on the leading axes, and the keys that make it."""

    rule: Rule
    place: tuple[int, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True)
class KeyPlan:
    """parts: by our name, layer by layer; none make an array of zeros. unused: keys that are carried through."""

    parts: Mapping[str, tuple[Part, ...]]
    unused: tuple[str, ...]

    def origins(self) -> dict[str, tuple[Part, int]]:
        """For each key that is used the part it belongs to, and which of the part's tensors it is."""
        return {key: (part, n) for parts in self.parts.values() for part in parts for n, key in enumerate(part.keys)}


def plan(rules: Rules, ours: Mapping[str, Any], theirs: Mapping[str, Shape], source: str) -> KeyPlan:
    """Which tensors make which array; nothing is read.

    Args:
        ours: our names to anything with `.shape` and `.dtype`.
        theirs: the release's keys and shapes.
        source: what an error calls the release.

    Raises:
        WeightsError: missing, unexpected or misshapen tensors: all of them, with the nearest names.
        ValueError: the rules do not make exactly our names, which is a fault of the layout.
    """
    named = [rule for rule in rules if isinstance(rule, Rule)]
    if sorted(rule.ours for rule in named) != sorted(ours):
        odd = sorted({rule.ours for rule in named} ^ set(ours)) or "several rules for one name"
        raise ValueError(f"the layout's rules do not belong to the model: {odd}")
    parts: dict[str, tuple[Part, ...]] = {}
    missing: list[str] = []
    misshapen: list[str] = []
    for rule in named:
        shape = tuple(ours[rule.ours].shape)
        if rule.optional and not _any_there(rule, shape, theirs):
            parts[rule.ours] = ()
            continue
        found = []
        for place, keys, wanted in _wanted(rule, shape, ours[rule.ours].dtype):
            there = tuple(next((name for name in names if name in theirs), names[0]) for names in keys)
            for key, size in zip(there, wanted, strict=True):
                if key not in theirs:
                    missing.append(key)
                elif tuple(theirs[key]) != size:
                    misshapen.append(f"{key} is {list(theirs[key])}, the model has {list(size)}")
            found.append(Part(rule, place, there))
        parts[rule.ours] = tuple(found)
    used = {key for many in parts.values() for part in many for key in part.keys}
    left = [key for key in theirs if key not in used]
    patterns = [rule for rule in rules if isinstance(rule, Unused)]
    unused = [key for key in left if any(pattern.matches(key) for pattern in patterns)]
    unexpected = sorted(set(left) - set(unused))
    lines = [f"missing {key}{near}" for key, near in _nearest(sorted(missing), unexpected)]
    lines += [f"unexpected {key}{near}" for key, near in _nearest(unexpected, sorted(missing))]
    lines += [f"misshapen {line}" for line in sorted(misshapen)]
    if lines:
        raise WeightsError(f"{source} does not fit the model: " + "; ".join(lines))
    return KeyPlan(parts, tuple(unused))


def their_shapes(rule: Rule, shape: Shape, dtype: Any) -> tuple[Shape, ...]:
    """Shapes of the tensors of one layer of an array of `shape`."""
    one = jax.ShapeDtypeStruct(shape[rule.stacked :], dtype)
    return tuple(tuple(tensor.shape) for tensor in jax.eval_shape(lambda array: list(rule.save(array)), one))


def _any_there(rule: Rule, shape: Shape, theirs: Mapping[str, Shape]) -> bool:
    """Whether a release holds any tensor of an array."""
    places = product(*(range(count) for count in shape[: rule.stacked]))
    return any(name in theirs for place in places for names in rule.keys(place) for name in names)


def _wanted(
    rule: Rule, shape: Shape, dtype: Any
) -> Iterator[tuple[tuple[int, ...], tuple[tuple[str, ...], ...], tuple[Shape, ...]]]:
    sizes = their_shapes(rule, shape, dtype)
    for place in product(*(range(count) for count in shape[: rule.stacked])):
        yield place, rule.keys(place), sizes


def _names(template: Template) -> tuple[str, ...]:
    return (template,) if isinstance(template, str) else template


def _nearest(names: Sequence[str], known: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Each name with a hint at the nearest known one. Names that differ in numbers alone are compared once."""
    patterns: dict[str, dict[tuple[str, ...], str]] = {}
    for name in known:
        patterns.setdefault(_pattern(name), {}).setdefault(_numbers(name), name)
    close: dict[str, list[str]] = {}
    for name in names:
        pattern = _pattern(name)
        if pattern not in close:
            close[pattern] = difflib.get_close_matches(pattern, list(patterns), n=1, cutoff=0.75)
        if not close[pattern]:
            yield name, ""
            continue
        candidates = patterns[close[pattern][0]]
        best = candidates.get(_numbers(name), next(iter(candidates.values())))
        yield name, f" (nearest is {best})"


def _numbers(name: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\d+", name))


def _pattern(name: str) -> str:
    return re.sub(r"\d+", "0", name)
