"""The model's own arithmetic: by hand, by the paper's sizes, and against the products of the traced step."""

from collections.abc import Collection
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from vidlmm.checkpoint.run import video_lm_skeleton
from vidlmm.kernels.splice.xla import CHUNK
from vidlmm.models.flops import Counts, Part, is_matrix, model_flops, rows_through
from vidlmm.parallel import make_mesh
from vidlmm.plan.arithmetic import counts_of
from vidlmm.plan.jaxpr import products
from vidlmm.plan.loops import loops_of, prompt_loops
from vidlmm.plan.workload import Workload, batch_arrays
from vidlmm.spec import SYSTEMS, ConnectorSpec, DecoderSpec, FrameSpec, ModelSpec, PixelSpec, TowerSpec
from vidlmm.train.program import stage_program
from vidlmm.train.stage import Stage

TINY = ModelSpec(
    name="tiny",
    tower=TowerSpec(image_size=8, patch_size=4, width=8, layers=2, heads=2, mlp=24),
    connector=ConnectorSpec(pool_mode="average", pool_stride=2, newline="no_token"),
    decoder=DecoderSpec(vocab=50, width=16, layers=3, heads=4, kv_heads=2, mlp=40),
    frames=FrameSpec(rule="linspace", count=3, time_text="none"),
    pixels=PixelSpec(size=8),
)
EVERYTHING = ("tower", "connector", "decoder")
ONE = {"slice": 1, "data": 1, "fsdp": 1, "context": 1, "tensor": 1, "expert": 1}


def stage(*trainable: str, rows: int = 2, length: int = 20, frames: int = 6) -> Stage:
    return Stage("all", "sft", trainable, 1e-3, rows=rows, length=length, frames=frames, groups=rows)


def work(spec: ModelSpec, one: Stage) -> Workload:
    settings = {"precision": {"params": "float32", "compute": "float32"}, "remat": "none", "loss_chunk": 64, "seed": 0}
    return Workload("tiny", settings, spec, one, ONE)


def parts(spec: ModelSpec, one: Stage, learns: Collection[str] | None = None) -> dict[str, Part]:
    planned = work(spec, one)
    skeleton = video_lm_skeleton(spec)
    names = {name for name in skeleton.shapes if name.startswith(one.trainable)} if learns is None else set(learns)
    found = model_flops(spec, counts_of(planned, batch_arrays(planned)), skeleton.shapes, skeleton.axes, names)
    return {part.name: part for part in found}


def test_a_tiny_model_by_hand() -> None:
    found = parts(TINY, stage(*EVERYTHING))
    tokens, rows, patches = 40, 2, 6 * 4
    layer = 16 * (2 * 4 * 4) + 16 * 16 + 3 * 16 * 40  # q, k, v of 4 + 2 + 2 heads of 4; out; gate, up, down
    decoder = 2 * (tokens * 3 * layer + (tokens - 2 * 3) * 50 * 16)  # the head scores what is no frame
    tower = 2 * patches * (48 * 8 + 2 * (3 * 8 * 8 + 8 * 8 + 2 * 8 * 24))
    assert found["decoder"].forward == decoder
    assert found["decoder"].backward == 2 * decoder
    assert found["decoder attention"].forward == 3 * 4 * 16 * rows * (20 * 21 / 2)
    assert found["decoder attention"].backward == 2 * found["decoder attention"].forward
    assert found["tower"].forward == tower
    patch = 2 * patches * 48 * 8
    assert found["tower"].backward == 2 * tower - patch  # nobody needs the gradient of the pixels
    assert found["tower attention"].forward == 2 * 4 * 8 * 6 * 4**2
    assert found["connector"].forward == 2 * (patches * 8 * 16 + 6 * 1 * 16 * 16)  # the second layer after pooling
    assert sum(part.total for part in found.values()) == pytest.approx(
        3 * (decoder + tower) - patch + 3 * (found["decoder attention"].forward + found["tower attention"].forward)
        + 3 * found["connector"].forward
    )  # fmt: skip


def test_what_is_held_still_costs_its_gradient_only_where_something_before_it_learns() -> None:
    connector = parts(TINY, stage("connector"))
    assert connector["tower"].backward == connector["tower attention"].backward == 0
    assert connector["decoder"].backward == connector["decoder"].forward  # its input's gradient, not its own
    assert connector["decoder attention"].backward == 2 * connector["decoder attention"].forward
    decoder = parts(TINY, stage("decoder"))
    assert decoder["connector"].backward == 0
    assert decoder["decoder"].backward == 2 * decoder["decoder"].forward
    head = parts(TINY, stage("decoder"), learns={"decoder.head"})
    assert head["decoder"].backward == 2 * (40 - 2 * 3) * 50 * 16
    assert head["decoder attention"].backward == 0


