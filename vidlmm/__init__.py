"""vidlmm: video large multimodal models in JAX.

The names below are the public surface. Each is loaded when it is first asked for, so that
`import vidlmm` costs nothing and pulls in neither JAX nor a video decoder.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidlmm.api import Model as Model
    from vidlmm.api import from_pretrained as from_pretrained
    from vidlmm.api import load as load
    from vidlmm.configs import load_config as load_config
    from vidlmm.generate.items import Audio as Audio
    from vidlmm.generate.items import Image as Image
    from vidlmm.generate.items import Video as Video
    from vidlmm.media.errors import MediaError as MediaError
    from vidlmm.media.index import VideoInfo as VideoInfo
    from vidlmm.media.index import probe as probe
    from vidlmm.media.video import load_image as load_image
    from vidlmm.media.video import load_video as load_video
    from vidlmm.models.video_lm import VideoLM as VideoLM
    from vidlmm.spec import SYSTEMS as SYSTEMS
    from vidlmm.spec import ModelSpec as ModelSpec

# public name -> module that defines it
_HOME = {
    "Audio": "vidlmm.generate.items",
    "Image": "vidlmm.generate.items",
    "MediaError": "vidlmm.media.errors",
    "Model": "vidlmm.api",
    "ModelSpec": "vidlmm.spec",
    "SYSTEMS": "vidlmm.spec",
    "Video": "vidlmm.generate.items",
    "VideoInfo": "vidlmm.media.index",
    "VideoLM": "vidlmm.models.video_lm",
    "from_pretrained": "vidlmm.api",
    "load": "vidlmm.api",
    "load_config": "vidlmm.configs",
    "load_image": "vidlmm.media.video",
    "load_video": "vidlmm.media.video",
    "probe": "vidlmm.media.index",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("vidlmm")
    if name not in _HOME:
        raise AttributeError(f"vidlmm has no public name {name!r}; it has {', '.join(sorted(_HOME))}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_HOME, "__version__"])
