"""Tokenizers: what is read from the files, that text survives, and what a broken file says."""

import json
import pickle
import shutil

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.text.cases import HOUND, QWEN, SFT, VALLEY
from vidlmm.text import TEMPLATES, Tokenizer, TokenizerError, Turn, encode_training, load_tokenizer, stop_ids

BYTE_LEVEL = load_tokenizer(SFT / "tokenizer_qwen")
QWEN_BPE = load_tokenizer(HOUND / "qwen_tokenizer")
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁\x00"), max_size=40)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(TEXTS)
def test_byte_level_text_survives(text):
    assert BYTE_LEVEL.decode(BYTE_LEVEL.encode(text), skip_special=False) == text


@settings(max_examples=60, deadline=None, derandomize=True)
@given(TEXTS, st.booleans())
def test_sentencepiece_text_survives(text, legacy):
    # A special token's name in a text is that token, as in transformers, and decoding leaves it out.
    assume(not any(name in text for name in ("<s>", "</s>", "<unk>")))
    tokenizer = load_tokenizer(HOUND / "tokenizer.model", legacy=legacy)
    assert tokenizer.decode(tokenizer.encode(text, bos=True)) == text


@pytest.mark.parametrize(
    "folder",
    [QWEN, SFT / "tokenizer_mistral", VALLEY / "tokenizer", HOUND / "qwen_tokenizer", HOUND / "tokenizer.model"],
)
def test_every_tokenizer_keeps_the_interface(folder):
    tokenizer = load_tokenizer(folder)
    assert isinstance(tokenizer, Tokenizer)
    ids = tokenizer.encode("A dog runs.\nIt rests.")
    assert max(ids) < tokenizer.vocab_size
    assert tokenizer.decode([-200, *ids, -201]) == "A dog runs.\nIt rests."
    again = pickle.loads(pickle.dumps(tokenizer))  # worker processes get it this way
    assert again.encode("A dog") == tokenizer.encode("A dog")


def test_special_ids_of_the_files_beside():
    qwen, mistral = load_tokenizer(QWEN), load_tokenizer(SFT / "tokenizer_mistral")
    assert (qwen.bos_id, qwen.eos_id, qwen.pad_id) == (None, 272, 270)
    assert (mistral.bos_id, mistral.eos_id, mistral.pad_id) == (259, 260, 261)
    valley = load_tokenizer(VALLEY / "tokenizer")
    assert (valley.bos_id, valley.eos_id, valley.pad_id, valley.vocab_size) == (1, 2, 640, 647)
    assert valley.token_id("<vi_frame>") == 641
    assert valley.token_id("no such piece") is None


def test_a_start_token_only_where_the_tokenizer_has_that_habit(tmp_path):
    valley = load_tokenizer(VALLEY / "tokenizer")
    assert valley.encode("a cat", bos=True) == [1, *valley.encode("a cat")]
    assert valley.encode("", bos=True) == [1]
    # This tokenizer.json names a bos token, but nothing in it begins a text with one.
    mistral = load_tokenizer(SFT / "tokenizer_mistral")
    assert mistral.encode("a cat", bos=True) == mistral.encode("a cat")
    shutil.copytree(VALLEY / "tokenizer", tmp_path / "none")
    edit(tmp_path / "none" / "tokenizer_config.json", add_bos_token=False)
    without = load_tokenizer(tmp_path / "none")
    assert without.encode("a cat", bos=True) == without.encode("a cat")


def test_a_tokenizer_json_that_begins_texts_with_bos(tmp_path):
    shutil.copytree(SFT / "tokenizer_mistral", tmp_path / "t")
    pattern = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    special = {"<s>": {"id": "<s>", "ids": [259], "tokens": ["<s>"]}}
    processor = {"type": "TemplateProcessing", "single": pattern, "pair": pattern, "special_tokens": special}
    edit(tmp_path / "t" / "tokenizer.json", post_processor=processor)
    tokenizer = load_tokenizer(tmp_path / "t")
    assert tokenizer.encode("a", bos=True) == [259, 64]
    assert tokenizer.encode("a") == [64]


def test_every_end_id_of_generation_config_stops(tmp_path):
    shutil.copytree(QWEN, tmp_path / "t")
    (tmp_path / "t" / "generation_config.json").write_text(json.dumps({"eos_token_id": [272, 270]}))
    tokenizer = load_tokenizer(tmp_path / "t")
    assert tokenizer.eos_ids == (272, 270)
    assert tokenizer.eos_id == 272
    assert stop_ids(TEMPLATES["qwen_1_5"], tokenizer) == (272, 270)
    assert stop_ids(TEMPLATES["qwen_1_5"], load_tokenizer(QWEN)) == (272,)


