"""The decoder of the quickstart's base alone: one half of quickstart_base, which runs both one after the other.

vidlmm train --config configs/quickstart_decoder.py --workdir runs/quickstart_decoder
"""

from ml_collections import ConfigDict

from vidlmm.configs import quickstart_base


def get_config() -> ConfigDict:
    """The stage of the decoder."""
    c = quickstart_base.get_config()
    c.name = "quickstart_decoder"
    c.stages = (quickstart_base.boards(),)
    return c
