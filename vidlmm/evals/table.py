"""Scores as a table for the terminal."""

from vidlmm.evals.score import Score, Scores

_TITLES = {"multiple_choice": "Multiple choice", "open": "Open questions (exact match)"}
_COLUMNS = ("questions", "accuracy", "95 % interval", "blind", "majority", "unparsed")


def format_table(scores: Scores) -> str:
    """A line a group, shares in percent; * marks groups that need several frames."""
    width = max(len(_name(row)) for row in scores.rows)
    lines = []
    for kind in dict.fromkeys(row.kind for row in scores.rows):
        lines += [*([""] if lines else []), f"{_TITLES[kind]:<{width}}  " + "  ".join(f"{c:>13}" for c in _COLUMNS)]
        lines += [_line(row, width) for row in scores.rows if row.kind == kind]
    usual = "training" if scores.majority_from == "training" else "evaluated"
    lines += [
        "",
        "* needs several frames. blind: the same model with blanked frames. "
        f"majority: the usual answer of the {usual} questions.",
        "Unparsed answers name no option and count as wrong. Intervals: bootstrap over clips.",
    ]
    return "\n".join(lines)


def _name(row: Score) -> str:
    return ("  " if row.group == "type" else "") + row.name + (" *" if row.motion else "")


def _line(row: Score, width: int) -> str:
    cells = [
        str(row.count),
        _percent(row.accuracy),
        f"{_percent(row.low)} to {_percent(row.high)}",
        _percent(row.blind),
        _percent(row.majority),
        _percent(row.unparsed),
    ]
    return f"{_name(row):<{width}}  " + "  ".join(f"{cell:>13}" for cell in cells)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