def test_of_a_sparse_mlp_the_experts_that_are_chosen_count() -> None:
    sparse = replace(TINY, decoder=replace(TINY.decoder, experts=8, top_k=2))
    dense, found = parts(TINY, stage("decoder"))["decoder"], parts(sparse, stage("decoder"))["decoder"]
    router, mlp = 2 * 40 * 3 * 16 * 8, 2 * 40 * 3 * 3 * 16 * 40
    assert found.forward == dense.forward + router + mlp  # two experts in the place of one


@pytest.mark.parametrize("trainable", [EVERYTHING, ("connector",), ("decoder",)])
def test_the_traced_step_multiplies_as_much(trainable: tuple[str, ...]) -> None:
    one = stage(*trainable, rows=1, frames=3)
    planned = work(TINY, one)
    program = stage_program(
        one, TINY, video_lm_skeleton(TINY), make_mesh(devices=jax.devices()[:1]),
        seed=0, dtype=jnp.float32, param_dtype=jnp.float32, remat="none", chunk=64,
    )  # fmt: skip
    tree = program.abstract()
    arrays, rates = batch_arrays(planned), jax.ShapeDtypeStruct((1,), jnp.float32)
    traced = jax.make_jaxpr(program.step())(tree["state"], tree["frozen"], arrays, rates)
    loops = loops_of(planned, "cpu")
    assert (loops.pairs, loops.chunks) == (1, 1)
    arithmetic = sum(part.total for part in parts(TINY, one).values())
    # What the program does beyond it: whole chunks in the place of the causal half (20 x 20 for 210 pairs), scores of
    # both attentions again in the backward pass, logits of a chunk of 20 tokens for the 17 that are trained, with the
    # head's gradient also where it is held still, and the sums over a chunk of the merge's readers.
    decoder, tower = 3 * 4 * 16, 2 * 4 * 8 * 3 * 4**2
    head, passes = 2 * 50 * 16, 3
    extra = decoder * (20 * 20 - 210) * passes + decoder / 2 * 20 * 20 + head * (20 - 17) * passes
    extra += 2 * CHUNK * CHUNK * 16
    if trainable == ("connector",):
        extra += head * 17
    if trainable == EVERYTHING:
        extra += tower  # forms the tower's values again, too, which the compiler leaves away
    assert products(traced, 1) == pytest.approx(arithmetic + extra, rel=1e-9)


def test_of_a_choice_by_platform_the_cpus_counts() -> None:
    def chosen(x: jax.Array) -> jax.Array:
        return jax.lax.platform_dependent(x, cpu=lambda x: x @ x @ x, default=lambda x: x @ x)

    assert products(jax.make_jaxpr(chosen)(jnp.ones((4, 4))), 1) == 2 * 2 * 4**3


def test_llava_video_7b_costs_what_its_size_says() -> None:
    # 64 frames of 210 places and 250 of text: 8.6e14 FLOP, of which the attention 13 % and the tower 14 %. That count
    # takes all parameters for all places; ours leaves out the vocabulary's table, which is looked up and not multiplied
    # with, and the head where no text stands (64 frames of 182 places).
    spec, places = SYSTEMS["llava_video_7b"], 64 * 210 + 250
    found = parts(spec, stage(*EVERYTHING, rows=1, length=places, frames=64))
    total = sum(part.total for part in found.values())
    left_out = 6 * (places + 64 * 182) * 152064 * 3584
    assert total + left_out == pytest.approx(8.6e14, rel=0.02)
    assert found["decoder attention"].total / (total + left_out) == pytest.approx(0.13, abs=0.01)
    assert (found["tower"].total + found["tower attention"].total) / (total + left_out) == pytest.approx(0.14, abs=0.01)


def test_every_matrix_of_every_system_has_rows() -> None:
    counts = Counts(100, 50.0, 32, 729, 3, 2, 1496, 2, 16, 4)
    for name, spec in SYSTEMS.items():
        skeleton = video_lm_skeleton(spec)
        matrices = [one for one in skeleton.shapes if is_matrix(one, skeleton.axes[one], spec)]
        assert matrices, name
        assert all(rows_through(one, spec, counts) > 0 for one in matrices), name


def test_of_branches_the_one_that_multiplies_most_counts() -> None:
    def either(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.cond(jnp.any(x > 0), lambda: x @ w, lambda: jnp.zeros((3, 5)))

    program = jax.make_jaxpr(either)(jnp.ones((3, 4)), jnp.ones((4, 5)))
    assert products(program, turns=1) == 2 * 3 * 4 * 5


def test_a_prompt_in_two_parts_meets_the_pairs_of_one() -> None:
    """On a CPU, whose chunks are of one size."""
    first, rest = prompt_loops(1024, "cpu").pairs, prompt_loops(1024, "cpu", before=1024).pairs
    assert 0 < first < rest and first + rest == prompt_loops(2048, "cpu").pairs
