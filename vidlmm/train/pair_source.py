"""Pairs of answers as a source: batches to train on, the held-out ones, and all of them for the reference model."""

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from vidlmm.data.cache import FrameCache
from vidlmm.data.order import hashed
from vidlmm.data.pipeline import Pipeline
from vidlmm.data.preference import PairRow, one_tree, pairs_of, read_pairs
from vidlmm.data.sample import Loader
from vidlmm.data.shapes import Shapes
from vidlmm.data.stream import Reading, Tolerance
from vidlmm.text.tokenizer import load_tokenizer
from vidlmm.train.errors import RunError
from vidlmm.train.reference_file import SUFFIX
from vidlmm.train.sources import Item, SourceContext

KEYS = ("kind", "path", "media_root", "held_out", "held_out_path", "pairs_a_tree", "reference")

# The numbers of the pairs that a tree holds.
Tree = tuple[int, ...]


class PairSource:
    """A file of pairs as a `Source` of objective "preference": a tree has a row of its own.

    The config's `source`: `path`, a .jsonl as `vidlmm.data.preference` reads it; `media_root` ("" is the file's own
    folder); what is measured and not trained on: `held_out`, a share of the videos, or `held_out_path`, a file of pairs
    beside them; `pairs_a_tree`, so many pairs about one medium share its places in a row, as far as they fit;
    `reference`, the file of the reference's log-probabilities ("" stands beside the pairs).

    records: all pairs, each a tree of its own, those of `held_out_path` last; a pair's number is its place in them.

    Raises:
        RunError: settings that cannot be. DataError: a malformed file, with file and line.
    """

    def __init__(self, context: SourceContext):
        self._context, source = context, context.stage.source_dict
        stage = context.stage
        odd = sorted(set(source) ^ set(KEYS))
        if odd:
            raise RunError(f"stage {stage.name!r}: a source of pairs has {', '.join(KEYS)}; odd or missing: {odd}")
        if stage.preference is None:
            raise RunError(f"stage {stage.name!r}: objective 'preference' needs the settings `preference`")
        if not 0 <= source["held_out"] < 1 or (source["held_out"] and source["held_out_path"]):
            raise RunError(
                f"stage {stage.name!r}: source.held_out is {source['held_out']} and held_out_path "
                f"{source['held_out_path']!r}; give a share from 0 to below 1, or a file, or neither"
            )
        if not isinstance(source["pairs_a_tree"], int) or source["pairs_a_tree"] < 1:
            raise RunError(f"stage {stage.name!r}: source.pairs_a_tree is {source['pairs_a_tree']}; give 1 or more")
        path = Path(source["path"])
        rows = read_pairs(path)
        self.file = Path(source["reference"]) if source["reference"] else path.with_name(path.name + SUFFIX)
        self._settings, self._table = stage.preference, np.zeros((0, 2, 2), np.float32)
        held = [held_out(row, source["held_out"]) for row in rows]
        self.records = [row.record(source["media_root"] or path.parent) for row in rows]
        if source["held_out_path"]:
            beside = Path(source["held_out_path"])
            more = [row.record(source["media_root"] or beside.parent) for row in read_pairs(beside)]
            self.records, held = self.records + more, held + [True] * len(more)
        trained = [number for number, out in enumerate(held) if not out]
        self._held = [number for number, out in enumerate(held) if out]
        if not trained:
            raise RunError(f"stage {stage.name!r}: all {len(rows)} pairs of {path} are held out; nothing is left")
        self._loader = Loader(context.spec, cache=_cache(context))
        self._tokenizer = load_tokenizer(context.tokenizer)
        self._most = source["pairs_a_tree"]
        self._trees, self._pipeline = self._open(trained, epochs=None)

    @property
    def pairs(self) -> int:
        """All pairs, held out or not."""
        return len(self.records)

    @property
    def held(self) -> int:
        """Pairs that are measured and not trained on."""
        return len(self._held)

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        batch = next(self._pipeline)
        return self._item(batch, self._pipeline, self._trees)

    def measured(self) -> Iterator[Item]:
        """The held-out pairs, each once, in the same shapes."""
        trees, pipeline = self._open(self._held, epochs=1)
        with pipeline:
            for batch in pipeline:
                yield self._item(batch, pipeline, trees)

    def everything(self, values: Float32[np.ndarray, "P 2 2"]) -> Iterator[tuple[int, int, Item]]:
        """(number, of how many) and batch of all pairs, without reference, from the first one on in which a pair has no
        number yet."""
        trees, pipeline = self._open(range(self.pairs), epochs=1)
        rows = self._context.stage.rows
        unknown = [bool(np.isnan(values[list(tree)]).any()) for tree in trees]
        first, total = unknown.index(True) // rows, math.ceil(len(trees) / rows)
        with pipeline:
            pipeline.restore(pipeline.state() | {"batch": first})
            for number, batch in enumerate(pipeline, first):
                yield number, total, self._item(batch, pipeline, trees, refer=False)

    def refer(self, values: Float32[np.ndarray, "P 2 2"]) -> None:
        """Take the reference's table (`vidlmm.train.reference_file.Reference.values`)."""
        self._table = values

    def made_of(self, precision: str) -> dict[str, str]:
        """Digests of what, beside its weights, a reference's table follows from."""
        spec, tokenizer = asdict(self._context.spec), self._context.tokenizer.read_bytes()
        said = [(r.id, [(t.role, t.text) for t in r.turns], [_seen(m.path) for m in r.media]) for r in self.records]
        return {"pairs": _digest(said), "reading": _digest(spec, tokenizer, precision)}

    def batches_an_epoch(self) -> float:
        return self._pipeline.batches_an_epoch()

    def state(self) -> dict[str, Any]:
        return self._pipeline.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        self._pipeline.restore(state)

    def close(self) -> None:
        self._pipeline.close()

    def _shared(self, numbers: Sequence[int]) -> list[Tree]:
        """Pairs about the same media by trees, in the order in which the media first stand."""
        most = self._most
        by_media: dict[Any, list[int]] = {}
        for number in numbers:
            by_media.setdefault(self.records[number].media, []).append(number)
        return [tuple(them[first : first + most]) for them in by_media.values() for first in range(0, len(them), most)]

    def _open(self, pairs: Sequence[int], epochs: int | None) -> tuple[list[Tree], Pipeline]:
        """The batches of these pairs, and those of each of the pipeline's records: a tree that is too long is split."""
        trees = self._shared(pairs)
        context, stage, settings = self._context, self._context.stage, self._context.settings
        records = [one_tree([self.records[number] for number in tree]) for tree in trees]
        pipeline = Pipeline(
            records,
            context.spec,
            self._tokenizer,
            Shapes(stage.rows, stage.length, stage.frames, stage.groups),
            turns="branches",
            seed=context.seed,
            epochs=epochs,
            shuffle=epochs is None,
            loader=self._loader,
            reading=Reading(settings["workers"], settings["threads"], max(settings["ahead"], settings["threads"])),
            tolerance=Tolerance(share=settings["bad_share"]),
            process=context.process,
            plans=context.plans,
        )
        numbers = (number for tree in trees for number in tree)
        return [tuple(itertools.islice(numbers, pairs_of(record))) for record in pipeline.records], pipeline

    def _item(self, batch: Any, pipeline: Pipeline, trees: Sequence[Tree], refer: bool = True) -> Item:
        arrays = batch.arrays()
        pair = np.full((len(batch.segment), max(map(len, trees))), -1, np.int32)
        # Rows behind a run's end hold no tree.
        for row, index in zip(np.flatnonzero(batch.segment.max(axis=1) > 0), pipeline.shown, strict=True):
            pair[row, : len(trees[index])] = trees[index]
        there = pair >= 0
        reference = np.zeros((*pair.shape, 2, 2), np.float32)
        if refer and self._settings.needs_reference:
            reference[there] = self._table[pair[there]]
            self._check(pair, reference)
        ids = tuple(self.records[number].id for number in pair[there])
        return Item(arrays | {"pair": pair, "reference": reference}, ids, pipeline.frames, pipeline.videos)

    def _check(self, pair: np.ndarray, reference: np.ndarray) -> None:
        """A pair whose medium did not open when the table was made has no number there."""
        unknown = pair[np.isnan(reference).any(axis=(-1, -2))]
        if len(unknown):
            raise RunError(
                f"{self.records[unknown[0]].place} has no log-probabilities of the reference in {self.file}: its "
                "medium did not open when they were computed. Delete that file to compute them again"
            )


def held_out(row: PairRow, share: float) -> bool:
    """Whether a pair is held out: all pairs about one video are, or none, whatever else the file holds."""
    key = int.from_bytes(hashlib.sha256(row.media[1].encode()).digest()[:8], "little")
    return float(hashed(1, key)[0]) < share * 2.0**64


def _cache(context: SourceContext) -> FrameCache | None:
    return FrameCache(context.settings["cache"]) if context.settings["cache"] else None


def _seen(path: str) -> tuple[str, int]:
    """A medium's name and its size in bytes, or the number of a folder's frames; -1 where it is not there."""
    file = Path(path)
    try:
        return file.name, sum(1 for _ in file.iterdir()) if file.is_dir() else file.stat().st_size
    except OSError:
        return file.name, -1


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
