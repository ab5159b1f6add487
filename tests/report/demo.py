"""A report from invented numbers, as large as a real one."""

import numpy as np

from vidlmm.report import Curve, Example, Facts, TypeScore

TYPES = (
    ("Temporal", True),
    ("Spatial", False),
    ("Causal", True),
    ("Description-Scene", False),
    ("Description-Human", False),
    ("Description-Object", False),
    ("Count", False),
    ("Binary", False),
    ("Fine Grained Action Understanding", True),
    ("Plot Understanding", True),
    ("Non-Existent Actions with Existent Scene Depictions", False),
    ("Time Order Understanding", True),
    ("Object Direction", True),
    ("Camera Direction", True),
    ("Speed", True),
    ("Attribute Change", True),
)


def curves() -> list[Curve]:
    rng = np.random.default_rng(0)
    made = []
    for name, steps, start, end in (("align: loss", 100, 6.4, 2.9), ("instruct: loss", 700, 3.1, 0.41)):
        at = np.arange(10, steps + 1, 2)
        values = end + (start - end) * np.exp(-4 * at / steps) + rng.normal(0, 0.09, len(at))
        made.append(Curve(name, tuple(at.tolist()), tuple(values.tolist())))
    return made


def scores() -> list[TypeScore]:
    rng = np.random.default_rng(1)
    made = [
        TypeScore("All questions", 0.7812, 0.744, 0.815, 0.412, 0.331, 640, 0.0031, group="overall"),
        TypeScore("Motion questions", 0.704, 0.65, 0.752, 0.388, 0.29, 310, 0.0, group="motion", motion=True),
        TypeScore("Other questions", 0.853, 0.81, 0.89, 0.434, 0.37, 330, 0.006, group="still"),
    ]
    for name, motion in TYPES:
        accuracy = float(rng.uniform(0.45, 1.0))
        width = float(rng.uniform(0.04, 0.15))
        made.append(
            TypeScore(
                name, accuracy, max(0.0, accuracy - width), min(1.0, accuracy + width),
                float(rng.uniform(0.2, 0.5)), float(rng.uniform(0.2, 0.45)), int(rng.integers(12, 90)),
                float(rng.uniform(0, 0.02)), motion=motion,
            )
        )  # fmt: skip
    made.append(TypeScore("All questions", 0.61, 0.52, 0.7, 0.33, 0.25, 80, 0.0, group="overall", kind="open"))
    return made


def examples() -> list[Example]:
    return [
        Example(
            frames=clip(n),
            question=f"Which way does the {('red circle', 'small blue square that came later')[n % 2]} move?",
            options=() if n == 5 else ("to the left", "to the right", "it does not move", "up"),
            answer=("B. to the right", "A. to the left", "C. it does not move")[n % 3],
            truth="to the right",
            right=n % 3 == 0,
            type=("Object Direction", "Non-Existent Actions with Existent Scene Depictions")[n % 2],
            chosen="" if n == 5 else "BAC"[n % 3],
        )
        for n in range(12)
    ]


def clip(seed: int, frames: int = 8, side: int = 96) -> np.ndarray:
    """A ball that crosses the picture."""
    rng = np.random.default_rng(seed)
    ground, ball = rng.integers(150, 245, 3), rng.integers(0, 160, 3)
    y, x = np.mgrid[:side, :side]
    made = np.empty((frames, side, side, 3), np.uint8)
    for n in range(frames):
        across = 12 + (side - 24) * n / max(1, frames - 1)
        inside = (x - across) ** 2 + (y - side / 2) ** 2 < 120
        made[n] = np.where(inside[..., None], ball, ground)
    return made


def facts() -> Facts:
    return Facts(
        summary="A compact video LMM, trained from pretrained base weights in two stages on 2 CPU cores in 8 minutes.",
        groups={
            "Model": {"system": "quickstart", "parameters": "3.9 M", "frames": "8 of 96 × 96", "tokens a clip": 160},
            "Time and memory": {
                "training": "6:48",
                "evaluation": "1:12",
                "peak memory": "1.9 GB",
                "data wait": "1.3 %",
            },
            "Versions": {"vidlmm": "0.1.0", "jax": "0.10.2", "python": "3.11.2"},
            "Settings": {
                "seed": 0,
                "steps": "100 + 700",
                "rows": 16,
                "weights": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            },
        },
        notes=("The usual answer is that of the training questions.",),
        commands=(
            (
                "Ask about a clip",
                'vidlmm chat runs/quickstart --video runs/quickstart/world/held/000017.mp4 "Which way does it move?"',
            ),
            ("Evaluate again", "vidlmm eval runs/quickstart --data runs/quickstart/world/heldout.json"),
            (
                "Train on your own clips",
                "vidlmm train --config configs/quickstart.py --config.init=runs/quickstart --workdir runs/mine",
            ),
        ),
    )
