"""The report of a search: page, charts and tables."""
