"""The networks to compare with: all 34 of the paper's Table 7, and a `modern` set.

    from genets.networks.baselines import baselines
    network = baselines["OFANet-9ms"].network()

Facts are data files; three modules build what timm does not have by name, with timm's classes.
"""

from genets.networks.baselines.catalogue import SETS, Baseline, baselines
from genets.networks.baselines.published import (
    PublishedTable,
    SpeedUp,
    published_speed_ups,
    published_tables,
)

__all__ = [
    "SETS",
    "Baseline",
    "PublishedTable",
    "SpeedUp",
    "baselines",
    "published_speed_ups",
    "published_tables",
]
