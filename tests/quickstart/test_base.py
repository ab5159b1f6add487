"""The packaged base: small enough, whole, and made by what its card says."""

import hashlib
import json

import pytest
from safetensors import safe_open

from vidlmm.checkpoint.weights import weight_shapes
from vidlmm.quickstart.base import BASE, make_tokenizer
from vidlmm.spec import SYSTEMS
from vidlmm.train.setup import find_tokenizer, video_lm_skeleton


def test_the_weights_are_small_and_in_bfloat16():
    files = sorted(BASE.glob("*.safetensors"))
    assert [file.stem for file in files] == ["connector", "decoder", "tower"]
    assert sum(file.stat().st_size for file in files) <= 8e6
    for file in files:
        with safe_open(file, "np") as tensors:
            assert {tensors.get_slice(name).get_dtype() for name in tensors.keys()} == {"BF16"}  # noqa: SIM118


def test_hashes_are_those_of_the_card():
    made = json.loads((BASE / "made.json").read_text())
    for name, digest in made["sha256"].items():
        assert hashlib.sha256((BASE / name).read_bytes()).hexdigest() == digest
    card = (BASE / "MODEL_CARD.md").read_text()
    assert made["command"] in card


def test_the_weights_fit_the_quickstarts_spec():
    spec = SYSTEMS["quickstart"]
    wanted = video_lm_skeleton(spec, "float32").shapes
    found = {}
    for part in ("tower", "decoder", "connector"):
        found |= weight_shapes(BASE / f"{part}.safetensors")
    assert {name: shape.shape for name, shape in wanted.items() if name in found} == found
    assert {name for name in wanted if name not in found} == {
        name for name in wanted if name.startswith("connector.") and name != "connector.newline"
    }
    assert find_tokenizer("quickstart/base") == BASE / "tokenizer.json"


@pytest.mark.timeout(120)
def test_the_tokenizer_is_made_the_same_again(tmp_path):
    assert make_tokenizer(tmp_path).read_bytes() == (BASE / "tokenizer.json").read_bytes()