def test_a_legacy_tokenizer_marks_a_space_behind_special_tokens():
    text = "a</s>b"
    old, new = (load_tokenizer(HOUND / "tokenizer.model", legacy=flag).encode(text) for flag in (True, False))
    tokenizer = load_tokenizer(HOUND / "tokenizer.model")
    assert tokenizer.legacy is True, "Llama's default where no file says otherwise"
    assert old[-1:] == tokenizer.encode("b")
    assert new[-1] == tokenizer.token_id("b")
    assert old[:-1] == new[:-1]


def test_legacy_flag_of_the_config(tmp_path):
    shutil.copytree(VALLEY / "tokenizer", tmp_path / "t")
    edit(tmp_path / "t" / "tokenizer_config.json", legacy=False)
    assert load_tokenizer(VALLEY / "tokenizer").legacy is True
    assert load_tokenizer(tmp_path / "t").legacy is False
    assert load_tokenizer(tmp_path / "t", legacy=True).legacy is True


def test_added_tokens_swallow_white_space_where_they_say_so(tmp_path):
    shutil.copytree(VALLEY / "tokenizer", tmp_path / "t")
    config = json.loads((tmp_path / "t" / "tokenizer_config.json").read_text())
    config["added_tokens_decoder"]["645"] |= {"lstrip": True, "rstrip": True}
    edit(tmp_path / "t" / "tokenizer_config.json", **config)
    plain, greedy = load_tokenizer(VALLEY / "tokenizer"), load_tokenizer(tmp_path / "t")
    assert greedy.encode("dog  <im_start> cat") == plain.encode("dog<im_start>cat")
    assert plain.encode("dog  <im_start> cat") != plain.encode("dog<im_start>cat")


def test_a_real_sentencepiece_model(shared):
    tokenizer = load_tokenizer(shared / "corpora" / "tokenizers" / "llama2_sentencepiece.model", legacy=False)
    assert (tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_id) == (32000, 1, 2)
    assert tokenizer.encode("Hello world</s>USER: hi", bos=True) == [1, 15043, 3186, 2, 11889, 29901, 7251]
    for text in ("  a  b", "café 漢字 😀\n\nx", "Which event happened first, the door or the light?"):
        assert tokenizer.decode(tokenizer.encode(text, bos=True)) == text
    chat = [
        Turn("user", "<video>\nWhy?"),
        Turn("assistant", "It fell."),
        Turn("user", "So?"),
        Turn("assistant", "Yes."),
    ]
    encoded = encode_training(chat, TEMPLATES["hound"], tokenizer)
    trained = [tokenizer.token_id(p) for p in ("▁It", "▁fell", ".", "</s>", "▁Yes", ".", "</s>")]
    assert encoded.labels[encoded.labels >= 0].tolist() == trained


class TestFaults:
    def test_nothing_there(self, tmp_path):
        with pytest.raises(TokenizerError, match="no such file or folder"):
            load_tokenizer(tmp_path / "none")

    def test_a_folder_without_a_tokenizer_tells_what_it_found(self, tmp_path):
        (tmp_path / "vocab.json").write_text("{}")
        with pytest.raises(TokenizerError, match=r"no tokenizer\.json .*found: vocab\.json"):
            load_tokenizer(tmp_path)

    def test_another_file(self, tmp_path):
        (tmp_path / "weights.bin").write_bytes(b"x")
        with pytest.raises(TokenizerError, match=r"got '\.bin'"):
            load_tokenizer(tmp_path / "weights.bin")

    @pytest.mark.parametrize(
        ("name", "content"), [("tokenizer.json", b"{}"), ("tokenizer.model", b"\xff\xfenot a model")]
    )
    def test_broken(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TokenizerError, match=f"{name}: not a readable"):
            load_tokenizer(tmp_path)

    @pytest.mark.parametrize("content", ["{", "[1]"])
    def test_broken_config(self, tmp_path, content):
        shutil.copytree(QWEN, tmp_path / "t")
        (tmp_path / "t" / "tokenizer_config.json").write_text(content)
        with pytest.raises(TokenizerError, match=r"tokenizer_config\.json"):
            load_tokenizer(tmp_path / "t")

    @pytest.mark.parametrize("folder", [QWEN, VALLEY / "tokenizer"])
    def test_a_named_token_that_is_not_there(self, tmp_path, folder):
        shutil.copytree(folder, tmp_path / "t")
        edit(tmp_path / "t" / "tokenizer_config.json", eos_token="<gone>")
        with pytest.raises(TokenizerError, match="'<gone>', which it does not contain"):
            load_tokenizer(tmp_path / "t")


def edit(file, **values):
    """Sets top-level values of a JSON file."""
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**content, **values}), encoding="utf-8")
