"""`vidlmm inspect` tells what the published systems are."""

import pytest

from vidlmm.cli import inspect
from vidlmm.cli.main import main
from vidlmm.spec import SYSTEMS, ConnectorSpec, DecoderSpec, FrameSpec, ModelSpec, PixelSpec, TowerSpec, to_json

SMALL = ModelSpec(
    name="small",
    tower=TowerSpec(image_size=32, patch_size=8, width=16, layers=1, heads=2, mlp=32),
    connector=ConnectorSpec(pool_mode="average", pool_stride=2, newline="grid"),
    decoder=DecoderSpec(vocab=64, width=16, layers=2, heads=2, kv_heads=1, mlp=32, max_length=100),
    frames=FrameSpec(count=4),
    pixels=PixelSpec(size=32),
)


def test_the_sizes_are_those_of_qwen2():
    # Qwen2-7B has 7,615,616,512 parameters and Qwen2-72B 72,706,203,648 (their released tensors added up).
    assert inspect.parameter_counts(SYSTEMS["llava_video_7b"])["decoder"] == 7_615_616_512
    assert inspect.parameter_counts(SYSTEMS["llava_video_72b"])["decoder"] == 72_706_203_648


def test_cache_holds_keys_and_values_of_every_layer():
    assert inspect.cache_values(SMALL.decoder) == 2 * 2 * 1 * 8


def test_tokens_are_those_of_the_layout():
    lines = inspect.tokens(SMALL)
    # A 4 x 4 grid pooled to 2 x 2 with a newline a row: 6 tokens a frame.
    assert [line.split()[:2] for line in lines[1:4]] == [["8", "48"], ["16", "96"], ["32", "192"]]
    assert "over the decoder's 100 positions" in lines[3] and "over" not in lines[2]


def test_a_run_is_told_by_its_spec(tmp_path, capsys):
    (tmp_path / "spec.json").write_text(to_json(SMALL))
    assert main(["inspect", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("small\n") and "pool_stride=2" in out and "parameters" in out


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0.0 B"), (1023, "1023.0 B"), (1024, "1.0 KiB"), (3 * 2**30, "3.0 GiB"), (2**42, "4096.0 GiB")],
)
def test_bytes_are_written_in_a_fitting_unit(count, text):
    assert inspect.in_words(count) == text
