"""Conversations, in Python and in the terminal, with a run on disk."""

import io
import json
import sys
from pathlib import Path

import av
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from tests.generate import tiny
from vidlmm import api
from vidlmm.checkpoint.names import named
from vidlmm.checkpoint.run import RunFolderError, begin_run, finish_run
from vidlmm.cli import main as cli
from vidlmm.generate import Chat, PromptError, Sampling
from vidlmm.generate.terminal import talk
from vidlmm.media.errors import MediaError

SHORT = Sampling(max_new_tokens=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """a.mp4 and b.mp4, c.png, and run/, a finished run of the tiny model."""
    made = tmp_path_factory.mktemp("chat")
    for seed, name in enumerate("ab"):
        with av.open(str(made / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=4)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            for value in np.random.default_rng(seed).integers(0, 256, 8):
                picture = np.full((32, 32, 3), value, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    Image.fromarray(np.full((20, 30, 3), 200, np.uint8)).save(made / "c.png")
    run = begin_run(made / "run", {"name": "tiny"}, tiny.SPEC, tiny.TOKENIZER / "tokenizer.json")
    finish_run(run, named(nnx.split(tiny.model(), nnx.Param)[1]), jnp.float32, {"steps": 1})
    return made


@pytest.fixture
def chat() -> Chat:
    return Chat(tiny.generator(), SHORT)


def ask_over_pipe(chat: Chat, text: str) -> list[str]:
    out = io.StringIO()
    talk(chat, None, io.StringIO(text), out, io.StringIO())
    return out.getvalue().split("\n")[:-1]  # an answer of random weights may hold any other control character


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_conversation_keeps_what_was_said(chat, folder):
    chat.show("video", folder / "a.mp4")
    first, second = chat.ask("Why?"), chat.ask("Really?")
    assert [(turn.role, turn.text) for turn in chat.turns] == [
        ("user", "<video>\nWhy?"), ("assistant", first), ("user", "Really?"), ("assistant", second)
    ]  # fmt: skip


def test_an_answer_depends_on_the_video_and_on_what_was_said(folder):
    def last(name: str, *questions: str) -> str:
        chat = Chat(tiny.generator(), Sampling(max_new_tokens=12))
        chat.show("video", folder / name)
        return [chat.ask(question) for question in questions][-1]

    assert len({last("a.mp4", "Why?"), last("b.mp4", "Why?"), last("a.mp4", "Who?", "Why?")}) == 3


def test_media_shown_later_belong_to_the_next_question(chat, folder):
    chat.show("video", folder / "a.mp4")
    chat.ask("Why?")
    chat.show("image", folder / "c.png")
    chat.show("video", folder / "b.mp4")
    chat.ask("And these?")
    assert chat.turns[2].text == "<image>\n<video>\nAnd these?"


def test_a_new_conversation_is_about_the_same_media(chat, folder):
    chat.show("video", folder / "a.mp4")
    first = chat.ask("Why?")
    chat.ask("Really?")
    chat.reset()
    assert chat.turns == () and chat.ask("Why?") == first
    chat.reset(media=True)
    chat.ask("Why?")
    assert chat.turns[0].text == "Why?"


@pytest.mark.parametrize(
    ("question", "says"),
    [("  ", "the question is empty"), ("What is <image>?", "holds <image>"), ("why " * 300, "takes .* places")],
)
def test_a_bad_question_leaves_the_conversation_as_it_was(chat, question, says):
    before = chat.ask("Why?")
    turns = chat.turns
    with pytest.raises(PromptError, match=says):
        chat.ask(question)
    assert chat.turns == turns and turns[1].text == before


def test_pieces_of_an_answer_join_to_it(chat):
    pieces: list[str] = []
    assert chat.ask("Why?", pieces.append) == "".join(pieces)


def test_a_pipe_asks_line_by_line(chat, folder):
    lines = ask_over_pipe(chat, f"/video {folder / 'a.mp4'}\n\nWhy?\n/reset\nWhy?\n/exit\nWhy?\n")
    assert len(lines) == 2 and lines[0] == lines[1] == chat.turns[1].text


def test_a_mistake_ends_a_pipe(chat):
    with pytest.raises(PromptError, match="/flip is no command"):
        ask_over_pipe(chat, "/flip\nWhy?\n")
    with pytest.raises(MediaError, match=r"no\.mp4: missing"):
        ask_over_pipe(chat, "/video no.mp4\n")


def test_a_mistake_at_a_terminal_is_told_and_the_conversation_goes_on(chat, monkeypatch):
    lines = iter(["/video no.mp4", "", "/flip", "Why?"])

    def typed(_: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", typed)
    out, notes = io.StringIO(), io.StringIO()
    talk(chat, None, Terminal(), out, notes, verbose=True)
    told = notes.getvalue().splitlines()
    assert "missing" in told[1] and "/flip is no command" in told[2] and "tokens in" in told[3]
    assert out.getvalue() == chat.turns[1].text + "\n"


def test_the_command_answers_and_python_agrees(folder, capsys):
    model = api.load(folder / "run")
    wanted = model.chat(folder / "a.mp4", "What happens?", sampling=SHORT)
    run, clip = str(folder / "run"), str(folder / "a.mp4")
    assert cli.main(["chat", run, "--video", clip, "What happens?", "--max-new-tokens", "6"]) == 0
    assert capsys.readouterr() == (wanted + "\n", "")
    assert cli.main(["chat", run, "What happens?", "--video", clip, "--max-new-tokens", "6", "--verbose"]) == 0
    out, err = capsys.readouterr()
    assert out == wanted + "\n"
    assert [line.split(" in ")[0] for line in err.splitlines()] == ["model loaded", "1 files read", "6 tokens"]


def test_the_command_reads_questions_from_a_pipe(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("Why?\nReally?\n"))
    assert cli.main(["chat", str(folder / "run"), "--max-new-tokens", "6"]) == 0
    assert capsys.readouterr().out.count("\n") == 2


def test_several_files_are_shown_in_the_order_of_the_command(folder, monkeypatch):
    seen = []
    monkeypatch.setattr(Chat, "show", lambda self, kind, path: seen.append((kind, Path(path).name)))
    named_files = ["--image", "c.png", "--video", "b.mp4", "--video", "a.mp4", "--image", "c.png"]
    assert cli.main(["chat", str(folder / "run"), *named_files, "Which?", "--max-new-tokens", "2"]) == 0
    assert seen == [("image", "c.png"), ("video", "b.mp4"), ("video", "a.mp4"), ("image", "c.png")]


def test_frames_are_chosen_by_the_option(folder):
    model = api.load(folder / "run", frames=2)
    chat = model.conversation([folder / "a.mp4", folder / "c.png"], sampling=SHORT)
    assert [(one.kind, len(one.frames)) for one in chat._media] == [("video", 2), ("image", 1)]
    with pytest.raises(ValueError, match=r"frames\.count is -1"):
        api.load(folder / "run", frames=-1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--video", "no.mp4", "Why?"], "no.mp4: missing"),
        (["--image", "a.mp4", "Why?"], "not_media"),
        (["Why?", "--temperature", "-1"], "temperature is -1.0"),
        (["Why?", "--top-p", "0"], "top_p is 0.0"),
        (["Why?", "--max-new-tokens", "0"], "max_new_tokens is 0"),
        (["why " * 300], "takes"),
        ([""], "the question is empty"),
    ],
)
def test_a_failure_is_one_line_and_exit_1(folder, arguments, says, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert cli.main(["chat", "run", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("vidlmm chat: ") and says in err and err.count("\n") == 1


def test_a_run_that_is_missing_or_unfinished_is_one_clear_line(folder, tmp_path, capsys):
    assert cli.main(["chat", str(tmp_path / "none"), "Why?"]) == 1
    err = capsys.readouterr().err
    assert "no spec.json" in err and err.count("\n") == 1
    begin_run(tmp_path / "begun", {}, tiny.SPEC, tiny.TOKENIZER / "tokenizer.json")
    assert cli.main(["chat", str(tmp_path / "begun"), "Why?"]) == 1
    assert "is not finished" in capsys.readouterr().err
    with pytest.raises(RunFolderError):
        api.load(tmp_path / "begun")


def test_a_run_with_another_tokenizer_is_refused(folder, tmp_path):
    for file in (folder / "run").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    words = json.loads((tmp_path / "tokenizer.json").read_text())
    last = words["added_tokens"][-1]
    words["added_tokens"] += [{**last, "id": last["id"] + n, "content": f"<|{n}|>"} for n in range(1, 20)]
    (tmp_path / "tokenizer.json").write_text(json.dumps(words))
    with pytest.raises(ValueError, match="the tokenizer has 292 ids, the model 288"):
        api.load(tmp_path)
