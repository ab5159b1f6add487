"""Frames by number: the i-th in presentation order, whatever the container, equal to decoding through."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from tests.media.clips import make, number, numbered
from vidlmm.media.index import VideoInfo, probe
from vidlmm.media.limits import Limits
from vidlmm.media.open import open_video
from vidlmm.media.orientation import Converter
from vidlmm.media.read import read_frames

B_FRAMES = {"g": "10", "bf": "3", "sc_threshold": "0"}
OPEN_GOP = {"x264-params": "keyint=10:open-gop=1:bframes=3:scenecut=0"}
HEVC = {"x265-params": "keyint=10:min-keyint=10:open-gop=1:bframes=4:log-level=none"}
UNEVEN = [i * 40 + i % 3 * 11 + i // 10 * 300 for i in range(40)]

CLIPS = {
    "mp4.mp4": {"options": B_FRAMES},
    "mp4_with_sound.mp4": {"options": B_FRAMES, "sound": True},
    "no_frame_count.mkv": {"options": B_FRAMES},
    "transport.ts": {"options": B_FRAMES, "sound": True},
    "flash.flv": {"options": B_FRAMES},
    "fragmented.mp4": {"options": B_FRAMES, "container": {"movflags": "frag_keyframe+empty_moov"}},
    "open_gop.mp4": {"options": OPEN_GOP},
    "open_gop.mkv": {"options": OPEN_GOP},
    "hevc_open_gop.mp4": {"codec": "libx265", "options": HEVC},
    "uneven_times.mp4": {"options": B_FRAMES, "times": UNEVEN},
    "late_start.mkv": {"options": B_FRAMES, "times": [5000 + 100 * i for i in range(40)]},
    "late_start.mp4": {"options": B_FRAMES, "times": [5000 + 100 * i for i in range(40)]},
    "yuv444.mp4": {"options": B_FRAMES, "pix_fmt": "yuv444p"},
    "ten_bit.mp4": {"options": B_FRAMES, "pix_fmt": "yuv420p10le"},
    "odd_size.mkv": {"options": B_FRAMES, "pix_fmt": "yuv444p", "size": (131, 97)},
    "odd_size_jpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "size": (131, 97)},
    "animated.gif": {"codec": "gif", "pix_fmt": "rgb8"},
    "vp8.webm": {"codec": "libvpx", "options": {"g": "25", "deadline": "realtime", "cpu-used": "8"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "15", "deadline": "realtime", "cpu-used": "8"}},
    "h264.avi": {"options": B_FRAMES},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "rate": 25, "options": {"bf": "2", "g": "12"}},
    "long.mp4": {"frames": 256, "options": B_FRAMES},
    "long.mkv": {"frames": 256, "options": B_FRAMES},
    "long.ts": {"frames": 256, "options": B_FRAMES},
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("clips")


def clip(folder: Path, name: str) -> Path:
    path = folder / name
    return path if path.exists() else make(path, **CLIPS[name])


def decode_through(path: Path) -> list[np.ndarray]:
    """Every frame in the order in which the decoder gives them."""
    convert = Converter()
    with open_video(path) as video:
        return [np.asarray(convert(frame)) for frame in video.container.decode(video.stream)]


@pytest.mark.parametrize("name", CLIPS)
def test_the_container_is_the_one_that_ffmpeg_finds(name, clips):
    path = clip(clips, name)
    with open_video(path) as video, av.open(str(path)) as found:
        assert video.container.format.name == found.format.name


@pytest.mark.parametrize("width", [1, 7, 64])
def test_a_gif_s_pictures_are_those_of_swscale(width):
    frame = av.VideoFrame.from_ndarray(
        np.random.default_rng(0).integers(0, 256, (5, width, 4), dtype=np.uint8), format="bgra"
    )
    np.testing.assert_array_equal(np.asarray(Converter()(frame)), frame.to_ndarray(format="rgb24"))


@pytest.mark.parametrize("name", CLIPS)
def test_frame_i_is_the_ith_in_presentation_order(name, clips):
    path = clip(clips, name)
    info = probe(path)
    assert info.frames == CLIPS[name].get("frames", 40)
    frames = read_frames(path, range(info.frames))
    assert [number(frame) for frame in frames] == list(range(info.frames))
    for frame, expected in zip(frames, decode_through(path), strict=True):
        np.testing.assert_array_equal(frame, expected)


@pytest.mark.parametrize("name", CLIPS)
def test_any_choice_equals_decoding_through(name, clips):
    path = clip(clips, name)
    everything = decode_through(path)
    random = np.random.default_rng(len(name))
    for count in (1, 3, 8):
        chosen = random.integers(0, len(everything), count).tolist()
        for frame, i in zip(read_frames(path, chosen), chosen, strict=True):
            np.testing.assert_array_equal(frame, everything[i])


def test_av1(clips, monkeypatch):
    monkeypatch.setenv("SVT_LOG", "0")
    path = make(clips / "av1.mp4", 30, codec="libsvtav1", options={"preset": "12", "g": "20"})
    assert [number(frame) for frame in read_frames(path, [25, 0, 7])] == [25, 0, 7]


@pytest.mark.parametrize("name", ["long.mp4", "long.mkv", "transport.ts", "animated.gif", "mpeg2.mpg", "h264.avi"])
def test_packets_too_large_to_keep_are_read_again(name, clips, monkeypatch):
    monkeypatch.setattr("vidlmm.media.index._KEEP_BYTES", 1)
    for chosen in ([38, 5, 0], [1], [39]):
        assert [number(frame) for frame in read_frames(clip(clips, name), chosen)] == chosen


def test_order_and_repetition_of_indices(clips):
    frames = read_frames(clip(clips, "mp4.mp4"), [30, 2, 30, 0])
    assert [number(frame) for frame in frames] == [30, 2, 30, 0]
    assert read_frames(clip(clips, "mp4.mp4"), []) == []


def test_a_probed_info_saves_the_second_look(clips):
    path = clip(clips, "long.mp4")
    info = probe(path)
    for chosen in ([255, 3], [140]):
        assert [number(f) for f in read_frames(path, chosen, info=info)] == chosen


def test_several_threads_give_the_same_frames(clips):
    path = clip(clips, "long.mp4")
    chosen = [0, 31, 32, 100, 201, 255]
    for one, four in zip(read_frames(path, chosen), read_frames(path, chosen, limits=Limits(threads=4)), strict=True):
        np.testing.assert_array_equal(one, four)


def test_transform_sees_wanted_frames_only(clips):
    seen = []

    def transform(image):
        seen.append(number(np.asarray(image)))
        return np.array([len(seen)])

    results = read_frames(clip(clips, "mp4.mp4"), [12, 5, 12], transform=transform)
    assert seen == [5, 12]
    assert [int(r[0]) for r in results] == [2, 1, 2]


def test_an_error_of_the_transform_stays_what_it_is(clips):
    def transform(image):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        read_frames(clip(clips, "mp4.mp4"), [0], transform=transform)


@pytest.mark.parametrize("index", [-1, 40])
def test_an_index_outside_the_video(index, clips):
    with pytest.raises(IndexError, match="video of 40; expected 0 to 39"):
        read_frames(clip(clips, "mp4.mp4"), [0, index])


def with_packets(info: VideoInfo, **changes) -> VideoInfo:
    return replace(info, packets=replace(info.packets, **changes))


@pytest.mark.parametrize("name", ["mp4.mp4", "mpeg4.avi", "vp9.webm", "hevc_open_gop.mp4"])
def test_a_container_that_lies_about_keyframes_changes_no_pixel(name, clips):
    path = clip(clips, name)
    info = probe(path)
    lying = with_packets(info, keyframe=np.ones_like(info.packets.keyframe))
    for chosen in ([17], [38, 5]):
        for frame, true in zip(read_frames(path, chosen, info=lying), read_frames(path, chosen), strict=True):
            np.testing.assert_array_equal(frame, true)


def test_without_times_frames_are_counted(clips):
    path = clip(clips, "mp4.mp4")
    untimed = with_packets(probe(path), timed=False)
    assert [number(f) for f in read_frames(path, [33, 4], info=untimed)] == [33, 4]


def cut_in(path: Path, frames: int) -> None:
    """Rewrite an mp4's edit list so that the video begins `frames` frames (of 1/10 s) later."""
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 4 + 4 + 4  # type, version, entry count
    scale_at = data.index(b"mdhd") + 4 + 4 + 8
    scale = int.from_bytes(data[scale_at : scale_at + 4], "big")
    media_time = int.from_bytes(data[at + 4 : at + 8], "big") + frames * scale // 10
    data[at + 4 : at + 8] = media_time.to_bytes(4, "big")
    length = int.from_bytes(data[at : at + 4], "big") - frames * 100  # the movie's clock has 1000 ticks a second
    data[at : at + 4] = length.to_bytes(4, "big")
    path.write_bytes(bytes(data))


