"""The report of a rank analysis: page, charts and tables."""
