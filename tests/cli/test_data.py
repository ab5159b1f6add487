"""`vidlmm data` names what is bad and shows what is trained on."""

import json

from PIL import Image

from vidlmm.cli.main import main
from vidlmm.spec import SYSTEMS, to_json
from vidlmm.world.tokenizer import train_tokenizer


def picture(path):
    Image.new("RGB", (16, 16), (200, 30, 30)).save(path)
    return str(path)


def test_check_names_each_bad_file_and_exits_1(tmp_path, capsys):
    picture(tmp_path / "good.png")
    (tmp_path / "bad.mp4").write_text("this is no video")
    assert main(["data", "check", str(tmp_path), "--report", str(tmp_path / "report.json")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith(f"{tmp_path / 'bad.mp4'}: not_media:")
    assert lines[1] == "2 files, 1 bad"
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["files"], report["bad"]) == (2, 1)


def test_check_of_good_files_exits_0(tmp_path, capsys):
    assert main(["data", "check", picture(tmp_path / "a.png"), picture(tmp_path / "b.png")]) == 0
    assert capsys.readouterr().out == "2 files, 0 bad\n"


def test_check_of_a_folder_without_media_is_an_error(tmp_path, capsys):
    assert main(["data", "check", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"vidlmm data: no media file among {tmp_path}\n"


def test_show_needs_a_run(tmp_path, capsys):
    (tmp_path / "records.json").write_text("[]")
    assert main(["data", "show", str(tmp_path / "nothing"), "--data", str(tmp_path / "records.json")]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "spec.json" in err


def test_show_prints_a_record_of_a_run(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "spec.json").write_text(to_json(SYSTEMS["quickstart"]))
    (run / "tokenizer.json").write_text(train_tokenizer(["What is red? The square."], 300))
    talk = [{"from": "human", "value": "<image>\nWhat is red?"}, {"from": "gpt", "value": "The square."}]
    picture(tmp_path / "square.png")
    (tmp_path / "records.json").write_text(json.dumps([{"id": "1", "image": "square.png", "conversations": talk}]))

    assert main(["data", "show", str(run), "--data", str(tmp_path / "records.json")]) == 0
    shown = capsys.readouterr().out
    assert "square.png" in shown and "What is red?" in shown and "The square." in shown

    assert main(["data", "show", str(run), "--data", str(tmp_path / "records.json"), "--index", "1"]) == 1
    assert capsys.readouterr().err.endswith("records.json holds 1 records, counted from 0\n")
