"""The study: a folder with the settings, trials, latency tables and results of one search."""
