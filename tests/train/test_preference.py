"""Preference stages: a tree and a table of numbers are two rows and two models; runs learn, go on, and refuse."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.train import pair_run
from tests.train.test_run import losses, same_weights
from vidlmm.checkpoint.run import load_model
from vidlmm.configs import load_config
from vidlmm.data.errors import DataError
from vidlmm.data.pipeline import Pipeline
from vidlmm.data.preference import PairRow, answers_record, one_tree, read_pairs
from vidlmm.data.records import MediaRef
from vidlmm.data.shapes import Shapes
from vidlmm.losses import Preference
from vidlmm.models import VideoLM
from vidlmm.text.tokenizer import load_tokenizer
from vidlmm.train.answers import answer_logps
from vidlmm.train.errors import RunError
from vidlmm.train.fingerprint import fingerprint
from vidlmm.train.loop import train
from vidlmm.train.open_source import open_source
from vidlmm.train.pair_source import PairSource, held_out
from vidlmm.train.preference_objective import preference_sums, tree_sums
from vidlmm.train.progress import Progress
from vidlmm.train.reference_file import load_reference
from vidlmm.train.setup import plain, resolve_spec
from vidlmm.train.sources import Item
from vidlmm.train.stage import stage_from_config

SPEC = resolve_spec("quickstart", pair_run.SPEC)
BETA = 0.3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips and their pairs, written once."""
    folder = tmp_path_factory.mktemp("pairs")
    pair_run.write_pairs(folder)
    return folder


@pytest.fixture
def pairs(folder: Path, tmp_path: Path) -> Path:
    """The same in a folder of its own."""
    shutil.copytree(folder, tmp_path / "data")
    return tmp_path / "data" / "pairs.jsonl"


def run(config: dict[str, Any], workdir: Path, factory: Any = open_source) -> str:
    stream = io.StringIO()
    train(config, workdir, factory, progress=Progress(stream))
    return stream.getvalue()


def batch(records: list[Any], rows: int, turns: Any, length: int = pair_run.LENGTH) -> dict[str, Any]:
    pipeline = Pipeline(
        records, SPEC, load_tokenizer(pair_run.TOKENIZER), Shapes(rows, length, rows, rows), turns=turns,
        epochs=1, shuffle=False,
    )  # fmt: skip
    with pipeline:
        return {name: jnp.asarray(x) for name, x in next(pipeline).arrays().items() if x is not None}


