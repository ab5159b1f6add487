"""The quickstart's second half: its model learns from pairs of its own answers (`vidlmm quickstart` runs this).

vidlmm train --config configs/quickstart_dpo.py --config.data.path=pairs.jsonl --config.init=runs/quickstart
"""

from ml_collections import ConfigDict, FieldReference

from vidlmm.configs import quickstart
from vidlmm.configs.parts.preference import pairs, preference


def get_config() -> ConfigDict:
    """One stage for two CPU cores, from the instruction-tuned run, which also is the reference."""
    path, media_root = FieldReference("pairs.jsonl"), FieldReference("")
    c = quickstart.get_config()
    c.name = "quickstart_dpo"
    c.init, c.tokenizer = "runs/quickstart", "runs/quickstart"
    c.tokenizer = c.get_oneway_ref("init")
    c.stages = (dpo(path, media_root),)
    # The pairs and the folder of their videos ("": the file's own), as the stage's source has them.
    c.data.path, c.data.media_root = path, media_root
    return c


def dpo(path: FieldReference, media_root: FieldReference) -> ConfigDict:
    """The decoder alone, held close to the reference by beta = 0.1, as in configs/hound_dpo.py.

    The rate is far above the paper's 5e-7, as that of the stages before is above theirs: on validation clips 3e-5 moved
    nothing in so few steps, and twice this rate lost again what was gained.
    """
    s = quickstart.stage("dpo", ("decoder",), lr=2e-4, steps=40)
    s.objective = "preference"
    s.schedule, s.warmup_ratio = "linear", 0.1
    # A clip a row, and up to eight pairs of answers about it.
    s.batch = ConfigDict({"rows": 16, "length": 640, "frames": 128, "groups": 16})
    s.preference = preference(beta=0.1, eval_every=10)
    s.source = pairs(path, media_root, held_out=0.1)
    s.source.pairs_a_tree = 8
    return s
