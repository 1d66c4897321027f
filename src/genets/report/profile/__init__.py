"""The report of a profile: page and charts."""
