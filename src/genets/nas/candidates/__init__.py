"""Candidates: training, choice of the winner, and export."""
