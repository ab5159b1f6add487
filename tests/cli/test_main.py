"""The command's outcomes: exit codes, one line for every failure, nothing heavy loaded for help."""

import argparse
import json
import subprocess
import sys

import pytest

from vidlmm.cli import main as cli
from vidlmm.media.errors import MediaError

HEAVY = ("jax", "flax", "av", "grain", "numpy", "PIL", "matplotlib", "ml_collections")


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after `code`."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def fail_with(monkeypatch, error: BaseException, verb: str = "doctor", *further: str) -> int:
    """Run a verb whose code raises `error`."""

    def run(args: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(f"vidlmm.cli.{verb}.run", run)
    return cli.main([verb, *further])


def test_importing_the_package_loads_nothing_heavy():
    assert not modules_after("import vidlmm").intersection(HEAVY)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], [], ["train", "--help"], ["chat", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    assert not modules_after(f"from vidlmm.cli.main import main; assert main({arguments}) == 0").intersection(HEAVY)


def test_version_is_the_installed_one(capsys):
    import vidlmm

    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"vidlmm {vidlmm.__version__}\n"


def test_without_arguments_all_verbs_are_shown(capsys):
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in cli.VERBS)


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_every_verb_has_help(verb, capsys):
    assert cli.main([verb, "--help"]) == 0
    assert f"usage: vidlmm {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tran"], "invalid choice: 'tran'"),
        (["train"], "required: --config"),
        (["chat"], "required: RUN"),
        (["data"], "required: ACTION"),
        (["data", "check"], "required: PATH"),
        (["quickstart", "--seed", "many"], "invalid int value: 'many'"),
        (["inspect", "quickstart", "--config.seed=1"], "--config.seed=1"),
        (["--config.seed=1"], "--config.seed=1"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_2(arguments, says, capsys):
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1 and err.startswith("vidlmm") and says in err


def test_an_error_of_the_package_is_told_in_its_own_words(monkeypatch, capsys):
    assert fail_with(monkeypatch, MediaError("clip.mp4", "no_video", "it holds sound only")) == 1
    assert capsys.readouterr().err == "vidlmm doctor: clip.mp4: no_video: it holds sound only\n"


def test_a_value_error_raised_by_the_package_is_told_in_its_own_words(capsys):
    assert cli.main(["inspect", "no_such_model"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("vidlmm inspect: no_such_model: neither a folder") and err.count("\n") == 1


def test_a_full_disk_names_the_file(monkeypatch, capsys):
    assert fail_with(monkeypatch, OSError(28, "No space left on device", "runs/a/metrics.jsonl")) == 1
    assert capsys.readouterr().err == "vidlmm doctor: runs/a/metrics.jsonl: No space left on device\n"


def test_an_unexpected_error_names_its_type_and_the_way_to_more(monkeypatch, capsys):
    assert fail_with(monkeypatch, KeyError("rope")) == 1
    err = capsys.readouterr().err
    assert err == "vidlmm doctor: unexpected KeyError: 'rope' (run again with --traceback to see where)\n"


def test_a_value_error_from_elsewhere_is_unexpected(monkeypatch, capsys):
    assert fail_with(monkeypatch, ValueError("Incompatible shapes")) == 1  # raised by this file, not by the package
    assert "unexpected ValueError" in capsys.readouterr().err


def test_a_message_of_several_lines_becomes_one(monkeypatch, capsys):
    assert fail_with(monkeypatch, MediaError("a.mp4", "short", "decoded 3\n  of 8")) == 1
    assert capsys.readouterr().err == "vidlmm doctor: a.mp4: short: decoded 3 of 8\n"


def test_traceback_shows_where_it_happened(monkeypatch):
    with pytest.raises(KeyError):
        fail_with(monkeypatch, KeyError("rope"), "doctor", "--traceback")


def test_ctrl_c_exits_130_and_says_how_to_go_on(monkeypatch, capsys):
    assert fail_with(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.strip() == "vidlmm doctor: interrupted"
    assert fail_with(monkeypatch, KeyboardInterrupt(), "train", "--config", "quickstart") == 130
    assert "the same command again goes on" in capsys.readouterr().err


def test_a_saved_interruption_keeps_its_signal(monkeypatch, capsys):
    from vidlmm.train.errors import RunInterrupted

    assert fail_with(monkeypatch, RunInterrupted(2, "stopped at step 7")) == 130
    assert fail_with(monkeypatch, RunInterrupted(15, "stopped at step 7")) == 143
    assert capsys.readouterr().err.splitlines()[0] == "vidlmm doctor: stopped at step 7"


def test_overrides_reach_the_verb_wherever_they_stand(monkeypatch):
    seen = []
    monkeypatch.setattr("vidlmm.cli.train.run", lambda args: seen.append(args.overrides) or 0)
    assert cli.main(["train", "--config.seed=3", "--config", "quickstart", "--config.stages.0.lr=1e-3"]) == 0
    assert seen == [["--config.seed=3", "--config.stages.0.lr=1e-3"]]


def test_a_closed_pipe_is_no_error_message():
    command = [sys.executable, "-m", "vidlmm", "inspect", "quickstart"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
