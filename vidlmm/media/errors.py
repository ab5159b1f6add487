"""What a media file can be guilty of."""

from typing import Literal

Kind = Literal[
    "missing",  # no such file, or it may not be read
    "not_media",  # not one of the formats and codecs that are read here
    "truncated",  # the container declares more bytes than the file holds
    "no_video",
    "no_audio",
    "too_large",  # pixels, frames or memory over the limits
    "timed_out",
    "short",  # opened, but fewer of the asked frames could be decoded than were asked
]


class MediaError(Exception):
    """A file that cannot be read as asked; the process itself is unharmed.

    path: the file as the caller named it.
    kind: what is wrong, one of `Kind`.
    detail: one line with what was found and what was expected.
    """

    def __init__(self, path: str, kind: Kind, detail: str) -> None:
        # All three go into `args`, so that the error survives the way out of a worker process.
        super().__init__(path, kind, detail)
        self.path = path
        self.kind: Kind = kind
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.path}: {self.kind}: {self.detail}"
