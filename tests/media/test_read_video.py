"""A file into a system's clip: choice, fit and stack; pictures and folders of pictures."""

import numpy as np
import pytest
from PIL import Image

from tests.media.clips import make, number, numbered
from vidlmm.media import MediaError, load_image, load_video, read_frames, read_image
from vidlmm.media.limits import Limits
from vidlmm.media.pixels import fit_frame
from vidlmm.media.sampling import choose_frames
from vidlmm.spec import FrameSpec, PixelSpec

FRAMES = FrameSpec(rule="linspace", count=5)
PIXELS = PixelSpec(size=48)


def test_a_clip_is_the_chosen_frames_in_the_size_of_the_system(tmp_path):
    path = make(tmp_path / "a.mp4")
    clip = load_video(path, FRAMES, PIXELS)
    assert clip.choice == choose_frames(FRAMES, 40, 10.0, np.arange(40) / 10)
    assert clip.frames.shape == (5, 48, 48, 3)
    assert clip.frames.dtype == np.uint8
    for shown, frame in zip(clip.frames, read_frames(path, clip.choice.indices), strict=True):
        np.testing.assert_array_equal(shown, fit_frame(frame, PIXELS))


def test_a_window(tmp_path):
    clip = load_video(make(tmp_path / "a.mp4"), FRAMES, PIXELS, window=(2.0, 3.0))
    assert min(clip.choice.indices) >= 20
    assert max(clip.choice.indices) <= 30


def test_a_short_clip_repeats_frames(tmp_path):
    clip = load_video(make(tmp_path / "a.mp4", 2), FRAMES, PIXELS)
    assert clip.choice.indices == (0, 0, 0, 0, 1)
    np.testing.assert_array_equal(clip.frames[0], clip.frames[3])


def test_a_folder_of_pictures_is_a_clip(tmp_path):
    for i in range(7):
        Image.fromarray(numbered(i)).save(tmp_path / f"{i:03}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    clip = load_video(tmp_path, FrameSpec(rule="linspace", count=3), PixelSpec(size=128, fit="squash"))
    assert clip.choice.indices == (0, 3, 6)
    assert clip.frames.shape == (3, 128, 128, 3)


def test_an_empty_folder(tmp_path):
    with pytest.raises(MediaError, match="holds no pictures") as caught:
        load_video(tmp_path, FRAMES, PIXELS)
    assert caught.value.kind == "no_video"


def test_pictures(tmp_path):
    picture = numbered(5)
    Image.fromarray(picture).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", PIXELS), fit_frame(picture, PIXELS))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_pictures_of_every_mode_become_rgb(mode, tmp_path):
    Image.fromarray(numbered(5)).convert(mode).save(tmp_path / "a.png")
    shown = read_image(tmp_path / "a.png")
    assert shown.shape == (96, 128, 3)
    assert number(shown) == 5


def test_a_photo_is_turned_upright(tmp_path):
    image = Image.fromarray(numbered(5))
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn a quarter clockwise to show
    image.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(numbered(5), 3))


def test_bad_pictures(tmp_path):
    good = tmp_path / "good.jpg"
    Image.fromarray(numbered(5)).save(good)
    (tmp_path / "cut.jpg").write_bytes(good.read_bytes()[:-400])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("hello")
    kinds = {"cut.jpg": "truncated", "empty.jpg": "truncated", "text.jpg": "not_media", "none.jpg": "missing"}
    for name, kind in kinds.items():
        with pytest.raises(MediaError) as caught:
            read_image(tmp_path / name)
        assert (caught.value.kind, caught.value.path) == (kind, str(tmp_path / name))
    with pytest.raises(MediaError, match="128 x 96 pixels; at most 100 pixels are read"):
        read_image(good, Limits(max_image_pixels=100))


def test_sides_so_unlike_that_the_resize_would_fill_the_memory(tmp_path):
    Image.new("RGB", (60_000, 1)).save(tmp_path / "strip.png")
    with pytest.raises(MediaError) as caught:
        load_image(tmp_path / "strip.png", PixelSpec(size=336, fit="shortest_crop", pad="square"))
    assert caught.value.kind == "too_large"
