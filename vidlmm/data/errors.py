"""What can be wrong with data: a record that no run should start with, or a file that does not open."""

from dataclasses import dataclass


class DataError(ValueError):
    """A mistake in annotation files or settings; the message names the file and the record."""


class BadDataLimit(RuntimeError):
    """More files failed to open than the run tolerates; the message lists the first reasons."""


@dataclass(frozen=True)
class BadSample:
    """One record whose media did not open, and what stood in for it.

    index: the record's index in the pipeline.
    id: the record's own id; place: its annotation file and row.
    path, kind, detail: the failing file and reason, as in MediaError.
    replacement: index of the record that took its place; None if the slot stayed empty.
    """

    index: int
    id: str
    place: str
    path: str
    kind: str
    detail: str
    replacement: int | None = None

    def line(self) -> str:
        """The report as one line."""
        return f"{self.path}: {self.kind}: {self.detail} ({self.place})"
