"""The report of an evaluation: record, tables and confusion pictures."""
