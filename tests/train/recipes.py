"""The recipes of the papers at a size that takes a moment: their own stages, a tiny model of the same system, a few
generated records."""

import dataclasses
import json
import wave
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from tests.checkpoint.tokens import FIRST, write_tokenizer
from tests.data import epic_files
from tests.data.conftest import talk
from tests.media import clips
from tests.train.systems import cut
from vidlmm.checkpoint.run import video_lm_skeleton
from vidlmm.configs import load_config, packaged_configs
from vidlmm.spec import ModelSpec, to_json
from vidlmm.train.setup import plain, resolve_spec

STEPS, FRAMES, LENGTH = 3, 4, 768
# Actions of the kitchen, of which the last has two close before it.
KITCHEN = 3
SPECIAL = (
    "<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    "<vi_frame>", "<vi_start>", "<vi_end>", "<im_patch>", "<im_start>", "<im_end>",
)  # fmt: skip
IDS = {name: FIRST + number for number, name in enumerate(SPECIAL)}
VOCAB = FIRST + len(SPECIAL) + 4


def recipes() -> list[str]:
    """Packaged configs but those of the quickstart and for one's own clips."""
    return [name for name in packaged_configs() if not name.startswith(("quickstart", "finetune"))]


def small(spec: ModelSpec) -> ModelSpec:
    """The same graph: few frames, one layer a decoder, sound in as few tokens as a real filter bank gives."""
    tiny, audio = cut(spec), spec.audio
    if audio is not None:
        audio = replace(tiny.audio or audio, mel=audio.mel, patch=audio.mel)
    return replace(
        tiny,
        audio=audio,
        action=None if spec.action is None else replace(spec.action, types=epic_files.TYPES),
        decoder=replace(tiny.decoder, vocab=VOCAB, layers=1, max_length=4096),
        frames=replace(spec.frames, count=FRAMES),
        pixels=replace(tiny.pixels, tiles=min(spec.pixels.tiles, 2)),
        special_tokens=tuple((name, IDS[name]) for name, _ in spec.special_tokens),
    )


def write_tokens(folder: Path) -> Path:
    """A tokenizer that has the marks of all templates."""
    folder.mkdir()
    return write_tokenizer(folder, IDS)


