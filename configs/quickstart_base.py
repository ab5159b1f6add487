"""The base weights of the quickstart: a tower from captioned stills, a decoder from text alone.

    vidlmm train --config configs/quickstart_base.py --workdir runs/quickstart_base

Neither ever sees a moving clip. An hour or two on two cores.
"""

from ml_collections import ConfigDict

from vidlmm.configs import quickstart


def get_config() -> ConfigDict:
    """Two stages from random weights."""
    c = quickstart.get_config()
    c.name = "quickstart_base"
    c.init = ""
    c.stages = (tower(), questions(), choices())
    c.precision.export = "bfloat16"
    c.checkpoint.every_minutes = 5.0
    c.log.every = 20
    return c


def tower() -> ConfigDict:
    """SigLIP's sigmoid loss (Zhai et al. 2023): the still's own caption against the batch's others."""
    s = quickstart.stage(name="tower", trainable=("",), lr=2e-3, steps=3000)
    s.objective = "siglip"
    s.b2 = 0.95  # SigLIP section 4.1: 0.999 makes the loss jump
    s.weight_decay = 1e-4
    s.batch = ConfigDict({"rows": 64, "length": 48, "frames": 64})
    s.source.kind = "world_stills"
    return s


def questions() -> ConfigDict:
    """Captions and open questions about storyboards: the script's words in the cells where frames will stand."""
    s = quickstart.stage(name="questions", trainable=("decoder", "connector.newline"), lr=3e-3, steps=1500)
    s.objective = "boards"
    s.b2 = 0.98
    s.weight_decay = 0.02
    s.batch = ConfigDict({"rows": 8, "length": 448, "frames": 64})
    s.source.kind = "world_boards"
    s.source.forms = (1.0, 0.0, 0.0)  # shares of open answers, letters, letters with their options
    return s


def choices() -> ConfigDict:
    """The same with multiple choice, which is learned in no time once the answers are known."""
    s = questions()
    s.name = "choices"
    s.lr, s.steps = 2e-3, 1600
    s.source.forms = (0.5, 0.4, 0.1)
    return s
