"""Files that are not what they seem: each ends in one MediaError with path and kind, in time."""

import os
import pickle
import random
import time
from pathlib import Path

import av
import pytest

from tests.media.clips import make
from vidlmm.media.errors import MediaError
from vidlmm.media.index import probe
from vidlmm.media.limits import Limits
from vidlmm.media.read import read_frames


def fault(path, indices=(0,), **limits) -> MediaError:
    with pytest.raises(MediaError) as caught:
        read_frames(path, indices, limits=Limits(**limits))
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("clip") / "clip.mp4", options={"g": "10", "bf": "3"}, sound=True)


def test_an_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(MediaError("a.mp4", "short", "decoded 1 of 2 frames")))
    assert (error.path, error.kind, error.detail) == ("a.mp4", "short", "decoded 1 of 2 frames")
    assert str(error) == "a.mp4: short: decoded 1 of 2 frames"


def test_missing(tmp_path):
    assert fault(tmp_path / "none.mp4").kind == "missing"


@pytest.mark.parametrize("name", ["http://localhost/a.mp4", "concat:a.mp4|b.mp4", "data:video/mp4;base64,AAAA", "a\0b"])
def test_only_files_are_opened(name):
    assert fault(name).kind == "missing"


def test_folder_and_pipe_do_not_block(tmp_path):
    assert fault(tmp_path).kind == "not_media"
    os.mkfifo(tmp_path / "pipe.mp4")
    assert fault(tmp_path / "pipe.mp4").kind == "not_media"


def test_empty_and_text(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    assert fault(tmp_path / "empty.mp4").kind == "truncated"
    assert fault(tmp_path / "text.mp4").kind == "not_media"


def test_playlists_under_a_video_name_open_nothing(tmp_path, clip):
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {clip}\n")
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:5", "#EXTINF:5,", f"file://{clip}", "#EXT-X-ENDLIST"]
    (tmp_path / "hls.mp4").write_text("\n".join(lines))
    assert fault(tmp_path / "list.mp4").kind == "not_media"
    assert fault(tmp_path / "hls.mp4").kind == "not_media"


def test_a_codec_outside_the_list(tmp_path):
    path = make(tmp_path / "lossless.mkv", 3, codec="ffv1", pix_fmt="yuv420p")
    error = fault(path)
    assert error.kind == "not_media"
    assert "ffv1" in error.detail


def test_sound_alone(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        frame.sample_rate = 16000
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    assert fault(path).kind == "no_video"


@pytest.mark.parametrize("front", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_cut_mp4(share, front, tmp_path):
    container = {"movflags": "faststart"} if front else {}
    path = make(tmp_path / "cut.mp4", container=container)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert fault(path).kind == "truncated"


@pytest.mark.parametrize("name", ["cut.mkv", "cut.avi"])
def test_cut_matroska_and_avi(name, tmp_path):
    path = make(tmp_path / name, codec="mpeg4")
    assert probe(path).frames == 40
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert fault(path).kind == "truncated"


def test_pixels_over_the_cap(clip):
    error = fault(clip, max_pixels=10_000)
    assert error.kind == "too_large"
    assert "128 x 96" in error.detail


def test_a_bomb_whose_header_says_it_is_small(tmp_path):
    path = make(tmp_path / "bomb.mp4", 2)
    data = path.read_bytes()
    at = data.index(b"avc1", data.index(b"stsd")) + 28
    assert data[at : at + 4] == (128).to_bytes(2, "big") + (96).to_bytes(2, "big")
    path.write_bytes(data[:at] + (16).to_bytes(2, "big") * 2 + data[at + 4 :])
    assert len(read_frames(path, [0, 1])) == 2
    assert fault(path, max_pixels=10_000).kind in ("too_large", "short")


def test_too_many_frames(clip):
    assert fault(clip, max_frames=20).kind == "too_large"
    assert fault(clip, indices=range(30), max_wanted=20).kind == "too_large"


def test_the_time_limit(clip):
    error = fault(clip, seconds=1e-9)
    assert error.kind == "timed_out"


@pytest.mark.parametrize("field", ["max_pixels", "max_frames", "seconds", "threads"])
def test_limits_are_positive(field):
    with pytest.raises(ValueError, match=field):
        Limits(**{field: 0})


def test_damage_in_the_middle_costs_the_frames_up_to_the_next_keyframe(tmp_path):
    path = make(tmp_path / "damaged.mkv", options={"g": "10", "bf": "0", "sc_threshold": "0"})
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    assert data.count(packets[14]) == 1
    path.write_bytes(data.replace(packets[14], bytes(len(packets[14]))))
    assert len(read_frames(path, [0, 9, 13, 20, 39])) == 5
    error = fault(path, [0, 15, 39])
    assert (error.kind, error.detail) == ("short", "decoded 2 of 3 frames")


def test_an_index_of_another_file(tmp_path, clip):
    other = make(tmp_path / "other.mp4", 20, rate=7)
    with pytest.raises(MediaError, match="is not the one that was indexed"):
        read_frames(other, [5], info=probe(clip))


def test_every_real_file_answers_or_fails_cleanly(shared):
    bad = {"decord_corrupted.mp4": "short", "lb_0.wav": "no_video", "sine_mono_s32_44100.wav": "no_video"}
    for path in sorted((shared / "media").iterdir()):
        try:
            frames = read_frames(path, [0, probe(path).frames - 1], limits=Limits(seconds=60))
        except MediaError as error:
            assert bad[path.name] == error.kind
        else:
            assert path.name not in bad
            assert len(frames) == 2


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bytes_never_crash_or_hang(seed, clip, tmp_path):
    chance = random.Random(seed)
    data = bytearray(clip.read_bytes())
    for _ in range(chance.choice([1, 4, 16, 64])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path = tmp_path / "flipped.mp4"
    path.write_bytes(data)
    start = time.monotonic()
    try:
        info = probe(path, Limits(seconds=20))
        frames = read_frames(path, [0, info.frames // 2, info.frames - 1], limits=Limits(seconds=20))
        assert len(frames) == 3
    except MediaError as error:
        assert error.path == str(path)
    assert time.monotonic() - start < 60