def test_an_edit_list_hides_frames(tmp_path):
    path = make(tmp_path / "cut.mp4", options=B_FRAMES)
    cut_in(path, 13)
    assert probe(path).frames == 27
    assert [number(f) for f in read_frames(path, [0, 5, 26])] == [13, 18, 39]


def test_a_packet_of_vp8_that_is_not_shown_is_no_frame(clips, tmp_path):
    with av.open(str(clip(clips, "vp8.webm"))) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = (clips / "vp8.webm").read_bytes()
    assert data.count(packets[6]) == 1
    path = tmp_path / "hidden.webm"
    path.write_bytes(data.replace(packets[6], bytes([packets[6][0] & ~16]) + packets[6][1:]))
    assert probe(path).frames == 39
    assert [number(f) for f in read_frames(path, [5, 6, 7])] == [5, 7, 8]


@pytest.mark.parametrize("sizes", [((96, 80), (128, 96)), ((128, 96), (96, 80))])
def test_the_largest_video_stream_is_read(sizes, tmp_path):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as output:
        streams = []
        for width, height in sizes:
            stream = output.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        for i in range(12):
            for k, stream in enumerate(streams):
                shown = numbered(i + 100 * k, stream.width, stream.height)
                output.mux(stream.encode(av.VideoFrame.from_ndarray(shown)))
        for stream in streams:
            output.mux(stream.encode(None))
    largest = sizes.index((128, 96))
    frames = read_frames(path, [11, 3])
    assert frames[0].shape == (96, 128, 3)
    assert [number(f) for f in frames] == [11 + 100 * largest, 3 + 100 * largest]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_metadata_is_honoured(degrees, tmp_path):
    path = make(tmp_path / "turned.mp4", 3, rotation=degrees)
    upright = make(tmp_path / "upright.mp4", 3)
    frame, stored = read_frames(path, [1])[0], read_frames(upright, [1])[0]
    np.testing.assert_array_equal(frame, np.rot90(stored, degrees // 90))  # both count against the clock
    info = probe(path)
    assert info.rotation == -degrees % 360
    assert (info.height, info.width) == frame.shape[:2]


def test_mirrored_by_the_display_matrix(tmp_path):
    path = make(tmp_path / "mirror.mp4", 3, rotation=180)
    stored = np.rot90(read_frames(path, [1])[0], 2)
    data = path.read_bytes()
    turned = (-65536).to_bytes(4, "big", signed=True) + bytes(12) + (-65536).to_bytes(4, "big", signed=True)
    assert turned in data
    path.write_bytes(data.replace(turned, turned[:16] + (65536).to_bytes(4, "big")))
    np.testing.assert_array_equal(read_frames(path, [1])[0], stored[:, ::-1])


def test_real_clips_by_seek_equal_decoding_through(shared):
    random = np.random.default_rng(0)
    for name in ("nasa_13013.mp4", "flipping_a_pancake.mkv", "h265_video.mp4", "testsrc2_mpeg4.avi"):
        path = shared / "media" / name
        everything = decode_through(path)
        assert probe(path).frames == len(everything)
        chosen = random.choice(len(everything), 6, replace=False).tolist()
        for frame, i in zip(read_frames(path, chosen), chosen, strict=True):
            np.testing.assert_array_equal(frame, everything[i])
