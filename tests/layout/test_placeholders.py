"""layout/ and text/ do not import one another; the numbers they share are compared here."""

from vidlmm.layout import row
from vidlmm.text import placeholders


def test_layout_and_text_mean_the_same_placeholders():
    names = ("IMAGE", "VIDEO", "AUDIO", "IGNORE")
    assert [getattr(row, name) for name in names] == [getattr(placeholders, name) for name in names]
