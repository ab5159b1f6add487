"""The page and the JSON beside it: complete, self-contained, of equal figures, and safe to open."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from vidlmm.report import Curve, Example, Facts, TypeScore, build_report

from . import demo

HOSTILE = "<script>alert('x')</script>\" onload=\"x & <img src=http://example.org/x.png>"
VOID = {"meta", "link", "img", "br", "line", "circle", "path"}


class Page(HTMLParser):
    """Tags with their attributes, the figures in <data>, and the text; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.figures: list[tuple[float, str]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "data":
            self.figures.append((float(self.tags[-1][1]["value"]), data))
        if self._open and self._open[-1] != "style":
            self.text.append(data)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return build_report(folder, "Demo", demo.curves(), demo.scores(), demo.examples(), demo.facts())


@pytest.fixture(scope="module")
def page(report: Path) -> Page:
    return Page(report.read_text())


@pytest.fixture(scope="module")
def figures(report: Path) -> dict:
    return json.loads(report.with_name("report.json").read_text())


def test_only_two_files_are_left(report: Path) -> None:
    assert sorted(path.name for path in report.parent.iterdir()) == ["report.html", "report.json"]


def test_nothing_is_loaded_from_anywhere(report: Path, page: Page) -> None:
    assert "script" not in {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            assert attributes.get(name, "#").startswith(("data:", "#")), (tag, attributes)
    text = report.read_text()
    for outside in ("http:", "https:", "//cdn", "@import", "url("):
        assert outside not in text
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_links_within_the_page_lead_somewhere(page: Page) -> None:
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert len(links) == 5
    assert {link.removeprefix("#") for link in links} <= ids


def test_the_json_holds_the_figures_of_the_page(page: Page, figures: dict) -> None:
    shown = {value for value, _ in page.figures}
    for row in figures["scores"]:
        assert {row[name] for name in ("accuracy", "low", "high", "blind", "majority", "unparsed", "count")} <= shown
    for curve in figures["curves"]:
        assert curve["values"][-1] in shown
    known = {value for row in figures["scores"] for value in row.values() if isinstance(value, int | float)}
    assert shown <= known | {curve["values"][-1] for curve in figures["curves"]}


def test_figures_are_written_as_they_are(page: Page) -> None:
    for value, text in page.figures:
        assert float(text) in (value, round(100 * value, 1), float(f"{value:.3g}"))


def test_the_json_holds_everything_given(figures: dict) -> None:
    assert [c["name"] for c in figures["curves"]] == ["align: loss", "instruct: loss"]
    assert figures["curves"][0]["values"] == list(demo.curves()[0].values)
    assert len(figures["scores"]) == len(demo.scores())
    assert figures["examples"][1] == {
        "question": "Which way does the small blue square that came later move?",
        "options": ["to the left", "to the right", "it does not move", "up"],
        "answer": "A. to the left",
        "truth": "to the right",
        "right": False,
        "type": "Non-Existent Actions with Existent Scene Depictions",
        "chosen": "A",
        "frames": 8,
    }
    assert figures["facts"]["Model"]["tokens a clip"] == "160"
    assert figures["commands"][0]["command"].startswith("vidlmm chat")


def test_pictures_have_words(page: Page) -> None:
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 12 * 8
    assert all(image["alt"].startswith("Frame ") for image in images)
    drawn = [attributes for _, attributes in page.tags if attributes.get("role") == "img"]
    assert len(drawn) == len(demo.scores()) + len(demo.curves())
    assert all(attributes["aria-label"] for attributes in drawn)


def test_right_and_wrong_are_told_in_words(page: Page) -> None:
    assert page.text.count("✓ right") == sum(example.right for example in demo.examples())
    assert page.text.count("✗ wrong") == sum(not example.right for example in demo.examples())


def test_motion_types_are_marked(page: Page) -> None:
    rows = [a for tag, a in page.tags if tag == "li" and "motion" in a.get("class", "").split()]
    assert len(rows) == sum(row.motion for row in demo.scores())


def test_whatever_comes_from_outside_is_text(tmp_path: Path) -> None:
    frames = np.zeros((1, 8, 8, 3), np.uint8)
    score = TypeScore(HOSTILE, 0.5, 0.4, 0.6, 0.2, 0.3, 10, 0.0, motion=True)
    path = build_report(
        tmp_path, HOSTILE, [Curve(HOSTILE, (1, 2), (3.0, 2.0))], [score],
        [Example(frames, HOSTILE, (HOSTILE, "b"), HOSTILE, "b", False, HOSTILE)],
        Facts(HOSTILE, {HOSTILE: {HOSTILE: HOSTILE}}, (HOSTILE,), ((HOSTILE, HOSTILE),)),
    )  # fmt: skip
    page = Page(path.read_text())
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any("onload" in attributes for _, attributes in page.tags)
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 1
    assert "".join(page.text).count(HOSTILE) >= 10
    assert json.loads((tmp_path / "report.json").read_text())["title"] == HOSTILE


def test_parts_without_figures_are_left_out(tmp_path: Path) -> None:
    page = Page(build_report(tmp_path, "Nothing yet").read_text())
    assert "section" not in {tag for tag, _ in page.tags}
    page = Page(build_report(tmp_path, "Losses", demo.curves()).read_text())
    assert [a["id"] for tag, a in page.tags if tag == "section"] == ["curves"]


def test_a_diverged_loss_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    curve = Curve("loss", (1, 2, 3, 4), (3.0, 2.0, float("nan"), float("inf")))
    all_nan = Curve("other", (1,), (float("nan"),))
    text = build_report(tmp_path, "Diverged", [curve, all_nan]).read_text()
    assert "No value of this curve is finite" in text
    assert json.loads((tmp_path / "report.json").read_text())["curves"][0]["values"] == [3.0, 2.0, None, None]


def test_an_open_question_without_frames_and_an_empty_answer(tmp_path: Path) -> None:
    example = Example(np.zeros((0, 8, 8, 3), np.uint8), "Why?", (), "", "because", False)
    page = Page(build_report(tmp_path, "One", examples=[example]).read_text())
    assert "img" not in {tag for tag, _ in page.tags}
    assert "nothing" in page.text


def test_the_same_figures_give_the_same_bytes(tmp_path: Path, report: Path) -> None:
    again = build_report(tmp_path, "Demo", demo.curves(), demo.scores(), demo.examples(), demo.facts())
    assert again.read_bytes() == report.read_bytes()


def test_a_long_clip_is_thinned(tmp_path: Path) -> None:
    example = Example(demo.clip(0, frames=64, side=400), "Why?", ("a", "b"), "A", "A", True)
    path = build_report(tmp_path, "Long", examples=[example])
    page = Page(path.read_text())
    alts = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert (len(alts), alts[0], alts[-1]) == (8, "Frame 1 of 64", "Frame 64 of 64")
    assert "8 of 64 frames" in page.text
    assert path.stat().st_size < 200_000


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        build_report(tmp_path / "file" / "report", "Demo")
