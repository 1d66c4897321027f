"""The networks to compare with: all 34 of the paper's Table 7, and a `modern` set.

from genets.networks.baselines import baselines
network = baselines["OFANet-9ms"].network()

catalogue.py   the baselines by name, with their published figures (`genets.structure.published`)
builders.py    their networks (df.json, dna.json, ofa.json for those that timm does not have)
"""

from genets.networks.baselines.catalogue import Baseline, baselines
from genets.structure.published import (
    SETS,
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
