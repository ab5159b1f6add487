"""Bytes into frames, pixels and waveforms: opening, sampling, resizing.

The names below are loaded when they are first asked for: no video library is imported before.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidlmm.media.check import CheckResult as CheckResult
    from vidlmm.media.check import check_paths as check_paths
    from vidlmm.media.check import write_report as write_report
    from vidlmm.media.errors import MediaError as MediaError
    from vidlmm.media.image import read_image as read_image
    from vidlmm.media.index import VideoInfo as VideoInfo
    from vidlmm.media.index import probe as probe
    from vidlmm.media.limits import Limits as Limits
    from vidlmm.media.read import read_frames as read_frames
    from vidlmm.media.video import Clip as Clip
    from vidlmm.media.video import load_image as load_image
    from vidlmm.media.video import load_video as load_video

# public name -> module that defines it
_HOME = {
    "CheckResult": "check",
    "Clip": "video",
    "Limits": "limits",
    "MediaError": "errors",
    "VideoInfo": "index",
    "check_paths": "check",
    "load_image": "video",
    "load_video": "video",
    "probe": "index",
    "read_frames": "read",
    "read_image": "image",
    "write_report": "check",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"vidlmm.media has no public name {name!r}; it has {', '.join(sorted(_HOME))}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOME)
