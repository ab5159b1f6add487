"""`python -m vidlmm.media.check_worker`: one JSON request a line in, one JSON answer a line out.

Started by `check.py`, which kills it when a file takes too long.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from vidlmm.media.errors import MediaError
from vidlmm.media.image import read_image
from vidlmm.media.index import index_video
from vidlmm.media.limits import Limits
from vidlmm.media.open import Faults, codec_name, open_media, open_video
from vidlmm.media.read import read_open
from vidlmm.media.suffixes import IMAGE_SUFFIXES, SOUND_SUFFIXES


def describe(path: str, limits: Limits, frames: int | None) -> str:
    """What a good file holds, in words. Raises MediaError for a bad one."""
    suffix = Path(path).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        height, width, _ = read_image(path, limits).shape
        return f"picture of {width} x {height}"
    return _describe_sound(path, limits) if suffix in SOUND_SUFFIXES else _describe_video(path, limits, frames)


def _describe_video(path: str, limits: Limits, frames: int | None) -> str:
    with open_video(path, limits) as video:
        line = index_video(video)
        total = len(line.times)
        count = total if frames is None else min(frames, total)
        indices = np.linspace(0, total - 1, count).astype(int).tolist()
        for start in range(0, count, limits.max_wanted):
            read_open(video, line.packets, indices[start : start + limits.max_wanted], _forget, at_start=False)
        size = f"{video.stream.width} x {video.stream.height}"
        return f"{codec_name(video.stream)} video of {total} frames, {line.duration:.2f} s, stored as {size}"


def _forget(image: Image.Image) -> np.ndarray:
    return np.asarray(image.size)


def _describe_sound(path: str, limits: Limits) -> str:
    with open_media(path, limits) as media:
        if not media.container.streams.audio:
            raise MediaError(path, "no_audio", "there is no audio stream")
        stream = media.container.streams.audio[0]
        samples = 0
        with Faults(path, "short"):
            for frame in media.container.decode(stream):
                media.deadline.check()
                samples += frame.samples
        if samples == 0:
            raise MediaError(path, "no_audio", "its audio stream holds no samples")
        return f"sound of {samples / stream.rate:.2f} s at {stream.rate} Hz"


def answer(line: str) -> dict[str, str | None]:
    """The reply to one request line."""
    request = json.loads(line)
    try:
        detail = describe(request["path"], Limits(**request["limits"]), request["frames"])
    except MediaError as error:
        return {"kind": error.kind, "detail": error.detail}
    return {"kind": None, "detail": detail}


def main() -> None:
    """Answer until the input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not get between the replies
    for line in sys.stdin:
        print(json.dumps(answer(line)), file=replies, flush=True)


if __name__ == "__main__":
    main()
