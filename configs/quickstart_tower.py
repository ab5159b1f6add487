"""The tower of the quickstart's base alone: one half of quickstart_base, which runs both one after the other.

vidlmm train --config configs/quickstart_tower.py --workdir runs/quickstart_tower
"""

from ml_collections import ConfigDict

from vidlmm.configs import quickstart_base


def get_config() -> ConfigDict:
    """The stages of the tower."""
    c = quickstart_base.get_config()
    c.name = "quickstart_tower"
    c.stages = (quickstart_base.tower(),)
    return c
