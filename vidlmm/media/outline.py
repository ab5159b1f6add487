"""Which container is it, and is the file as long as the container says? Read from the outermost structure alone.

A half-downloaded video often opens and plays up to the cut. Training on it would ask questions about
a scene that is not there, so it is refused. ISO (mp4, mov) files are a row of boxes, RIFF (avi, wav)
and Matroska files one element around everything; all of them announce their lengths in front.
"""

import os
from dataclasses import dataclass
from io import FileIO

ISO, MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
_MAX_BOXES = 1_000_000
_MATROSKA = b"\x1a\x45\xdf\xa3"
_GIF = b"GIF8"
_SEGMENT = 0x18538067
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"styp", b"free", b"skip", b"wide")


@dataclass(frozen=True)
class Outline:
    """What the outermost structure of a file tells.

    demuxer: FFmpeg's name of the container, where the first bytes leave no doubt; None leaves it to FFmpeg,
        which asks some hundred demuxers.
    lost: one line about what is missing at the end, None where nothing is known to be. Only ISO, RIFF and Matroska
        files tell their length.
    """

    demuxer: str | None = None
    lost: str | None = None


def outline_of(path: str) -> Outline:
    """Read what the file begins with, and where an ISO file's boxes end."""
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            return Outline(lost="the file is empty")
        head = file.read(12)
        file.seek(0)
        if head[4:8] in _FIRST_BOXES:
            return Outline(ISO if head[4:8] == b"ftyp" else None, _iso(file, size))
        if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"WAVE"):
            return Outline(None, _riff(8 + int.from_bytes(head[4:8], "little"), size))
        if head[:4] == _MATROSKA:
            return Outline(MATROSKA, _matroska(file, size))
    return Outline("gif" if head[:4] == _GIF else None)


def _compare(declared: int, size: int) -> str | None:
    return f"the container declares {declared} bytes, the file holds {size}" if declared > size else None


def _riff(declared: int, size: int) -> str | None:
    # Streaming writers leave 0 or 0xFFFFFFFF where they could not know the length.
    return _compare(declared, size) if declared < 0xFFFFFFFF else None


def _iso(file: FileIO, size: int) -> str | None:
    """Walk the top-level boxes: those with samples or their index have to end inside the file."""
    position, indexed = 0, False
    for _ in range(_MAX_BOXES):
        file.seek(position)
        header = file.read(16)
        if len(header) < 8:
            break
        length, name = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1 and len(header) == 16:
            length = int.from_bytes(header[8:16], "big")
        elif length == 0:
            length = size - position
        if length < 8:
            return None  # damaged rather than cut: the demuxer has the last word
        if name in (b"moov", b"moof", b"mdat") and position + length > size:
            return f"its {name.decode()!r} box ends at byte {position + length}, the file holds {size}"
        indexed = indexed or name in (b"moov", b"moof")
        position += length
    return None if indexed else "there is no index (no 'moov' box): the end of the file is missing"


def _matroska(file: FileIO, size: int) -> str | None:
    """The segment follows the EBML header; its length field is all ones where it is unknown."""
    _element_id(file)
    header = _element_length(file)
    if header is None or header > size:
        return None
    file.seek(header, os.SEEK_CUR)
    if _element_id(file) != _SEGMENT:
        return None
    length = _element_length(file)
    return None if length is None else _compare(file.tell() + length, size)


def _element_id(file: FileIO) -> int | None:
    first = file.read(1)
    if not first or not first[0]:
        return None
    return int.from_bytes(first + file.read(8 - first[0].bit_length()), "big")


def _element_length(file: FileIO) -> int | None:
    first = file.read(1)
    if not first or not first[0]:
        return None
    extra = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0x7F >> extra)]) + file.read(extra), "big")
    return None if value == (1 << 7 * (extra + 1)) - 1 else value
