"""Results as people read them. Nothing here prints."""

from genets.report.tables import (
    ZooRow,
    fastest_table,
    measurement_table,
    search_table,
    selected_table,
    stages_table,
    zoo_table,
)

__all__ = [
    "ZooRow",
    "fastest_table",
    "measurement_table",
    "search_table",
    "selected_table",
    "stages_table",
    "zoo_table",
]
