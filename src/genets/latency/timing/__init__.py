"""Timing: the protocols, the measurement of networks, and the removal of drift."""
