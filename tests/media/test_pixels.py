"""Pixels equal those of the original processors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.media.golden_case import Case, blocks, grainy, noisy
from vidlmm.media.pixels import (
    fit_frame,
    normalise,
    pad_colour,
    pad_to_square,
    resized_size,
)
from vidlmm.spec import CLIP_MEAN, CLIP_STD, PixelSpec

CLIP_336 = PixelSpec(size=336, fit="shortest_crop", mean=CLIP_MEAN, std=CLIP_STD)
SIGLIP_384 = PixelSpec(size=384)
VALLEY = PixelSpec(
    size=224,
    fit="shortest_crop",
    filter="bilinear",
    resize=256,
    rounding="torchvision",
    mean=CLIP_MEAN,
    std=CLIP_STD,
)
HOUND_VIDEO = PixelSpec(
    size=224,
    fit="shortest_crop",
    filter="bilinear",
    rounding="pytorchvideo",
    normalise_first=True,
    mean=CLIP_MEAN,
    std=CLIP_STD,
)


def values(picture: np.ndarray, spec: PixelSpec) -> np.ndarray:
    """Normalised pixels, channels first, of one picture."""
    fitted = fit_frame(picture, spec)
    assert fitted.shape == (spec.size, spec.size, 3)
    assert fitted.dtype == (np.float32 if spec.normalise_first else np.uint8)
    return (fitted if spec.normalise_first else normalise(fitted, spec)).transpose(2, 0, 1)


@pytest.mark.parametrize(("index", "height", "width"), [(0, 300, 260), (1, 90, 120), (2, 126, 126), (3, 64, 200)])
def test_llava_video_frames(goldens: Path, index: int, height: int, width: int) -> None:
    case = Case(goldens / "llava_video/13_preprocess")
    picture = blocks(1, f"frame_{index}", height, width)
    case.assert_close(f"pixel_{index}", values(picture, PixelSpec(size=126)))


def test_llava_video_padded_picture(goldens: Path) -> None:
    case = Case(goldens / "llava_video/13_preprocess")
    picture = blocks(1, "pad_image_0", 80, 120)
    case.assert_close("pad_pixel_0", values(picture, PixelSpec(size=126, pad="square")))


VIDEOLLAMA2_INPUTS = {"wide": (3, 200, 356), "tall": (2, 500, 280), "square": (1, 400, 400)}


@pytest.mark.parametrize("name", VIDEOLLAMA2_INPUTS)
@pytest.mark.parametrize("tower", ["clip", "siglip"])
@pytest.mark.parametrize("pad", ["pad", "nopad"])
def test_videollama2_frames(goldens: Path, name: str, tower: str, pad: str) -> None:
    case = Case(goldens / "videollama2/frame_preprocess")
    frames = grainy(1, name, *VIDEOLLAMA2_INPUTS[name])
    padding = "square" if pad == "pad" else "none"
    spec = (
        PixelSpec(size=336, fit="shortest_crop", mean=CLIP_MEAN, std=CLIP_STD, pad=padding)
        if tower == "clip"
        else PixelSpec(size=384, pad=padding)
    )
    case.assert_close(f"{name}_{tower}_{pad}", np.stack([values(frame, spec) for frame in frames]))
    if name == "wide":
        # The original fills a list that is too short with black frames, whose sides are exchanged each time.
        height, width, _ = frames[-1].shape
        sides = [(width, height) if n % 2 == 0 else (height, width) for n in range(5 - len(frames))]
        more = [*frames, *(np.zeros((*side, 3), np.uint8) for side in sides)]
        case.assert_close(f"wide_{tower}_{pad}_5frames", np.stack([values(frame, spec) for frame in more]))


@pytest.mark.parametrize("name", VIDEOLLAMA2_INPUTS)
@pytest.mark.parametrize("tower", ["clip", "siglip"])
def test_videollama2_padding_is_exact(goldens: Path, name: str, tower: str) -> None:
    case = Case(goldens / "videollama2/frame_preprocess")
    spec = CLIP_336 if tower == "clip" else SIGLIP_384
    colour = pad_colour(spec)
    assert list(colour) == case.text["expected"]["pad_colour"][tower]
    picture = Image.fromarray(grainy(1, name, *VIDEOLLAMA2_INPUTS[name])[0])
    padded = np.asarray(pad_to_square(picture, colour))
    assert case.difference(f"{name}_padded_rgb_{tower}", padded) == 0


@pytest.mark.parametrize(("name", "shape"), [("wide", (13, 90, 160)), ("tall", (9, 300, 170))])
def test_valley_frames(goldens: Path, name: str, shape: tuple[int, int, int]) -> None:
    case = Case(goldens / "valley/valley_load_video")
    frames = grainy(1, name, *shape)
    chosen = case.text["expected"]["pixels"][name]["indices"]
    case.assert_close(name, np.stack([values(frames[i], VALLEY) for i in chosen], axis=1))


@pytest.mark.parametrize(
    ("name", "shape"), [("landscape12", (12, 60, 86)), ("portrait5", (5, 150, 125)), ("big3", (3, 260, 341))]
)
def test_hound_frames_are_normalised_before_the_resize(goldens: Path, name: str, shape: tuple[int, int, int]) -> None:
    case = Case(goldens / "hound/preprocess")
    frames = noisy(1, f"video/{name}", *shape)
    chosen = case.arrays[f"video/{name}/frame_ids"]
    full = np.stack([values(frames[i], HOUND_VIDEO) for i in chosen], axis=1)
    case.assert_close(f"video/{name}", full)
    assert case.difference(f"video/{name}_corner", full) <= case.tolerance


@pytest.mark.parametrize(("name", "height", "width"), [("small", 60, 90), ("big", 280, 420), ("tall", 391, 130)])
@pytest.mark.parametrize("pad", ["plain", "pad"])
@pytest.mark.parametrize("antialias", ["on", "off"])
def test_video_llava_images(goldens: Path, name: str, height: int, width: int, pad: str, antialias: str) -> None:
    case = Case(goldens / "hound/preprocess")
    spec = PixelSpec(
        size=224,
        fit="shortest_crop",
        rounding="torchvision",
        pad="square" if pad == "pad" else "none",
        normalise_first=True,
        antialias=antialias == "on",
        mean=CLIP_MEAN,
        std=CLIP_STD,
    )
    full = values(noisy(1, f"image/{name}", 1, height, width)[0], spec)
    output = f"image/{name}/{pad}/antialias_{antialias}"
    case.assert_close(output, full)
    assert case.difference(f"{output}_corner", full) <= case.tolerance


def test_the_three_roundings_differ_where_the_originals_do() -> None:
    # 227 - 224 = 3: floor gives 1, rounding half to even gives 2.
    picture = np.arange(227, dtype=np.uint8)[None, :, None].repeat(224, 0).repeat(3, 2)
    floor = fit_frame(picture, PixelSpec(size=224, fit="shortest_crop"))
    even = fit_frame(picture, PixelSpec(size=224, fit="shortest_crop", rounding="torchvision"))
    assert (floor[0, 0, 0], even[0, 0, 0]) == (1, 2)
    # 224 * 61 / 7 is 1952; (61 / 7) * 224 falls just short of it.
    sizes = {
        rounding: resized_size((61, 7), PixelSpec(size=224, fit="shortest_crop", rounding=rounding))
        for rounding in ("transformers", "torchvision", "pytorchvideo")
    }
    assert sizes == {"transformers": (1952, 224), "torchvision": (1952, 224), "pytorchvideo": (1951, 224)}


def test_pictures_of_other_modes_become_rgb() -> None:
    grey = Image.new("L", (20, 10), 77)
    palette = Image.new("P", (20, 10), 1)
    palette.putpalette([0, 0, 0, 5, 6, 7])
    spec = PixelSpec(size=8)
    assert np.all(fit_frame(grey, spec) == 77)
    assert np.all(fit_frame(palette, spec) == (5, 6, 7))


def test_a_strip_that_would_fill_the_memory_is_refused() -> None:
    strip = np.zeros((1, 40_000, 3), np.uint8)
    with pytest.raises(ValueError, match="40000 x 1"):
        fit_frame(strip, PixelSpec(size=384, pad="square"))
    with pytest.raises(ValueError, match="crop it first"):
        fit_frame(strip, CLIP_336)
    assert fit_frame(strip, PixelSpec(size=32)).shape == (32, 32, 3)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    size=st.integers(1, 40),
    spec=st.sampled_from([SIGLIP_384, CLIP_336, VALLEY, HOUND_VIDEO, PixelSpec(size=384, pad="square")]),
)
def test_any_picture_of_one_colour_stays_of_that_colour(height: int, width: int, size: int, spec: PixelSpec) -> None:
    small = replace(spec, size=size, resize=size + 3 if spec.resize else 0, mean=(0.5, 0.5, 0.5))
    # The colour of the padding, so that padded pictures are of one colour too.
    picture = np.full((height, width, 3), 127, np.uint8)
    fitted = fit_frame(picture, small)
    assert fitted.shape == (size, size, 3)
    expected = normalise(np.full((1, 1, 3), 127, np.uint8), small) if small.normalise_first else 127
    assert np.allclose(fitted, expected, atol=1e-6)
