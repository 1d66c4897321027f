"""Foundations of every layer: errors, files, resumable folders, progress, log and validation."""
