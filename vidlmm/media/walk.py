"""A position among a video's packets, moved by skipping, seeking or starting again; freely where the
packets of a small file are still in memory.

A seek is trusted only where the packet it lands on stands in the index; so a position is never a guess.
"""

from collections.abc import Iterator

import numpy as np
from av.packet import Packet

from vidlmm.media.errors import MediaError
from vidlmm.media.index import NO_TIME, Packets
from vidlmm.media.open import OpenVideo, media_error
from vidlmm.media.outline import ISO, MATROSKA

# Skipping a packet costs some microseconds, a seek some hundred.
SEEK_OVER = 100
# Containers with an index of their keyframes. Others are searched for a time, land anywhere, and give the
# packets after it other times than before; in those, packets are always skipped.
_INDEXED = (ISO, MATROSKA, "avi")


class Walk:
    """Takes the packets of `video` one by one.

    next: number of the packet that `take` gives, in the order of `packets`.
    """

    def __init__(self, video: OpenVideo, packets: Packets, at_start: bool) -> None:
        self.video = video
        self.packets = packets
        self.next = 0 if at_start or video.kept else len(packets.pts)
        self._times = packets.pts.tolist()
        self._held: Packet | None = None
        self._seekable = packets.timed and video.container.format.name in _INDEXED
        self._sought = False
        self._source = self._demux()

    def take(self) -> Packet | None:
        """The next packet; None at the end, or where a seek turns out to have led astray.

        Raises MediaError: "timed_out"; "short" where the packets are not those of the index.
        """
        self.video.deadline.check()
        kept = self.video.kept
        if kept is not None:
            self.next += 1
            return kept[self.next - 1] if self.next <= len(kept) else None
        packet, self._held = self._held or self._read(), None
        if packet is None or self.next >= len(self._times):
            return None
        if _time(packet) != self._times[self.next]:
            if self._sought:
                return None
            raise MediaError(self.video.path, "short", f"packet {self.next} is not the one that was indexed")
        self.next += 1
        return packet

    def go_to(self, position: int) -> None:
        """Make packet `position` the next one."""
        if self.video.kept is not None:
            self.next = position
            return
        gap = position - self.next
        if gap < 0 or (gap > SEEK_OVER and self._seekable):
            if not (self._seekable and self._seek(position)):
                self._seekable = False
                self.restart()
        while self.next < position and self.take() is not None:
            pass

    def restart(self) -> None:
        """Make the first packet the next one, with a decoder that has seen nothing."""
        self.video.restart()
        self.next, self._held, self._sought = 0, None, False
        self._source = self._demux()

    def _demux(self) -> Iterator[Packet]:
        # Empty packets only tell a decoder that the end is near.
        return (packet for packet in self.video.container.demux(self.video.stream) if packet.size)

    def _read(self) -> Packet | None:
        try:
            return next(self._source, None)
        except Exception as error:
            raise media_error(self.video.path, error, "short") from error

    def _seek(self, position: int) -> bool:
        """Seek to packet `position`, a keyframe. False where that does not end there or before it."""
        self._sought = True
        try:
            self.video.container.seek(int(self.packets.pts[position]), stream=self.video.stream)
            self._source = self._demux()
            self._held = self._read()
        except Exception:  # the index may be missing; starting again always works
            return False
        landed = np.flatnonzero(self.packets.pts == _time(self._held)) if self._held is not None else ()
        if len(landed) != 1 or landed[0] > position:
            return False
        self.next = int(landed[0])
        return True


def _time(packet: Packet) -> int:
    return NO_TIME if packet.pts is None else packet.pts
