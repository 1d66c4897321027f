"""Rivals: published networks that are shown beside the winner of a search."""
