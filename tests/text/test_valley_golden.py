"""Valley: ids and drifting labels of the original code."""

import numpy as np
import pytest

from tests.text.cases import VALLEY, case, turns
from vidlmm.text import TEMPLATES, clean_answer, encode_training, load_tokenizer, render

SETTINGS = case(VALLEY)["settings"]
NAMES = {"v1": "valley_v1", "multimodal_video": "valley", "v1_only_mask_system": "valley_v1_system"}
RUNS = [name.removesuffix("/labels") for name in case(VALLEY)["outputs"] if name.endswith("/labels")]


@pytest.fixture(scope="module")
def outputs():
    with np.load(VALLEY / "case.npz") as arrays:
        return dict(arrays)


def block(frames: int) -> list[str]:
    """What the original writes for a video or a picture before it tokenises."""
    patches = ["<im_start>", *["<im_patch>"] * SETTINGS["n_patches"], "<im_end>"]
    return [*patches, "<vi_start>", *["<vi_frame>"] * frames, "<vi_end>"]


@pytest.mark.parametrize("run", RUNS)
def test_training(run, outputs):
    conversation, mode = run.split("/")
    chat = SETTINGS["conversations"][conversation]
    tokenizer = load_tokenizer(VALLEY / "tokenizer")
    encoded = encode_training(turns(chat["turns"]), TEMPLATES[NAMES[mode]], tokenizer)
    media = [tokenizer.token_id(piece) for piece in block(chat["frames"])]
    ids, labels = [], []
    for i, kept in zip(encoded.ids.tolist(), encoded.labels.tolist(), strict=True):
        ids += media if i < 0 else [i]
        # only_mask_system trains the block's own tokens, which a placeholder cannot
        labels += (media if mode.endswith("only_mask_system") else [-100] * len(media)) if i < 0 else [kept]
    assert ids == outputs[f"{conversation}/{mode.removesuffix('_only_mask_system')}/input_ids"].tolist()
    assert labels == outputs[f"{run}/labels"].tolist()


def test_prompt():
    text = render(turns(SETTINGS["messages"]), TEMPLATES["valley_chat"])
    written = "<im_start><im_patch>*256<im_end><vi_start><vi_frame>*8<vi_end>"
    assert text.replace("<video>", written) == case(VALLEY)["expected"]["inference_prompt"]


def test_system_text_is_the_template_s_own():
    for mode, system in case(VALLEY)["expected"]["system"].items():
        assert TEMPLATES[NAMES[mode]].system == system


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        (" ### Assistant: A cat. \n### Human: and?", "A cat."),
        ("Valley:Response: A dog", "A dog"),
        ("plain", "plain"),
    ],
)
def test_answers_lose_role_names_and_what_follows_the_stop_text(written, answer):
    assert clean_answer(written, TEMPLATES["valley_chat"]) == answer
