"""Which frames of a video are shown to the model, and how their times are told to it."""

from dataclasses import dataclass
from typing import Literal

FrameRule = Literal[
    "fps_upbound",  # LLaVA-Video, LLaVA-OneVision: every round(f/fps)-th frame, linspace above `count`
    "segment_centres",  # VideoLLaMA 2 since August 2024: centres of equal segments
    "segment_centres_old",  # VideoLLaMA 2 as the 7B was trained
    "segment_fps",  # VideoLLaMA 2, fps mode: the middle frame of every 1/fps seconds
    "linspace",  # Valley, Hound, Video-LLaVA: truncated linspace over the clip
    "step_fps",  # Valley, fps mode: every int(round(f)/fps)-th frame
    "midpoints",  # LLaVAction: midpoints of equal parts of a time window
]

TimeText = Literal[
    "none",
    "llava_video",  # duration, number of frames and the time of each
    "llavaction",  # duration of the window with three decimals and number of frames (EPIC-KITCHENS)
    "llavaction_other",  # LLaVAction's sentence for every other data set
]

_WITHOUT_BOUND = ("fps_upbound", "segment_fps", "step_fps")


@dataclass(frozen=True)
class FrameSpec:
    """The frame choice of a system.

    rule: which published rule picks the indices.
    count: frames a video gives; the upper bound under `fps_upbound`, `segment_fps` and `step_fps`,
        where 0 means no bound.
    fps: frames a second for the rules with a rate; ignored by the others.
    force_sample: under `fps_upbound`, take exactly `count` frames by linspace whatever the length.
    first_seconds: look at the first so many seconds of a video file only (Hound's decord path: 10);
        0 means all.
    folder_fps: rate in frames a second at which a folder of pictures is taken to be filmed
        (LLaVA-Video 2, VideoLLaMA 2 3).
    folder_count: frames such a folder gives under `fps_upbound` without `force_sample`.
    time_text: the sentence about duration and frame times put before the question.

    Raises:
        ValueError: a negative count or rate, or no count under a rule that needs one.
    """

    rule: FrameRule = "fps_upbound"
    count: int = 64
    fps: float = 1.0
    force_sample: bool = True
    first_seconds: float = 0.0
    folder_fps: float = 2.0
    folder_count: int = 10
    time_text: TimeText = "llava_video"

    def __post_init__(self) -> None:
        lowest = 0 if self.rule in _WITHOUT_BOUND else 1
        if self.count < lowest:
            raise ValueError(f"frames.count is {self.count}; the rule {self.rule!r} needs at least {lowest}")
        if self.fps <= 0 or self.folder_fps <= 0:
            raise ValueError(f"frames.fps is {self.fps} and frames.folder_fps {self.folder_fps}; both must be above 0")
        if self.first_seconds < 0 or self.folder_count < 1:
            raise ValueError(
                f"frames.first_seconds is {self.first_seconds} (expected 0 or more) and "
                f"frames.folder_count {self.folder_count} (expected 1 or more)"
            )
