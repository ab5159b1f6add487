"""The files that training and evaluation leave, into what a report shows."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

from vidlmm.report.figures import Curve, TypeScore


def read_curves(metrics: str | Path, quantities: Sequence[str] = ("loss",)) -> list[Curve]:
    """A curve a stage and quantity from a run's metrics.jsonl, over the steps of the stage.

    A last line that was cut off by a kill is left out.

    Args:
        quantities: fields of the rows, such as "loss" or "accuracy".

    Raises:
        ValueError: a row has no step or stage, or no row has any of the quantities.
        OSError: the file cannot be read.
    """
    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    content = Path(metrics).read_text(encoding="utf-8")
    for number, line in enumerate(content[: content.rfind("\n") + 1].splitlines(), 1):
        try:
            row = json.loads(line)
            stage, step = str(row["stage"]), int(row.get("stage_step", row["step"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{metrics}, line {number} is no row of metrics with a step and a stage: {error!r}"
            ) from None
        for quantity in quantities:
            value = row.get(quantity)
            if isinstance(value, int | float):
                found.setdefault((stage, quantity), []).append((step, float(value)))
    if not found:
        raise ValueError(f"{metrics} has no value of {', '.join(quantities)}")
    return [
        Curve(f"{stage}: {quantity}", tuple(step for step, _ in points), tuple(value for _, value in points))
        for (stage, quantity), points in found.items()
    ]


def read_scores(scores: str | Path) -> list[TypeScore]:
    """The groups of an evaluation's scores.json.

    Raises:
        ValueError: the file has another form.
        OSError: it cannot be read.
    """
    names = [field.name for field in dataclasses.fields(TypeScore)]
    try:
        rows = json.loads(Path(scores).read_text(encoding="utf-8"))["scores"]
        return [TypeScore(**{name: row[name] for name in names}) for row in rows]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{scores} holds no scores of an evaluation: {error!r}") from None


def finite(value: float) -> float | None:
    """A number as JSON can hold it: None for one that is not finite."""
    return value if math.isfinite(value) else None
