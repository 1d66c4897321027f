"""Trials: which ones to run, how one is run, and the workers that run them."""
