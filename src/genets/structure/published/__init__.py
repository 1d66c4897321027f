"""Published figures of other networks: the paper's 34 of Table 7, and a `modern` set.

networks.py   the networks by name (baselines.toml)
tables.py     the latencies that the paper printed (table3.csv, table7.csv to table9.csv)

`genets.networks.baselines` builds these networks. This package imports no torch, so `genets zoo`
prints the figures at once.
"""

from genets.structure.published.networks import (
    SETS,
    PublishedNetwork,
    PublishedNetworks,
    published_networks,
)
from genets.structure.published.tables import (
    PublishedTable,
    SpeedUp,
    published_speed_ups,
    published_tables,
)

__all__ = [
    "SETS",
    "PublishedNetwork",
    "PublishedNetworks",
    "PublishedTable",
    "SpeedUp",
    "published_networks",
    "published_speed_ups",
    "published_tables",
]