def test_a_tree_with_a_table_is_two_rows_with_two_models(folder: Path) -> None:
    """Loss and gradients of all parameters to 1e-5: the video once against twice, whole logits, a second model."""
    rows = read_pairs(folder / "pairs.jsonl")[:3]
    models = [VideoLM(SPEC, rngs=nnx.Rngs(seed), remat="none") for seed in (0, 1)]
    (graph, policy), (_, reference) = (nnx.split(model) for model in models)
    trees = batch([row.record(folder) for row in rows], 4, "branches")  # the last row holds nothing
    apart = [
        answers_record(row.id, row.record(folder).media, row.prompt, [answer])
        for row in rows for answer in (row.chosen, row.rejected)
    ]  # fmt: skip
    separate = batch(apart, 6, "conversation")
    assert (trees["branch"].max(), separate["branch"].max()) == (2, 0)
    settings = Preference(("sigmoid", "sft"), (1.0, 0.3), beta=BETA)

    @jax.jit
    def ours(policy, arrays, reference):
        def loss(policy):
            table = jax.lax.stop_gradient(jnp.stack([reference.logp, reference.first], axis=-1))
            total, count, sums = preference_sums(settings, chunk=7, groups=4)(
                nnx.merge(graph, policy), arrays | {"reference": table, "pair": jnp.array([[0], [1], [2], [-1]])}
            )
            return total / count, (count, sums)

        return jax.value_and_grad(loss, has_aux=True)(policy)

    @jax.jit
    def sums_of(params, arrays):
        return tree_sums(nnx.merge(graph, params), arrays, segments=1, branches=2, chunk=7, groups=4)

    @jax.jit
    @jax.value_and_grad
    def naive(policy, arrays, reference):
        def logps(params):
            model = nnx.merge(graph, params)
            inputs: Any = SimpleNamespace(**arrays)
            every = jax.nn.log_softmax(model.logits(model.hidden(inputs, None, 6)), axis=-1)
            own = jnp.take_along_axis(every, arrays["target"][..., None], axis=-1)[..., 0]
            return jnp.sum(jnp.where(arrays["weight"] > 0, own, 0), axis=1).reshape(3, 2)

        found, fixed = logps(policy), logps(reference)
        margin = (found[:, 0] - found[:, 1]) - (fixed[:, 0] - fixed[:, 1])
        sft = -jnp.sum(found[:, 0]) / jnp.sum((arrays["weight"] > 0)[::2])
        return -jnp.mean(jax.nn.log_sigmoid(BETA * margin)) + 0.3 * sft

    (loss, (count, sums)), slope = ours(policy, trees, sums_of(reference, trees))
    wanted, wanted_slope = naive(policy, separate, reference)
    assert float(count) == 3
    assert float(loss) == pytest.approx(float(wanted), abs=1e-5)
    for one, other in zip(jax.tree.leaves(slope), jax.tree.leaves(wanted_slope), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert sum(float(jnp.abs(x).max()) > 1e-3 for x in jax.tree.leaves(slope)) > 10
    # The same numbers for any number of answers, in one tree or several.
    ref = MediaRef("video", str(folder / "clip0"))
    words = ["the square is red", "the square is blue", "it is a red ball that moves", "the square is red"]
    records = [answers_record("q", [ref], "what ?", words), answers_record("r", [ref], "why ?", words[:1])]
    found = [
        list(answer_logps(models[0], load_tokenizer(pair_run.TOKENIZER), records, length=length, chunk=8))
        for length in (96, 40)
    ]
    alone = batch([answers_record(w, [ref], "what ?", [w]) for w in words], 4, "conversation")
    single = sums_of(policy, alone)
    for several in found:
        assert [one.id for one in several] == ["q", "r"] and several[1].logps.shape == (1,)
        np.testing.assert_allclose(several[0].logps, single.logp[:, 0, 0], atol=2e-5)
        np.testing.assert_array_equal(several[0].tokens, single.tokens[:, 0, 0])


def test_pairs_that_share_their_video_are_pairs_apart(folder: Path) -> None:
    """Loss, metrics and gradients to 1e-5; the two pairs of the first question, its first words, and the third share
    different things. LD-DPO and WPO look at lengths and at all tokens of both answers.
    """
    said = [
        ("clip0", "what colour is it ?", "the square is red", "the square looks like blue"),
        ("clip0", "what colour is it ?", "the square is the red", "it is blue"),
        ("clip0", "how does it move ?", "the square is white", "it moves"),
        ("clip1", "how does it move ?", "the square is white and red", "the square is red"),
    ]
    records = [
        PairRow(str(number), ("video", clip), question, chosen, rejected).record(folder)
        for number, (clip, question, chosen, rejected) in enumerate(said)
    ]
    shared = batch([one_tree(records[:3]), one_tree(records[3:])], 2, "branches", 136)
    apart = batch(records, 4, "branches", 136)
    assert (shared["branch"].max(), apart["branch"].max()) == (6, 2)
    table = np.random.default_rng(0).normal(-20, 3, (4, 2, 2)).astype(np.float32)
    settings = Preference(("sigmoid", "sft", "hinge"), (1.0, 0.3, 0.5), beta=BETA, ld_alpha=0.4, use_weighting=True)
    graph, policy = nnx.split(VideoLM(SPEC, rngs=nnx.Rngs(0), remat="none"))

    def found(arrays: dict[str, Any], pair: np.ndarray, groups: int) -> Any:
        reference = jnp.where(jnp.asarray(pair)[..., None, None] >= 0, table[pair], 0)

        @jax.jit
        def of(policy: Any) -> Any:
            def loss(policy: Any) -> Any:
                sums = preference_sums(settings, chunk=7, groups=groups)
                total, count, metrics = sums(
                    nnx.merge(graph, policy), arrays | {"pair": jnp.asarray(pair), "reference": reference}
                )
                return total / count, (count, metrics)

            return jax.value_and_grad(loss, has_aux=True)(policy)

        return of(policy)

    (loss, (count, metrics)), slope = found(shared, np.array([[0, 1, 2], [3, -1, -1]]), 2)
    (wanted, (pairs, other)), wanted_slope = found(apart, np.arange(4)[:, None], 4)
    assert count == pairs == 4
    assert float(loss) == pytest.approx(float(wanted), abs=1e-5)
    for name, value in other.items():
        np.testing.assert_allclose(metrics[name], value, atol=1e-4, rtol=1e-5, err_msg=name)  # sums over four pairs
    for one, two in zip(jax.tree.leaves(slope), jax.tree.leaves(wanted_slope), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
    assert sum(float(jnp.abs(x).max()) > 1e-3 for x in jax.tree.leaves(slope)) > 10


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory, folder: Path, compile_cache: Path) -> tuple[Path, Path, str]:
    """An uninterrupted run: its folder, its pairs, what it said."""
    place = tmp_path_factory.mktemp("learned")
    shutil.copytree(folder, place / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDLMM_CACHE", str(compile_cache))
        text = run(pair_run.config(place / "data" / "pairs.jsonl", steps=12), place / "run")
    return place / "run", place / "data" / "pairs.jsonl", text


def test_a_run_learns_what_is_preferred(learned: tuple[Path, Path, str]) -> None:
    folder, pairs, text = learned
    rows = losses(folder)
    first, last = rows[0], rows[-1]
    # Policy and reference are one model at first: the loss of a coin, computed by two programs.
    assert first["loss"] == pytest.approx(np.log(2), abs=1e-5) and abs(first["rewards/margins"]) < 1e-5
    assert last["rewards/accuracies"] == 1.0 and last["rewards/margins"] > 0.2 and last["loss"] < 0.6
    assert last["accuracy"] == last["rewards/accuracies"] and last["tokens"] == pair_run.ROWS
    assert last["logps/rejected"] < first["logps/rejected"] - 1 and last["entropy"] > 0
    held = [row["step"] for row in rows if "eval_rewards/accuracies" in row]
    assert held == [3, 6, 9, 12]
    assert rows[-1]["eval_loss"] < rows[2]["eval_loss"] and rows[-1]["eval_rewards/margins"] > 0
    assert "reference's log-probabilities  batch 3/3" in text
    # The finished model prefers the chosen answers more than the first one did.
    data = read_pairs(pairs)
    records = [row.record(pairs.parent) for row in data]
    tokenizer = load_tokenizer(pair_run.TOKENIZER)
    now = [one.logps for one in answer_logps(load_model(folder)[0], tokenizer, records, length=pair_run.LENGTH)]
    table = load_reference(pairs.with_name("pairs.jsonl.reference.npz"), {})
    assert table is not None and table.complete and table.values.shape == (12, 2, 2)
    margins = np.stack(now) - table.values[:, :, 0]
    assert (margins[:, 0] > margins[:, 1]).mean() > 0.9


class Stopping(PairSource):
    """Ends with an error before its seventh batch, as a crash would."""

    read = 0

    def __next__(self) -> Item:
        self.read += 1
        if self.read > 6:
            raise RunError("the machine is gone")
        return super().__next__()


def test_a_run_that_was_stopped_ends_the_same(learned: tuple[Path, Path, str], tmp_path: Path, pairs: Path) -> None:
    whole, _, _ = learned
    config = pair_run.config(pairs, steps=12)
    with pytest.raises(RunError, match="machine is gone"):
        run(config, tmp_path / "run", Stopping)
    table = pairs.with_name("pairs.jsonl.reference.npz")
    table.unlink()  # a run that goes on has its own
    assert "going on from step" in (text := run(config, tmp_path / "run")) and "reference's" not in text
    assert losses(tmp_path / "run") == losses(whole) and same_weights(tmp_path / "run", whole)


class Keeping(PairSource):
    """Keeps the numbers of the pairs that it gave."""

    given: list[np.ndarray] = []

    def __next__(self) -> Item:
        item = super().__next__()
        self.given.append(item.arrays["pair"])
        return item


@pytest.mark.parametrize("length", [60, 96])
def test_pairs_of_one_video_are_trained_in_one_tree(length: int, pairs: Path, tmp_path: Path) -> None:
    """Three videos of four pairs each, at most three a tree; a row of 60 places holds fewer."""
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["video"] = f"clip{number % 3}"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = pair_run.config(pairs, steps=5)
    source = config["stages"][0]["source"] | {"pairs_a_tree": 3, "held_out": 0.0}
    shapes = {"rows": 2, "length": length, "frames": 2, "groups": 2}
    config |= {"stages": (config["stages"][0] | {"source": source, "batch": shapes},)}
    Keeping.given = []
    run(config, tmp_path / "run", Keeping)
    found = losses(tmp_path / "run")
    assert found[0]["loss"] == pytest.approx(np.log(2), abs=1e-5)  # policy and reference are one model at first
    trees = [[int(number) for number in tree if number >= 0] for pair in Keeping.given for tree in pair]
    assert all(len({number % 3 for number in tree}) == 1 for tree in trees)
    assert max(map(len, trees)) == (3 if length == 96 else 2)
    assert [row["tokens"] for row in found] == [(pair >= 0).sum() for pair in Keeping.given[:5]]
    epoch = trees[: 6 if length == 96 else 9]  # trees of 3 and 1, or of 2, 1 and 1, of each video
    assert sorted(number for tree in epoch for number in tree) == list(range(12))
    # The reference reads them so too, and says what it says of every pair alone.
    table = pairs.with_name("pairs.jsonl.reference.npz")
    together, _ = load_reference(table, {}), table.unlink()
    config["stages"][0]["source"]["pairs_a_tree"] = 1
    run(config, tmp_path / "alone")
    alone = load_reference(table, {})
    assert together is not None and alone is not None and together.done < alone.done
    np.testing.assert_allclose(together.values, alone.values, rtol=1e-5)


class Counting(PairSource):
    """Counts the batches that the reference reads; after some of them the machine is gone."""

    read: list[int] = []
    at = 10

    def everything(self, values: Any) -> Iterator[tuple[int, int, Item]]:
        for number, total, item in super().everything(values):
            if number == self.at:
                raise RunError("the machine is gone")
            self.read.append(number)
            yield number, total, item


def test_the_reference_is_computed_once_and_goes_on_where_it_stopped(
    learned: tuple[Path, Path, str], tmp_path: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidlmm.train.pair_stage._SAVE_EVERY", 0.0)
    config = pair_run.config(pairs, steps=1)
    table = pairs.with_name("pairs.jsonl.reference.npz")

    class Broken(Counting):
        at = 2

    with pytest.raises(RunError, match="machine is gone"):
        run(config, tmp_path / "run", Broken)
    partial = load_reference(table, {})
    assert partial is not None and not partial.complete and np.isnan(partial.values[8:]).all()
    assert not np.isnan(partial.values[:8]).any()
    Counting.read.clear()
    run(config, tmp_path / "run", Counting)
    assert Counting.read == [2]
    assert table.read_bytes() == learned[1].with_name("pairs.jsonl.reference.npz").read_bytes()
    Counting.read.clear()
    run(config, tmp_path / "again", Counting)  # another run with the same reference
    assert Counting.read == []


def test_a_table_of_something_else_is_refused(learned: tuple[Path, Path, str], tmp_path: Path, pairs: Path) -> None:
    table = pairs.with_name("pairs.jsonl.reference.npz")
    shutil.copy(learned[1].with_name("pairs.jsonl.reference.npz"), table)
    with pytest.raises(RunError, match=r"something else: the reference model's weights\. Delete the file"):
        run(pair_run.config(pairs, steps=1, seed=1), tmp_path / "other_weights")
    changed = pairs.read_text().replace("looks like red", "looks red")
    assert changed != pairs.read_text()
    pairs.write_text(changed)
    with pytest.raises(RunError, match="something else: the pairs or their media"):
        run(pair_run.config(pairs, steps=1), tmp_path / "other_pairs")
    table.write_bytes(b"half a file")
    with pytest.raises(RunError, match="no file of a reference's log-probabilities"):
        run(pair_run.config(pairs, steps=1), tmp_path / "torn")


def test_settings_that_cannot_work_are_told(pairs: Path, tmp_path: Path) -> None:
    whole = pair_run.config(pairs)

    def refused(why: str, error: Any = RunError, **changes: Any) -> None:
        stage = whole["stages"][0] | changes
        with pytest.raises(error, match=why):
            run(whole | {"stages": (stage,)}, tmp_path / "run")
        shutil.rmtree(tmp_path / "run", ignore_errors=True)

    source = whole["stages"][0]["source"]
    refused("objective 'preference' needs it", preference=None)
    refused("preference: unknown loss_type", preference=pair_run.preference(loss_type=("dpo",)))
    refused("odd or missing: betta", preference=pair_run.preference() | {"betta": 0.1})
    refused("eval_every is -1", preference=pair_run.preference(eval_every=-1))
    refused("odd or missing: \\['packed'\\]", source=source | {"packed": True})
    refused("give a share from 0 to below 1", source=source | {"held_out": 1.0})
    short = {"rows": 4, "length": 40, "frames": 4, "groups": 4}
    refused("takes .* places, a row has 40", DataError, batch=short)
    refused("pairs_a_tree is 0; give 1 or more", source=source | {"pairs_a_tree": 0})
    refused("takes .* places, a row has 24", DataError, batch=short | {"length": 24})
    refused("serves objective 'preference', not 'sft'", objective="sft", preference=None)
    refused("source.path: no .*none.jsonl", source=source | {"path": str(tmp_path / "none.jsonl")})


def test_all_pairs_of_a_video_are_held_out_or_none(pairs: Path) -> None:
    rows = read_pairs(pairs)
    many = [row for row in rows for _ in range(3)]
    out = [held_out(row, 0.2) for row in many]
    assert out == [flag for flag in out[::3] for _ in range(3)] and 0 < sum(out) < len(out)
    more = [held_out(row, 0.5) for row in rows]
    assert all(late or not early for early, late in zip(out[::3], more, strict=True))


def test_a_fingerprint_changes_with_any_bit() -> None:
    rng = np.random.default_rng(0)
    params = {"a": jnp.asarray(rng.normal(size=(3, 4, 5)), jnp.float32), "b": jnp.ones(7, jnp.bfloat16)}
    first = fingerprint(params)
    assert fingerprint(dict(reversed(params.items()))) == first
    flipped = jnp.asarray(np.nextafter(np.asarray(params["a"]), np.inf))
    others = [
        params | {"a": params["a"].at[2, 3, 4].set(flipped[2, 3, 4])},
        params | {"a": params["a"][:, ::-1]},
        params | {"b": jnp.ones(7, jnp.float16)},
        params | {"b": jnp.ones(8, jnp.bfloat16)},
        {"a": params["a"], "c": params["b"]},
    ]
    assert len({first, *map(fingerprint, others)}) == 6


def test_the_run_folder_holds_its_own_table(learned: tuple[Path, Path, str]) -> None:
    folder, pairs, _ = learned
    own, beside = folder / "reference-0.npz", pairs.with_name("pairs.jsonl.reference.npz")
    assert own.read_bytes() == beside.read_bytes()
    assert set(json.loads(str(np.load(own)["head"]))["made_of"]) == {"weights", "pairs", "reading"}


def test_the_recipe_takes_pairs_and_a_run() -> None:
    config = load_config("hound_dpo", ["--config.data.path=pairs.jsonl", "--config.init=RUN"])
    (stage,) = plain(config)["stages"]
    assert stage["source"]["path"] == "pairs.jsonl" and (config.init, config.tokenizer) == ("RUN", "RUN")
    made = stage_from_config(stage)
    assert made.preference == Preference(("sigmoid",), beta=0.1) and made.trainable == ("decoder",)
    assert (made.lr, made.schedule, made.warmup_ratio, made.epochs, made.rows) == (5e-7, "linear", 0.1, 3.0, 128)
