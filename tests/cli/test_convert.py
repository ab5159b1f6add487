"""`vidlmm convert`: what it says, and what its errors are."""

import json

import pytest

from tests.checkpoint.released import write_folder
from tests.conftest import GOLDENS
from vidlmm.cli.main import main

CASE = json.loads((GOLDENS / "llava_video/01_video_bilinear_grid/case.json").read_text())
VISION = f"--vision-config={json.dumps(CASE['vision_config'])}"


def test_it_says_what_it_wrote_and_what_is_not_the_same(tmp_path, capsys):
    source = write_folder(tmp_path / "a", CASE)
    tokens = '--special-tokens={"<image>": 300, "<video>": 301}'
    assert main(["convert", str(source), str(tmp_path / "b"), "--to", "llava-hf", VISION, tokens]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'b'}: llava_video as llava-hf, 1.1 MiB of weights\n"
    assert "note: media are seen in another way there: connector.newline 'one_token' instead of 'grid'" in err
    assert json.loads((tmp_path / "b" / "config.json").read_text())["video_token_index"] == 301
    assert main(["inspect", str(tmp_path / "b")]) == 0
    assert "in the layout llava_hf" in capsys.readouterr().out


def test_a_run_is_a_run_for_inspect(tmp_path, capsys):
    source = write_folder(tmp_path / "a", CASE)
    assert main(["convert", str(source), str(tmp_path / "run"), "--to", "orbax", VISION]) == 0
    assert "there is no tokenizer.json or tokenizer.model" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "run")]) == 0
    assert "a run in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["A", "B"], 2, "required: --to"),
        (["A", "B", "--to", "onnx"], 2, "invalid choice: 'onnx'"),
        (["A", "B", "--to", "original", VISION], 1, "possible is --to llava-hf or --to orbax"),
        (["A", "A", "--to", "llava-hf", VISION], 1, "is there and not empty"),
        (["B", "C", "--to", "orbax"], 1, "is not there; give a released checkpoint's folder"),
        (["A", "B", "--to", "llava-hf"], 1, "Give vision_config="),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path, capsys, arguments: list[str], code: int, says: str):
    write_folder(tmp_path / "a", CASE)
    places = {name: str(tmp_path / name.lower()) for name in "ABC"}
    assert main(["convert", *(places.get(part, part) for part in arguments)]) == code
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and says in err
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_help_has_examples(capsys):
    assert main(["convert", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown and "--to orbax" in shown and "a RUN that every verb takes" in shown
