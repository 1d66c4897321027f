"""Trials, regression, selection, the study and the search that joins them."""
