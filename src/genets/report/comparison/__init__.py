"""The report of a comparison: page, charts and tables."""
