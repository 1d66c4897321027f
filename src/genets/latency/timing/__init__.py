"""Timing: the clock, measurements with their intervals, drift, statistics, memory."""
