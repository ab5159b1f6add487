"""Scripts into real video files: H.264 in MP4, with an AAC track where the script has sound."""

import os
from fractions import Fraction
from pathlib import Path

import av
import av.container
import numpy as np

from vidlmm.world.render import draw_clip
from vidlmm.world.script import Script
from vidlmm.world.sound import RATE, waveform

FPS = 12
SIDE = 128  # pixels


def write_clip(script: Script, path: Path, *, fps: int = FPS, side: int = SIDE) -> None:
    """Draws the script and writes it to `path`; the file appears whole or not at all.

    Raises:
        OSError: the folder cannot be written or the disk is full.
    """
    part = path.with_name(path.name + ".part")
    with av.open(str(part), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=fps, options={"preset": "veryfast", "crf": "18", "threads": "1"})
        video.width = video.height = side
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="mono") if script.sound else None
        for picture in draw_clip(script, fps, side):
            for packet in video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in video.encode():
            container.mux(packet)
        if audio is not None:
            _write_sound(container, audio, waveform(script))
    os.replace(part, path)


def _write_sound(container: av.container.OutputContainer, stream: av.AudioStream, sound: np.ndarray) -> None:
    for begin in range(0, len(sound), 1024):
        frame = av.AudioFrame.from_ndarray(sound[None, begin : begin + 1024], format="fltp", layout="mono")
        frame.sample_rate = RATE
        frame.pts = begin
        frame.time_base = Fraction(1, RATE)
        for packet in stream.encode(frame):
            container.mux(packet)
    for packet in stream.encode():
        container.mux(packet)