def write_media(folder: Path) -> Path:
    """clip.mp4 with a tone, picture.png, tone.wav, and the film of a kitchen."""
    folder.mkdir()
    clips.make(folder / "clip.mp4", 30, size=(48, 32), sound=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 24, 3), np.uint8)).save(folder / "picture.png")
    with wave.open(str(folder / "tone.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((np.sin(np.arange(16000) * 0.1) * 8000).astype(np.int16).tobytes())
    clips.make(folder / "kitchen.mp4", 80, size=(48, 32))
    return folder


def write_init(spec: ModelSpec, folder: Path) -> Path:
    """A finished run of random weights."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    weights = {}
    for name, shape in video_lm_skeleton(spec).shapes.items():
        norm = "norm" in name.rpartition(".")[2] and not name.endswith("bias")
        weights[name] = (rng.standard_normal(shape.shape) * 0.1 + norm).astype(np.float32)
    save_file(weights, folder / "model.safetensors")
    (folder / "spec.json").write_text(to_json(spec))
    return folder


def shrink(name: str, data: Path, media: Path) -> tuple[dict[str, Any], ModelSpec]:
    """A recipe's settings with a tiny spec, and its stages with a few of its annotation files, written below `data`."""
    settings = plain(load_config(name))
    spec = small(resolve_spec(settings["system"], settings["spec"]))
    settings["spec"] = {key: value for key, value in dataclasses.asdict(spec).items() if key != "name"}
    settings |= {"precision": dict.fromkeys(("compute", "params", "export"), "float32"), "remat": "dots"}
    settings["log"] |= {"every": 1, "tensorboard": False}
    settings["mesh"] |= {"fsdp": 1}
    settings["data"] |= {"workers": 0, "threads": 1, "ahead": 2, "bad_share": 0.0}
    settings["checkpoint"] |= {"every_steps": 0, "every_minutes": 0.0}
    settings["loss_chunk"] = 1 << 16
    for stage in settings["stages"]:
        source = stage["source"]
        source["path"] = str(data / source["path"])
        if source["kind"] == "pairs":
            count = _write_pairs(Path(source["path"]), media)
        else:
            source["mixture"] = list(_few(source["mixture"]))
            count = sum(_write(entry, Path(source["path"]), media, spec) for entry in source["mixture"])
        stage |= {"steps": STEPS, "batch": _batch(stage, count)}
    return settings, spec


def _few(mixture: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One entry of each kind: of those with the same keys, part and task the first."""
    kinds = set()
    for entry in mixture:
        kind = (*sorted(entry), entry.get("part"), entry.get("task"))
        if kind not in kinds:
            yield entry
        kinds.add(kind)


def _batch(stage: dict[str, Any], count: int) -> dict[str, int]:
    """Every batch holds all records, so that its loss tells what a step did: in one row, or one a row."""
    if stage["source"].get("packed"):
        return {"rows": 1, "length": count * LENGTH, "frames": count * 2 * FRAMES, "groups": 1}
    frames = 0 if not stage["batch"]["frames"] else count * 2 * FRAMES
    return {"rows": count, "length": LENGTH, "frames": frames, "groups": 1}


def _write(entry: dict[str, Any], folder: Path, media: Path, spec: ModelSpec) -> int:
    """The annotation file of an entry, with what it needs beside it; how many records it gives."""
    file = folder / entry["json_path"]
    file.parent.mkdir(parents=True, exist_ok=True)
    if "media_root" in entry:
        films = folder / entry["media_root"] / "P01"
        films.mkdir(parents=True, exist_ok=True)
        (films / "P01_01.MP4").unlink(missing_ok=True)
        (films / "P01_01.MP4").symlink_to(media / "kitchen.mp4")
    if file.suffix == ".csv":
        actions = epic_files.TRAIN[:KITCHEN]
        epic_files.write_table(file, actions)
        epic_files.write_table(file.parent / "EPIC_100_validation.csv", epic_files.VALIDATION, first=KITCHEN)
        return len(actions)
    rows = _rows(entry, media, spec)
    file.write_text("\n".join(map(json.dumps, rows)) if file.suffix == ".jsonl" else json.dumps(rows))
    return len(rows)


def _write_pairs(file: Path, media: Path) -> int:
    """A file of pairs; how many it holds."""
    file.parent.mkdir(parents=True, exist_ok=True)
    asked = {"prompt": "<video>\nWhat is it?", "answer": "A box.", "chosen_score": 4, "rejected_score": 2}
    said = (("A box.", "A tower of cards."), ("It is a box.", "Nothing."))
    rows = [
        {"id": f"p{number}", "video": str(media / "clip.mp4"), **asked, "chosen": chosen, "rejected": rejected}
        for number, (chosen, rejected) in enumerate(said)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return len(rows)


def _rows(entry: dict[str, Any], media: Path, spec: ModelSpec) -> list[dict[str, Any]]:
    asked = talk("<{}>\nWhat is it?", "A box.")

    def row(kind: str, file: str) -> dict[str, Any]:
        said = [{**turn, "value": turn["value"].format(kind)} for turn in asked]
        return {"id": file, kind: str(media / file), "conversations": said}

    if "prior_actions" in entry:
        return [epic_files.mqa_row(number) for number in range(KITCHEN)]
    if spec.action and "media_root" in entry:
        return [epic_files.caption_row(0)]
    match entry.get("part", "audio" if "audio" in entry["json_path"] else "both"):
        case "av":
            return [row("video", "clip.mp4"), row("video", "clip.mp4")]
        case "audio":
            return [row("audio", "tone.wav")]
        case "video":
            return [row("video", "clip.mp4")]
    found = [row("video", "clip.mp4")]
    return found if spec.action else [*found, row("image", "picture.png")]
