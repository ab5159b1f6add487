"""What a person sees of the data."""

from tests.data.conftest import talk
from vidlmm.data.records import record_from_row
from vidlmm.data.show import show_record, summarise


def test_show_record(clips, spec, tokenizer):
    row = {"id": "r", "video": "clip0.mp4", "conversations": talk("<image>\nWhat moves?", "A square.", "To?", "Right.")}
    record = record_from_row(row, clips, file="rows.json")
    text = show_record(record, spec, tokenizer, colour=False)
    assert "rows.json, record 0 (id 'r')" in text
    assert f"video {clips / 'clip0.mp4'}: frames at 0.00, 0.50, 1.00, 1.50 s" in text
    assert "What moves?" in text and "A square." in text
    both = show_record(record, spec, tokenizer, turns="branches", colour=False)
    assert both.count("<image>") == 2


def test_summarise():
    rows = [
        {"video": "a.mp4", "conversations": talk("<image>Q", "one two", "Q", "one"), "question_type": "Count"},
        {"video": "a.mp4", "conversations": talk("<image>Q", "one two three"), "data_source": "s"},
        {"conversations": talk("Q", "one")},
    ]
    assert summarise([record_from_row(row, "/m") for row in rows]) == {
        "records": 3,
        "media": {"video": 2, "text": 1},
        "files": 1,
        "questions": 4,
        "answer_words": {"median": 1.5, "longest": 3},
        "sources": {"s": 1},
        "question_types": {"Count": 1},
    }
    assert summarise([])["answer_words"] == {}
