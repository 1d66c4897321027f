"""Settings of all tests: Hypothesis draws the same examples in every run and times nothing."""

from hypothesis import settings

settings.register_profile("genets", derandomize=True, deadline=None, database=None)
settings.load_profile("genets")
