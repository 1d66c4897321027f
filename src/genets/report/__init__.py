"""Reports: results as tables, pages, pictures and records. This package prints nothing."""

from genets.report.comparison.page import write_comparison
from genets.report.comparison.tables import comparison_record, comparison_tables
from genets.report.profile.page import write_profile
from genets.report.profile.tables import profile_record, profile_sentences, profile_tables
from genets.report.study.facts import state_sentences, study_record
from genets.report.study.page import write_study_page
from genets.report.study.tables import (
    alternatives_table,
    fastest_table,
    search_table,
    selected_table,
)
from genets.report.tables import measurement_table
from genets.report.zoo import (
    ZooRow,
    baseline_tables,
    baselines_table,
    stages_table,
    zoo_table,
)

__all__ = [
    "ZooRow",
    "alternatives_table",
    "baseline_tables",
    "baselines_table",
    "comparison_record",
    "comparison_tables",
    "fastest_table",
    "measurement_table",
    "profile_record",
    "profile_sentences",
    "profile_tables",
    "search_table",
    "selected_table",
    "stages_table",
    "state_sentences",
    "study_record",
    "write_comparison",
    "write_profile",
    "write_study_page",
    "zoo_table",
]
