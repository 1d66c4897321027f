"""The networks to compare with: all 34 of the paper's Table 7, and a `modern` set.

from genets.networks.baselines import baselines
network = baselines["OFANet-9ms"].network()

catalogue.py   the baselines by name (baselines.toml)
builders.py    their networks (df.json, dna.json, ofa.json for those that timm does not have)
published.py   the numbers that the paper printed (table3.csv, table7.csv to table9.csv)
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
